"""One search through the benchmark's chaos: workers, nodes and drivers killed, and nothing lost or counted twice."""

import json
import os
import subprocess
import sys

import pytest
from support.paths import ROOT

CHAOS = ROOT / "benchmarks" / "chaos.py"


@pytest.mark.slow
def test_nothing_is_lost_in_chaos() -> None:
    environment = {**os.environ, "PYTHONPATH": str(CHAOS.parent.parent)}
    done = subprocess.run(
        [sys.executable, str(CHAOS), "--seeds", "1", "--trials", "80", "--first-seed", "17"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures["completed"] == 80 and figures["worker_kills"] == 20 and figures["driver_kills"] == 5 and figures["raylet_kills"] == 3
