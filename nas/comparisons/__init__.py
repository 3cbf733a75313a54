"""Comparisons at equal cost: of networks trained by one recipe, of controllers on equal terms."""
