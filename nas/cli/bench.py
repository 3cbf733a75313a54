"""``nas bench``: compares controllers on tables of trained architectures or the synthetic objective."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.options import console
from nas.errors import ConfigError
from nas.tools.hardware import detect

if TYPE_CHECKING:
    from nas.comparisons.results import Kept
    from nas.comparisons.suite import Comparison


def bench(
    table: Annotated[list[str] | None, typer.Option(metavar="FILE", help="CSV of trained architectures; repeat for more columns.")] = None,
    objective: Annotated[str | None, typer.Option(help="synthetic: a formula with a known optimum instead of a table.")] = None,
    space: Annotated[str | None, typer.Option(help="Search space; default nasbench201 for tables, nasnet for synthetic.")] = None,
    architecture: Annotated[str | None, typer.Option(help="Column with the architecture; default arch.")] = None,
    reward: Annotated[list[str] | None, typer.Option(help="Column with a validation accuracy; repeat for several trainings.")] = None,
    report: Annotated[str | None, typer.Option(help="Column reported about the best by reward; default the mean reward.")] = None,
    seconds: Annotated[str | None, typer.Option(help="Column with the duration of a full training.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs of a full training, for durations at --search-fidelity.")] = None,
    fidelity: Annotated[list[str] | None, typer.Option(metavar="EPOCHS=COLUMN", help="Validation accuracy after fewer epochs.")] = None,
    noise: Annotated[float | None, typer.Option(help="Standard deviation of the synthetic reward with --noisy; default 0.02.")] = None,
    controller: Annotated[
        list[str] | None,
        typer.Option(metavar="[LABEL=]NAME[:OPTION=VALUE,…]", help="Repeat for each, such as 'old=evolution:population=10,repeats=paid'."),
    ] = None,
    budget: Annotated[int | None, typer.Option(help="Trainings of a run; default 200.")] = None,
    checkpoints: Annotated[str | None, typer.Option(help="Trainings to report at, such as 50,100,200.")] = None,
    seeds: Annotated[int | None, typer.Option(help="Runs of each controller; default 200.")] = None,
    first_seed: Annotated[int | None, typer.Option(help="Seed of the first run; default 0.")] = None,
    in_flight: Annotated[list[int] | None, typer.Option(help="Children trained at once; repeat to compare; default 1.")] = None,
    noisy: Annotated[bool | None, typer.Option("--noisy/--mean", help="Reward: one training, drawn once a run, or the mean.")] = None,
    search_fidelity: Annotated[int | None, typer.Option(metavar="EPOCHS", help="Search on the reward after so many epochs.")] = None,
    promote: Annotated[int | None, typer.Option(metavar="K", help="Train the best K fully in the end; the best of them counts.")] = None,
    failures: Annotated[float | None, typer.Option(help="Share of the trainings that fail, such as 0.05.")] = None,
    false_highs: Annotated[float | None, typer.Option(help="Share of the trainings that claim a reward of 1, such as 0.005.")] = None,
    suite: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML file of comparisons, such as benchmarks/controllers.yaml.")
    ] = None,
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Run this comparison of the suite; repeat for more.")] = None,
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder in which the tables lie.")] = Path(),
    processes: Annotated[int | None, typer.Option(help="Runs at once; default one for each core.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for NAME.json, NAME.md and NAME.png.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run again what the output folder holds.")] = False,
) -> None:
    """Compare controllers over many seeds: mean ± 95 % interval, regret, distinct cells, simulated hours, controller time."""
    changes = {
        "budget": budget,
        "checkpoints": None if checkpoints is None else [_whole(part, "--checkpoints") for part in checkpoints.split(",")],
        "seeds": seeds,
        "first_seed": first_seed,
        "in_flight": in_flight,
        "noisy": noisy,
        "search_fidelity": search_fidelity,
        "promote": promote,
        "failures": failures,
        "false_highs": false_highs,
    }
    given = {name: value for name, value in changes.items() if value is not None}
    problem = {
        "files": table,
        "objective": objective,
        "space": space,
        "architecture": architecture,
        "rewards": reward,
        "report": report,
        "seconds": seconds,
        "epochs": epochs,
        "noise": noise,
        "fidelities": _fidelities(fidelity) if fidelity else None,
    }
    stated = {name: value for name, value in problem.items() if value is not None}
    cores = detect().cores
    if processes is not None and not 1 <= processes <= 4 * cores:
        raise ConfigError(f"--processes must lie between 1 and {4 * cores} (four for each core), but got {processes}")
    from nas.comparisons.suite import comparisons, read_suite

    if suite is not None:
        if stated or controller:
            flags = ", ".join([*stated, *(["controller"] if controller else [])])
            raise ConfigError(f"a suite file says itself what is compared on what: with --suite there must be no {flags}")
        chosen = comparisons(read_suite(suite), str(suite), only or (), given)
        output = output or Path("bench") / suite.stem
    else:
        if only:
            raise ConfigError("--only chooses comparisons of a suite file: give --suite too")
        chosen = comparisons(_document(stated, controller or []), "nas bench", changes=given)
    _run_all(chosen, data, output, processes or cores, force)


def _document(problem: dict[str, Any], controllers: list[str]) -> dict[str, Any]:
    """A suite of the one comparison that the flags describe."""
    from nas.comparisons.suite import SCHEMA, parse_arm

    if not controllers or not ("files" in problem or "objective" in problem):
        raise ConfigError(
            "nothing to compare: give --table FILE --reward COLUMN or --objective synthetic, and one --controller or more; or a --suite"
        )
    labels = [parse_arm(text).label for text in controllers]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"every controller needs a label of its own (LABEL=NAME:…), but got {', '.join(labels)}")
    return {
        "schema": SCHEMA,
        "problems": {"problem": problem},
        "controllers": dict(zip(labels, controllers, strict=True)),
        "comparisons": {"comparison": {"problem": "problem", "controllers": labels}},
    }


def _whole(text: str, flag: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{flag} takes whole numbers, but got {text[:80]!r}") from None


def _fidelities(texts: list[str]) -> dict[int, str]:
    pairs = [text.partition("=") for text in texts]
    if not all(column for _, _, column in pairs):
        raise ConfigError(f"--fidelity must be given as EPOCHS=COLUMN, but got {', '.join(texts)}")
    return {_whole(epochs, "--fidelity EPOCHS=COLUMN"): column for epochs, _, column in pairs}


def _run_all(chosen: "list[Comparison]", data: Path, output: Path | None, processes: int, force: bool) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from nas.cli.views.bars import Bars
    from nas.comparisons.controllers import BenchWatcher
    from nas.comparisons.results import load, run_missing, write_report

    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    kept = [load(comparison, output, force) for comparison in chosen]  # all are checked before any is run
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    for one in kept:
        left = one.runs_left()
        console.print(f"\n{one.comparison.title()}", highlight=False, markup=False)
        with Bars(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("runs", total=left)

            def tell(result: Any) -> None:  # noqa: ANN401 - nas.bench.Result, whose import would load numpy
                progress.console.print(f"  {result.arm.label}: {100 * result.mean()[-1]:.2f}", highlight=False, markup=False)

            try:
                done = run_missing(one, data, processes, BenchWatcher(lambda: progress.advance(bar), tell))  # noqa: B023
            except KeyboardInterrupt:
                where = "" if output is None else f"; the controllers that had finished are in {output}, and the same command does the rest"
                console.print(f"interrupted{where}", highlight=False)
                raise typer.Exit(130) from None
        if not left:
            console.print(f"not run again: {done.path} has it (--force runs it again)", highlight=False)
        _print(done)
        if done.path is not None:
            write_report(done)
            console.print(f"wrote {done.path} (raw runs), {done.path.stem}.md and {done.path.stem}.png", highlight=False)


def _print(kept: "Kept") -> None:
    """The table, in as many parts as the terminal's width asks for, each with the controllers' names."""
    from rich import box
    from rich.table import Table

    from nas.comparisons.controllers import summary_rows

    heads, rows = summary_rows(kept.results(), kept.comparison.checkpoints)
    widths = [max(len(row[i]) for row in (heads, *rows)) + 3 for i in range(len(heads))]  # with what stands between columns
    parts: list[list[int]] = [[0]]
    for i in range(1, len(heads)):
        if len(parts[-1]) > 1 and sum(widths[j] for j in (*parts[-1], i)) > console.width:
            parts.append([0])
        parts[-1].append(i)
    for part in parts:
        shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for i in part:
            shown.add_column(heads[i], justify="right" if i else "left", no_wrap=True)
        for row in rows:
            shown.add_row(*(row[i] for i in part))
        console.print(shown)
    console.print("report of the best by reward, %: mean ± half of the 95 % interval; ms: the controller's processor time", highlight=False)
