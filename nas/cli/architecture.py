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
    console,
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
    detection: Annotated[
        int | None, typer.Option(min=2, max=100_000, metavar="CLASSES", help="Count Faster R-CNN on it, for so many classes.")
    ] = None,
    memory: Annotated[bool, typer.Option("--memory", help="Measure the peak memory of a training step.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Images a batch, for --latency and --memory.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Count parameters and MACs of a network exactly; measure how fast it runs and how much memory its training takes."""
    from nas.networks.architecture import choose_architecture
    from nas.networks.scaling import read_target, scale_to
    from nas.runs.genotypes import resolve_genotype

    target = read_target(macs, params)
    architecture = choose_architecture(resolve_genotype(source), skeleton, cells, filters, classes, channels, image_size)
    if target is not None:
        scaled = scale_to(architecture, target, cells=cells, filters=filters)
        console.print(f"chosen:     {scaled}", highlight=False)
        architecture = scaled.architecture
    counted = architecture.cost()
    console.print(f"{architecture.name} in skeleton {architecture.skeleton_name}", highlight=False)
    side = architecture.image_size
    console.print(f"input:      {architecture.channels}×{side}×{side}, {architecture.classes} classes", highlight=False)
    console.print(f"parameters: {counted.parameters:,} (trainable)", highlight=False)
    console.print(f"MACs:       {counted.macs:,} (convolutions and linear layers, one image)", highlight=False)
    if detection is not None:
        from nas.networks.detection import detector_cost

        console.print(f"detector:   {detector_cost(architecture, detection)}", highlight=False, soft_wrap=True)
    if latency:
        from nas.networks.latency import measure_latency

        network = architecture.build()
        measured = measure_latency(
            network, image_size=side, channels=architecture.channels, batch_size=batch_size, device=device, dtype=dtype
        )
        console.print(f"latency:    {measured}", highlight=False)
    if memory:
        from search_spaces.networks.cost import training_memory

        network = architecture.build().to(device)
        peak = training_memory(network, batch_size=batch_size, channels=architecture.channels, image_size=side, device=device)
        console.print(
            f"memory:     {peak / 2**20:,.1f} MiB at the peak of a training step with {batch_size} images, on {device}", highlight=False
        )


def draw(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .svg, .png or .pdf.")],
    network: Annotated[bool, typer.Option("--network", help="Draw the whole network instead of the cells.")] = False,
    skeleton: SkeletonOption = None,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = 3,
    image_size: SizeOption = None,
) -> None:
    """Draw the cells of a genotype, or (with --network or --skeleton) the whole network."""
    from nas.runs.genotypes import resolve_genotype

    genotype = resolve_genotype(source)
    if not network and skeleton is None:
        from nas.networks.drawing.draw import draw_genotype

        draw_genotype(genotype, output)
    else:
        from nas.networks.architecture import choose_architecture
        from nas.networks.drawing.draw import draw_skeleton

        chosen = choose_architecture(genotype, skeleton, cells, filters, classes, channels, image_size)
        wanted = {"classes": chosen.classes, "channels": chosen.channels, "image_size": chosen.image_size}
        draw_skeleton(genotype, chosen.skeleton, output, **wanted)
    console.print(f"wrote {output}", highlight=False)
