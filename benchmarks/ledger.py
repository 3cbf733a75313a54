"""How large a ledger gets, and how long a search takes to go on from it, with the controller's snapshot and by replay alone.

    python benchmarks/ledger.py --controller ppo --trials 500 --epochs 20
    python benchmarks/ledger.py --controller evolution --trials 20000

A search of so many synthetic children (in this process, no Ray) is made first. ``resume`` is everything from reading the ledger to the
end of one more child; seconds of wall clock, and of this process's CPU time, which a busy machine does not stretch.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from nas.runs import session as engine
from nas.runs.config import config_from_document
from nas.runs.folder import RunFolder
from nas.runs.loop import QUIET


def timed_resume(folder: RunFolder, budget: int) -> dict[str, float]:
    """Seconds to go on with a run for one child more."""
    wall, cpu = time.monotonic(), time.process_time()
    state = engine.resume(folder, budget, QUIET).state
    assert state.spent == budget
    return {"wall": round(time.monotonic() - wall, 2), "cpu": round(time.process_time() - cpu, 2)}


def measure(controller: str, trials: int, epochs: int, replay: bool, path: Path) -> dict[str, Any]:
    """Figures of one ledger."""
    config = config_from_document(
        {
            "budget": trials,
            "evaluator": "synthetic",
            "fidelity": {"epochs": epochs},
            "controller": {"name": controller},
            "runner": {"kind": "local"},
        }
    )
    cpu = time.process_time()
    folder = engine.start(config, path, QUIET).folder
    made = time.process_time() - cpu
    figures: dict[str, Any] = {"controller": controller, "trials": trials, "epochs": epochs, "search_cpu_seconds": round(made, 1)}
    figures["megabytes"] = round(folder.ledger_file.stat().st_size / 1e6, 2)
    figures["resume"] = timed_resume(folder, trials + 1)
    if replay:
        folder.snapshot_file.unlink()
        figures["resume_without_snapshot"] = timed_resume(folder, trials + 2)
    return figures


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--controller", default="ppo")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=2, help="reports of a child")
    parser.add_argument("--no-replay", action="store_true", help="do not measure the resume without a snapshot")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nas-ledger-") as scratch:
        print(json.dumps(measure(options.controller, options.trials, options.epochs, not options.no_replay, Path(scratch) / "run")))


if __name__ == "__main__":
    main()
