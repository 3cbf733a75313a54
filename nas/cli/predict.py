"""``nas predict``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import (
    DeviceOption,
    FoldedOption,
    FormatOption,
    JsonOption,
    NetworkArgument,
    TableFileOption,
    WhichOption,
    errors,
    say_marked,
    say_next,
)
from nas.tools.stages import doing
from nas.tools.words import counted

UNREADABLE = 3
"""Exit code where some images cannot be read and the others are predicted."""

FEW_NAMES = 4
"""Images that are named again in the command that may come next: a shell makes thousands of a glob."""


def predict(
    network: NetworkArgument,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES", help="Files, folders (at every depth), quoted globs, or - for a list of names on standard input."
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="Classes named for each image, the likeliest first.")] = 2,
    flip: Annotated[bool, typer.Option("--flip", help="Look at each image and its mirror image, and give the mean.")] = False,
    folded: FoldedOption = False,
    format_: FormatOption = None,
    json: JsonOption = False,
    output: TableFileOption = None,
    which: WhichOption = "best",
    device: DeviceOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one pass.")] = 64,
) -> None:
    """Say what a trained network sees in images: class names with probabilities, in the order given, whatever their number.

    A name that leads nowhere is refused. An image that cannot be read has the reason in its row; the exit code is then 3, or 2 where
    none can be read.
    """
    with doing(f"loading {network}"):
        from nas.api.predicting import predictor
        from nas.cli.views.predictions import report
        from nas.cli.views.writing import chosen_format, writing
        from nas.data.inputs import check_named, named_images
        from nas.training.folder import find_weights

        find_weights(Path(network), which)
        check_named(images)
        form = chosen_format(format_, json, output)
        looking = predictor(network, which=which, flip=flip, folded=folded, device=device or "auto")
    with writing(output) as target:
        read, unread = report(form, looking.class_names, looking.see(named_images(images, sys.stdin), batch_size), top, target)
    if output is not None:
        errors.print(f"{counted(read, 'image')} → {output}", highlight=False, markup=False)
    if hint := looking.impression.unlike():
        say_marked("note:", "bold yellow", hint, errors)
    if form == "table" and output is None and read:
        named = images if len(images) <= FEW_NAMES else ["IMAGES"]
        say_next(("the same for programs", ["nas", "predict", network, *named, "-o", "found.csv"]), where=errors)
    if unread:
        errors.print(f"{unread:,} of {counted(read + unread, 'image')} cannot be read", highlight=False)
        raise typer.Exit(UNREADABLE if read else 2)
