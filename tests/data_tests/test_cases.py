"""Folders as people have them give the right training set, and say how they were understood, or are refused with one message."""

import errno
import json
import os
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from support.odd_folders import encoded, lay, put

from nas.data.dataset import Dataset, ImageFiles
from nas.data.image_index import SCHEMA, SECOND_SCHEMA, load_folder
from nas.data.registry import peek
from nas.data.settings import DataSettings
from nas.data.split import Split, split
from nas.errors import DataError


def counts(data: Dataset) -> dict[str, list[int]]:
    """Images of every class, part by part, as the folder brings them."""
    parts = {name: getattr(data, name) for name in ("train", "validation", "test")}
    return {
        name: [Counter(part.labels.tolist())[i] for i in range(data.classes)]
        for name, part in parts.items()
        if isinstance(part, ImageFiles)
    }


def parts_of(data: Dataset, **settings: int) -> Split:
    """The split, in which no image is in two parts."""
    parts = split(data, DataSettings(**settings))
    digests = [digest for part in (parts.train, parts.validation, parts.test) for digest in set(part.digests)]
    assert len(digests) == len(set(digests))
    return parts


def notes(data: Dataset) -> str:
    return "\n".join((*data.notes, *split(data, DataSettings()).notes))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("TRAIN", "Valid"),
        ("training_set", "test_set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
    ],
)
def test_parts_are_known_by_any_of_their_names(train: str, test: str, tmp_path: Path) -> None:
    data = load_folder(str(lay(lay(tmp_path, f"{train}/cat", f"{train}/dog"), f"{test}/cat", f"{test}/dog", count=3)))
    assert data.class_names == ("cat", "dog") and counts(data) == {"train": [6, 6], "test": [3, 3]}
    assert data.layout.startswith(f"{train.split('/')[0]}/ and {test.split('/')[0]}/ with 2 class folders each")
    assert ("is the test part" in data.layout) == (test == "Valid")
    assert peek(DataSettings(name="folder", root=str(tmp_path))).images == 12


@pytest.mark.parametrize("word", ["val", "Validation", "dev"])
def test_of_three_parts_one_is_to_choose_by(word: str, tmp_path: Path) -> None:
    lay(tmp_path, *(f"{part}/{name}" for part in ("train", "test", word) for name in ("cat", "dog")))
    put(tmp_path, f"{word}/cat/copy.png", content=(tmp_path / "test/cat/0.png").read_bytes())
    put(tmp_path, "train/dog/copy.png", content=(tmp_path / word / "dog/0.png").read_bytes())
    data = load_folder(str(tmp_path), tmp_path / "run" / "images.json")
    assert counts(data) == {"train": [6, 7], "validation": [7, 6], "test": [6, 6]}
    assert data.layout == f"train/, {word}/ and test/ with 2 class folders each"
    parts = parts_of(data)
    assert [len(part) for part in (parts.train, parts.validation, parts.test)] == [12, 12, 12]
    assert all(name.startswith(f"{word}/") for name in parts.validation.names)
    assert parts.notes == (
        "1 validation image is left out: the test part has copies of it",
        "1 training image is left out: the validation part has copies of it",
        "its own validation part (12 images) is what networks are chosen by",
    )
    fewer = parts_of(data, validation_examples=8)
    assert len(fewer.validation) == 8 and "8 of the 12 images" in fewer.notes[-1] and fewer.test.names == parts.test.names
    assert peek(DataSettings(name="folder", root=str(tmp_path))).validation == 13


def test_more_images_to_choose_by_than_val_has_come_from_the_training_images(tmp_path: Path) -> None:
    lay(tmp_path, *(f"{part}/{name}" for part in ("train", "test") for name in ("cat", "dog")))
    lay(tmp_path, "val/cat", "val/dog", count=2)
    parts = parts_of(load_folder(str(tmp_path)), validation_examples=5)
    assert (len(parts.train), len(parts.validation)) == (7, 5) and all(name.startswith("train/") for name in parts.validation.names)
    assert "its own validation part (4 images) is not used: data.validation_examples asks for 5" in parts.notes[0]


def test_what_was_begun_without_val_goes_on_without(tmp_path: Path) -> None:
    root, index = tmp_path / "images", tmp_path / "images.json"
    lay(root, *(f"{part}/{name}" for part in ("train", "test") for name in ("cat", "dog")))
    load_folder(str(root), index)
    index.write_text(
        json.dumps({key: value for key, value in json.loads(index.read_text()).items() if key != "validation"} | {"schema": SECOND_SCHEMA})
    )
    lay(root, "val/cat", "val/dog")
    for _ in range(2):
        data = load_folder(str(root), index)
        assert data.validation is None and "val/ is not used: this was begun before it would have been" in data.notes
    index.write_text(json.dumps(json.loads(index.read_text()) | {"schema": SCHEMA}))
    with pytest.raises(DataError, match=r"12 new \(val/cat/0.png\)"):
        load_folder(str(root), index)


def test_parts_that_lack_a_class_and_classes_of_one_image_are_said(tmp_path: Path) -> None:
    lay(lay(tmp_path, "train/cat", "train/dog", "val/cat", "val/dog", "test/dog"), "train/owl", count=1)
    said = notes(load_folder(str(tmp_path)))
    assert "classes with one training image only, which can be learned or judged by but not both: owl" in said
    assert "val/ has no image of 1 class, and says nothing of it: owl" in said
    assert "test/ has no image of 2 classes, and says nothing of them: cat, owl" in said


def test_what_is_hidden_or_left_by_systems_is_no_data(tmp_path: Path) -> None:
    lay(tmp_path, "cat", "dog", "dog/old/more")
    hidden = (".git", "__MACOSX/cat", "__MACOSX/dog", "cat/.ipynb_checkpoints", "dog/old/.thumbs", "dog/@eaDir", "lost+found")
    put(
        tmp_path,
        *(f"{folder}/x.png" for folder in hidden),
        "cat/._0.png",
        "dog/.DS_Store",
        "cat/Thumbs.db",
        "cat/desktop.ini",
        "README.txt",
    )
    put(tmp_path, "cat/UPPER.PNG", "dog/old/Photo.JPG", "dog/page.html")
    data = load_folder(str(tmp_path))
    assert counts(data) == {"train": [7, 13]} and data.layout == "2 class folders; a fifth is held out as test part" and data.notes == ()
    parts_of(data)


def test_files_that_may_be_meant_as_images_are_said(tmp_path: Path) -> None:
    put(lay(tmp_path, "cat", "dog"), "cat/photo.heic", "cat/other.heic", "dog/scan", "loose.png")
    said = notes(load_folder(str(tmp_path)))
    assert "3 files in class folders do not end like images and are not read: 2 .heic, 1 no suffix" in said
    assert "1 image outside the class folders is not used: loose.png" in said


def test_links_are_followed_and_circles_noticed(tmp_path: Path) -> None:
    lay(tmp_path, "store/cat", "store/dog")
    root = tmp_path / "linked"
    (root / "train").mkdir(parents=True)
    for name in ("cat", "dog"):
        (root / "train" / name).symlink_to(tmp_path / "store" / name)
    (tmp_path / "store/cat/up").symlink_to(tmp_path)
    (tmp_path / "store/cat/itself").symlink_to("itself")
    (tmp_path / "store/dog/back").symlink_to(root / "train")
    (tmp_path / "store/dog/file.png").symlink_to(tmp_path / "store/cat/0.png")
    (tmp_path / "store/dog/gone.png").symlink_to("nowhere.png")
    data = load_folder(str(root))
    assert counts(data) == {"train": [6, 7]} and "train/dog/file.png" in data.train.names
    assert "3 links lead back to a folder above them and are not followed: train/cat/itself, …" in data.notes
    assert "1 link leads to nothing and is skipped: train/dog/gone.png" in data.notes
    parts_of(data)


def test_a_net_of_links_is_walked_in_no_time(tmp_path: Path) -> None:
    names = [f"c{number}" for number in range(9)]
    lay(tmp_path, *names, count=1)
    for name in names:
        for other in names:
            (tmp_path / name / f"to{other}").symlink_to(tmp_path / other)
    assert load_folder(str(tmp_path)).classes == 9


@pytest.mark.parametrize(("forms", "undecodable"), [(("NFC", "NFD"), b""), (("NFD", "NFC"), b"\xff\xe9")])
def test_classes_are_the_same_in_every_normal_form_and_encoding(forms: tuple[str, str], undecodable: bytes, tmp_path: Path) -> None:
    for part, form in zip(("train", "test"), forms, strict=True):
        for name in ("café", "naïve"):
            folder = os.fsencode(tmp_path / part / unicodedata.normalize(form, name)) + undecodable
            lay(Path(os.fsdecode(folder)), "")
            put(Path(os.fsdecode(folder)), os.fsdecode(b"n\xfe.png"))
            put(Path(os.fsdecode(folder)), os.fsdecode(b"bad\xfe.png"), content=b"none")
    index = tmp_path / "run" / "images.json"
    data = load_folder(str(tmp_path), index)
    tail = undecodable.decode("utf-8", "backslashreplace")
    assert data.class_names == (f"café{tail}", f"naïve{tail}") and counts(data) == {"train": [7, 7], "test": [7, 7]}
    "\n".join((*data.notes, data.layout, *data.class_names)).encode()
    assert load_folder(str(tmp_path), index).train.names == data.train.names
    from nas.data.prepared import prepare_dataset
    from nas.data.settings import Preparation

    assert prepare_dataset(data, DataSettings(), Preparation(whole_batches=False)).fingerprint()


def test_twins_of_one_name_in_one_part_are_one_class(tmp_path: Path) -> None:
    data = load_folder(str(lay(tmp_path, "caf\u00e9", "cafe\u0301", "tea")))
    assert data.class_names == ("caf\u00e9", "tea") and counts(data) == {"train": [12, 6]}


@pytest.mark.parametrize("way", ["archive/dataset", "my set"])
def test_a_folder_that_alone_holds_the_data_is_looked_through(way: str, tmp_path: Path) -> None:
    put(lay(tmp_path, f"{way}/train/cat", f"{way}/train/dog", f"{way}/test/dog"), "docs/readme.md", "annotations/cat.xml")
    data = load_folder(str(tmp_path))
    assert counts(data) == {"train": [6, 6], "test": [0, 6]} and f"{way}/ alone holds images: it is taken for the data set" in data.notes


def test_nested_class_folders_and_a_part_of_one_class_are_not_looked_through(tmp_path: Path) -> None:
    data = load_folder(str(lay(tmp_path, "train/animal/cat", "train/animal/dog", "train/car/bus", "test/animal/cat", "test/animal/dog")))
    assert data.class_names == ("animal", "car") and counts(data) == {"train": [12, 6], "test": [12, 0]}


def test_what_lies_beside_the_parts_and_is_no_class_is_said(tmp_path: Path) -> None:
    lay(tmp_path, "seg_train/cat", "seg_train/dog", "seg_test/cat", "seg_pred/seg_pred")
    assert "seg_pred/ (6 images) is not used: it is none of the parts" in load_folder(str(tmp_path)).notes


@pytest.mark.parametrize(
    ("folders", "files", "message"),
    [
        ([], [], r"at least 2 classes, but it has 0 \(nothing is in it\)\. Understood are: a folder with"),
        ([], ["a.png", "b.png"], r"but it has 0 \(2 images directly in it\)"),
        ([], ["a.zip", "b.zip"], r"but it has 0 \(2 other files \(2 \.zip\)\)"),
        (["cat"], [], "it has 1 .6 images in cat"),
        (["train/cat", "train/dog", "owl"], [], "has folders of images beside its parts train/: owl"),
        (["train/cat", "train/dog", "test/cat", "cat/one", "dog/two"], [], "beside its parts train/ and test/: cat, dog"),
        (["train/cat", "train/dog", "Training/cat"], [], "two folders for one part: Training, train"),
        (["train/cat", "train/dog", "val/cat", "valid/dog"], [], "two folders for one part: val, valid"),
        (["test/cat", "val/cat"], [], "but no train/ folder beside it"),
        (["color/cat", "color/dog", "grey/cat", "grey/dog"], [], "can be read in two ways: color, grey all hold cat, dog"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], [], "can be read in two ways"),
        (["train/cat", "train/dog"], ["test/1.png", "test/2.png"], "test must hold its images in one sub-folder for each class"),
        (["train/cat", "train/dog", "test/owl"], [], "class folder 'owl' has no counterpart among the training classes: cat, dog"),
        (["train", "test"], [], r"train must have one sub-folder of images for each of at least 2 classes"),
        (["images"], ["my.csv"], "has no class folders, and my.csv no first line that names a column of paths and one of labels"),
        (["train"], [], r"train must have one sub-folder of images for each of at least 2 classes, but it has 0 \(6 images directly"),
    ],
)
def test_what_may_be_misread_is_refused(folders: list[str], files: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_folder(str(put(lay(tmp_path, *folders), *files)))
    assert "\n" not in str(caught.value)


def test_an_empty_val_folder_and_a_test_folder_without_classes_are_said(tmp_path: Path) -> None:
    lay(tmp_path, "train/cat", "train/dog", "test/cat", "test/dog")
    (tmp_path / "val").mkdir()
    data = load_folder(str(tmp_path))
    assert data.validation is None and "val/ is not used: it holds no images in class folders" in data.notes
    lay(tmp_path / "ilsvrc", "train/cat", "train/dog", "val/cat", "val/dog", "test")
    data = load_folder(str(tmp_path / "ilsvrc"))
    assert counts(data) == {"train": [6, 6], "test": [6, 6]} and data.test.names[0].startswith("val/")
    assert "test/ is not used: it holds no images in class folders" in data.notes and data.layout.endswith("each; val/ is the test part")


@pytest.mark.parametrize("parts", [("",), ("train/", "test/")])
def test_train_is_a_class_of_vehicles_too(parts: tuple[str, ...], tmp_path: Path) -> None:
    data = load_folder(str(lay(tmp_path, *(f"{part}{name}" for part in parts for name in ("bus", "car", "train")))))
    assert data.class_names == ("bus", "car", "train") and set(counts(data)) == {part.strip("/") or "train" for part in parts}


def test_an_unreadable_folder_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "cat", "dog")
    scandir = os.scandir

    def refuse(path: Path):
        if Path(path).name == "dog":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match="dog: must be readable to know which images there are, but Permission denied"):
        load_folder(str(tmp_path))


def test_folders_of_endless_depth_are_refused(tmp_path: Path) -> None:
    put(lay(tmp_path, "cat", "dog"), "cat/" + "d/" * 150 + "x.png")
    with pytest.raises(DataError, match="more than 100 folders deep"):
        load_folder(str(tmp_path))


def test_a_folder_of_copies_of_one_image_is_refused_with_a_range_that_exists(tmp_path: Path) -> None:
    put(tmp_path, *(f"{name}/{number}.png" for name in ("cat", "dog") for number in range(10)), content=encoded("the same"))
    with pytest.raises(DataError, match=r"must leave at least 2 different images to train on .* there are 0 training images"):
        split(load_folder(str(tmp_path)), DataSettings())


def test_touched_files_are_read_once_more_and_not_at_every_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "images.json"
    lay(tmp_path / "images", "cat", "dog")
    load_folder(str(tmp_path / "images"), index)
    os.utime(tmp_path / "images/cat/0.png", (1, 1))
    load_folder(str(tmp_path / "images"), index)
    monkeypatch.setattr("nas.data.image_index.decode", lambda content: pytest.fail("a file was read again"))
    assert len(load_folder(str(tmp_path / "images"), index).train) == 12
