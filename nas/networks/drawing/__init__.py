"""Pictures of cells and networks."""
