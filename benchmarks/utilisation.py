"""How much of the workers' time goes into children, what a trivial trial costs, and how soon the first child trains.

    python benchmarks/utilisation.py share --seconds 2 10 60
    python benchmarks/utilisation.py trivial --trials 100 1000 5000 20000
    python benchmarks/utilisation.py first

All through the whole engine (controller, ledger with fsync, Ray, two workers); children are synthetic and sleep, so that a busy
machine disturbs the figures as little as it can. ``share`` is the sum of the children's own seconds over two workers' time from the
first start to the last end.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from nas.runs import session as engine
from nas.runs.config import config_from_document
from nas.runs.state import RunState

WORKERS = 2


def search(trials: int, seconds: float, folder: Path, controller: str = "random", epochs: int = 1) -> RunState:
    """One search with synthetic children of so many seconds on two Ray workers; returns what its ledger says."""
    config = config_from_document(
        {
            "budget": trials,
            "evaluator": "synthetic",
            "synthetic": {"seconds": seconds},
            "fidelity": {"epochs": epochs},
            "controller": {"name": controller},
            "runner": {"workers": WORKERS},
        }
    )
    return engine.start(config, folder).state


def share(seconds: float, children: int, controller: str, folder: Path) -> dict[str, Any]:
    """Share of worker time spent in children."""
    state = search(children, seconds, folder, controller, epochs=2)
    trained = [trial for trial in state.trials.values() if trial.spends_budget]
    busy = sum(trial.evaluation.metrics["train_seconds"] for trial in trained if trial.evaluation)
    # Workers come up one after the other: a worker's time begins with its first child.
    first, second = sorted(trial.started or 0.0 for trial in trained)[:WORKERS]
    whole = WORKERS * max(trial.ended or 0.0 for trial in trained) - first - second
    return {"child_seconds": seconds, "children": children, "controller": controller, "share": round(busy / whole, 4)}


def trivial(trials: int, folder: Path, controller: str = "random") -> dict[str, Any]:
    """Milliseconds a trial whose child does nothing: over the whole run, over its first and last tenth; and the driver's CPU time.

    The wall clock counts whatever else the machine does; the CPU time of this process (driver with controller and ledger) does not.
    """
    started = time.process_time()
    state = search(trials, 0.0, folder, controller)
    seconds = time.process_time() - started
    ends = sorted(trial.ended or 0.0 for trial in state.trials.values())
    tenth = max(2, len(ends) // 10)

    def pace(times: list[float]) -> float:
        return round(1000 * (times[-1] - times[0]) / (len(times) - 1), 2)

    size = (folder / "ledger.jsonl").stat().st_size
    figures = {"ms_a_trial": pace(ends), "first_tenth": pace(ends[:tenth]), "last_tenth": pace(ends[-tenth:])}
    return {"trials": trials, "controller": controller, **figures, "cpu_seconds": round(seconds, 2), "ledger_kilobytes": size // 1000}


def first_child(folder: Path) -> float:
    """Seconds from the command to the first epoch of a first child, which takes none."""
    arguments = ["search", "--preset", "laptop", "--set", "evaluator=synthetic", "--workers", str(WORKERS), "--budget", "4"]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "nas.cli.main", *arguments, "--run", str(folder)], stdout=subprocess.DEVNULL, env={**os.environ}
    )
    ledger = folder / "ledger.jsonl"
    while not (ledger.is_file() and b'"event":"report"' in ledger.read_bytes()):
        if process.poll() not in (None, 0):
            raise RuntimeError(f"nas search ended with {process.returncode}")
        time.sleep(0.01)
    seconds = time.monotonic() - started
    process.wait()
    return seconds


def main() -> None:
    """Measure what the command line asks for; one JSON line a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("share", "trivial", "first"))
    parser.add_argument("--seconds", type=float, nargs="+", default=[2.0, 10.0])
    parser.add_argument("--trials", type=int, nargs="+", default=[100, 1000, 5000])
    parser.add_argument("--children", type=int, help="children for `share`; default: about two minutes' worth")
    parser.add_argument("--controller", default="random")
    parser.add_argument("--repeats", type=int, default=3, help="for `first`, after one warm-up")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nas-utilisation-") as scratch:
        if options.what == "share":
            for seconds in options.seconds:
                children = options.children or max(4, round(240 / seconds))
                print(json.dumps(share(seconds, children, options.controller, Path(scratch) / f"share-{seconds:g}")), flush=True)
        elif options.what == "trivial":
            trivial(10, Path(scratch) / "warm-up", options.controller)
            before: dict[str, Any] = {}
            for trials in options.trials:
                figures = trivial(trials, Path(scratch) / f"trivial-{trials}", options.controller)
                if before:  # what starting Ray costs is in both
                    marginal = (figures["cpu_seconds"] - before["cpu_seconds"]) / (trials - before["trials"])
                    figures["cpu_ms_a_further_trial"] = round(1000 * marginal, 2)
                print(json.dumps(figures), flush=True)
                before = figures
        else:
            times = [first_child(Path(scratch) / f"first-{i}") for i in range(options.repeats + 1)][1:]
            print(json.dumps({"seconds_to_first_epoch": round(statistics.median(times), 1), "of": [round(t, 1) for t in times]}))


if __name__ == "__main__":
    main()
