"""Does any broken place end a command with a traceback? Every command, by the parser's own table, meets every one of them, in this process.

    python benchmarks/fuzz_places.py

A case is a command with one broken place where it takes a path or a name (a file where a folder should be, a full disk, 300 letters, …),
or a command that works in a world that does not (nobody reads what it prints, no file can grow, the folder it works in is gone, …). It is a
finding where anything but an exit code comes out, the code is none of those documented, an error says nothing or more than a few lines,
or it takes more than a minute of processor time. Commands that are added are met as well. tests/cli_tests/test_broken_places.py runs one
case of each kind.
"""

import argparse
import io
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from nas.cli import main as command_line
from nas.cli.shell.command import flags_of

LIMIT_SECONDS = 60
"""Of processor time that a case may take; of time, ten times as much: the machine may be busy."""
CODES = (0, 2, 3, 130, 141)
"""The documented ones; 1 (a training diverged) and whatever an interpreter ends with do not come from a broken place."""
MOST_LINES = 12
"""Of an error: the usage, a hint and the message, broken at 80 columns; or rules of several settings."""


def main() -> None:
    """Fuzz and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=1, help="only one case in so many")
    arguments = parser.parse_args()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        tally = fuzz(Path(folder), arguments.every)
    print("| what is broken | cases | exit 0 | 2 | other | findings |\n|---|---|---|---|---|---|")
    for what in tally.kinds:
        numbers = [tally.counts[what, str(code)] for code in (0, 2, "other", "finding")]
        print(f"| {what} | {sum(numbers):,} | {' | '.join(f'{number:,}' for number in numbers)} |")
    print(f"{len(tally.commands)} commands, {time.perf_counter() - began:.0f} s; slowest case {tally.slowest:.1f} s")
    for finding in tally.findings:
        print(finding)
    raise SystemExit(bool(tally.findings))


@dataclass
class Tally:
    """How the cases went: (what is broken, exit code) -> number."""

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)
    commands: set[str] = field(default_factory=set)
    slowest: float = 0.0

    @property
    def kinds(self) -> list[str]:
        """What was broken, in the order of the cases."""
        return list(dict.fromkeys(what for what, _ in self.counts))


@dataclass(frozen=True)
class Case:
    """A command line, and the world that it is typed in."""

    what: str
    words: tuple[str, ...]
    world: str = "as it should be"


# ---------------------------------------------------------------------------------------------------- places

TINY = ("--data", "digits", "--epochs", "1", "--cells", "1", "--filters", "2", "--batch-size", "256", "--threads", "1")
SYNTHETIC = ("--preset", "laptop", "--runner", "local", "--controller", "random", "--set", "evaluator=synthetic", "--budget", "3")

BASES: dict[str, tuple[str, ...]] = {
    "search": (*SYNTHETIC, "--cards", "none"),
    "resume": ("found",),
    "show": ("found",),
    "finalists": ("found", "--top", "1", "--seeds", "1"),
    "train": ("nasnet-a", *TINY, "--dry-run"),
    "transfer": ("nasnet-a", "--to", "digits", *TINY[2:], "--dry-run"),
    "evaluate": ("net", "--threads", "1"),
    "predict": ("net", "pictures"),
    "compare": ("nasnet-a", "darts-v2", "--macs", "abc"),
    "export": ("nasnet-a",),
    "cost": ("nasnet-a", "--cells", "1", "--filters", "4"),
    "draw": ("nasnet-a", "-o", "cells.svg"),
    "data": ("pictures",),
    "bench": ("--objective", "synthetic", "--controller", "random", "--budget", "3", "--seeds", "2", "--processes", "1"),
    "list": ("presets",),
    "config": (),
    "doctor": ("--json",),
}
"""Command lines that work in ``make_world``, and do little. A command that has none here is met with what its arguments need at least."""

TRAININGS: tuple[Sequence[str], ...] = (("train", "nasnet-a", *TINY, "-o", "net"),)
"""What is trained for all cases to use: none where nothing is to take long."""

PLACES: dict[str, str] = {
    "nothing there": "none",
    "nothing there, in no folder": "none/deeper/none.yaml",
    "below a file": "file.txt/below",
    "a file of text": "file.txt",
    "an empty file": "empty.yaml",
    "a file of noise": "noise.safetensors",
    "an empty folder": "folder",
    "a folder named as a file": "folder.yaml",
    "protected (sysfs)": "/sys/nas.svg",
    "300 letters": "n" * 300,
    "300 letters in a folder": "folder/" + "ж" * 200 + ".png",
    "a link to nothing": "dangling",
    "a link to itself": "loop",
    "a name of styles": "[bold red]x[/] [/nope] .svg",
    "a name in many scripts": "фото 写真 صور\u202e🙂",
    "a name that is no text": "\udcff\udcfe.yaml",
    "a name with line breaks": "a\nb\r\x1b[31mc",
    "empty": "",
    "an option": "--",
    "a file unreadable": "locked.yaml",
    "a folder unreadable": "locked",
}


WRITTEN = {"a full disk": "full.csv", "a device": "device.csv"}
"""Places without an end, for what writes only: whoever reads them to their end never ends."""
OUTPUTS = ("--output", "--confusion", "--sheet", "--run", "--into")


def make_world(root: Path) -> None:
    """A folder with a run, a training, pictures, and everything broken that a folder may hold."""
    from PIL import Image

    (root / "file.txt").write_text("text\n")
    (root / "empty.yaml").touch()
    (root / "noise.safetensors").write_bytes(bytes(range(256)) * 4)
    for name in ("folder", "folder.yaml", "locked"):
        (root / name).mkdir()
    (root / "locked.yaml").write_text("a: 1\n")
    # By links: whoever runs this as root must not lose the devices themselves where something is put in their place.
    (root / "full.csv").symlink_to("/dev/full")
    (root / "device.csv").symlink_to("/dev/null")
    (root / "dangling").symlink_to("nowhere")
    (root / "loop").symlink_to("loop")
    for kind in ("red", "[blue]"):
        (root / "pictures" / kind).mkdir(parents=True)
        for number in range(12):
            colour = (number * 20, 0, 0) if kind == "red" else (0, 0, number * 20)
            Image.new("RGB", (16, 16), colour).save(root / "pictures" / kind / f"{number}.png")
    for words in (["search", *BASES["search"], "--run", "found"], *TRAININGS):
        code, said = run(words, root)
        assert code == 0, said
    (root / "locked.yaml").chmod(0)
    (root / "locked").chmod(0)


def parameters(command: Any) -> Iterator[str | None]:  # noqa: ANN401 - a command of typer's
    """What of a command may be a place: options that take a text or a path, by their flags; None for its arguments, where it has some."""
    if any(parameter.param_type_name == "argument" for parameter in command.params):
        yield None
    for flag, option in flags_of(command).items():
        kind = str(option.type_descriptor.annotation)
        if not (option.is_flag or "int" in kind or "float" in kind):
            yield f"--{flag}"


def cases() -> Iterator[Case]:
    """Every command with every broken place at every parameter that may take one, then every command in every world."""
    import typer.main

    for name, command in _leaves(typer.main.get_command(command_line.app)):
        base = BASES.get(name, tuple("none" for one in command.params if one.param_type_name == "argument" and one.required))
        for flag in parameters(command):
            for what, place in (PLACES | WRITTEN if flag in OUTPUTS else PLACES).items():
                yield Case(what, (*name.split(), *_with(base, flag, place)))
        for world in WORLDS:
            yield Case(world, (*name.split(), *base), world)
            yield Case(world, (*name.split(), "--help"), world)


def _leaves(command: Any, path: str = "") -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - of typer's
    """Every command that does something, by what is typed to reach it."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from _leaves(inner, f"{path} {name}".strip())
    if not hasattr(command, "commands"):
        yield path, command


def _with(base: tuple[str, ...], flag: str | None, place: str) -> tuple[str, ...]:
    """The command line with a place at a parameter: of arguments the first word that is no option's, else added."""
    if flag is not None:
        return (*base, f"{flag}={place}")
    return (place, *base[1:]) if base and not base[0].startswith("-") else (*base, place)


# ---------------------------------------------------------------------------------------------------- worlds


@contextmanager
def as_it_should_be(root: Path) -> Iterator[io.TextIOBase]:
    """Everything works."""
    yield io.TextIOWrapper(io.BytesIO(), encoding="utf-8")


@contextmanager
def full(root: Path) -> Iterator[io.TextIOBase]:
    """What is printed goes to a full disk."""
    with Path("/dev/full").open("w", encoding="utf-8") as file:
        yield file
        with suppress(OSError):
            file.close()


@contextmanager
def unread(root: Path) -> Iterator[io.TextIOBase]:
    """What is printed goes into a pipe that nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    file = os.fdopen(writer, "w", encoding="utf-8")
    yield file
    with suppress(OSError):
        file.close()


def encoded(name: str) -> Callable[[Path], Any]:
    """A terminal of that encoding."""

    @contextmanager
    def world(root: Path) -> Iterator[io.TextIOBase]:
        yield io.TextIOWrapper(io.BytesIO(), encoding=name)

    return world


@contextmanager
def no_growth(root: Path) -> Iterator[io.TextIOBase]:
    """No file can be written to, as on a disk without any room (the limit for the size of a file is 0)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def no_folder(root: Path) -> Iterator[io.TextIOBase]:
    """The working directory has been removed."""
    gone = root / "gone"
    gone.mkdir(exist_ok=True)
    os.chdir(gone)
    gone.rmdir()
    yield io.TextIOWrapper(io.BytesIO(), encoding="utf-8")


def variable(name: str, value: str) -> Callable[[Path], Any]:
    """An environment variable that says nothing sensible."""

    @contextmanager
    def world(root: Path) -> Iterator[io.TextIOBase]:
        before = os.environ.get(name)
        os.environ[name] = value
        try:
            yield io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        finally:
            os.environ.pop(name)
            if before is not None:
                os.environ[name] = before

    return world


def defaults_file(content: str) -> Callable[[Path], Any]:
    """A ``nas.yaml`` that nobody can use."""

    @contextmanager
    def world(root: Path) -> Iterator[io.TextIOBase]:
        (root / "nas.yaml").write_text(content, encoding="utf-8")
        try:
            yield io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        finally:
            (root / "nas.yaml").unlink()

    return world


WORLDS: dict[str, Callable[[Path], Any]] = {
    "output to a full disk": full,
    "output into a closed pipe": unread,
    "an ASCII terminal": encoded("ascii"),
    "a Latin-1 terminal": encoded("latin-1"),
    "no file can grow": no_growth,
    "the working directory is gone": no_folder,
    "NAS_DATA is a file": variable("NAS_DATA", "file.txt"),
    "HOME is a file": variable("HOME", "file.txt"),
    "a nas.yaml of noise": defaults_file("a: [1, 2"),
    "a nas.yaml of unknown names": defaults_file("serch: {budget: 3}"),
    "a nas.yaml of wrong values": defaults_file("threads: many\nseed: [[1]]\n"),
}


# ---------------------------------------------------------------------------------------------------- running


class HangError(BaseException):
    """A case takes too long. Not an Exception, so that nothing catches it."""


def run(words: Sequence[str], root: Path, world: str = "as it should be") -> tuple[int | None, str]:
    """Type a command in the folder. Its exit code and what it said of errors; None and a traceback where it ended otherwise."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise HangError(f"still busy after {LIMIT_SECONDS} s of processor time, or ten times as much by the clock")

    before, said = (sys.argv, sys.stdout, sys.stderr), io.BytesIO()
    handlers = {number: signal.signal(number, stop) for number in (signal.SIGALRM, signal.SIGPROF)}
    os.chdir(root)
    signal.alarm(10 * LIMIT_SECONDS)
    signal.setitimer(signal.ITIMER_PROF, LIMIT_SECONDS)
    code: int | None = None
    try:
        with WORLDS.get(world, as_it_should_be)(root) as output:
            sys.argv, sys.stdout = ["nas", *words], output
            sys.stderr = errors = io.TextIOWrapper(said, encoding=output.encoding, write_through=True)
            try:
                command_line.main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else None
            except (Exception, HangError, KeyboardInterrupt):
                said.write(traceback.format_exc().encode("utf-8", "backslashreplace"))
            errors.detach()  # or it would close what it wrote to
    finally:
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.argv, sys.stdout, sys.stderr = before
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.chdir(root)
    return code, said.getvalue().decode("utf-8", "backslashreplace")


def judge(code: int | None, said: str) -> str | None:
    """What is wrong with an ending; None: nothing."""
    if code is None or "Traceback" in said:
        return said.strip()[-1500:] or "it ended without a code"
    if code not in CODES:
        return f"exit code {code}: {said.strip()[:300]}"
    if code == 2 and not said.strip():
        return "exit code 2 and no word"
    return f"an error of {said.count(chr(10))} lines" if code == 2 and said.count("\n") > MOST_LINES else None


def fuzz(root: Path, every: int = 1, only: Sequence[Case] | None = None) -> Tally:
    """Run the cases, each in what the others left of the folder."""
    tally = Tally()
    make_world(root)
    for number, case in enumerate(cases() if only is None else only):
        if only is None and number % every:
            continue
        began = time.monotonic()
        code, said = run(case.words, root, case.world)
        tally.slowest = max(tally.slowest, time.monotonic() - began)
        problem = judge(code, said)
        tally.commands.add(case.words[0])
        tally.counts[case.what, "finding" if problem else str(code) if code in (0, 2) else "other"] += 1
        if problem:
            tally.findings.append(f"{case.world}: nas {' '.join(map(repr, case.words))}: {problem}")
            print("finding:", tally.findings[-1], file=sys.stderr, flush=True)
    for name in ("locked", "locked.yaml"):
        (root / name).chmod(0o700)
    return tally


if __name__ == "__main__":
    main()
