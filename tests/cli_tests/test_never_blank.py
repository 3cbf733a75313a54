"""A word before anything slow, and what cannot run is refused before anything is measured."""

import io
import socket
from pathlib import Path

import pytest
from rich.console import Console
from support.commands import nas
from support.fresh import run_fresh
from typer.testing import CliRunner

from nas.cli.main import app
from nas.cli.views import doing
from nas.errors import UserError
from nas.runs import checks, plan
from nas.tools.hardware import Hardware

COMMANDS = (
    "search --preset laptop --dry-run",
    "train nasnet-a --data digits --dry-run",
    "transfer nasnet-a --to digits --dry-run",
    "compare nasnet-a amoebanet-a --params 100k --data digits --dry-run",
    "evaluate no-such-folder",
    "predict no-such-folder image.png",
    "export nasnet-a --format onnx -o net.onnx",
    "resume no-such-run",
    "finalists no-such-run",
    "watch no-such-run",
)


def test_every_command_says_a_word_before_torch_is_imported(tmp_path: Path) -> None:
    code = f"""
import os, sys
os.chdir({str(tmp_path)!r})
import nas.cli.main as main

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            said.append("torch")
            raise SystemExit(9)

class Stream:
    encoding = "utf-8"
    def write(self, text):
        if text.strip():
            said.append("word")
    def flush(self): pass
    def isatty(self): return False

sys.meta_path.insert(0, NoTorch())
out, error, found = sys.stdout, sys.stderr, []
for command in {COMMANDS!r}:
    said = []
    sys.argv, sys.stdout, sys.stderr = ["nas", *command.split()], Stream(), Stream()
    try:
        main.main()
    except SystemExit:
        pass
    finally:
        sys.stdout, sys.stderr = out, error
    found.append(said[:1])
print(found)
"""
    assert run_fresh(code) == str([["word"]] * len(COMMANDS))


def test_a_stage_is_said_at_once_and_how_far_it_has_come_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    output, now = io.StringIO(), [0.0]
    monkeypatch.setattr("nas.cli.views.doing.time.monotonic", lambda: now[0])
    with doing.shown_stage("reading [images]", Console(file=output)) as tell:
        assert output.getvalue() == "reading [images] …\n"
        tell(1, 1000)
        now[0] = doing.PLAIN_LINE_EVERY
        tell(999, 1000)
    assert output.getvalue().splitlines()[1:] == ["reading [images]: 999 of 1,000"]
    monkeypatch.undo()
    screen = io.StringIO()
    with doing.shown_stage("reading [images]", Console(file=screen, force_terminal=True, width=80)):
        assert "reading [images]" in screen.getvalue()


def refusal(words: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command is refused with; it must not come to measuring anything."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("something was measured")

    monkeypatch.setattr(plan, "time_children", never)
    with monkeypatch.context() as there:
        there.chdir(folder)
        done = CliRunner().invoke(app, words)
    assert isinstance(done.exception, UserError), done.output
    return str(done.exception)


@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_search_that_cannot_run_is_refused_before_it_is_timed(dry: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["search", "--preset", "laptop", "--budget", "3", *dry]
    monkeypatch.setattr("nas.tools.hardware.detect", lambda: Hardware(2, 8.0, ()))
    assert "1 GPUs are asked" in refusal([*words, "--gpus-per-child", "1"], tmp_path, monkeypatch)
    assert "1 GPUs are asked" in refusal([*words, "--gpus-per-child", "1", "--runner", "local"], tmp_path, monkeypatch)
    assert "runner.workers must be at most" in refusal([*words, "--workers", "99"], tmp_path, monkeypatch)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "no Ray cluster answers" in refusal([*words, "--address", address], tmp_path, monkeypatch)
    (tmp_path / "few" / "a").mkdir(parents=True)
    assert refusal([*words, "--data", "few"], tmp_path, monkeypatch)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "ledger.jsonl").touch()
    assert "holds a run already" in refusal([*words, "--run", "taken"], tmp_path, monkeypatch)
    (tmp_path / "file").touch()
    assert "is a file" in refusal([*words, "--run", "file/run"], tmp_path, monkeypatch)
    assert "nasnet-z" in refusal([*words, "--cards", "nasnet-z"], tmp_path, monkeypatch)
    monkeypatch.setattr("nas.tools.files.shutil.disk_usage", lambda place: Full())
    assert "too little to begin anything" in refusal(words, tmp_path, monkeypatch)


class Full:
    """A disk."""

    free, total = 1_000_000, 10**12


def test_missing_data_are_named_in_a_dry_run_and_fetched_in_a_real_one_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nas.runs.config import config_from_document

    config = config_from_document({"data": {"name": "cifar10", "root": str(tmp_path)}})
    assert "will be fetched" in checks.check_search(config, tmp_path / "run", Hardware(2, 8.0, ()), fetching=False)[0]
    with pytest.raises(UserError, match="switched off"):
        off = config.model_copy(update={"data": config.data.model_copy(update={"download": False})})
        checks.check_search(off, tmp_path / "run", Hardware(2, 8.0, ()))


MISSING = {
    "train": ["train", "nasnet-a", "--device", "cpu", "--dry-run"],
    "transfer": ["transfer", "nasnet-a", "--to", "cifar10", "--device", "cpu", "--dry-run"],
    "compare": ["compare", "nasnet-a", "darts-v2", "--params", "20k", "--device", "cpu", "--dry-run"],
}


@pytest.mark.parametrize("command", MISSING)
def test_a_dry_run_fetches_nothing(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "none"))
    monkeypatch.setattr("nas.data.cifar.fetch_cifar", lambda *given: pytest.fail("data are fetched"))
    text = nas(MISSING[command], tmp_path, monkeypatch)
    assert "data:   cifar10 is not on this machine yet, and will be fetched first" in text
    assert "time:   measured on the images once they are here: `nas data cifar10` fetches them" in text
    assert command != "compare" or ("nasnet-a: " in text and "parameters" in text)
    assert not list(tmp_path.iterdir())


def test_searches_that_go_on_say_what_will_be_fetched_where_images_are_needed(tmp_path: Path) -> None:
    from nas.runs.config import config_from_document

    config = config_from_document({"data": {"name": "cifar10", "root": str(tmp_path)}})
    assert len(checks.fetching_notes(config)) == 1
    assert checks.fetching_notes(config.model_copy(update={"evaluator": "synthetic"})) == []


def test_a_dry_run_of_a_comparison_says_sizes_and_time_and_trains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["compare", "nasnet-a", "darts-v2", "--params", "20k", "--data", "digits", "--epochs", "1", "--dry-run"]
    text = nas(words, tmp_path, monkeypatch)
    assert "2 networks of about" in text and "nasnet-a: " in text and "time:   about" in text
    assert not list(tmp_path.iterdir())


MISNAMED = {
    "train nasnet-a --recipe fsat": "fast",
    "train lats": "last",
    "train frist": "first",
    "train nasnet-a --skeleton nasnet-cifr": "nasnet-cifar",
    "train nasnet-a --device cdua": "cuda",
    "train nasnet-a --data digtis": "digits",
    "train nasnet-a --log wnadb": "wandb",
    "transfer nasnet-a --recipe fsat": "fast",
    "transfer nasnet-a --to digtis": "digits",
    "compare nasnet-b --macs 1M": "nasnet-a",
    "compare nasnet-a darts-v2 --macs 1M --recipe fsat": "fast",
    "evaluate nte": "net",
    "evaluate last --part tset": "test",
    "predict lst photos": "last",
    "export nasnet-a --format onx": "onnx",
    "search --space nasnt": "nasnet",
    "search --controller pp": "ppo",
    "finalists frist": "first",
    "resume lst": "last",
    "watch frist": "first",
    "show frist": "first",
    "report lats": "last",
    "runs rm nte": "net",
    "data digtis": "digits",
}
"""Commands with a name that is nearly right, and the right one."""


def test_a_wrong_name_is_refused_with_the_near_one_before_torch_is_loaded(tmp_path: Path) -> None:
    for folder, file in (("runs/first", "ledger.jsonl"), ("trained/net", "genotype.yaml")):
        (tmp_path / folder).mkdir(parents=True)
        for name in ("config.yaml", file):
            (tmp_path / folder / name).touch()
    code = f"""
import contextlib, io, os, sys
os.chdir({str(tmp_path)!r})
import nas.cli.main as main
for command, right in {MISNAMED!r}.items():
    sys.argv, said = ["nas", *command.split()], io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        main.main()
    if f"did you mean {{right!r}}?" not in said.getvalue():
        print(command, said.getvalue())
    if "torch" in sys.modules:
        print(command, "loads torch")
        break
"""
    assert run_fresh(code) == ""
