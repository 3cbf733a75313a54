"""What a search says of a person's own images: how they were understood, what of them is not used, and what is made to suit them."""

import json
import shutil
from pathlib import Path

import pytest
from support.commands import nas
from support.image_trees import CLASSES, picture

from nas.errors import DataError
from nas.runs.folder import RunFolder

SMALL = ["--preset", "cpu", "--runner", "local", "--budget", "1", "--filters", "2", "--epochs", "1"]
SMALL += ["--cards", "none", "--learn-from", "none"]
BROKEN = "1 file cannot be read as an image and is skipped: n01/cut.png ("
UNDERSTOOD = "understood as 3 class folders"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten images of three classes in own/, one of them cut off."""
    folder = tmp_path_factory.mktemp("own-images")
    for label, name in enumerate(CLASSES):
        (folder / "own" / name).mkdir(parents=True)
        for number in range(10):
            picture(label, number, 16).save(folder / "own" / name / f"{number}.png")
    whole = (folder / "own/n01/0.png").read_bytes()
    (folder / "own/n01/cut.png").write_bytes(whole[: len(whole) // 2])
    return folder


def test_a_search_says_how_the_images_were_understood_and_what_is_skipped(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["search", "--data", "own", *SMALL]
    said = " ".join(nas([*command, "--run", "runs/first"], place, monkeypatch).split())
    assert f"note: {UNDERSTOOD}" in said and f"note: {BROKEN}" in said
    log = (place / "runs/first/log.txt").read_text()
    assert f"note: {UNDERSTOOD}" in log and f"note: {BROKEN}" in log
    again = " ".join(nas(["search", "--resume", "first", "--budget", "2"], place, monkeypatch).split())
    assert f"note: {BROKEN}" in again
    lines = nas([*command, "--run", "runs/json", "--json"], place, monkeypatch).splitlines()
    notes = [one["text"] for line in lines if (one := json.loads(line))["event"] == "note"]
    assert notes[0].startswith(UNDERSTOOD) and any(note.startswith(BROKEN) for note in notes)
    assert "understood" not in nas([*command, "--run", "runs/quiet", "--quiet"], place, monkeypatch)


def test_a_plan_does_not_claim_that_files_it_has_not_read_are_images(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = " ".join(nas(["search", "--data", "own", *SMALL, "--dry-run"], place, monkeypatch).split())
    assert "images: counted by their names" in plan and "(`nas data " in plan
    assert "on all images of own" in plan and "on all images of own" in " ".join(
        nas(["search", "--data", "own", *SMALL, "--set", "fidelity.train_examples=100000", "--dry-run"], place, monkeypatch).split()
    ), "no more than there are"
    assert "counted by their names" not in nas(["search", "--data", "digits", *SMALL, "--dry-run"], place, monkeypatch)


def test_who_moved_the_images_is_told_an_option_that_works(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(place / "own", tmp_path / "own")
    nas(["search", "--data", "own", *SMALL, "--run", "runs/found"], tmp_path, monkeypatch)
    for other in ("second", "third"):
        shutil.copytree(tmp_path / "runs/found", tmp_path / "runs" / other)
    unfinished = RunFolder(tmp_path / "runs/second")
    unfinished.write_config(unfinished.config().model_copy(update={"budget": 2}))
    train = ["--epochs", "1", "--batch-size", "8", "--threads", "1", "--cells", "1", "--filters", "2", "--image-size", "8"]
    nas(["train", "nasnet-a", "--data", "own", *train, "-o", "trained/net"], tmp_path, monkeypatch)
    (tmp_path / "trained/net/result.json").unlink()  # as if it had been stopped before the end
    (tmp_path / "own").rename(tmp_path / "moved")
    for command, option in (
        (["evaluate", "net"], "--data"),
        (["train", "--resume", "net"], "--data"),
        (["search", "--resume", "found", "--budget", "2"], "--data"),
        (["resume", "second"], "--data-dir"),
        (["finalists", "third", "--top", "1", "--seeds", "1", "--epochs", "1", "--cells", "1", "--filters", "2"], "--data-dir"),
    ):
        with pytest.raises(DataError, match=rf"own does not; name where the images are now \(.*{option} of [^;]*`nas {command[0]}`"):
            nas(command, tmp_path, monkeypatch)
        nas([*command, option, "moved"], tmp_path, monkeypatch)
