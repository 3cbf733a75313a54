"""``python -m nas`` is the ``nas`` command."""

from nas.cli.main import main

if __name__ == "__main__":
    main()
