"""Code in an interpreter that has imported nothing yet."""

import subprocess
import sys

from support.paths import ROOT


def run_fresh(code: str) -> str:
    """What the code prints, stripped."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
