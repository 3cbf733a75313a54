"""One CPU thread for each test process (small networks are slower on more, and tests run side by side), and shared fixtures."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Ray's workers yield to everything else by default: on a busy machine they would not get up before a test loses patience.
os.environ.setdefault("RAY_worker_niceness", "0")

# A console made while COLUMNS is set keeps that width for good: so it is made now, and each test may set its own.
os.environ.pop("COLUMNS", None)
import_module("nas.cli.options")

# Everything else is tested where Ray is not installed as well.
collect_ignore_glob = [] if find_spec("ray") else ["*test_ray_*.py", "*test_cluster_examples.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked ``gpu`` where there is no GPU, and ``browser`` where there is no Chromium."""
    from support.pages import BROWSER

    for item in items:
        if item.get_closest_marker("browser") and BROWSER is None:
            item.add_marker(pytest.mark.skip(reason="needs Chromium"))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(autouse=True)
def _last_is_new() -> Iterator[None]:
    """A test is a process of its own as far as ``last`` goes: what another one took it for is forgotten."""
    from nas.tools.shelves import TOOK_LAST

    token = TOOK_LAST.set(None)
    yield
    TOOK_LAST.reset(token)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``support.kept.make_place``, made once, as by a command: not to be changed."""
    from support.kept import make_place

    from nas.tools.environment import COMMAND

    token = COMMAND.set(("nas", "search", "--run", "a b"))
    try:
        return make_place(tmp_path_factory.mktemp("made"))
    finally:
        COMMAND.reset(token)


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of ``made`` of its own, as working directory."""
    shutil.copytree(made, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


@pytest.fixture
def interrupt_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Make the next searches stop as by Ctrl-C or a kill once the ledger has that many records."""
    from nas.runs.ledger import Ledger

    def arm(count: int) -> None:
        original = Ledger.append

        def append(self: Ledger, *records: Mapping[str, Any]) -> None:
            if self._lines + len(records) > count and records[0]["event"] != "closed":
                raise KeyboardInterrupt
            original(self, *records)

        monkeypatch.setattr(Ledger, "append", append)

    return arm
