"""Hands networks over in formats for use elsewhere, each loaded back and compared before it counts."""
