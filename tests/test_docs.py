"""The documents tell the truth: what README and docs/ show runs, scaled down; what cannot run here still parses; links lead somewhere."""

import contextlib
import io
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from support.commands import nas
from support.documents import Block, blocks
from support.image_trees import make_tree
from support.paths import ROOT
from support.processes import launch_python

from nas.cli.main import app
from nas.runs.config import SearchConfig

README = ROOT / "README.md"
GUIDES = sorted((ROOT / "docs").glob("*.md"))
PYTHON_GUIDE = ROOT / "docs" / "python.md"  # tests/api_tests/test_face.py runs it
DOCUMENTS = [README, *(guide for guide in GUIDES if guide != PYTHON_GUIDE)]
BLOCKS = [block for document in DOCUMENTS for block in blocks(document, ROOT)]
SET_UP = ("run", "test")  # the README's two first commands, marked with these words alone
COMMANDS = typer.main.get_command(app)


def set_up(mark: str) -> str:
    found = [block.text.strip() for block in blocks(README, ROOT) if block.mark == mark]
    assert len(found) == 1, f"README has {len(found)} blocks marked {mark}"
    return found[0]


def test_ci_runs_the_readmes_test_command_word_for_word() -> None:
    assert set_up("test") in (ROOT / ".ci" / "run").read_text().splitlines()


def test_the_first_command_sets_up_and_searches() -> None:
    assert set_up("run").endswith(".venv/bin/nas search --preset laptop")


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 170


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: f"{block.document}:{block.line}")
def test_every_block_says_what_is_done_with_it(block: Block) -> None:
    assert block.mark in SET_UP or (block.kind in ("run", "not run", "file") and (block.told or block.kind == "run")), (
        f"{block.document}:{block.line}: no <!-- run: … -->, <!-- not run: why --> or <!-- file: NAME --> right before the block"
    )


def shown_commands() -> list[Any]:
    shown = [(block, words) for block in BLOCKS if not block.language and block.mark not in SET_UP for words in block.commands()]
    return [pytest.param(words, id=f"{block.document}:{block.line}:{' '.join(words[:3])}") for block, words in shown]


@pytest.mark.parametrize("words", shown_commands())
def test_every_command_shown_parses(words: list[str]) -> None:
    """By the command line's own table of options, types and choices; of scripts of this repository, that they are there."""
    if words[0] == "nas":
        given = COMMANDS.commands[words[1]].make_context(words[1], list(words[2:])).params
        for assignment in given.get("assign") or () if words[1] == "search" else ():
            assert is_setting(SearchConfig, assignment.partition("=")[0].split(".")), assignment
    for word in words:
        if re.fullmatch(r"(benchmarks|examples|docs)/[\w./-]+", word):
            assert (ROOT / word).exists(), word


def is_setting(model: Any, names: list[str]) -> bool:
    """Whether a dotted name leads to a field of the settings."""
    if not names or not hasattr(model, "model_fields"):
        return not names
    field = model.model_fields.get(names[0])
    kinds = field and (get_args(field.annotation) or (field.annotation,))
    return any(is_setting(kind, names[1:]) for kind in kinds or ())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the guides take as given: a search in ``runs/first``, a training of it in ``trained/found``, images in ``my-images``."""
    folder = tmp_path_factory.mktemp("world")
    make_tree(folder / "my-images", train=8, val=4, side=12, damaged=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "80")
        sizes = ["--set", "fidelity.train_examples=64", "--set", "data.validation_examples=64", "--epochs", "1"]
        sizes += ["--set", "ladder=[]", "--cards", "none"]
        nas(["search", "--preset", "laptop", "--budget", "3", "--runner", "local", "--run", "runs/first", *sizes], folder, patch)
        sizes = ["--cells", "1", "--filters", "2", "--epochs", "1", "--batch-size", "32"]
        nas(["train", "last", "-o", "trained/found", *sizes], folder, patch)
    return folder


def run_python(block: Block, folder: Path) -> None:
    """In a process of its own, as some start Ray; its home is the folder, so that nothing is written into the user's."""
    started = launch_python(block.scaled().text, folder, HOME=str(folder), RAY_AIR_NEW_OUTPUT="0")
    output, _ = started.communicate(timeout=300)
    assert started.returncode == 0, f"{block.document}:{block.line}: {output}"


def run_commands(block: Block, folder: Path, patch: pytest.MonkeyPatch) -> None:
    for words in block.scaled().commands():
        if words[0] == "nas":
            nas([*words[1:], *block.added(words[1])], folder, patch)
        else:
            assert words[0] == "python", f"{block.document}:{block.line}: only nas and python can be run here, not {words[0]}"
            patch.setattr(sys, "argv", [*words[1:], *block.added(words[1])])
            with contextlib.redirect_stdout(io.StringIO()):
                runpy.run_path(str(ROOT / words[1] if (ROOT / words[1]).exists() else words[1]), run_name="__main__")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_block_runs(document: Path, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one folder a document, block after block, as a reader would."""
    folder = Path(shutil.copytree(world, tmp_path / "here"))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "80")
    for block in blocks(document, ROOT):
        if block.kind == "file":
            yaml.safe_load(block.text)
            Path(block.told).write_text(block.text, encoding="utf-8")
        elif block.kind == "run" and block.language == "python":
            run_python(block, folder)
        elif block.kind == "run" and block.mark not in SET_UP:
            run_commands(block, folder, monkeypatch)


MARKDOWN = [*ROOT.glob("*.md"), *GUIDES, *ROOT.glob("examples/**/*.md"), *ROOT.glob("benchmarks/*.md")]


@pytest.mark.parametrize("document", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", document.read_text()):
        name, _, heading = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        assert file.exists(), f"{document.name}: {target}"
        assert not heading or heading in anchors(file), f"{document.name}: {target}: no such heading"


def anchors(document: Path) -> set[str]:
    """The headings of a document as GitHub names them in links."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_guide_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w.-]+)", README.read_text()))
    assert linked == {f"docs/{guide.name}" for guide in GUIDES}


def test_the_list_of_files_is_up_to_date() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_files.py"))["listing"]()
    assert (ROOT / "docs" / "files.md").read_text(encoding="utf-8") == made, "run: python docs/make_files.py"


@pytest.mark.parametrize("document", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_names_a_path_of_somebodys_machine(document: Path) -> None:
    assert not re.search(r"(?<![\w.])/(?:home|root|work|tmp)/", document.read_text())
