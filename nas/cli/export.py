"""``nas export``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import CellsOption, ChannelsOption, ClassesOption, FiltersOption, SizeOption, SkeletonOption, console

FORMATS_HELP = "yaml, json, dot, svg; safetensors, {timm,torchvision,facebook}-weights; torch-export, onnx, timm or python."


def export(
    source: Annotated[
        str,
        typer.Argument(metavar="RUN|GENOTYPE|TRAINED", help="Run, reference genotype, genotype file; or a training's folder or weights."),
    ],
    format_: Annotated[str, typer.Option("--format", "-f", help=FORMATS_HELP)] = "yaml",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default prints it, where it is text.")] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE|FOLDER", help="Trained weights, or the folder of a training; default: untrained.")
    ] = None,
    rank: Annotated[int, typer.Option(min=1, help="Which of the run's genotypes: 1 is the incumbent.")] = 1,
    skeleton: SkeletonOption = None,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = 3,
    image_size: SizeOption = None,
) -> None:
    """Hand over a genotype or a network for use elsewhere; each export is loaded back and compared before it counts."""
    from nas.errors import ConfigError
    from nas.exports.formats import export_files, export_text, format_named
    from nas.exports.handover import gather, is_trained
    from nas.runs.genotypes import resolve_genotype
    from search_spaces.notations import is_notation

    chosen_format = format_named(format_)
    if output is None and not chosen_format.text:
        raise ConfigError(f"--format {format_} writes a file; name it with --output, such as network{chosen_format.suffix}")
    settings: dict[str, int | str | None] = {"skeleton": skeleton, "cells": cells, "filters": filters, "classes": classes}
    if weights is None and not is_notation(source) and is_trained(Path(source)):  # they say which network they belong to
        genotype, weights = None, Path(source)
    else:
        genotype = resolve_genotype(source, rank)
    handover = gather(genotype, weights, {**settings, "channels": channels, "image_size": image_size})
    if output is None:
        sys.stdout.write(export_text(handover, chosen_format))
        return
    files, found = export_files(handover, chosen_format, output)
    if chosen_format.takes == "network":
        console.print(f"{handover.architecture.name}{'' if handover.weights else ', untrained (random weights)'}", highlight=False)
    if "weights" in handover.facts:
        console.print(f"from weights of {handover.facts['weights']}, converted", highlight=False)
    for path in files:
        console.print(f"wrote {path} ({path.stat().st_size:,} bytes)", highlight=False)
    console.print(found, highlight=False)
