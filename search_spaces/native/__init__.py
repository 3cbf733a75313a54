"""Native kernels for training networks of cells on a CPU, and the operators around them. Only ``search_spaces.networks`` imports it."""
