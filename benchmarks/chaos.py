"""Is anything lost or counted twice while workers, nodes and the driver are killed? A search on a local cluster of three raylets.

    python benchmarks/chaos.py --seeds 5 --trials 200

Every seed is one search of short children (synthetic, they sleep). At random moments of it workers are killed (kill -9), two raylets
and one that joined in their place are killed with all their workers, and the driver is killed and resumed. Then the ledger is checked:
against the budget, against itself, against the evaluator (every reward computed again), against the incumbent's file.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ray.cluster_utils import Cluster

from controllers.controller import Completed, random_for
from nas.evaluators.settings import SyntheticSettings
from nas.evaluators.synthetic import SyntheticEvaluator
from nas.runs.folder import RunFolder
from nas.runs.ledger import read_records
from nas.runs.state import replay

CPUS_A_NODE = 2
STUCK_SECONDS = 300.0


@dataclass
class Chaos:
    """A cluster, the search on it, and what was done to them."""

    seed: int
    trials: int
    run: Path
    cluster: Cluster = field(init=False)
    nodes: list[Any] = field(default_factory=list)
    driver: subprocess.Popen[str] | None = None
    worker_kills: int = 0
    raylet_kills: int = 0
    driver_kills: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": CPUS_A_NODE})
        self.nodes = [self.cluster.add_node(num_cpus=CPUS_A_NODE) for _ in range(2)]

    def start_driver(self) -> None:
        """Start the search, or resume it."""
        settings = ["--preset", "laptop", "--controller", "evolution", "--seed", str(self.seed), "--budget", str(self.trials)]
        settings += ["--set", "evaluator=synthetic", "--set", "synthetic.seconds=0.8", "--set", "fidelity.epochs=4"]
        settings += ["--set", "runner.checkpoint_seconds=0.3", "--address", self.cluster.address]
        arguments = ["resume", str(self.run)] if (self.run / "ledger.jsonl").exists() else ["search", *settings, "--run", str(self.run)]
        log = (self.run.parent / f"{self.run.name}.log").open("a")
        self.driver = subprocess.Popen([sys.executable, "-m", "nas.cli.main", *arguments], stdout=log, stderr=log, text=True)

    def kill_driver(self) -> None:
        """End it as by kill -9, and start it again."""
        assert self.driver is not None
        if self.rng.random() < 0.7:  # at work; else whatever it is doing, starting up perhaps
            _wait(self, self.finished() + 1)
        self.driver.send_signal(signal.SIGKILL)
        self.driver.wait()
        self.driver_kills += 1
        self.start_driver()

    def kill_worker(self) -> None:
        """End a random worker as by kill -9, as soon as there is one."""
        raylets = {node.all_processes["raylet"][0].process.pid for node in [self.cluster.head_node, *self.nodes]}
        deadline = time.monotonic() + STUCK_SECONDS
        while not (workers := [pid for pid, parent, name in _processes() if parent in raylets and name.startswith("ray::Worker")]):
            assert time.monotonic() < deadline, "no worker comes up"
            time.sleep(0.05)
        try:
            os.kill(self.rng.choice(workers), signal.SIGKILL)
            self.worker_kills += 1
        except ProcessLookupError:
            self.kill_worker()

    def kill_raylet(self) -> None:
        """A node goes, with all its workers."""
        node = self.nodes.pop(self.rng.randrange(len(self.nodes)))
        self.cluster.remove_node(node, allow_graceful=False)
        self.raylet_kills += 1

    def join(self) -> None:
        """A node joins."""
        self.nodes.append(self.cluster.add_node(num_cpus=CPUS_A_NODE))

    def finished(self) -> int:
        """Trials that have ended."""
        ledger = self.run / "ledger.jsonl"
        return ledger.read_bytes().count(b'"event":"finished"') if ledger.is_file() else 0

    def close(self) -> None:
        """Stop what is left, of this cluster alone."""
        if self.driver is not None and self.driver.poll() is None:
            self.driver.kill()
        self.cluster.shutdown()


def _processes() -> list[tuple[int, int, str]]:
    """(process, parent, command) of all processes of this machine."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                found.append((int(folder.name), parent, (folder / "cmdline").read_bytes().split(b"\0")[0].decode()))
            except (OSError, ValueError, IndexError):
                continue  # it has ended meanwhile
    return found


def torment(seed: int, trials: int, folder: Path, worker_kills: int = 20, driver_kills: int = 5) -> dict[str, Any]:
    """One search with everything done to it; returns the figures. Raises AssertionError where anything was lost or counted twice."""
    started = time.monotonic()
    chaos = Chaos(seed, trials, folder / f"seed-{seed}")
    try:
        deeds: list[Callable[[], None]] = [chaos.kill_worker] * worker_kills + [chaos.kill_driver] * driver_kills
        chaos.rng.shuffle(deeds)
        # Two of three nodes go; one joins in between, and goes as well.
        for place, deed in zip((0.2, 0.4, 0.6, 0.8), (chaos.kill_raylet, chaos.join, chaos.kill_raylet, chaos.kill_raylet), strict=True):
            deeds.insert(round(place * len(deeds)), deed)
        moments = sorted(chaos.rng.randrange(1, round(trials * 0.8)) for _ in deeds)
        chaos.start_driver()
        for moment, deed in zip(moments, deeds, strict=True):
            _wait(chaos, moment)
            deed()
        _wait(chaos, None)
        return verify(chaos, time.monotonic() - started)
    finally:
        chaos.close()


def _wait(chaos: Chaos, moment: int | None) -> None:
    """Until so many trials have ended, or the driver has."""
    assert chaos.driver is not None
    last, changed = -1, time.monotonic()
    while moment is None or chaos.finished() < moment:
        code = chaos.driver.poll()
        if code is not None:
            assert moment is None and code == 0, f"the driver ended with {code}: {(chaos.run.parent / f'{chaos.run.name}.log').read_text()}"
            return
        if (now := chaos.finished()) != last:
            last, changed = now, time.monotonic()
        assert time.monotonic() - changed < STUCK_SECONDS, "the search is stuck"
        time.sleep(0.05)


def verify(chaos: Chaos, seconds: float) -> dict[str, Any]:
    """Check the ledger in every way there is; returns the figures."""
    folder = RunFolder(chaos.run)
    records, size = read_records(folder.ledger_file)
    assert size == folder.ledger_file.stat().st_size, "the ledger ends in the middle of a record"
    state = replay(records, folder.ledger_file)
    ended = [trial for trial in state.trials.values() if trial.spends_budget]
    completed = [trial for trial in ended if trial.evaluation is not None and isinstance(trial.evaluation.outcome, Completed)]
    assert len(ended) == len(completed) == state.spent == chaos.trials, "exactly the budget of completed trials"
    assert not state.pending and state.closed == "finished", "none lost"
    told = [record["trial"] for record in records if record["event"] == "finished"]
    assert len(told) == len(set(told)) == len(state.trials), "none counted twice"
    for trial in state.trials.values():
        attempts = [record["attempt"] for record in records if record["event"] == "started" and record["trial"] == trial.number]
        assert trial.repeats is not None or attempts == list(range(1, len(attempts) + 1)), "attempts are numbered one after the other"
    config = folder.config()
    space = folder.space(config)
    for trial in completed:
        evaluator = SyntheticEvaluator(SyntheticSettings(objective=config.synthetic.objective), config.fidelity.epochs)
        child = evaluator.evaluate(
            space.decode(trial.proposal.actions), random_for(config.seed, "child", trial.number).getrandbits(31), None
        )
        assert [report.reward for report in child] == [report.reward for report in trial.reports], "each reward is its own cell's"
    incumbent = state.ranked()[0]
    assert f"trial: {incumbent.number}\n" in (folder.best_folder / "1.yaml").read_text(), "the incumbent is the ledger's"
    assert not list(folder.checkpoint_folder.glob("*")), "no state is left behind"
    starts = [record for record in records if record["event"] == "started"]
    assert len(state.sessions) <= chaos.driver_kills + 1  # a driver killed while it started has left no word
    return {
        "seed": chaos.seed,
        "worker_kills": chaos.worker_kills,
        "raylet_kills": chaos.raylet_kills,
        "driver_kills": chaos.driver_kills,
        "sessions": len(state.sessions),
        "completed": len(completed),
        "attempts": len(starts),
        "went_on_from_a_checkpoint": sum("after_epoch" in record for record in starts),
        "attempts_lost": sum(trial.lost for trial in state.trials.values()),
        "given_up": len(state.trials) - len(ended),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Run the seeds one after the other and print one line of figures each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trials", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nas-chaos-") as scratch:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            print(json.dumps(torment(seed, options.trials, Path(scratch))), flush=True)


if __name__ == "__main__":
    main()
