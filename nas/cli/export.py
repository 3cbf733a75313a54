"""``nas export``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import CellsOption, ChannelsOption, ClassesOption, FiltersOption, RankOption, SizeOption, SkeletonOption, say

FORMATS_HELP = "yaml, json, dot, svg; safetensors, {timm,torchvision,facebook}-weights; torch-export, onnx, timm, python or hf."


def export(
    source: Annotated[
        str,
        typer.Argument(metavar="RUN|GENOTYPE|TRAINED", help="Run, reference genotype, genotype file; or a training's folder or weights."),
    ],
    format_: Annotated[str, typer.Option("--format", "-f", help=FORMATS_HELP)] = "yaml",
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File (hf: folder); default prints it, where it is text.")] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE|FOLDER", help="Trained weights, or the folder of a training; default: untrained.")
    ] = None,
    rank: RankOption = 1,
    skeleton: SkeletonOption = None,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = 3,
    image_size: SizeOption = None,
) -> None:
    """Hand over a genotype or a network for use elsewhere; each export is loaded back and compared before it counts."""
    given = dict(locals())
    import nas

    done = nas.export(format=given.pop("format_"), **given)
    if output is None:
        sys.stdout.write(done.text)
        return
    for line in done.lines():
        say(line)
