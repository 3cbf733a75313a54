"""What ``nas evaluate`` scores and says: which images, by class, and what was taken for what."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.commands import nas
from support.image_trees import CLASSES, picture

from nas.data.dataset import ImageFiles
from nas.data.prepared import prepare_part
from nas.data.registry import load_dataset
from nas.data.scored import MOVED, UNKNOWN, UNSURE
from nas.data.settings import DataSettings
from nas.data.split import split
from nas.errors import ConfigError, DataError, RunError
from nas.networks.weights.described import load_described, write_described
from nas.training.confusion import save_confusion
from nas.training.folder import find_weights
from nas.training.measure import evaluate_weights
from nas.training.measured import Answers, Measured


def write(root: Path, classes: tuple[str, ...], numbers: range) -> Path:
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in numbers:
            picture(CLASSES.index(name), number, 16).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training of one epoch in trained/net on images/, a folder without parts; new images in new/."""
    folder = tmp_path_factory.mktemp("measured")
    write(folder / "images", CLASSES, range(20))
    write(folder / "new", CLASSES, range(100, 104))
    small = ["--epochs", "1", "--batch-size", "12", "--threads", "1", "--cells", "1", "--filters", "2", "--image-size", "16"]
    with pytest.MonkeyPatch.context() as patch:
        nas(["train", "nasnet-a", "--data", "images", *small, "-o", "trained/net"], folder, patch)
    (folder / "alone.safetensors").write_bytes((folder / "trained/net/best.safetensors").read_bytes())
    return folder


def measure(place: Path, source: str, data: str | None = None, part: str | None = None) -> Measured:
    settings = None if data is None else {"name": "folder", "root": str(place / data)}
    return evaluate_weights(place / source, data=settings, part=part, threads=1)


@pytest.mark.parametrize("source", ["trained/net", "trained/net/best.safetensors", "alone.safetensors"])
def test_of_the_images_trained_on_the_held_out_ones_are_scored(source: str, place: Path) -> None:
    found = measure(place, source, "images")
    assert (found.part, found.scores.images) == ("test", 12) and "held out" in found.said
    assert found.scores.loss == pytest.approx(measure(place, "trained/net").scores.loss, abs=1e-6)


@pytest.mark.parametrize("source", ["trained/net", "alone.safetensors"])
def test_a_folder_without_parts_is_scored_whole(source: str, place: Path) -> None:
    found = measure(place, source, "new")
    assert (found.part, found.scores.images) == ("all", 12) and "the whole folder" in found.said
    assert any("not kept" in note for note in found.notes) == (source == "alone.safetensors")
    assert measure(place, source, "new", "test").scores.images == 2, "whoever names a part gets it"


def test_images_that_were_learned_are_left_out_of_another_folder(place: Path, tmp_path: Path) -> None:
    whole = load_dataset(DataSettings(name="folder", root=str(place / "images")))
    parts = split(whole, DataSettings())
    assert isinstance(parts.test, ImageFiles) and isinstance(parts.train, ImageFiles)
    for name in CLASSES:
        (tmp_path / "mixed" / name).mkdir(parents=True)
        picture(CLASSES.index(name), 200, 16).save(tmp_path / "mixed" / name / "new.png")
    for part in (parts.test, parts.train):
        for name in part.names[:2]:
            (tmp_path / "mixed" / Path(name).parent / f"again-{Path(name).name}").write_bytes((place / "images" / name).read_bytes())
    data = {"name": "folder", "root": str(tmp_path / "mixed")}
    found = evaluate_weights(place / "trained/net", data=data, threads=1)
    assert found.scores.images == 5 and "but for 2 of 7 images" in found.said
    everything = evaluate_weights(place / "trained/net", data=data, part="all", threads=1)
    assert everything.scores.images == 7 and any("2 of these images" in note for note in everything.notes)
    for file in (tmp_path / "mixed").rglob("*.png"):
        if file.name == "new.png" or str(file.relative_to(tmp_path / "mixed")).replace("again-", "") in parts.test.names:
            file.unlink()
    for name in CLASSES:
        if not any((tmp_path / "mixed" / name).iterdir()):
            (tmp_path / "mixed" / name).rmdir()
    with pytest.raises(DataError, match=r"every one of these 2 images .*--part all"):
        evaluate_weights(place / "trained/net", data=data, threads=1)


def _into_other_classes(images: Path) -> None:
    for label, name in enumerate(CLASSES):
        for number in range(7):
            (images / name / f"{number}.png").rename(images / CLASSES[(label + 1) % 3] / f"was-{name}-{number}.png")


def _renamed(images: Path) -> None:
    for file in sorted(images.rglob("*.png")):
        file.rename(file.with_name(f"{(7 * int(file.stem)) % 20:02}-{file.name}"))


def _copied(images: Path) -> None:
    for file in sorted((images / CLASSES[1]).glob("*.png")):
        (images / CLASSES[0] / f"copy-{file.name}").write_bytes(file.read_bytes())


def _in_parts(images: Path) -> None:
    for name in CLASSES:
        for part, numbers in (("train", range(12)), ("test", range(12, 20))):
            (images / part / name).mkdir(parents=True)
            for number in numbers:
                (images / name / f"{number}.png").rename(images / part / name / f"{number}.png")
        (images / name).rmdir()


@pytest.mark.parametrize("change", [_into_other_classes, _renamed, _copied, _in_parts])
def test_no_image_is_called_held_out_that_was_learned_from(
    change: Callable[[Path], None], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = split(load_dataset(DataSettings(name="folder", root=str(place / "images"))), DataSettings())
    assert isinstance(parts.test, ImageFiles)
    shutil.copytree(place / "images", tmp_path / "images")
    change(tmp_path / "images")
    data, scored = {"name": "folder", "root": str(tmp_path / "images")}, []
    monkeypatch.setattr(
        "nas.training.measure.prepare_part", lambda dataset, part, *rest: (scored.append(part), prepare_part(dataset, part, *rest))[1]
    )
    found = evaluate_weights(place / "trained/net", data=data, threads=1)
    assert set(scored[0].digests) <= set(parts.test.digests) and found.part == "test"
    assert ("which was held out" in found.said and len(set(scored[0].digests)) == 12) or "but for" in found.said
    alone = evaluate_weights(place / "alone.safetensors", data=data, threads=1)
    assert "held out" not in alone.said and MOVED in alone.notes, "which ones is not known, but that it has met them"
    learned = len([one for one in split(load_dataset(DataSettings(**data)), DataSettings()).test.digests if one not in parts.test.digests])
    asked = evaluate_weights(place / "trained/net", data=data, part="test", threads=1)
    assert learned and any(f"learned from up to {learned} of these images" in note for note in asked.notes)
    assert MOVED in evaluate_weights(place / "alone.safetensors", data=data, part="test", threads=1).notes


def test_a_part_that_is_asked_for_is_said_to_be_known_where_it_is(place: Path) -> None:
    assert not any("learned" in note for note in measure(place, "alone.safetensors", "images", "test").notes)
    for part, count in (("train", 32), ("all", 60)):
        assert any(f"learned from up to {count} of" in note for note in measure(place, "alone.safetensors", "images", part).notes)
    assert UNKNOWN in measure(place, "alone.safetensors", "new", "test").notes
    assert not any("learned" in note for note in measure(place, "trained/net", "new", "test").notes)


def test_weights_of_before_do_not_claim_that_the_test_part_was_held_out(place: Path, tmp_path: Path) -> None:
    weights = place / "alone.safetensors"
    network, description = load_described(weights)
    facts = {name: value for name, value in description.facts.items() if name != "held_out"}
    write_described(tmp_path / "old.safetensors", network.state_dict(), replace(description, facts=facts))
    data = {"name": "folder", "root": str(place / "images")}
    found = evaluate_weights(tmp_path / "old.safetensors", data=data, threads=1)
    assert (found.part, found.said, found.scores.images) == ("test", "the test part", 12) and UNSURE in found.notes


def test_images_in_memory_that_were_learned_from_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ["--epochs", "1", "--batch-size", "256", "--threads", "1", "--cells", "1", "--filters", "2"]
    nas(["train", "nasnet-a", "--data", "digits", *small, "-o", "trained/digits"], tmp_path, monkeypatch)
    found = evaluate_weights(tmp_path / "trained/digits", threads=1)
    assert (found.part, found.said, found.notes) == ("test", "its test part", ())
    assert any("learned from up to" in note for note in evaluate_weights(tmp_path / "trained/digits", part="train", threads=1).notes)


def test_classes_are_matched_by_name(place: Path, tmp_path: Path) -> None:
    whole = measure(place, "trained/net", "new").answers
    write(tmp_path / "some", CLASSES[1:], range(100, 104))
    found = evaluate_weights(place / "trained/net", data={"name": "folder", "root": str(tmp_path / "some")}, threads=1)
    assert "2 of the network's 3 classes; matched by name" in found.classes_said
    assert {one.name: one.correct for one in found.answers.by_class()} == {
        one.name: one.correct for one in whole.by_class() if one.name in CLASSES[1:]
    }
    write(tmp_path / "one", CLASSES[2:], range(100, 104))
    assert evaluate_weights(place / "trained/net", data={"name": "folder", "root": str(tmp_path / "one")}, threads=1).scores.images == 4
    (tmp_path / "some" / CLASSES[1]).rename(tmp_path / "some" / "zebra")
    with pytest.raises(ConfigError, match=r"2 classes \(n03, zebra\), of which the network does not know zebra; it knows 3 classes: n01"):
        evaluate_weights(place / "trained/net", data={"name": "folder", "root": str(tmp_path / "some")}, threads=1)


def test_colours_are_shown_to_a_network_as_it_was_trained(place: Path, tmp_path: Path) -> None:
    for file in (place / "new").rglob("*.png"):
        grey = tmp_path / "grey" / file.relative_to(place / "new")
        grey.parent.mkdir(parents=True, exist_ok=True)
        Image.open(file).convert("L").save(grey)
    assert evaluate_weights(place / "trained/net", data={"name": "folder", "root": str(tmp_path / "grey")}, threads=1).scores.images == 12


def test_the_command_says_all_of_it(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = nas(["evaluate", "last", "--data", "new", "--confusion", "confusion.png", "--threads", "1"], place, monkeypatch)
    assert "95 %, Wilson" in said and "top-5" not in said and "mostly taken for" in said
    assert all(len(line) <= 80 for line in said.splitlines() if not line.startswith("  nas ")), "commands stay whole"
    with Image.open(place / "confusion.png") as drawn:
        assert drawn.width > 100
    document = json.loads(nas(["evaluate", "trained/net", "--data", "new", "--flip", "--json"], place, monkeypatch))
    assert document["top5"] is None and document["flip"] and {one["class"] for one in document["classes"]} == set(CLASSES)
    nas(["evaluate", "trained/net", "--data", "new", "--confusion", "confusion.csv", "-o", "classes.csv"], place, monkeypatch)
    rows = [line.split(",") for line in (place / "confusion.csv").read_text().splitlines()]
    assert rows[0] == ["class", *CLASSES] and all(sum(map(int, row[1:])) == 4 for row in rows[1:])
    assert (place / "classes.csv").read_text().startswith("class,images,correct,accuracy,")
    for arguments, words in (
        (["--confusion", "c.gif"], ".png or .csv"),
        (["--format", "xml"], "csv, json"),
        (["-o", "no/x.csv"], "exists"),
    ):
        with pytest.raises(ConfigError, match=words):
            nas(["evaluate", "trained/net", *arguments], place, monkeypatch)


def test_the_folded_network_gives_the_same_answers_and_says_so(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["evaluate", "trained/net", "--data", "new", "--threads", "1"]
    as_it_is, folded = (json.loads(nas([*command, *flags, "--json"], place, monkeypatch)) for flags in ((), ("--folded",)))
    assert (as_it_is["folded"], folded["folded"]) == (False, True)
    assert folded["classes"] == as_it_is["classes"] and folded["top1"] == as_it_is["top1"]
    assert folded["loss"] == pytest.approx(as_it_is["loss"], rel=1e-4)
    assert "1 thread, folded for inference" in nas([*command, "--folded"], place, monkeypatch)


def test_answers_by_class() -> None:
    answers = Answers(("a", "b", "c"), np.array([0, 0, 1, 1, 1]), np.array([0, 2, 1, 1, 1]))
    assert answers.confusion().tolist() == [[1, 0, 1], [0, 3, 0], [0, 0, 0]]
    first, second = answers.by_class()
    assert (first.name, first.images, first.correct, first.taken_for, first.taken) == ("a", 2, 1, "c", 1)
    assert (second.name, second.accuracy, second.taken_for) == ("b", 1.0, "")


@pytest.mark.parametrize("count", [2, 40, 200])
def test_names_in_a_confusion_matrix_do_not_collide(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    kept: list[Figure] = []
    savefig = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *given, **how: (kept.append(self), savefig(self, *given, **how))[1])
    names = tuple(f"a rather $long$ name of a class_{i}" for i in range(count))
    save_confusion(Answers(names, np.arange(count), np.arange(count)[::-1].copy()), tmp_path / "c.png")
    axes = kept[0].axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels if label.get_text()]
        assert len(boxes) == count or count > 150
        assert not any(first.overlaps(second) for first, second in pairwise(boxes))


def test_what_is_no_trained_network_is_one_message(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert find_weights("last")[0] == Path("trained/net/best.safetensors") and find_weights("net")[1] is not None
    with pytest.raises(RunError, match=r"nasnet-a: there is no such trained network.*trained/net"):
        find_weights("nasnet-a")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="no training in trained/ yet"):
        find_weights("last")
    Path("run").mkdir()
    for name in ("config.yaml", "ledger.jsonl"):
        (Path("run") / name).write_text("{}")
    with pytest.raises(RunError, match=r"this is a search.*nas train run"):
        find_weights("run")
