"""The ``nas`` command: its sub-commands and its exit codes. Heavy packages are imported inside the commands, so that help is instant."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Annotated

import typer

from nas.cli.architecture import cost, draw
from nas.cli.bench import bench
from nas.cli.compare import compare
from nas.cli.config import config
from nas.cli.data import data
from nas.cli.doctor import doctor
from nas.cli.evaluate import evaluate
from nas.cli.export import export
from nas.cli.finalists import finalists
from nas.cli.options import errors, say
from nas.cli.predict import predict
from nas.cli.report import report
from nas.cli.reproduce import reproduce
from nas.cli.runs import runs
from nas.cli.search import resume, search
from nas.cli.shell.command import Command, Group
from nas.cli.shell.completion import swiftly
from nas.cli.shell.faults import any_terminal, guarded
from nas.cli.show import list_, show
from nas.cli.train import train
from nas.cli.transfer import transfer
from nas.cli.views.doing import shown_stage
from nas.cli.views.transfer_progress import bar
from nas.cli.watch import watch
from nas.tools.environment import COMMAND
from nas.tools.stages import STAGES
from nas.tools.transfers import SHOWN

app = typer.Typer(
    name="nas",
    cls=Group,
    help="Neural architecture search: a controller proposes cells, children are trained, the best are handed over.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its module of help costs more than everything else, and takes brackets in a text for styles
    context_settings={"max_content_width": 120, "help_option_names": ["--help", "-h"]},
)
COMMANDS = (
    search, resume, watch, show, report, finalists, train, transfer, evaluate, predict, compare, export, cost, draw, data, bench, reproduce,
    config, doctor,
)  # fmt: skip
for command in COMMANDS:
    app.command(cls=Command)(command)
app.command(name="list", cls=Command)(list_)
app.add_typer(runs)


def _version(asked: bool) -> None:
    if asked:
        import nas

        say(f"nas {nas.__version__}")
        raise typer.Exit


@app.callback()
def _all_commands(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which version this is, and stop.")
    ] = False,
) -> None:
    """Neural architecture search: a controller proposes cells, children are trained, the best are handed over."""


class _Notes(logging.Handler):
    """Shows a person what the library logs of its choices; on the error stream, since it is no part of what a command prints."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Show it once: a name is looked up wherever it is needed."""
        if record.getMessage() in self._said:
            return
        self._said.add(record.getMessage())
        errors.print(record.getMessage(), highlight=False, markup=False)


def main() -> None:
    """Run the command line.

    Exit codes: 0 when all went well; 1 for a training that diverged; 2 for bad input, a fault of the operating system, and a search
    that gave up; 3 for a search of whose children fewer than half survived, and images of which some cannot be read; 130 when
    interrupted; 141 when whoever read the output has gone.
    """
    # Before numpy is imported: more threads slow the small matrices of the surrogate, most of all while children train.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    any_terminal()
    if "_NAS_COMPLETE" in os.environ:
        swiftly()
    with _notes_shown():
        sys.exit(copy_context().run(_told))  # whoever calls this as a function hears nothing afterwards


@contextmanager
def _notes_shown() -> Iterator[None]:
    """What the library logs of its choices is shown meanwhile."""
    loggers = [logging.getLogger(name) for name in ("nas.runs.genotypes", "nas.tools.shelves")]
    before = [(chosen, chosen.level) for chosen in loggers if not chosen.handlers]
    notes = _Notes(logging.INFO)
    for chosen, _ in before:
        chosen.addHandler(notes)
        chosen.setLevel(logging.INFO)
    try:
        yield
    finally:
        for chosen, level in before:
            chosen.removeHandler(notes)
            chosen.setLevel(level)


def _told() -> int:
    SHOWN.set(bar)
    STAGES.set(shown_stage)
    COMMAND.set(("nas", *sys.argv[1:]))
    return guarded(lambda: app(prog_name="nas"))


if __name__ == "__main__":
    main()
