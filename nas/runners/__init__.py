"""Where children are trained: in this process, or on Ray."""
