"""Does the search win? Its winners against published cells, random cells and random search, at equal cost, over seeds.

    python benchmarks/search_wins.py --data-dir DIR --out OUT            # hours; the same command goes on where it was
    python benchmarks/search_wins.py --data-dir DIR --out OUT --only report
    python benchmarks/search_wins.py --data-dir DIR --out OUT --gpu --budget 240     # the same on one GPU, in float32: minutes
    python benchmarks/search_wins.py --data-dir DIR --out OUT --only equal --winners benchmarks/data/found_by_cheap_draws.yaml

Everything is done by the commands that a user has, in folders under OUT that go on after an interruption:

1. *search*: three seeds of the default controller and three of random search by the preset ``cpu``, the same ladder, ``--minutes`` (or
   ``--budget``) each.
2. *equal*: the winners, six published cells, ResNeXt and ConvNeXt blocks and ten random cells at 5M MACs and 32×32, ``--trainings``
   seeds.
3. *larger*: the winners, the first of random search, NASNet-A, and the published cells that are best after two passes (DARTS-V1) and
   after sixteen (AmoebaNet-A) at 25M MACs, N=2, two seeds.
4. *longer*: the same at 5M MACs with eight times the passes.
5. *latency*: the same, each as wide as one image takes ``--latency`` on one thread, whatever its MACs.
6. *transfer*: the same on CIFAR-100 at 5M MACs, three seeds (``--cifar100 DIR`` names its folder of PNGs).

With ``--gpu`` children and networks are trained on one GPU, several at once in each of a few processes, without Ray: the same search,
the same trainings, none of them bit for bit.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nas.tools.intervals import half_of_mean

REFERENCES = ("nasnet-a", "darts-v2", "amoebanet-a", "pnasnet-5", "enas-micro", "darts-v1")
BLOCKS = ("resnext-2x64d", "convnext")
RIVALS = ("nasnet-a", "darts-v1", "amoebanet-a")
"""In the dearer comparisons: whom to beat, and the best published cells after two and after sixteen passes."""
CONTROLLERS = ("ppo", "random")
COMPARED_ON_GPU = ("--device", "cuda", "--workers", 6, "--set", "precision=float32")
SEARCHED_ON_GPU = {"runner": "local", "gpus_per_child": 1, "workers": 6, "settings": ["training.precision=float32"]}


def nas(*commands: Sequence[object]) -> None:
    """Run commands of the package beside one another; their output is this one's. Ends the benchmark where one fails."""
    for words in commands:
        print("$ nas", *words, flush=True)
    run([[sys.executable, "-m", "nas", *map(str, words)] for words in commands])


def run(commands: Sequence[Sequence[str]]) -> None:
    """Run commands beside one another."""
    running = [subprocess.Popen(command) for command in commands]
    codes = [process.wait() for process in running]
    if any(codes):
        raise SystemExit(1)


def search(arguments: argparse.Namespace) -> None:
    """The searches, seed by seed, so that a benchmark cut short compares like with like."""
    for seed in range(1, arguments.seeds + 1):
        folders = {controller: run_folder(arguments, controller, seed) for controller in CONTROLLERS}
        if arguments.gpu:  # by the Python function, which begins without timing children for a plan
            size = {"budget": arguments.budget} if arguments.budget else {"minutes": arguments.minutes}
            wish = {"preset": "cpu", **size, "seed": seed, "data_dir": arguments.data_dir, **SEARCHED_ON_GPU}
            run([_python({**wish, "controller": controller, "run": str(folder)}) for controller, folder in folders.items()])
            continue
        for controller, folder in folders.items():
            size = ["--budget", arguments.budget] if arguments.budget else ["--minutes", arguments.minutes]
            wish = ["--preset", "cpu", *size, "--controller", controller, "--seed", seed, "--data-dir", arguments.data_dir]
            nas(["resume", folder] if (folder / "config.yaml").is_file() else ["search", *wish, "--run", folder])


def _python(wish: dict[str, object]) -> list[str]:
    """A search from Python, begun or gone on with."""
    folder = Path(str(wish["run"]))
    call = f"nas.resume({str(folder)!r})" if (folder / "config.yaml").is_file() else f"nas.search(**{wish!r})"
    print(">>>", call, flush=True)
    return [sys.executable, "-c", f"import nas; print({call}.best)"]


def run_folder(arguments: argparse.Namespace, controller: str, seed: int) -> Path:
    """Of a search; not to be taken for a random cell, whose names begin with ``random-``."""
    return Path(arguments.out) / f"by-{controller}-{seed}"


def winners(arguments: argparse.Namespace, controller: str) -> list[Path]:
    """The runs of a controller that have found something: each stands for its best cell. Cells of earlier searches are the default's."""
    runs = [run_folder(arguments, controller, seed) for seed in range(1, arguments.seeds + 1)]
    earlier = arguments.winners if controller == CONTROLLERS[0] else []
    return [*earlier, *(run for run in runs if (run / "best" / "1.yaml").is_file())]


def compare(arguments: argparse.Namespace, stage: str, groups: Sequence[Sequence[object]], *words: object) -> None:
    """One comparison; on a GPU the groups have a process and a folder each, else all are in one."""
    given = [*words, "--recipe", "fast", *(COMPARED_ON_GPU if arguments.gpu else ())]
    whole = [[member for group in groups for member in group]]
    parts = [group for group in groups if group] if arguments.gpu else whole
    names = [stage if len(parts) == 1 else f"{stage}-{number}" for number in range(1, len(parts) + 1)]
    nas(*(["compare", *part, *given, "--output", Path(arguments.out) / name] for part, name in zip(parts, names, strict=True)))


def equal(arguments: argparse.Namespace) -> None:
    """All at 5M MACs."""
    groups = [[*winners(arguments, "ppo"), *winners(arguments, "random")], [*REFERENCES, *BLOCKS], ["--random", 10]]
    size = ["--macs", "5M", "--cells", 1, "--epochs", 2, "--seeds", arguments.trainings]
    compare(arguments, "equal", groups, *size, "--data-dir", arguments.data_dir)


def few(arguments: argparse.Namespace) -> list[list[object]]:
    """Who takes part in the dearer comparisons."""
    return [[*winners(arguments, "ppo"), *winners(arguments, "random")[:1]], [*RIVALS]]


def larger(arguments: argparse.Namespace) -> None:
    """Five times the MACs."""
    size = ["--macs", "25M", "--cells", 2, "--epochs", 4, "--seeds", 2]
    compare(arguments, "larger", few(arguments), *size, "--data-dir", arguments.data_dir)


def longer(arguments: argparse.Namespace) -> None:
    """Eight times the training."""
    size = ["--macs", "5M", "--cells", 1, "--epochs", 16, "--seeds", 2]
    compare(arguments, "longer", few(arguments), *size, "--data-dir", arguments.data_dir)


def latency(arguments: argparse.Namespace) -> None:
    """Equally fast, in place of equally dear."""
    size = ["--latency", arguments.latency, "--cells", 1, "--epochs", 2, "--seeds", 2]
    compare(arguments, "latency", few(arguments), *size, "--data-dir", arguments.data_dir)


def transfer(arguments: argparse.Namespace) -> None:
    """Other images."""
    if arguments.cifar100 is None:
        print("transfer: not done, no --cifar100")
        return
    size = ["--macs", "5M", "--cells", 1, "--epochs", 4, "--seeds", 3, "--data", arguments.cifar100]
    compare(arguments, "transfer", few(arguments), *size)


def report(arguments: argparse.Namespace) -> None:
    """The tables: means with 95 % intervals over seeds, and how far from random cells and NASNet-A."""
    for stage in list(STAGES)[1:-1]:
        files = [*Path(arguments.out).glob(f"{stage}/compare.json"), *Path(arguments.out).glob(f"{stage}-*/compare.json")]
        rows = [row for file in files for row in json.loads(file.read_text(encoding="utf-8"))["rows"]]
        if rows:
            table(stage, sorted(rows, key=lambda row: -statistics.fmean(row["test"] or [0])))


def table(stage: str, rows: list[dict[str, Any]]) -> None:
    """One comparison as Markdown."""
    done = {row["label"]: row["test"] for row in rows if row["test"]}
    drawn = [statistics.fmean(test) for label, test in done.items() if label.startswith("random-")]
    sigma = statistics.stdev(drawn) if len(drawn) > 2 else math.nan
    base = statistics.fmean(done["nasnet-a"]) if "nasnet-a" in done else math.nan
    print(f"\n### {stage}\n\n| | test accuracy % (95 % interval) | seeds | to NASNet-A, points | σ from random cells | MACs | latency ms |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        if not row["test"]:
            continue
        mean, half = statistics.fmean(row["test"]), half_of_mean(row["test"])
        away = (mean - statistics.fmean(drawn)) / sigma if drawn and sigma == sigma else math.nan
        print(
            f"| {row['label']} | {100 * mean:.2f} ± {100 * half:.2f} | {len(row['test'])} | {100 * (mean - base):+.2f} | {away:+.1f} | "
            f"{row['macs'] / 1e6:.2f}M | {row['latency_ms']:.1f} |"
        )


STAGES = {stage.__name__: stage for stage in (search, equal, larger, longer, latency, transfer, report)}
"""By name, in the order in which they are done."""


def main() -> None:
    """Do the stages in their order."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="folder that holds CIFAR-10")
    parser.add_argument("--cifar100", help="folder of CIFAR-100 as PNGs")
    parser.add_argument("--out", default="runs/search_wins")
    parser.add_argument("--winners", nargs="+", type=Path, default=[], help="cells that earlier searches found, which take part as well")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=int, default=30)
    parser.add_argument("--budget", type=int, help="children of a search, in place of --minutes: the same work on a busy machine")
    parser.add_argument("--trainings", type=int, default=5, help="training seeds of everybody at 5M MACs; a larger number later adds to it")
    parser.add_argument("--latency", default="12ms", help="of one image; on a slow core NASNet-A takes 17 ms and more")
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--gpu", action="store_true", help="train on this machine's GPU instead of its CPU cores")
    arguments = parser.parse_args()
    Path(arguments.out).mkdir(parents=True, exist_ok=True)
    for name, stage in STAGES.items():
        if name in arguments.only:
            stage(arguments)


if __name__ == "__main__":
    main()
