"""The list of a folder's images: written once, believed while files are unchanged, and held against what the folder has become."""

import json
import os
from pathlib import Path

import pytest
from support.image_trees import CLASSES, make_tree, picture

from nas.data.dataset import Dataset
from nas.data.image_index import FIRST_SCHEMA, SCHEMA, load_folder
from nas.errors import DataError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", train=3, val=2)


@pytest.fixture
def index(tree: Path, tmp_path: Path) -> Path:
    load_folder(str(tree), tmp_path / "run" / "images.json")
    return tmp_path / "run" / "images.json"


def facts(data: Dataset) -> list[object]:
    parts = [(part.names, part.labels.tolist(), part.digests) for part in (data.train, data.test)]
    return [data.name, parts, data.class_names, data.side, data.channels, data.notes]


def refuse_to_decode(content: bytes) -> None:
    raise AssertionError("a file was read again")


def test_unchanged_files_are_not_read_again(tree: Path, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, written = load_folder(str(tree)), index.read_bytes()
    monkeypatch.setattr("nas.data.image_index.decode", refuse_to_decode)
    assert facts(load_folder(str(tree), index)) == facts(plain)
    assert index.read_bytes() == written
    with pytest.raises(AssertionError, match="read again"):
        load_folder(str(tree))


def test_a_file_with_a_new_time_is_read_again_and_accepted_if_it_is_the_same(tree: Path, index: Path) -> None:
    before = facts(load_folder(str(tree), index))
    os.utime(tree / "train" / CLASSES[0] / "001.jpg", (1, 1))
    assert facts(load_folder(str(tree), index)) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ("change", "but there are 1 changed (train/n01/001.jpg);"),
        ("remove", "but there are 1 missing (train/n01/002.jpg);"),
        ("break", "but there are 1 missing (train/n02/000.jpg);"),
        ("add", "but there are 1 new (val/n03/new.jpg);"),
        ("mend", "but there are 1 new (train/n01/empty.jpg);"),
        ("change remove add", "but there are 1 missing (train/n01/002.jpg), 1 new (val/n03/new.jpg), 1 changed (train/n01/001.jpg);"),
    ],
)
def test_a_folder_that_holds_other_images_is_refused_with_counts(tree: Path, index: Path, changes: str, message: str) -> None:
    first = tree / "train" / CLASSES[0]
    steps = {
        "change": lambda: picture(0, 77).save(first / "001.jpg"),
        "remove": (first / "002.jpg").unlink,
        "break": lambda: (tree / "train" / CLASSES[1] / "000.jpg").write_bytes(b"no image"),
        "add": lambda: picture(2, 78).save(tree / "val" / CLASSES[2] / "new.jpg"),
        "mend": lambda: picture(0, 79).save(first / "empty.jpg"),
    }
    written = index.read_bytes()
    for change in changes.split():
        steps[change]()
    with pytest.raises(DataError) as caught:
        load_folder(str(tree), index)
    assert message in str(caught.value) and str(index) in str(caught.value)
    assert index.read_bytes() == written, "the list stays what the training began with"


def test_a_moved_folder_is_accepted_without_reading_it_again(
    tree: Path, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_folder(str(tree), index)
    tree.rename(tmp_path / "elsewhere")
    monkeypatch.setattr("nas.data.image_index.decode", refuse_to_decode)
    after = load_folder(str(tmp_path / "elsewhere"), index)
    assert after.train.names == before.train.names and after.train.root == tmp_path / "elsewhere"
    assert json.loads(index.read_text())["root"] == str(tmp_path / "elsewhere")


def test_a_list_of_the_first_version_is_accepted_checked_and_renewed(tree: Path, index: Path) -> None:
    document = json.loads(index.read_text())
    del document["files"]
    index.write_text(json.dumps(document | {"schema": FIRST_SCHEMA, "side": 40, "channels": 3, "skipped_count": 4}))
    old = index.read_bytes()
    (tree / "val" / CLASSES[0] / "001.jpg").rename(tree / "hidden.jpg")
    with pytest.raises(DataError, match=r"1 missing \(val/n01/001.jpg\)"):
        load_folder(str(tree), index)
    assert index.read_bytes() == old
    (tree / "hidden.jpg").rename(tree / "val" / CLASSES[0] / "001.jpg")
    assert facts(load_folder(str(tree), index)) == facts(load_folder(str(tree)))
    assert json.loads(index.read_text())["schema"] == SCHEMA and json.loads(index.read_text())["files"]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "x"},
        {"train": [["../../secret.png", 0]]},
        {"train": [["/etc/secret.png", 0]]},
        {"train": [["a.png", 7]]},
        {"train": [["a.png", True]]},
        {"classes": 3},
        {"files": {"a.png": 3}},
        {"files": []},
    ],
)
def test_a_damaged_list_is_refused(tree: Path, index: Path, change: dict[str, object]) -> None:
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(DataError, match="the list of a folder's images"):
        load_folder(str(tree), index)
