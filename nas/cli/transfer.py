"""``nas transfer``: a larger network stacked from found cells, trained on another data set, on one machine or many."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import (
    AddressOption,
    BatchOption,
    CellsOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    FiltersOption,
    LoadersOption,
    LogOption,
    MacsOption,
    MicroOption,
    OutputOption,
    ParamsOption,
    PrecisionOption,
    RankOption,
    SeedOption,
    SetOption,
    SideOption,
    SkeletonOption,
    SourceArgument,
    ThreadsOption,
    WeightsOption,
    say,
)
from nas.tools.stages import doing, loading_torch


def transfer(
    source: SourceArgument,
    to: Annotated[
        str, typer.Option("--to", help="imagenet (with --data-dir), a folder of images, cifar10, cifar100, digits or synthetic.")
    ] = "imagenet",
    data_dir: Annotated[Path | None, typer.Option(help="Folder of the named data set: ILSVRC's with train/ and val/ below.")] = None,
    skeleton: SkeletonOption = None,
    rank: RankOption = 1,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    macs: MacsOption = None,
    params: ParamsOption = None,
    recipe: Annotated[str | None, typer.Option(help="A recipe's name or a YAML file; default the skeleton's published one.")] = None,
    epochs: EpochsOption = None,
    batch_size: BatchOption = None,
    micro_batch: MicroOption = None,
    image_size: SideOption = None,
    precision: PrecisionOption = None,
    weights: WeightsOption = None,
    seed: SeedOption = None,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes that train together; default one a GPU, else one.")
    ] = None,
    least_workers: Annotated[int | None, typer.Option(min=1, help="Go on with as few as this while nodes are missing.")] = None,
    address: AddressOption = None,
    checkpoint_steps: Annotated[int | None, typer.Option(help="Steps between two checkpoints in the middle of an epoch.")] = 500,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    loader_workers: LoadersOption = None,
    log: LogOption = None,
    assign: SetOption = None,
    output: OutputOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Stack found cells to a size and train them on ImageNet or any data set; the same command again goes on."""
    given = dict(locals())
    with doing("reading the settings"):
        from nas.api.wishes import transfer_wish

        genotype, config, folder, choices, network, group = transfer_wish(source, {**given, "settings": assign})
    with loading_torch():
        from nas.cli.views.training import announce_and_train
    say(f"network: {network}")
    announce_and_train(genotype, config, folder, choices, dry_run, group)
