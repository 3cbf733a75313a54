"""``nas evaluate``."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import (
    CellsOption,
    DataDirOption,
    DataOption,
    DeviceOption,
    FiltersOption,
    FoldedOption,
    FormatOption,
    JsonOption,
    LoadersOption,
    NetworkArgument,
    SideOption,
    SkeletonOption,
    TableFileOption,
    ThreadsOption,
    WhichOption,
    errors,
    looked_at,
    say,
    say_next,
    self_contained,
)
from nas.tools.shelves import TOOK_LAST
from nas.tools.stages import doing, loading_torch


def evaluate(
    source: NetworkArgument,
    which: WhichOption = "best",
    part: Annotated[
        str | None,
        typer.Option(
            help="test, validation, train or all; default the test part where the data have one or were trained on, else all images."
        ),
    ] = None,
    data: DataOption = None,
    data_dir: DataDirOption = None,
    genotype: Annotated[str | None, typer.Option(help="Of weights that do not say it: a reference genotype, file or run.")] = None,
    skeleton: SkeletonOption = None,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    image_size: SideOption = None,
    flip: Annotated[bool, typer.Option("--flip", help="Look at each image and its mirror image, and score the mean.")] = False,
    folded: FoldedOption = False,
    confusion: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write which classes were taken for which: a .png picture, or .csv.")
    ] = None,
    format_: FormatOption = None,
    json: JsonOption = False,
    output: TableFileOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    loader_workers: LoadersOption = None,
) -> None:
    """Measure how good trained weights are on images they have not learned from: in all, by class, and the throughput."""
    asked = {"which": which, "part": part, "data": data, "data_dir": data_dir, "genotype": genotype, "skeleton": skeleton, "cells": cells}
    asked |= {"filters": filters, "image_size": image_size, "flip": flip, "folded": folded, "threads": threads}
    with loading_torch():
        import nas
        from nas.cli.views.accuracy import report
        from nas.cli.views.writing import chosen_format, writing
        from nas.training.confusion import check_confusion_file

        form = chosen_format(format_, json, output)
        if confusion is not None:
            check_confusion_file(confusion)
    with doing(f"measuring {source}"):
        found = nas.evaluate(source, **asked, device=device or "auto", loader_workers=loader_workers or 0)  # type: ignore[arg-type]
    if confusion is not None:
        found.save_confusion(confusion)
    with writing(output) as target:
        report(form, found, target)
    if confusion is not None and form == "table" and output is None:
        say(f"wrote {confusion}")
    if form == "table":
        from nas.api.things import data_of_thing

        own = data_of_thing(TOOK_LAST.get() or source)
        say_next(looked_at(source, own), self_contained(source), where=errors)
