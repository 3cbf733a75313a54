"""Which architecture to try next: controllers behind one ask/tell contract."""
