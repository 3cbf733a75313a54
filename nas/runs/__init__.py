"""Searches: configuration, ledger, folder, loop, resume."""
