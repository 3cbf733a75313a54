"""Does the default controller beat random search on real CIFAR-10? Same preset, same budget, several seeds each.

    python benchmarks/cifar10_search.py --data-dir DIR --budget 50 --seeds 3 --out OUT

Every search is an ordinary run folder under OUT (an interrupted benchmark goes on where it stopped). At the end it prints a Markdown table
and writes OUT/cifar10_search.png: reward in the order in which children ended (smoothed) and the best reward so far.
"""

import argparse
import statistics
from pathlib import Path

import matplotlib as mpl
import numpy as np
from rich.console import Console
from scipy.stats import ttest_ind

from nas.cli.views.search_progress import SearchProgress, shown_on
from nas.runs import session as engine
from nas.runs.config import build_config
from nas.runs.folder import RunFolder
from nas.runs.loop import Ending
from nas.runs.state import RunState, rewards_over_time
from search_spaces.registry import load_space
from search_spaces.space import SearchSpace


def main() -> None:
    """Run what is missing, then report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder with CIFAR-10")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--budget", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--controllers", nargs="+", default=["ppo", "random"], help="names, with options as in 'ppo:{screen: false}'")
    parser.add_argument("--out", type=Path, default=Path("runs/cifar10_search"))
    parser.add_argument("--set", action="append", default=[], dest="assignments")
    arguments = parser.parse_args()
    console = Console()
    states: dict[str, list[RunState]] = {}
    space = load_space(build_config(arguments.preset, arguments.assignments).space)
    for seed in range(1, arguments.seeds + 1):  # seed by seed, so that a benchmark cut short still compares like with like
        for controller in arguments.controllers:
            name, _, options = controller.partition(":")
            flags = {"controller.name": name, "seed": seed, "budget": arguments.budget, "data.root": arguments.data_dir}
            chosen = [f"controller.options={options}"] if options else []
            config = build_config(arguments.preset, [*arguments.assignments, *chosen], flags)
            folder = RunFolder(arguments.out / f"{name}-{seed}")
            console.print(f"{controller}, seed {seed}", highlight=False)
            progress = SearchProgress(shown_on(console)).watcher()
            result = engine.resume(folder, None, progress) if folder.ledger_file.is_file() else engine.start(config, folder.path, progress)
            if result.ending is not Ending.FINISHED:
                raise SystemExit(f"{folder.path}: {result.ending.value}")
            states.setdefault(controller, []).append(result.state)
    print(markdown(states, space))
    print(differences(states))
    draw(states, arguments.out / "cifar10_search.png")


def rewards(state: RunState) -> list[float]:
    """Rewards of the completed children in the order of their ends."""
    return [reward for _, reward in rewards_over_time(state)]


def markdown(states: dict[str, list[RunState]], space: SearchSpace) -> str:
    """A row a controller: mean ± standard deviation over seeds."""
    lines = [
        "| controller | seeds | children | mean reward | mean of the last quarter | best found | distinct cells | failed | minutes |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for controller, runs in states.items():
        quarter = last_quarter(runs)
        distinct = [len({space.canonical(space.decode(t.proposal.actions)) for t in run.trials.values()}) for run in runs]
        cells = [
            controller,
            str(len(runs)),
            str(runs[0].spent),
            _spread([float(np.mean(rewards(run))) for run in runs]),
            _spread(quarter),
            _spread([max(rewards(run)) for run in runs]),
            f"{statistics.mean(distinct):.0f}",
            str(sum(run.spent - len(rewards(run)) for run in runs)),
            f"{statistics.mean(run.elapsed() for run in runs) / 60:.1f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def last_quarter(runs: list[RunState]) -> list[float]:
    """Mean reward of the last quarter of each run's children."""
    return [float(np.mean(rewards(run)[-(len(rewards(run)) // 4) :])) for run in runs]


def differences(states: dict[str, list[RunState]]) -> str:
    """Welch's t-test of the last quarter's means, the first controller against each other one."""
    first, *others = states
    lines = []
    for other in others:
        test = ttest_ind(last_quarter(states[first]), last_quarter(states[other]), equal_var=False)
        gap = np.mean(last_quarter(states[first])) - np.mean(last_quarter(states[other]))
        figures = f"Welch's t = {test.statistic:.2f}, {test.df:.1f} degrees of freedom, p = {test.pvalue:.3f}"
        lines.append(f"last quarter, {first} - {other}: {gap:+.4f} ({figures})")
    return "\n".join(lines)


def _spread(values: list[float]) -> str:
    deviation = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{deviation}"


def draw(states: dict[str, list[RunState]], path: Path) -> None:
    """Smoothed reward and best so far against the children trained; a thin line a seed, a thick one their mean."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for (controller, runs), colour in zip(states.items(), ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple"), strict=False):
        series = [np.array(rewards(run)) for run in runs]
        length = min(len(values) for values in series)
        window = max(1, length // 8)
        smooth = [np.convolve(values[:length], np.ones(window) / window, mode="valid") for values in series]
        best = [np.maximum.accumulate(values[:length]) for values in series]
        for axes, lines, first in ((left, smooth, window), (right, best, 1)):
            children = np.arange(first, first + len(lines[0]))
            for line in lines:
                axes.plot(children, line, color=colour, alpha=0.3, linewidth=0.8)
            axes.plot(children, np.mean(lines, axis=0), color=colour, linewidth=2, label=f"{controller} ({len(runs)} seeds)")
    left.set_ylabel(f"reward, mean of the last {window} children")
    right.set_ylabel("best reward so far")
    for axes in (left, right):
        axes.set_xlabel("children trained")
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
