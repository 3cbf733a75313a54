"""``nas export``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import CellsOption, ClassesOption, FiltersOption, RankOption, SizeOption, SkeletonOption, say, say_next
from nas.tools.stages import doing

FORMATS_HELP = (
    "yaml, json, dot, svg; csv or parquet of a run's trials; safetensors, {timm,torchvision,facebook}-weights; torch-export, onnx, timm, "
    "python or hf."
)


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
    channels: Annotated[int | None, typer.Option(help="Of an image; default those of the run's data set, else 3.")] = None,
    image_size: SizeOption = None,
) -> None:
    """Hand over a genotype, a network or a run's trials for use elsewhere; each export is loaded back and compared before it counts."""
    given = dict(locals())
    with doing(f"exporting {source}"):
        import nas
        from nas.api.things import data_of_thing
        from nas.data.settings import data_flags
        from nas.exports.formats import format_named

        done = nas.export(format=given.pop("format_"), **given)
    if output is None:
        sys.stdout.write(done.text)
        return
    for line in done.lines():
        say(line)
    if format_named(format_).takes == "network":
        say_next(("how it is loaded, what it was trained on and how good it is", ["cat", done.files[-1]]))
    elif format_ in ("yaml", "json"):
        data = data_of_thing(source)
        say_next(("the cell trained to convergence", ["nas", "train", done.files[0], *([] if data is None else data_flags(data))]))
