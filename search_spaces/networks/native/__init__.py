"""Native kernels for training networks of cells on a CPU, and the operators around them: only ``search_spaces.networks`` uses them."""
