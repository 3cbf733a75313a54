"""``nas data``."""

import json
from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import console, say, say_next


def data(
    name: Annotated[
        str, typer.Argument(metavar="PATH", help="A data set (`nas list datasets`), a folder of images, or a file of them.")
    ] = "cifar10",
    data_dir: Annotated[Path | None, typer.Option(help="Folder to keep the data in; default $NAS_DATA or ~/.cache/nas/data.")] = None,
    sheet: Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw some images of every class as a network sees them.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Check a data set before training: what it holds, broken files, copies, imbalance. A named one is fetched where it is missing."""
    from nas.api.checking import check_data

    found = check_data(name, data_dir=data_dir, sheet=sheet)
    if as_json:
        typer.echo(json.dumps(found.document(), ensure_ascii=False, indent=2))
        return
    from nas.cli.views.survey import print_survey

    print_survey(console, found)
    if sheet is not None:
        say(f"wrote {sheet}")
    where = ["--data", name, *([] if data_dir is None else ["--data-dir", data_dir])]
    say_next(
        ("search for a network for these images", ["nas", "search", *where]),
        ("train a published cell on them", ["nas", "train", "nasnet-a", *where]),
    )
