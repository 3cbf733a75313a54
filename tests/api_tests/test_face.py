"""``import nas``: instant, silent, documented, and able to run in threads and beside event loops."""

import ast
import asyncio
import inspect
import pkgutil
import re
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from support.paths import ROOT

import nas
from nas.errors import UserError
from nas.evaluators.objective import synthetic_reward

GUIDE = (ROOT / "docs" / "python.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
FUNCTIONS = [name for name in nas.__all__ if name != "__version__"]


def test_import_loads_nothing_heavy_in_a_fresh_interpreter() -> None:
    code = (
        "import sys, nas\n"
        "assert set(nas.__all__) <= set(dir(nas))\n"
        "print(sorted({'torch', 'ray', 'numpy', 'rich', 'pydantic', 'typer', 'yaml'} & set(sys.modules)))\n"
        "nas.available('presets'), nas.search, nas.train, nas.predict, nas.cost, nas.open_run\n"
        "print(sorted({'torch', 'ray', 'rich', 'typer'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "[]\n[]\n", done.stderr


def test_no_public_name_hides_a_module() -> None:
    modules = {module.name for module in pkgutil.iter_modules(nas.__path__)}
    assert not modules & set(nas.__all__)
    with pytest.raises(AttributeError, match="no attribute 'serch'"):
        nas.serch  # noqa: B018
    assert re.fullmatch(r"\d+\.\d+.*", nas.__version__)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_public_function_is_documented_annotated_and_shown(name: str) -> None:
    function = getattr(nas, name)
    signature = inspect.signature(function)
    assert signature.return_annotation is not inspect.Signature.empty
    doc = inspect.getdoc(function)
    for parameter in signature.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter
        assert doc and re.search(rf"^    {parameter.name}: ", doc, re.MULTILINE), f"{name} does not say what {parameter.name} is"
    example = re.search(r"Example::\n\n((?:    .*\n|\n)+)", doc or "")
    assert example, f"{name} shows no example"
    assert f"nas.{name}" in example[1]
    ast.parse(textwrap.dedent(example[1]))
    assert any(f"nas.{name}" in block for block in BLOCKS), f"docs/python.md does not show {name}"


def test_the_guides_examples_run_and_say_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert names["training"].test_top1 is not None and names["network"].description.class_names == tuple("0123456789")
    assert names["run"].ending == "interrupted" and len(names["run"].trials) == 3
    assert len(nas.open_run("runs/mine").trials) == 5
    assert names["found"].probabilities.shape == (2, 10)
    assert {path.name for path in tmp_path.iterdir()} == {
        "runs",
        "trained",
        "compared",
        "cells.svg",
        "curves.svg",
        "mine.safetensors",
        "sheet.png",
        "mine.safetensors.README.md",  # the card of the exported network
    }
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""


def test_a_search_works_in_a_thread_and_beside_an_event_loop(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    runs = []

    def work() -> None:
        runs.append(nas.search("nasnet", budget=3, evaluator=synthetic_reward, controller="random", run=tmp_path / "thread"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)

    async def cell() -> None:
        runs.append(nas.search("nasnet", budget=3, evaluator=synthetic_reward, controller="random", run=tmp_path / "loop"))
        await asyncio.sleep(0)

    asyncio.run(cell())
    assert [run.ending for run in runs] == ["finished"] * 2
    assert {number: signal.getsignal(number) for number in before} == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: nas.search("nasnt", budget=1), "nasnt"),
        (lambda: nas.search("nasnet", budget=0), "budget"),
        (lambda: nas.search("nasnet", settings={"fidelity.epoch": 1}), "did you mean 'epochs'"),
        (lambda: nas.search("nasnet", evaluator=3), "an evaluator must be"),
        (lambda: nas.search("nasnet", evaluator=len, runner="ray"), "in this process"),
        (lambda: nas.search("nasnet", evaluator=len, controller=3), "a controller must be"),
        (lambda: nas.open_run("nowhere"), "no run folder"),
        (lambda: nas.resume("nowhere", evaluator="train"), "only an object"),
        (lambda: nas.train("nasnet-b"), "nasnet-a"),
        (lambda: nas.train(), "name what to train"),
        (lambda: nas.train("nasnet-a", resume="x"), "no genotype"),
        (lambda: nas.train(resume="x", epochs=3, settings={"epochs": 2}), "got --epochs, --set. Its learning rate falls over the epochs"),
        (lambda: nas.evaluate("nowhere"), "no such"),
        (lambda: nas.predict("nowhere", []), "no such trained network"),
        (lambda: nas.compare(["nasnet-a", "darts-v1"]), "size"),
        (lambda: nas.transfer("nasnet-a", "nowhere"), "existing folder"),
        (lambda: nas.export("nasnet-a", "onyx"), "onnx"),
        (lambda: nas.draw("nasnet-a", "cells.gif"), ".svg"),
        (lambda: nas.cost("nasnet-a", macs="1M", params="1M"), "exclude"),
        (lambda: nas.available("things"), "presets"),
    ],
)
def test_bad_input_raises_one_clear_error(call: Any, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(words)):
        call()
    assert not list(tmp_path.iterdir())
