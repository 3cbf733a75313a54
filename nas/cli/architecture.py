"""``nas cost`` and ``nas draw``: what one network costs and looks like."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import (
    CellsOption,
    ChannelsOption,
    ClassesOption,
    FiltersOption,
    MacsOption,
    ParamsOption,
    SizeOption,
    SkeletonOption,
    SourceArgument,
    say,
    say_next,
)


def cost(
    source: SourceArgument,
    skeleton: SkeletonOption = None,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    macs: MacsOption = None,
    params: ParamsOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = 3,
    image_size: SizeOption = None,
    latency: Annotated[bool, typer.Option("--latency", help="Measure latency and throughput on this machine.")] = False,
    folded: Annotated[bool, typer.Option("--folded", help="With --latency: of the network folded for inference.")] = False,
    detection: Annotated[
        int | None, typer.Option(min=2, max=100_000, metavar="CLASSES", help="Count Faster R-CNN on it, for so many classes.")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Measure the peak memory of a training step.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Images a batch, for --latency and --memory.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Count parameters and MACs of a network exactly; measure how fast it runs and how much memory its training takes."""
    given = dict(locals())
    import nas

    for line in nas.cost(**given).lines():
        say(line)
    if all(given[name] is None for name in ("macs", "params", "skeleton", "cells", "filters")):
        _say_matched(source)


def _say_matched(source: str) -> None:
    """Where a run has matched its networks to a cost: how the one that was trained there is counted."""
    from nas.networks.matching import read_match
    from nas.runs.genotypes import matched_of

    matched = matched_of(source)
    target = None if matched is None else read_match(matched.match).target
    if matched is not None and target is not None and target.quantity in ("macs", "params"):
        size = [f"--{target.quantity}", f"{target.value:.0f}", "--cells", matched.cells, "--image-size", matched.side]
        say_next(("the network that the search trained, of the cost that it matched", ["nas", "cost", source, *size]))


def draw(
    source: Annotated[
        str, typer.Argument(metavar="RUN|GENOTYPE|FOLDER", help="As of `nas cost`; or the folder of a training, or of a comparison.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .svg, .png or .pdf.")],
    network: Annotated[bool, typer.Option("--network", help="Draw the whole network instead of the cells.")] = False,
    skeleton: SkeletonOption = None,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = 3,
    image_size: SizeOption = None,
    title: Annotated[str, typer.Option(help="Above the picture; default the name of what is drawn.")] = "",
    theme: Annotated[str, typer.Option(help="light, dark, or auto: an .svg that is as its reader's system is.")] = "light",
) -> None:
    """Draw the cells of a genotype, or (with --network or --skeleton) the whole network; the curves of a training; a comparison."""
    given = dict(locals())
    import nas

    nas.draw(**given)
    say(f"wrote {output}")
