"""``nas train`` and ``nas evaluate``: a network to convergence, and how good a network with weights is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.options import CellsOption, FiltersOption, SkeletonOption, absolute, console, data_flags, errors, escape
from nas.errors import ConfigError

DataOption = Annotated[str | None, typer.Option(help="cifar10, cifar100, digits, synthetic, or a folder of images.")]
DataDirOption = Annotated[Path | None, typer.Option(help="Folder that holds the named data set.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
LoadersOption = Annotated[int | None, typer.Option(help="Processes that read and augment images; the result does not depend on it.")]

EpochsOption = Annotated[int | None, typer.Option(help="Passes over the training images; default the recipe's.")]
BatchOption = Annotated[
    int | None, typer.Option(help="Images of one step, over all workers; the learning rate follows where the recipe says so.")
]
MicroOption = Annotated[int | None, typer.Option(help="Images of one pass, where a whole step does not fit in memory.")]
SideOption = Annotated[int | None, typer.Option(help="Side of the images in pixels; default small images' own, else the recipe's.")]
PrecisionOption = Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")]
WeightsOption = Annotated[Path | None, typer.Option(help="Weights to start from.")]
SeedOption = Annotated[int | None, typer.Option(help="Seed of everything random.")]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads of a process; default its share of the cores.")]
RankOption = Annotated[int, typer.Option(min=1, help="Which of the run's genotypes: 1 is the incumbent.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting of the recipe, such as optimizer.learning_rate=0.05.")
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Folder of this training; default trained/<what>.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and how long it takes, and stop.")]


def train(
    source: Annotated[
        str | None, typer.Argument(metavar="[RUN|GENOTYPE]", help="Run folder, `last`, a reference genotype's name, or a genotype file.")
    ] = None,
    rank: RankOption = 1,
    skeleton: SkeletonOption = None,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    recipe: Annotated[str, typer.Option(help="A recipe's name (`nas list recipes`), or a YAML file.")] = "fast",
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    micro_batch: MicroOption = None,
    image_size: SideOption = None,
    precision: PrecisionOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    loader_workers: LoadersOption = None,
    assign: SetOption = None,
    output: OutputOption = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with the training in this folder.")] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Train a network to convergence by a recipe; the same command again, or --resume, goes on where it was stopped or killed."""
    settings = {
        "image_size": image_size,
        "micro_batch": micro_batch,
        "weights": absolute(weights),
        "seed": seed,
        "device": device,
        "threads": threads,
        "loader_workers": loader_workers,
    }
    from nas.training.folder import TrainFolder

    if resume is not None:
        if source is not None:
            raise ConfigError(f"--resume goes on with what is in its folder: no genotype may be given with it, but got {source!r}")
        fixed = {"epochs": epochs, "batch-size": batch_size, "data": data, "data-dir": data_dir, "precision": precision, "set": assign}
        fixed |= {"skeleton": skeleton, "cells": cells, "filters": filters, "image-size": image_size, "weights": weights, "seed": seed}
        given = [f"--{name}" for name, value in {**fixed, "micro-batch": micro_batch, "output": output}.items() if value is not None]
        if given:
            raise ConfigError(
                "--resume goes on with the training's own settings: only --device, --threads and --loader-workers may be given with it, "
                f"but got {', '.join(given)}"
            )
        place = TrainFolder(resume)
        config = place.config()
        genotype = place.genotype()
        changed = {name: value for name, value in settings.items() if value is not None and name in ("device", "threads", "loader_workers")}
        config = config.model_copy(update=changed)
    elif source is None:
        raise ConfigError("name what to train: a run folder, `last`, a reference genotype or a genotype file; or --resume FOLDER")
    else:
        from nas.training.setup import Request, configure, default_folder

        recipe_flags = {"epochs": epochs, "batch_size": batch_size, "precision": precision}
        flags = data_flags(data)
        flags["data.root"] = absolute(data_dir) or flags.get("data.root")
        wanted = Request(source, rank, skeleton, cells, filters, flags, recipe, recipe_flags, tuple(assign or ()), settings)
        genotype, config = configure(wanted)
        place = TrainFolder(output or default_folder(genotype, config))
    from nas.training.plan import describe_training

    for line in describe_training(genotype, config, place.path, timed=dry_run):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if not dry_run:
        run_training(genotype, config, place.path)


def run_training(genotype: Any, config: Any, folder: Path, group: Any = None) -> None:  # noqa: ANN401 - types whose import would load much
    """Train in this process, or with a ``nas.runners.distributed.Group``; say how it ended, with the exit code that fits."""
    from nas.training.plan import describe_result
    from nas.training.trainer import Ending

    result = _train_here(genotype, config, folder) if group is None else _train_together(genotype, config, folder, group)
    for line in describe_result(result):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if result.ending is Ending.INTERRUPTED:
        console.print(f"\ngo on with: [bold]nas train --resume {escape(str(folder))}[/]", highlight=False, soft_wrap=True)
        raise typer.Exit(130)
    if result.ending is Ending.DIVERGED:
        errors.print(
            f"[bold red]the training diverged:[/] {escape(result.detail)}. The checkpoint and the best weights of before are kept in "
            f"{escape(str(folder))}; try a smaller learning rate (--set optimizer.learning_rate=…) in another folder",
            highlight=False,
            soft_wrap=True,
        )
        raise typer.Exit(1)
    console.print("\nnext:")
    console.print(f"  [bold]nas evaluate {escape(str(folder))}[/]   accuracy and throughput again", highlight=False, soft_wrap=True)


def _train_here(genotype: Any, config: Any, folder: Path) -> Any:  # noqa: ANN401
    from nas.cli.views.training_progress import TrainProgress
    from nas.tools.interrupts import Stopper
    from nas.training.session import Watcher, train_network

    with Stopper(console, "writing a checkpoint") as stopper, TrainProgress(console, config.recipe.epochs) as progress:
        watcher = Watcher(progress.on_start, progress.on_files, progress.on_step, progress.on_epoch, stopper.asked)
        return train_network(genotype, config, folder, watcher)


def _train_together(genotype: Any, config: Any, folder: Path, group: Any) -> Any:  # noqa: ANN401
    from nas.cli.views.training_progress import TrainProgress
    from nas.runners.distributed import train_distributed

    console.print(f"workers: {group.workers}, {'a GPU each' if group.gpu else f'{config.threads} CPU threads each'}; starting Ray …")
    with TrainProgress(console, config.recipe.epochs) as progress:
        return train_distributed(genotype, config, folder, group, progress.on_epoch, progress.on_files)


def evaluate(
    source: Annotated[Path, typer.Argument(metavar="FOLDER|WEIGHTS", help="Folder of a training, or a file of weights.")],
    which: Annotated[str, typer.Option("--which", help="best or last weights of a folder.")] = "best",
    part: Annotated[str, typer.Option(help="test, validation or train.")] = "test",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    genotype: Annotated[str | None, typer.Option(help="Of weights that do not say it: a reference genotype, file or run.")] = None,
    skeleton: SkeletonOption = None,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    image_size: SideOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    loader_workers: LoadersOption = None,
) -> None:
    """Measure top-1 and top-5 accuracy of trained weights on a test set, and the throughput."""
    from nas.training.measure import evaluate_weights

    flags = {**data_flags(data), "data.root": absolute(data_dir) or data_flags(data).get("data.root")}
    measured = evaluate_weights(
        source,
        which=which,
        part=part,
        data=flags,
        genotype=genotype,
        skeleton=skeleton,
        cells=cells,
        filters=filters,
        image_size=image_size,
        device=device or "auto",
        threads=threads,
        loader_workers=loader_workers or 0,
    )
    for line in measured.lines():
        console.print(line, highlight=False, markup=False, soft_wrap=True)
