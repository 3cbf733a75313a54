"""Architectures as things to count, scale, draw, describe and load weights into."""
