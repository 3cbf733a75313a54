"""The ``nas`` command: its sub-commands and its exit codes. Heavy packages are imported inside the commands, so that help is instant."""

import errno
import io
import logging
import os
import sys

import typer

from nas.cli.architecture import cost, draw
from nas.cli.bench import bench
from nas.cli.compare import compare
from nas.cli.data import data
from nas.cli.evaluate import evaluate
from nas.cli.export import export
from nas.cli.finalists import finalists
from nas.cli.options import errors, escape
from nas.cli.predict import predict
from nas.cli.reproduce import reproduce
from nas.cli.runs import runs
from nas.cli.search import resume, search
from nas.cli.show import list_, show
from nas.cli.train import train
from nas.cli.transfer import transfer
from nas.cli.views.doing import shown_stage
from nas.cli.views.transfer_progress import bar
from nas.cli.watch import watch
from nas.errors import UserError
from nas.tools.environment import COMMAND
from nas.tools.stages import STAGES
from nas.tools.transfers import SHOWN

app = typer.Typer(
    name="nas",
    help="Neural architecture search: a controller proposes cells, children are trained, the best are handed over.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
COMMANDS = (
    search, resume, watch, show, finalists, train, transfer, evaluate, predict, compare, export, cost, draw, data, bench, reproduce,
)  # fmt: skip
for command in COMMANDS:
    app.command()(command)
app.command(name="list")(list_)
app.add_typer(runs)


class _Notes(logging.Handler):
    """Shows a person what the library logs of its choices; on the error stream, since it is no part of what a command prints."""

    def emit(self, record: logging.LogRecord) -> None:
        errors.print(record.getMessage(), highlight=False, markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line.

    Exit codes: 0 when all went well; 1 for a training that diverged; 2 for bad input, a full disk, and a search that gave up; 3 for
    a search of whose children fewer than half survived, and images of which some cannot be read; 130 when interrupted.
    """
    # Before numpy is imported: more threads slow the small matrices of the surrogate, most of all while children train.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold what the console cannot show
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    SHOWN.set(bar)
    STAGES.set(shown_stage)
    COMMAND.set(("nas", *sys.argv[1:]))
    chosen = logging.getLogger("nas.runs.genotypes")
    chosen.addHandler(_Notes(logging.INFO))
    chosen.setLevel(logging.INFO)
    try:
        app()
    except UserError as error:
        errors.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        place = f" {error.filename}" if error.filename else ""
        errors.print(f"[bold red]error:[/] cannot write{escape(place)}: {error.strerror}; nothing recorded is lost", highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("interrupted")
        sys.exit(130)


if __name__ == "__main__":
    main()
