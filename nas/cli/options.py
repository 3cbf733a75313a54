"""What all commands share: the consoles, and every option that more than one of them takes. Imports nothing heavy."""

import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from nas.cli.shell.screen import Screen
from nas.tools.shelves import TOOK_LAST
from nas.tools.stages import STAGES, unseen
from search_spaces.plugins import as_written

if TYPE_CHECKING:
    from nas.data.settings import DataSettings

console = Screen()
errors = Screen(stderr=True)

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="RUN|GENOTYPE",
        help="Run folder, `last`, a reference genotype's name, a genotype file, or a text in DARTS', ENAS' or NAS-Bench-201's notation.",
    ),
]
RankOption = Annotated[int, typer.Option(min=1, help="Which of the run's genotypes: 1 is the incumbent.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting of the recipe, such as optimizer.learning_rate=0.05.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done and how long it takes, and stop.")]

# networks
SkeletonOption = Annotated[
    str | None, typer.Option(callback=as_written, help="Macro network, see `nas list`; default: the one the genotype is known in.")
]
CellsOption = Annotated[int | None, typer.Option(help="N, cells a stage; default as published.")]
FiltersOption = Annotated[int | None, typer.Option(help="F, filters of the first stage's cells; default as published.")]
ClassesOption = Annotated[int | None, typer.Option(help="Classes; default as published.")]
ChannelsOption = Annotated[int, typer.Option(help="Channels of an image.")]
SizeOption = Annotated[int | None, typer.Option(help="Side of an image in pixels; default as published.")]
MacsOption = Annotated[str | None, typer.Option(metavar="NUMBER", help="Solve for N and F with about so many MACs: 564M.")]
ParamsOption = Annotated[str | None, typer.Option(metavar="NUMBER", help="Solve for N and F with about so many parameters: 5.3M.")]
LatencyOnOption = Annotated[
    str | None, typer.Option("--latency-on", metavar="PLACE", help="Where latency is measured: cpu (one thread), cuda, cuda:N or onnx.")
]

# data
DataOption = Annotated[str | None, typer.Option(help="cifar10, cifar100, digits, synthetic, or a folder or file of images.")]
DataDirOption = Annotated[Path | None, typer.Option(help="Folder that holds the named data set.")]
SideOption = Annotated[int | None, typer.Option(help="Side of the images in pixels; default small images' own, else the recipe's.")]
LoadersOption = Annotated[int | None, typer.Option(help="Processes that read and augment images; the result does not depend on it.")]

# trainings
EpochsOption = Annotated[int | None, typer.Option(help="Passes over the training images; default the recipe's.")]
BatchOption = Annotated[
    int | None, typer.Option(help="Images of one step, over all workers; the learning rate follows where the recipe says so.")
]
MicroOption = Annotated[int | None, typer.Option(help="Images of one pass, where a whole step does not fit in memory.")]
PrecisionOption = Annotated[str | None, typer.Option(help="auto, float32, bfloat16 or float16.")]
WeightsOption = Annotated[Path | None, typer.Option(help="Weights to start from.")]
LogOption = Annotated[
    str | None,
    typer.Option("--log", metavar="NAMES", help="Where scalars go, with commas: tensorboard (the default), wandb, mlflow; none."),
]
SeedOption = Annotated[int | None, typer.Option(help="Seed of everything random.")]
DeviceOption = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
ThreadsOption = Annotated[int | None, typer.Option(help="CPU threads of a process; default its share of the cores.")]
CompileOption = Annotated[
    bool | None, typer.Option("--compile", help="Training's forward pass through torch.compile: a minute or more first, then faster steps.")
]
OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="Its folder; default trained/CELL-SIZE-DATA-RECIPE.")]

# trained networks
NetworkArgument = Annotated[
    str, typer.Argument(metavar="NET", help="A training's folder, `last`, or a file of weights (.safetensors).")
]
WhichOption = Annotated[str, typer.Option("--which", help="best or last weights of a folder.")]
FoldedOption = Annotated[
    bool, typer.Option("--folded", help="Fold the network for inference first: the same answers within rounding, faster.")
]
FormatOption = Annotated[
    str | None, typer.Option("--format", "-f", help="table, csv or json; default by the ending of --output, else a table.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Short for --format json.")]
JsonLinesOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs; docs/search.md has the fields.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Print the run's folder at the end, and only what went wrong before.")]
TableFileOption = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="File to write; default prints it.")]

# where children are trained
WorkersOption = Annotated[int | None, typer.Option(help="Children trained at once; default fills the machine or the cluster.")]
AddressOption = Annotated[str | None, typer.Option(help="Ray cluster to join: auto or HOST:PORT. Default: Ray on this machine.")]
SyncOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Mirror the run folder there as it grows: s3://…, gs://…, file:///… (fsspec).")
]


@contextmanager
def silenced(quiet: bool, json: bool) -> Iterator[None]:
    """Around a command that prints nothing for a person, where that is asked for; errors and warnings have a stream of their own.

    Beside JSON that stream also says what is being done.
    """
    before, console.quiet = console.quiet, quiet or json
    stages = STAGES.set(unseen) if quiet else None
    try:
        yield
    finally:
        console.quiet = before
        if stages is not None:
            STAGES.reset(stages)


STOPPING = "stopping after this step, writing a checkpoint"
"""What a training says to the first Ctrl-C."""


def say(text: str) -> None:
    """Print a text as it is, without markup or colours: on a terminal broken between words, elsewhere not at all."""
    console.print(text, highlight=False, markup=False)


def say_lines(lines: Iterable[str]) -> None:
    """Print lines such as ``data:   …``."""
    for line in lines:
        say(line)


def say_whole(text: str) -> None:
    """Print a text without breaks: what a person may copy, such as a command or YAML."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def say_marked(word: str, style: str, text: str, where: Console = console) -> None:
    """Print a text after a word in a style, such as ``note:``; the text as it is."""
    from rich.text import Text

    where.print(Text.assemble((word, style), " ", text))


def say_next(*commands: tuple[str, Sequence[object]], where: Console = console) -> None:
    """Print what a person may type next, where there is something: what each command is for, and below it the command, for a shell."""
    if commands:
        where.print("\nnext:")
    for purpose, words in commands:
        where.print(f"  # {purpose}", style="dim", highlight=False, markup=False)
        where.print(f"  {shlex.join(map(str, _with_last_named(words)))}", style="bold", highlight=False, markup=False, soft_wrap=True)


def _with_last_named(words: Sequence[object]) -> list[object]:
    """A command with what ``last`` stood for in its place: the next command may take it for a thing of another kind."""
    meant = TOOK_LAST.get()
    named = [word == "last" and before != "--which" for before, word in zip(("", *words), words, strict=False)]
    return [meant if last and meant is not None else word for last, word in zip(named, words, strict=True)]


def looked_at(network: object, data: "DataSettings | None") -> tuple[str, list[object]]:
    """For ``say_next``: what a trained network sees, in the images of its own data set where they are files in a folder."""
    if data is not None and data.name == "folder" and data.root and Path(data.root).is_dir():
        return ("what it sees in every image there", ["nas", "predict", network, data.root])
    return ("what it sees in images of yours: files or folders in the place of IMAGES", ["nas", "predict", network, "IMAGES"])


def self_contained(network: object) -> tuple[str, list[object]]:
    """For ``say_next``: a file of a trained network that needs nothing of this package, in a format that can be written here."""
    from nas.exports.formats import FORMATS

    name = next(name for name in ("onnx", "python") if not FORMATS[name].missing)
    return ("a file that needs nothing of this package", ["nas", "export", network, "--format", name, "-o", f"net{FORMATS[name].suffix}"])


def say_next_of_dry_run() -> None:
    """Print the command that was typed, without ``--dry-run``; nothing where no command was typed."""
    words = [word for word in sys.argv[1:] if word != "--dry-run"]
    if len(words) + 1 < len(sys.argv):
        say_next(("the same for real", ["nas", *words]))


def say_next_the_same() -> None:
    """Print the command that was typed, which goes on where it was stopped."""
    say_next(("go on where it was stopped", ["nas", *sys.argv[1:]]))
