"""Many files are decoded once and kept: the second start reads none, a changed file is read again, and nothing depends on it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data import image_index, kept, prepared
from nas.data.prepared import PreparedData, prepare
from nas.data.settings import DataSettings, Preparation


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """40 small pictures, which count as many here, and a place of our own to keep them."""
    monkeypatch.setattr(kept, "WORTH_KEEPING", 10)
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "home"))
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for number in range(20):
            Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "tree" / name / f"{number}.png")
    return tmp_path / "tree"


def prepared_at(tree: Path) -> PreparedData:
    return prepare(DataSettings(name="folder", root=str(tree), mirrors=True), Preparation(image_size=8))


def no_reading(*arguments: object, **named: object) -> object:
    raise AssertionError("a file was read")


def test_the_second_start_reads_no_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "WORTH_KEEPING", 5)  # so that every part has enough
    first = prepared_at(tree)
    monkeypatch.setattr(image_index, "decode", no_reading)
    monkeypatch.setattr(prepared, "fit", no_reading)
    assert prepared_at(tree).fingerprint() == first.fingerprint()


def test_kept_pixels_are_the_same_and_a_changed_file_is_read_again(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = prepared_at(tree), prepared_at(tree)
    assert first.fingerprint() == second.fingerprint()
    assert isinstance(second.train.images, np.memmap) and not second.train.images.flags.writeable  # type: ignore[union-attr]
    Image.new("RGB", (9, 9), "red").save(tree / "a" / "0.png")
    assert prepared_at(tree).fingerprint() != first.fingerprint()


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\x93NUMPY\x01\x00"], ids=["empty", "nonsense", "cut"])
def test_damage_only_costs_time(tree: Path, damage: bytes) -> None:
    first = prepared_at(tree)
    for file in (tree.parent / "home" / "kept").iterdir():
        file.write_bytes(damage)
    assert prepared_at(tree).fingerprint() == first.fingerprint()


def test_what_was_used_longest_ago_goes_first(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared_at(tree)
    folder = tree.parent / "home" / "kept"
    monkeypatch.setattr(kept, "MOST_BYTES", 3000)
    kept.pixels(("x",) * 10, ("how",), (10, 8, 8, 3), lambda: np.zeros((10, 8, 8, 3), np.uint8))
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 3000


def test_a_place_that_cannot_be_written_is_no_obstacle(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tree.parent / "file").write_text("in the way")
    monkeypatch.setenv("NAS_DATA", str(tree.parent / "file"))
    assert len(prepared_at(tree).train) > 0
