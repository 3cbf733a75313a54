"""Ctrl-C and SIGTERM while Ray starts, which takes a minute on a busy machine: answered at once, and a second one obeyed at once."""

import io
import os
import signal
import threading
import time

import pytest
from rich.console import Console

from nas.evaluators.settings import RunnerSettings
from nas.runners.ray_start import start_ray
from nas.tools.interrupts import Stopper


@pytest.fixture(autouse=True)
def no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.runners.ray_start.protect_token", lambda: None)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_stops_while_ray_starts_is_answered_at_once(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is up only after the answer was given; where nobody answers, it gives up waiting."""
    answered = []

    def slow(**options: object) -> None:
        os.kill(os.getpid(), number)
        deadline = time.monotonic() + 10
        while not console.file.getvalue() and time.monotonic() < deadline:  # type: ignore[attr-defined]
            time.sleep(0.01)
        answered.append(console.file.getvalue())  # type: ignore[attr-defined]

    console = Console(file=io.StringIO(), width=100)
    monkeypatch.setattr("ray.init", slow)
    with Stopper(console.print, "stopping") as stopper:
        start_ray(RunnerSettings(), 1)
        assert stopper.asked()
    assert answered == ["\nstopping (Ctrl-C again to stop at once)\n"]


def test_a_second_ctrl_c_does_not_wait_for_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    up = threading.Event()

    def slow(**options: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        while not stopper.asked() and not up.wait(0.01):
            pass
        os.kill(os.getpid(), signal.SIGINT)
        up.wait(60)

    monkeypatch.setattr("ray.init", slow)
    with Stopper(lambda line: None, "stopping") as stopper, pytest.raises(KeyboardInterrupt):
        start_ray(RunnerSettings(), 1)
    assert not up.is_set()
    up.set()
