"""A case of each kind of `benchmarks/fuzz_places.py`; what a broken place says; and a signal's two steps."""

import errno
import io
import os
import signal
import sys
from pathlib import Path

import fuzz_places
import pytest
from fuzz_places import Case, fuzz

from nas.cli.options import Screen
from nas.cli.shell.faults import guarded
from nas.cli.views.writing import writing
from nas.errors import GenotypeError
from nas.tools.files import write_atomically
from nas.tools.interrupts import Stopper
from search_spaces.strict_yaml import load_text

LIGHT = ("show", "export", "cost", "draw", "data", "list", "config", "bench")
"""Commands that do not train."""


def sample() -> list[Case]:
    """One case of each broken place and world, with another command each time."""
    found: dict[str, list[Case]] = {}
    for case in fuzz_places.cases():
        if case.words[0] in LIGHT and "--help" not in case.words:
            found.setdefault(case.what, []).append(case)
    return [cases[number * 7 % len(cases)] for number, cases in enumerate(found.values())]


def test_a_case_of_each_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "world").mkdir()
    monkeypatch.chdir(tmp_path / "world")
    monkeypatch.setattr(fuzz_places, "TRAININGS", ())
    cases = sample()
    assert len({case.what for case in cases}) == len(fuzz_places.PLACES | fuzz_places.WRITTEN | fuzz_places.WORLDS)
    tally = fuzz(tmp_path / "world", only=cases)
    assert not tally.findings


def test_every_command_that_works_has_a_line_to_be_tried_with() -> None:
    assert {case.words[0] for case in fuzz_places.cases()} >= set(fuzz_places.BASES)


@pytest.mark.parametrize(
    ("number", "name", "words"),
    [
        (errno.ENOSPC, "/a/[bold]b", ["/a/[bold]b: No space left", "nothing recorded is lost"]),
        (errno.EACCES, None, ["Permission denied", "name another place"]),
        (errno.ENAMETOOLONG, "n" * 300, ["File name too long", "choose a shorter name"]),
        (errno.ENOTDIR, "file/below", ["file/below: Not a directory"]),
    ],
)
def test_faults_of_the_system_are_one_line(number: int, name: str | None, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        raise OSError(number, os.strerror(number), name)

    assert guarded(work) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and said.count("\n") == 1 and all(word in said for word in words)


def test_a_link_to_itself_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop").symlink_to("loop")
    assert guarded((tmp_path / "loop").resolve) in (0, 2)  # Python 3.13 follows it no further and is content
    assert guarded(lambda: (tmp_path / "loop").stat()) == 2
    assert all("ymbolic link" in line for line in capsys.readouterr().err.splitlines())


def test_letters_that_a_terminal_lacks_are_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.cli.shell.faults import any_terminal

    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    any_terminal()
    Screen().print("2 × 3 … ± ю [x]", markup=False)
    sys.stdout.flush()
    assert raw.getvalue() == b"2 x 3 ... +/- \\u044e [x]\n"


def test_devices_and_pipes_are_written_to_and_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "device").symlink_to("/dev/null")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    with writing(tmp_path / "device") as target:
        target.write("gone")
    with writing(tmp_path / "pipe") as target:
        target.write("a,b\n")
    write_atomically(tmp_path / "pipe", "c\n")
    assert os.read(reader, 100) == b"a,b\nc\n"
    os.close(reader)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["device", "pipe"] and (tmp_path / "device").is_symlink()


def test_a_device_without_an_end_is_no_document() -> None:
    with pytest.raises(GenotypeError, match="must be at most 1,048,576 bytes"):
        load_text("/dev/zero", GenotypeError)


def test_a_closed_pipe_ends_a_command_with_its_own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert fuzz_places.run(["list", "presets"], tmp_path, "output into a closed pipe") == (141, "")
    assert fuzz_places.run(["search", "--help"], tmp_path, "output into a closed pipe")[0] == 141
    code, said = fuzz_places.run(["list", "presets"], tmp_path, "output to a full disk")
    assert code == 2 and "No space left" in said


def test_the_first_ctrl_c_asks_and_the_second_interrupts_and_both_say_so() -> None:
    told: list[str] = []
    with Stopper(told.append, "stopping soon") as stopper:
        signal.raise_signal(signal.SIGINT)
        assert stopper.asked() and not stopper.urgent()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert told == ["\nstopping soon (Ctrl-C again to stop at once)", "\nstopping at once"]
    with Stopper(told.append, "stopping soon") as stopper:
        signal.raise_signal(signal.SIGTERM)
        assert stopper.asked() and stopper.urgent()
