"""``nas train`` and ``nas evaluate``: a network to convergence, and how good a network with weights is."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import (
    BatchOption,
    CellsOption,
    DataDirOption,
    DataOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    FiltersOption,
    LoadersOption,
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
    say,
)


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
    given = dict(locals())
    from nas.api.wishes import training_wish
    from nas.cli.views.training import announce_and_train

    genotype, config, folder, choices = training_wish(source, {**given, "settings": assign})
    announce_and_train(genotype, config, folder, choices, dry_run)


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
    given = dict(locals())
    import nas

    for line in nas.evaluate(**{**given, "device": device or "auto", "loader_workers": loader_workers or 0}).lines():
        say(line)
