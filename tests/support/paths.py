"""Where things are: the repository, and data that may lie beside it (tests that need them are skipped elsewhere)."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"
