"""``nas data``: what a folder holds, said before anybody trains on it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.commands import nas
from support.image_trees import CLASSES, make_tree, picture
from typer.testing import CliRunner

from nas import check_data
from nas.cli.main import app
from nas.data.contact_sheet import GAP, contact_sheet
from nas.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes; copies in a part, across parts and across classes; four unreadable files."""
    root = make_tree(tmp_path_factory.mktemp("images") / "tree")
    train, val = root / "train", root / "val"
    shutil.copy(train / "n01" / "001.jpg", train / "n01" / "again.jpg")
    shutil.copy(train / "n01" / "002.jpg", val / "n01" / "leak.jpg")
    shutil.copy(train / "n02" / "003.jpg", train / "n03" / "other.jpg")
    return root


def test_what_a_folder_holds(tree):
    found = check_data(tree)
    assert found.dataset.class_names == CLASSES
    assert sum(found.counts["test"]) == 3 * 6 + 1 and found.counts["test"] == (7, 6, 6)
    used = sum(found.counts["train"]) + sum(found.counts["validation"])
    assert used == 60 + 4 + 2 - 1, "four odd ones and two copies, less the one that the test part has"
    assert (found.short.least, found.short.median, found.short.most) == (40, 40, 40)
    assert (found.long.least, found.long.most) == (40, 48)
    assert found.modes["CMYK"] == found.modes["P"] == found.modes["RGBA"] == found.modes["L"] == 1
    assert set(found.unreadable) == {"train/n01/cut.jpg", "train/n01/empty.jpg", "train/n01/text.png", "val/n02/cut.jpg"}
    assert all(found.unreadable.values())
    assert found.copies == {"train": 2, "train, test": 1}
    assert found.contradictions == (("train/n02/003.jpg", "train/n03/other.jpg"),)
    said = "\n".join(found.warnings)
    for part in ("4 files cannot be read", "same part: 2 of train", "across parts: 1 (train, test)", "003.jpg = train/n03/other.jpg"):
        assert part in said
    assert json.loads(json.dumps(found.document()))["classes"]["n02"]["test"] == 6


def test_imbalance_and_a_class_of_one_image_are_said(tmp_path):
    for name, count in (("many", 40), ("some", 6), ("one", 1)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(count):
            picture(len(name) % 3, i).save(tmp_path / "images" / name / f"{i}.png")
    found = check_data(tmp_path / "images")
    assert found.imbalance == 40
    said = "\n".join(found.warnings)
    assert "many has 40 images and one 1" in said and "one training image only" in said


def test_the_command_at_80_columns(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = nas(["data", tree, "--sheet", "sheet.png"], tmp_path, monkeypatch)
    assert max(len(line) for line in text.splitlines() if not line.startswith("  nas ")) <= 80  # what is to be copied stays whole
    for part in ("layout", "classes", "40 to 48 pixels", "1 CMYK", "n03", "note:", "wrote sheet.png"):
        assert part in text
    assert Image.open(tmp_path / "sheet.png").format == "PNG"
    document = json.loads(nas(["data", tree, "--json"], tmp_path, monkeypatch))
    assert document["copies"]["train, test"] == 1 and document["layout"]


def test_a_hundred_classes_are_shortened(tmp_path, monkeypatch):
    for label in range(100):
        (tmp_path / "images" / f"class {label}").mkdir(parents=True)
        for i in range(4 + label % 3):
            Image.fromarray(np.full((8, 8, 3), (label, i * 40, 99), np.uint8)).save(tmp_path / "images" / f"class {label}" / f"{i}.png")
    monkeypatch.setenv("COLUMNS", "80")
    text = nas(["data", "images", "--sheet", "sheet.png"], tmp_path, monkeypatch)
    assert "88 more" in text and len(text.splitlines()) < 40 and max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_named_data_sets(name, tmp_path, monkeypatch):
    text = nas(["data", name, "--sheet", "sheet.png"], tmp_path, monkeypatch)
    assert "classes       10" in text and (tmp_path / "sheet.png").is_file()


@pytest.mark.parametrize("what", ["nothing", "empty", "one class", "few", "unreadable"])
def test_what_cannot_be_used_ends_with_one_message(what, tmp_path, monkeypatch):
    root = tmp_path / "images"
    if what != "nothing":
        root.mkdir()
    for name in {"one class": ["a"], "few": ["a", "b"], "unreadable": ["a", "b"]}.get(what, []):
        (root / name).mkdir()
        picture(0, len(name)).save(root / name / "0.png")
        if what == "unreadable":
            (root / name / "0.png").write_bytes(b"no image")
    monkeypatch.chdir(tmp_path)
    with pytest.raises((DataError, ConfigError)) as refused:
        CliRunner().invoke(app, ["data", "images"], catch_exceptions=False)
    assert refused.value.exit_code == 2 and "\n" not in str(refused.value)


def test_a_sheet_shows_what_the_network_sees(tree):
    found = check_data(tree)
    sheet = np.asarray(contact_sheet(found.dataset, found.parts.train, 8)).astype(int)
    pitch = 72 + GAP  # 8 pixels, nine times as large
    assert sheet.shape[0] == GAP + 3 * pitch
    from nas.data.pixels import fit

    first = int(np.flatnonzero(found.parts.train.labels == 1)[0])
    expected = fit(found.parts.train.open(first), 3, 8)
    left = sheet.shape[1] - GAP - 8 * pitch
    np.testing.assert_array_equal(sheet[GAP + pitch + 4 : GAP + pitch + 72 : 9, left + 4 : left + 72 : 9], expected)


def test_names_in_any_script_have_a_label(tmp_path):
    for name in ("кошка", "γάτα", "قطة", "猫", "a" * 90):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(4):
            picture(len(name) % 3, i + ord(name[0])).save(tmp_path / "images" / name / f"{i}.png")
    found = check_data(tmp_path / "images", sheet=tmp_path / "sheet.png")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("L"))
    rows = (sheet.shape[0] - GAP) // len(found.dataset.class_names)
    for row in range(len(found.dataset.class_names)):
        assert sheet[GAP + row * rows : GAP + (row + 1) * rows - GAP, :20].min() < 128, "something is written there"


def test_a_sheet_is_a_png_file_that_can_be_written(tree, tmp_path):
    with pytest.raises(ConfigError, match=r"ends in \.png"):
        check_data(tree, sheet=tmp_path / "sheet.jpg")
    with pytest.raises(ConfigError, match="cannot be written"):
        check_data(tree, sheet=tmp_path / "nowhere" / "sheet.png")
