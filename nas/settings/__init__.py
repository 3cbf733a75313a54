"""How settings are declared and read: the base class, YAML, flags and ``--set``; with one clear message for a wrong value."""
