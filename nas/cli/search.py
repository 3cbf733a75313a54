"""``nas search`` and ``nas resume``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.options import absolute, console, data_flags, escape
from nas.errors import ConfigError

WorkersOption = Annotated[int | None, typer.Option(help="Children trained at once; default fills the machine or the cluster.")]
AddressOption = Annotated[str | None, typer.Option(help="Ray cluster to join: auto or HOST:PORT. Default: Ray on this machine.")]
SyncOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Mirror the run folder there as it grows: s3://…, gs://…, file:///… (fsspec).")
]


def search(
    space: Annotated[str | None, typer.Option(help="Search space: nasnet, nasnet-paper, …, or a YAML file that declares one.")] = None,
    budget: Annotated[int | None, typer.Option(help="Children to train.")] = None,
    preset: Annotated[str, typer.Option(help="auto, laptop, cpu, gpu, paper, or a YAML file of settings.")] = "auto",
    data: Annotated[str | None, typer.Option(help="cifar10, cifar100, digits, synthetic, or a folder of images.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder that holds the named data set.")] = None,
    controller: Annotated[str | None, typer.Option(help="ppo, reinforce, evolution, local_search, random.")] = None,
    evaluator: Annotated[str | None, typer.Option(help="What scores the children: train, synthetic, …; see `nas list evaluators`.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs a child is trained for.")] = None,
    cells: Annotated[int | None, typer.Option(help="N, normal cells a stage.")] = None,
    filters: Annotated[int | None, typer.Option(help="F, filters of the first stage.")] = None,
    workers: WorkersOption = None,
    gpus_per_child: Annotated[float | None, typer.Option(help="Whole or fractional GPUs for each child.")] = None,
    address: AddressOption = None,
    sync: SyncOption = None,
    runner: Annotated[str | None, typer.Option(help="ray, or local for one child at a time in this process.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds a child may take.")] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting, such as training.learning_rate=0.05.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Folder for this run; default runs/<time>-<space>-<preset>.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this run, up to the given --budget.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and how long it takes, and stop.")] = False,
) -> None:
    """Search for cells: propose, train, learn, and keep everything in a run folder."""
    flags: dict[str, Any] = {
        "space": space,
        "budget": budget,
        "seed": seed,
        "controller.name": controller,
        "evaluator": evaluator,
        "data.root": absolute(data_dir),
        "fidelity.epochs": epochs,
        "fidelity.cells": cells,
        "fidelity.filters": filters,
        "runner.workers": workers,
        "runner.gpus_per_child": gpus_per_child,
        "runner.address": address,
        "runner.kind": runner,
        "runner.time_limit": time_limit,
        "runner.sync": sync,
        **data_flags(data),
    }
    if resume is not None:
        given = [name for name, value in flags.items() if value is not None and name != "budget"]
        if given or assign or run or preset != "auto":
            raise ConfigError(
                f"--resume goes on with the run's own settings: only --budget may be given with it, but got {', '.join(given) or 'others'}"
            )
        _resume(resume, budget, {})
        return
    from nas.runs.config import build_config
    from nas.tools.hardware import auto_preset, detect

    hardware = detect()
    if preset == "auto":
        preset, why = auto_preset(hardware)
        console.print(f"preset [bold]{preset}[/] ({why}); choose another with --preset", highlight=False)
    config = build_config(preset, assign or (), flags)
    from nas.runs.plan import describe_plan

    for line in describe_plan(config, hardware):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        return
    from nas.runs import session as engine

    _conclude(engine.start(config, run, console))


def resume(
    run: Annotated[str, typer.Argument(metavar="RUN|URL", help="Run folder, its name under runs/, `last`, or the URL of a mirror.")],
    into: Annotated[Path | None, typer.Option("--run", help="Folder that a mirror is fetched into; default runs/<its name>.")] = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder that holds the data set on this machine.")] = None,
    sync: SyncOption = None,
) -> None:
    """Go on with a run that was interrupted or killed, here or, from its mirror, on another machine."""
    places = {"runner.address": address, "runner.workers": workers, "data.root": absolute(data_dir), "runner.sync": sync}
    _resume(run, None, places, into)


def _resume(name: str, budget: int | None, places: dict[str, Any], into: Path | None = None) -> None:
    from nas.runs import folder as run_folder
    from nas.runs import session as engine

    if "://" in name:
        from nas.runs import mirror

        folder = mirror.fetch(name, into)
        places = places | {"runner.sync": places.get("runner.sync") or name}
    elif into is not None:
        raise ConfigError(f"--run names the folder that a mirror is fetched into, and goes with a URL, but got {name!r}")
    else:
        folder = run_folder.find(name)
    console.print(f"resuming {folder.path}", highlight=False)
    _conclude(engine.resume(folder, budget, console, places))


def _conclude(result: Any) -> None:  # noqa: ANN401 - nas.engine.SearchResult, whose import would load the engine
    from nas.cli.views import run as report
    from nas.runs import session as engine

    console.print()
    report.print_run(console, result.folder, result.config, result.state, result.space)
    best = result.folder.best_folder
    if result.state.ranked():
        console.print(f"genotypes: {best}/1.yaml … {best}/{len(list(best.glob('*.yaml')))}.yaml", highlight=False)
    if result.mirror is not None:
        console.print(result.mirror, markup=False, highlight=False, soft_wrap=True)
    if result.ending.value == "exhausted":
        console.print("the search space is exhausted: every further proposal repeats a trained cell")
    console.print("\nnext:")
    for command, purpose in report.next_commands(result.folder.path, result.state):
        console.print(f"  [bold]{escape(command)}[/]   {purpose}", highlight=False, soft_wrap=True)
    engine.check_failing(result)
    settings = result.config.finalists
    if settings is not None and result.ending.value == "finished":
        from nas.cli.finalists import second_stage

        second_stage(result.folder, settings)
    if result.ending.value == "interrupted":
        raise typer.Exit(130)
