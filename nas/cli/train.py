"""``nas train``: a network to convergence."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import (
    BatchOption,
    CellsOption,
    CompileOption,
    DataDirOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    FiltersOption,
    LoadersOption,
    LogOption,
    MicroOption,
    OutputOption,
    PrecisionOption,
    RankOption,
    SeedOption,
    SetOption,
    SideOption,
    SkeletonOption,
    ThreadsOption,
    WeightsOption,
)
from nas.tools.stages import doing, loading_torch


def train(
    source: Annotated[
        str | None, typer.Argument(metavar="RUN|GENOTYPE", help="Run folder, `last`, a reference genotype's name, or a genotype file.")
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
    compile: CompileOption = None,
    loader_workers: LoadersOption = None,
    log: LogOption = None,
    assign: SetOption = None,
    output: OutputOption = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with the training in this folder.")] = None,
    again: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Train what was trained in this folder once more, by its settings.")
    ] = None,
    dry_run: DryRunOption = False,
) -> None:
    """Train a network to convergence by a recipe; the same command again, or --resume, goes on where it was stopped or killed."""
    given = dict(locals())
    with doing("reading the settings"):
        from nas.api.wishes import training_wish

        genotype, config, folder, choices = training_wish(source, {**given, "settings": assign})
    with loading_torch():
        from nas.cli.views.training import announce_and_train
    announce_and_train(genotype, config, folder, choices, dry_run)
