"""What a person sees: progress, tables, listings. Nothing below the command line knows a console."""
