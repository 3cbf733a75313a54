"""What an architecture is: genotypes, decisions, operations, cells, networks."""
