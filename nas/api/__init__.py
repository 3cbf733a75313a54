"""What ``import nas`` offers, and what the commands call: names in, objects out; prints nothing, never exits. No torch at import."""
