"""Scripts that load an export in a fresh process; they know nothing of this package, and may not import it."""
