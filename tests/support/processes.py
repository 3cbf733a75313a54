"""Commands in processes of their own, to be killed: forked from one that has imported everything, so that none costs seconds of imports.

What must hold in a fresh interpreter (what an import loads, what is not installed) is tried with ``subprocess`` instead.
"""

import atexit
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path
from subprocess import TimeoutExpired

FORKS = multiprocessing.get_context("forkserver")
OTHERS = "torch ray.tune sklearn.gaussian_process scipy.stats matplotlib.figure tensorboardX timm typer rich.progress"
OURS = "nas.runs.session nas.training.session nas.runners.ray_pool nas.comparisons.networks nas.exports.formats"
FORKS.set_forkserver_preload([*OTHERS.split(), *OURS.split()])


class Running:
    """A started process, with what ``subprocess.Popen`` offers of it; ``stdout`` and ``stderr`` are texts once it has ended."""

    def __init__(self, what: Callable[..., None], arguments: tuple[object, ...], cwd: Path, environment: Mapping[str, str], merged: bool):
        self._folder = tempfile.TemporaryDirectory()
        self._streams = [Path(self._folder.name, name) for name in (("all",) if merged else ("out", "err"))]
        for path in self._streams:
            path.touch()
        self._process: BaseProcess = FORKS.Process(target=_begin, args=(what, arguments, cwd, dict(environment), self._streams))
        self._process.start()
        self.pid = self._process.pid
        self.stdout = self.stderr = ""
        atexit.register(self._process.kill)  # a test that failed leaves nothing running

    @property
    def returncode(self) -> int | None:
        """The exit code; the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        if self.pid is not None and self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it printed, once it has ended. Raises TimeoutExpired where it has not."""
        self._process.join(timeout)
        if self.poll() is None:
            raise TimeoutExpired("nas", timeout or 0)
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in self._streams]
        self.stdout, self.stderr = (*texts, "")[:2]
        return self.stdout, self.stderr


def _begin(what: Callable[..., None], arguments: tuple[object, ...], cwd: Path, environment: dict[str, str], streams: list[Path]) -> None:
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in zip((1, 2), (streams * 2)[:2], strict=True):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(opened, number)
        os.close(opened)
    what(*arguments)


def _inherited() -> dict[str, str]:
    """This process's environment without what a Ray session in it has set: where it is set, Ray takes it for read at its import, which
    was before."""
    return {name: value for name, value in os.environ.items() if name != "RAY_AUTH_MODE"}


def _nas(*arguments: str) -> None:
    from nas.cli.main import main

    sys.argv = ["nas", *arguments]
    main()


def launch(arguments: list[str], cwd: Path, *, merged: bool = True, **environment: str) -> Running:
    """Start ``nas`` with these arguments; ``merged``: errors are printed where everything else is."""
    return Running(_nas, tuple(map(str, arguments)), cwd, {**_inherited(), "COLUMNS": "200", **environment}, merged)


def run_nas(arguments: list[str], cwd: Path, **environment: str) -> Running:
    """``nas`` with these arguments, ended."""
    process = launch(arguments, cwd, merged=False, **environment)
    process.communicate(timeout=300)
    return process


def launch_python(code: str, cwd: Path, argv: tuple[str, ...] = (), **environment: str) -> Running:
    """Start these statements as a program."""
    return Running(_python, (code, argv), cwd, {**_inherited(), **environment}, True)


def _python(code: str, argv: tuple[str, ...]) -> None:
    sys.argv = ["program", *argv]
    exec(compile(code, "program", "exec"), {"__name__": "__main__"})


def wait_until(condition: Callable[[], bool], process: Running, seconds: float = 120) -> None:
    """Wait for something that a process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the process does not move"
        time.sleep(0.01)
