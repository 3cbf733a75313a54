"""Whatever scores a child: by training it, by formula, from a table."""
