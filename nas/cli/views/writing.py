"""Tables that grow line by line, on the screen or in a file, as a person reads them or as programs do."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from rich.cells import cell_len, set_cell_size

from nas.cli.options import console
from nas.errors import ConfigError
from nas.tools.files import is_stream
from search_spaces.plugins import guess

FORMATS = ("table", "csv", "json")


def chosen_format(named: str | None, json: bool, output: Path | None) -> str:
    """The format: as named, else by the file's ending, else a table. Raises ConfigError."""
    if json and named not in (None, "json"):
        raise ConfigError(f"--json is --format json, but got --format {named} beside it")
    if json:
        return "json"
    if named is None:
        ending = output.suffix.lower().removeprefix(".") if output is not None else ""
        return ending if ending in FORMATS else "table"
    if named not in FORMATS:
        raise ConfigError(f"--format must be one of {', '.join(FORMATS)}, but got {named!r}{guess(named, FORMATS)}")
    return named


@contextmanager
def writing(output: Path | None) -> Iterator[TextIO]:
    """Standard output; or a file that is there when all of it is written, and not before; or a device or pipe, such as ``>(gzip)``.

    Raises:
        ConfigError: there is no folder for the file.
    """
    if output is None:
        yield sys.stdout
        return
    if not output.parent.is_dir() or output.is_dir():
        raise ConfigError(f"--output must name a file in a folder that exists, but got {output}")
    if is_stream(output):
        with output.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    scratch = output.with_name(f".{output.name}.part")
    try:
        with scratch.open("w", encoding="utf-8", newline="") as file:
            yield file
        scratch.replace(output)
    finally:
        scratch.unlink(missing_ok=True)


def encoding_of(target: TextIO) -> str:
    """What a stream is written in; a text in memory can hold every letter."""
    return target.encoding or "utf-8"


def width() -> int:
    """Columns of the terminal; 80 where there is none."""
    return console.width


def clipped(text: str, cells: int, *, end: bool = False) -> str:
    """The text in exactly so many columns: filled up with blanks; what is too long loses its beginning where ``end`` matters more."""
    if cell_len(text) <= cells:
        return set_cell_size(text, cells)
    if not end:
        return set_cell_size(set_cell_size(text, cells - 1).rstrip() + "…", cells)
    while cell_len(text) > cells - 1:
        text = text[1:]
    return set_cell_size("…" + text, cells)
