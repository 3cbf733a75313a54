"""A search by a preset as a whole, against another checkout: the same cells, with the same seeds, one search after the other.

    python benchmarks/preset_speed.py --against CHECKOUT --data-dir DIR --cells 24 --repeats 2

Both run ``nas search`` with the random controller, which proposes the same cells in both. Printed are children a minute (over the time
from the first child's start to the last one's end), seconds a child, and the rank correlation of the rewards; beside it that of two
training seeds of these cells, by this checkout: how well the rewards could agree at all.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

import torch
from proxy_tasks import train_once
from scipy.stats import spearmanr

from nas.data.prepared import prepare_dataset
from nas.data.registry import load_dataset
from nas.evaluators.child import TrainingEvaluator
from nas.runs.folder import RunFolder
from nas.runs.ledger import read_records
from nas.runs.state import RunState, replay
from search_spaces.registry import load_space

COMMAND = "from nas.cli import main; getattr(main, 'main', main)()"  # where the command begins has moved between commits


@dataclass(frozen=True)
class Searched:
    """What a search came to: rewards by cell, seconds a child, and children a minute."""

    rewards: dict[tuple[int, ...], float]
    seconds: float
    a_minute: float


def search(checkout: Path, folder: Path, arguments: argparse.Namespace) -> Searched:
    """One search in a process of its own that imports ``checkout``."""
    flags = ["--preset", arguments.preset, "--budget", str(arguments.cells), "--seed", str(arguments.seed), "--controller", "random"]
    flags += ["--data-dir", str(arguments.data_dir.resolve())] if arguments.data_dir else []
    command = [sys.executable, "-c", COMMAND, "search", *flags, "--run", str(folder)]
    subprocess.run(command, cwd=checkout, env=os.environ | {"PYTHONPATH": str(checkout)}, check=True, stdout=subprocess.DEVNULL)
    state = replayed(folder)
    trained = [trial for trial in state.trials.values() if trial.reward is not None and trial.evaluation and trial.started and trial.ended]
    whole = max(trial.ended or 0 for trial in trained) - min(trial.started or 0 for trial in trained)
    seconds = median(trial.evaluation.metrics["train_seconds"] for trial in trained if trial.evaluation)
    rewards = {tuple(trial.proposal.actions): trial.reward or 0.0 for trial in trained}
    return Searched(rewards, seconds, 60 * len(trained) / whole)


def replayed(folder: Path) -> RunState:
    """What the run's ledger says; earlier commits' too."""
    path = RunFolder(folder).ledger_file
    return replay(read_records(path)[0], path)


def other_seed(folder: Path, cells: list[tuple[int, ...]]) -> list[float]:
    """The rewards of the same cells with one other training seed, in this process."""
    config = RunFolder(folder).config()
    evaluator = TrainingEvaluator(prepare_dataset(load_dataset(config.data), config.data, config.preparation()), config)
    space = load_space(config.space)
    return [train_once(evaluator, space.decode(actions), 12_345)[0] for actions in cells]


def main() -> None:
    """Search in turns, then print a line for each way, and what they have in common."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, metavar="CHECKOUT")
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--cells", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    here = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as scratch:
        found: dict[str, list[Searched]] = {"this": [], "other": []}
        for repeat in range(arguments.repeats):
            for name, checkout in (("other", arguments.against.resolve()), ("this", here)):
                found[name].append(search(checkout, Path(scratch, f"{name}{repeat}"), arguments))
                latest = found[name][-1]
                print(f"{name}: {latest.a_minute:.1f} children a minute, {latest.seconds:.2f} s a child (median)", flush=True)
        ours, theirs = (found[name][0].rewards for name in ("this", "other"))
        cells = sorted(ours.keys() & theirs.keys())
        ratio = median(a.a_minute / b.a_minute for a, b in zip(found["this"], found["other"], strict=True))
        again = other_seed(Path(scratch, "this0"), cells)
    mine, others = [ours[cell] for cell in cells], [theirs[cell] for cell in cells]
    print(f"children a minute: {ratio:.2f} times (median of {arguments.repeats}); {len(cells)} cells in common")
    print(f"reward: {mean(mine):.4f} against {mean(others):.4f}; rank correlation {spearmanr(mine, others).statistic:.2f}")
    print(f"of two training seeds: {mean(again):.4f}, rank correlation {spearmanr(mine, again).statistic:.2f}")


if __name__ == "__main__":
    main()
