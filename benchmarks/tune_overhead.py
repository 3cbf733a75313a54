"""What does a child cost beside its training? Our pool of workers against Ray Tune's own Tuner with our searcher, in one run.

    python benchmarks/tune_overhead.py

The same trivial child everywhere (the synthetic evaluator, one epoch of no seconds), two at a time, random proposals. Milliseconds a
child are those between the ends of the first and the last child, so that neither Ray's start nor the first worker's counts. The pool writes
its ledger, as always; Tune runs without loggers and console output. Tune without `reuse_actors` starts a process for each child: a few are
enough.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")

import ray
from ray import tune

from nas.ray_tune import ControllerSearcher, child_trainable
from nas.runs import session as engine
from nas.runs.config import build_config

SETTINGS = ("evaluator=synthetic", "synthetic.seconds=0", "fidelity.epochs=1", "controller.name=random", "runner.workers=2")


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--children", type=int, default=1000, help="for the pool")
    parser.add_argument("--tune", type=int, default=200, help="for Tune with reuse_actors")
    parser.add_argument("--tune-fresh", type=int, default=15, help="for Tune without")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = [("pool and ledger (`nas search`)", arguments.children, pool(arguments.children, Path(folder)))]
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        for reuse, children in ((True, arguments.tune), (False, arguments.tune_fresh)):
            rows.append((f"Tuner + ControllerSearcher, reuse_actors={reuse}", children, tuner(children, reuse, Path(folder))))
        ray.shutdown()
    print("| | children | ms a child | times the pool |\n|---|---|---|---|")
    for name, children, milliseconds in rows:
        print(f"| {name} | {children:,} | {milliseconds:.1f} | {milliseconds / rows[0][2]:.1f} |")


def pool(children: int, folder: Path) -> float:
    """Milliseconds a child of a search on embedded Ray."""
    config = build_config("laptop", SETTINGS, {"budget": children})
    state = engine.start(config, folder / "run").state
    ends = sorted(trial.ended for trial in state.trials.values() if trial.ended is not None)
    return 1000 * (ends[-1] - ends[0]) / (len(ends) - 1)


class Ends(tune.Callback):
    """Remembers when trials ended."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: object) -> None:  # noqa: ANN401 - Tune's
        """Called by Tune."""
        self.times.append(time.perf_counter())


def tuner(children: int, reuse: bool, folder: Path) -> float:
    """Milliseconds a child of Tune's own loop."""
    config = build_config("laptop", SETTINGS, {"budget": children})
    ends = Ends()
    results = tune.Tuner(
        child_trainable(config),
        tune_config=tune.TuneConfig(
            metric="reward",
            mode="max",
            num_samples=children,
            max_concurrent_trials=2,
            reuse_actors=reuse,
            search_alg=ControllerSearcher(config.space, "random"),
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(name=f"tuned-{reuse}", storage_path=str(folder), verbose=0, callbacks=[ends]),
    ).fit()
    assert len(results) == children and not results.errors
    return 1000 * (ends.times[-1] - ends.times[0]) / (len(ends.times) - 1)


if __name__ == "__main__":
    main()
