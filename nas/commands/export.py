"""``nas export``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from nas.commands.shared import SourceArgument, console
from nas.errors import ConfigError


def export(
    source: SourceArgument,
    format_: Annotated[str, typer.Option("--format", "-f", help="yaml, json or dot.")] = "yaml",
    rank: Annotated[int, typer.Option(min=1, help="Which of the run's genotypes: 1 is the incumbent.")] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default prints it.")] = None,
) -> None:
    """Hand over a genotype for use elsewhere."""
    from nas.export import export_text
    from nas.genotypes import resolve_genotype

    text = export_text(resolve_genotype(source, rank), format_)
    if output is None:
        sys.stdout.write(text)
        return
    from nas.run_folder import write_atomically

    try:
        write_atomically(output, text)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror or error}") from None
    console.print(f"wrote {output}", highlight=False)
