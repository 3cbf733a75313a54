"""What limits a search on hundreds or thousands of workers? The real loop, ledger and controller; simulated children and clock.

    python benchmarks/scale.py --workers 500 --children 20000
    python benchmarks/scale.py --workers 5000 --children 200000 --controller ppo

A child lasts log-normally many seconds (--seconds on average, deviation of the logarithm 0.5), reports three epochs, and scores by the
synthetic objective with noise 0.02; one in a hundred raises an exception, one diverges, one loses its worker. Driver and workers share
one clock: every second that the driver takes to ask, tell and record passes for the workers too. Prints one Markdown table, and to
standard error after every 10,000 children (--every) the driver's processor time for a child since the line before, and its memory.
"""

import argparse
import itertools
import resource
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from controllers.controller import Completed, Failed, random_for
from controllers.deduplicated import Deduplicated
from controllers.registry import make_controller
from nas.evaluators.evaluator import Evaluation, Report
from nas.evaluators.objective import noisy_reward
from nas.runners.runner import Job
from nas.runners.simulated import Moment, SimulatedRunner
from nas.runs import controller_state as snapshot
from nas.runs import records
from nas.runs.folder import RunFolder
from nas.runs.ledger import Ledger
from nas.runs.loop import AskTell, Search, SearchLimits, Watcher
from nas.runs.trials import Trial
from nas.settings.reading import parse_assignments
from search_spaces.registry import load_space

EPOCHS = 3


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=500)
    parser.add_argument("--children", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=600.0, help="mean duration of a child")
    parser.add_argument("--space", default="nasnet")
    parser.add_argument("--controller", default="ppo")
    parser.add_argument("--options", default="{}", help="of the controller, as in '{screen: false}'")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--every", type=int, default=10_000, help="children between two lines on standard error")
    parser.add_argument("--folder", type=Path, help="where the run folder is made (default: a temporary one)")
    arguments = parser.parse_args()
    options = parse_assignments([f"options={arguments.options}"])["options"]
    with tempfile.TemporaryDirectory() as scratch:
        row = simulate(arguments, options, RunFolder(arguments.folder or Path(scratch) / "run"))
    print(f"| {' | '.join(row)} |\n|{'---|' * len(row)}\n| {' | '.join(row.values())} |")


class Stopwatch:
    """Adds up the processor-independent time that calls of one function take, and how it grows from the first tenth to the last."""

    def __init__(self) -> None:
        self.seconds = array("f")  # of a million calls and more: no burden to the memory that is measured

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*arguments: object, **named: object) -> object:
            began = time.perf_counter()
            try:
                return function(*arguments, **named)
            finally:
                self.seconds.append(time.perf_counter() - began)

        return timed

    def milliseconds(self, children: int) -> str:
        """Per child, and (in the last tenth of the calls)."""
        tenth = max(1, len(self.seconds) // 10)
        late = sum(self.seconds[-tenth:]) * 10
        return f"{1000 * sum(self.seconds) / children:.2f} ({1000 * late / children:.2f})"


class Meter:
    """Says how far the simulation is, and keeps the memory in use at every line."""

    def __init__(self, every: int) -> None:
        self.every, self.megabytes = every, list[float]()
        self._last = time.process_time()

    def passed(self, children: int) -> None:
        """So many children have ended."""
        if children == len(self.megabytes) * self.every:
            return
        now, memory = time.process_time(), resident()
        milliseconds = 1000 * (now - self._last) / self.every
        line = f"{children:,} children: {milliseconds:.2f} ms of processor a child ({1000 / milliseconds:.0f} a second), {memory:.0f} MB"
        print(line, file=sys.stderr, flush=True)
        self._last = now
        self.megabytes.append(memory)

    def growth(self) -> str:
        """Of the memory since the first line."""
        return f"{max(self.megabytes) - self.megabytes[0]:.0f}" if self.megabytes else "–"


def resident() -> float:
    """Megabytes of memory in use now, where the system says so, else the most there was."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def script(mean_seconds: float, reward: Callable[[Job], float]) -> Callable[[Job], Iterator[Moment]]:
    """What a child does: see above."""
    mu = -0.125  # of exp(N(mu, 0.5²)), so that its mean is 1

    def play(job: Job) -> Iterator[Moment]:
        rng = random_for(job.seed, "simulated", job.attempt)
        seconds = mean_seconds * rng.lognormvariate(mu, 0.5)
        fate, share = rng.random(), rng.random()
        if fate < 0.03:
            word: Evaluation | str = "simulated: the node left"
            if fate < 0.02:
                word = Evaluation(Failed("exception" if fate < 0.01 else "diverged", "simulated"))
            yield Moment(seconds * share, word)
            return
        final = reward(job)
        for epoch in range(1, EPOCHS + 1):
            reached, passed = final * (1 - 0.5 * (1 - epoch / EPOCHS) ** 2), seconds * epoch / EPOCHS
            yield Moment(passed, Report(epoch, reached, {"seconds": round(passed, 2), "train_loss": 1.5}))
        yield Moment(seconds, Evaluation(Completed(final), {"params": 1e5, "macs": 1e7, "train_seconds": round(seconds, 2)}))

    return play


def simulate(arguments: argparse.Namespace, options: dict[str, Any], folder: RunFolder) -> dict[str, str]:
    """Run one search; returns the columns of the table."""
    space = load_space(arguments.space)
    folder.path.mkdir(parents=True, exist_ok=True)
    runner = SimulatedRunner(
        script(arguments.seconds, lambda job: noisy_reward(job.genotype, 0, job.seed, 0.02)), arguments.workers, driver_counts=True
    )
    watches = {name: Stopwatch() for name in ("ask", "tell", "record")}
    steady, meter = list[float](), Meter(arguments.every)
    with Ledger(folder.ledger_file) as ledger:
        controller = Deduplicated(make_controller(arguments.controller, space, arguments.seed, options), space, arguments.seed)
        ledger.append(records.opened(time.time(), arguments.children))
        for target, name, label in ((controller, "ask", "ask"), (controller, "tell", "tell"), (ledger, "append", "record")):
            setattr(target, name, watches[label].around(getattr(target, name)))

        def on_end(trial: Trial) -> None:
            if not steady and ledger.state.spent + len(ledger.state.pending) >= arguments.children:
                steady.append(runner.utilisation)
            if ledger.state.spent % arguments.every == 0:
                meter.passed(ledger.state.spent)

        began = time.perf_counter()
        limits = SearchLimits(arguments.children, failures_in_a_row=10**9)
        children = AskTell(space, controller, ledger, arguments.seed, limits, watcher=Watcher(on_end=on_end))
        ending = Search(children, runner).run()
        wall = time.perf_counter() - began
        state = ledger.state
        snapshot.write(folder, controller, state)
    lags = [telemetry["version_lag"] for _, telemetry in state.updates if "version_lag" in telemetry]
    latest = (state.trials[number] for number in itertools.islice(reversed(state.trials), 1000))
    rewards = [trial.reward for trial in latest if trial.reward is not None]
    return {
        "controller": f"{arguments.controller} {arguments.options if options else ''}".strip(),
        "workers": f"{arguments.workers:,}",
        "children": f"{state.spent:,} ({ending.value})",
        "utilisation": f"{100 * steady[0]:.1f} %",
        "wait for the driver, s": f"{runner.lag / max(1, runner.ended):.2f}",
        "ask, ms": watches["ask"].milliseconds(arguments.children),
        "tell, ms": watches["tell"].milliseconds(arguments.children),
        "record, ms": watches["record"].milliseconds(arguments.children),
        "driver, ms": f"{1000 * wall / arguments.children:.2f}",
        "versions behind": f"{statistics.fmean(lags):.1f}" if lags else "–",
        "mean reward of the last 1,000": f"{statistics.fmean(rewards):.3f}",
        "ledger, MB": f"{folder.ledger_file.stat().st_size / 1e6:.1f}",
        "memory, MB": f"{resident():.0f}",
        f"grown since child {arguments.every:,}, MB": meter.growth(),
        "wall, s": f"{wall:.0f}",
        **resume(folder, arguments, options),
    }


def resume(folder: RunFolder, arguments: argparse.Namespace, options: dict[str, Any]) -> dict[str, str]:
    """Processor time of the driver to be where it was: with the snapshot, and without."""
    space = load_space(arguments.space)
    seconds = []
    for with_snapshot in (True, False):
        if not with_snapshot:
            folder.snapshot_file.unlink()
        began = time.process_time()
        with Ledger(folder.ledger_file) as ledger:
            controller = Deduplicated(make_controller(arguments.controller, space, arguments.seed, options), space, arguments.seed)
            snapshot.restore(folder, controller, ledger.state)
        seconds.append(time.process_time() - began)
    return {"resume, CPU s": f"{seconds[0]:.1f}", "without the snapshot, CPU s": f"{seconds[1]:.1f}"}


if __name__ == "__main__":
    main()
