"""The commands of ``nas``, one file for each group: they read flags, call the engine, and print."""
