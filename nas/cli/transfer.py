"""``nas transfer``: a larger network stacked from found cells, trained on another data set, on one machine or many."""

from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.options import CellsOption, FiltersOption, MacsOption, ParamsOption, SkeletonOption, SourceArgument, absolute, console
from nas.cli.train import (
    BatchOption,
    DeviceOption,
    DryRunOption,
    EpochsOption,
    LoadersOption,
    MicroOption,
    OutputOption,
    PrecisionOption,
    RankOption,
    SeedOption,
    SetOption,
    SideOption,
    ThreadsOption,
    WeightsOption,
    run_training,
)
from nas.errors import ConfigError


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
    address: Annotated[str | None, typer.Option(help="Ray cluster to join: auto or HOST:PORT. Default: Ray on this machine.")] = None,
    checkpoint_steps: Annotated[int | None, typer.Option(help="Steps between two checkpoints in the middle of an epoch.")] = 500,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    loader_workers: LoadersOption = None,
    assign: SetOption = None,
    output: OutputOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Stack found cells to a size and train them on ImageNet or any data set; the same command again goes on."""
    from nas.training.transfer import Wish, configure_transfer, default_workers, target_data

    if least_workers is not None and least_workers > (workers or 1):
        raise ConfigError(f"--least-workers must be at most --workers ({workers or 1}), but got {least_workers}")
    count, gpu = default_workers(workers, device, address)
    settings = {
        "image_size": image_size,
        "micro_batch": micro_batch,
        "weights": absolute(weights),
        "seed": seed,
        "device": device,
        "threads": threads,
        "loader_workers": loader_workers,
        "checkpoint_steps": checkpoint_steps,
    }
    wish = Wish(
        source=source,
        rank=rank,
        data=target_data(to, absolute(data_dir)),
        skeleton=skeleton,
        cells=cells,
        filters=filters,
        macs=macs,
        params=params,
        recipe=recipe,
        recipe_flags={"epochs": epochs, "batch_size": batch_size, "precision": precision},
        assignments=tuple(assign or ()),
        settings=settings,
        workers=count,
    )
    genotype, config, choice = configure_transfer(wish)
    console.print(f"network: {choice}", highlight=False, markup=False, soft_wrap=True)
    _train(genotype, config, output, dry_run, (count, least_workers, gpu, address))


def _train(genotype: Any, config: Any, output: Path | None, dry_run: bool, group: tuple[int, int | None, bool, str | None]) -> None:  # noqa: ANN401
    from nas.training.plan import describe_training
    from nas.training.setup import default_folder

    folder = output or default_folder(genotype, config)
    for line in describe_training(genotype, config, folder, timed=dry_run):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        return
    workers, _, _, address = group
    if workers == 1 and address is None:
        run_training(genotype, config, folder)
        return
    from nas.runners.distributed import Group

    run_training(genotype, config, folder, Group(*group))
