"""Images listed in CSV files, and those kept as bytes in parquet files, webdataset shards and saved data sets, go the way of files."""

import io
import json
import pickle
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.odd_folders import encoded, lay, put

from nas.api.wishes import data_settings
from nas.data.dataset import ArrayPart, Dataset, ImageFiles
from nas.data.image_index import load_folder
from nas.data.prepared import prepare
from nas.data.registry import peek
from nas.data.settings import DataSettings, Preparation
from nas.data.split import split
from nas.errors import ConfigError, DataError

datasets = pytest.importorskip("datasets")
NAMES = ("cat", "dog")


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies that `datasets` makes go into the test's own folder."""
    monkeypatch.setenv("NAS_DATA", str(tmp_path / "home"))
    datasets.disable_progress_bars()


def sizes(data: Dataset) -> dict[str, int]:
    return {name: len(part) for name in ("train", "validation", "test") if (part := getattr(data, name)) is not None}


# ---------------------------------------------------------------------------------------------------- CSV


def listed(root: Path, header: str, lines: list[str], name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text("\n".join([header, *lines]) + "\n", encoding=encoding)
    return root / name


@pytest.mark.parametrize(
    ("header", "line", "name"),
    [
        ("path,label", "images/{i}.png,{c}", "labels.csv"),
        ("Filename;Class;x", "images\\{i}.png;{c};7", "labels.csv"),
        ("id,image_id,target", "9,{i},{c}", "train.csv"),
        ("label\tfile_name", "{c}\t./images/{i}.png", "list.tsv"),
        ("image,label", "{i}.png,{c}", "metadata.csv"),
    ],
)
def test_a_csv_says_the_classes_of_images_anywhere_below(header: str, line: str, name: str, tmp_path: Path) -> None:
    root = lay(tmp_path / "set", "images", count=10)
    file = listed(root, header, [line.format(i=i, c=NAMES[i % 2]) for i in range(9)], name, "utf-8-sig")
    for place in (file, root):
        data = load_folder(str(place))
        assert data.class_names == NAMES and sizes(data) == {"train": 9} and data.train.labels.tolist() == [i % 2 for i in range(9)]
        assert data.layout == f"{name} with 2 classes; a fifth is held out as test part"
        assert data.notes == ("1 image is in no line of it and is not used: images/9.png",)
        assert peek(DataSettings(name="folder", root=str(place))).images == 9
    assert data_settings(file, None)["data.root"] == str(file)


def test_a_column_or_the_names_of_files_tell_the_parts(tmp_path: Path) -> None:
    root = lay(tmp_path / "one", "x", count=12)
    words = ("train", "Training", "valid", "TEST")
    with pytest.raises(DataError, match="line 4: class '8' has no counterpart among the training classes: 9, 10"):
        load_folder(str(listed(root, "path,label,split", ["x/0.png,9,train", "x/1.png,10,train", "x/2.png,8,test"])))
    listed(root, "path,label,split", [f"x/{i}.png,{9 + i // 4 % 2},{words[i % 4]}" for i in range(12)])
    data = load_folder(str(root))
    assert data.class_names == ("9", "10") and sizes(data) == {"train": 6, "validation": 3, "test": 3}
    assert data.layout == "labels.csv with 2 classes in the parts train, validation and test"
    kaggle = put(lay(tmp_path / "kaggle", "train_images", "test_images"), "sample_submission.csv", content="image_id,label\n")
    listed(kaggle, "image_id,label", [f"{'train' if i % 2 else 'test'}_images/{i},{i // 2 % 2}" for i in range(6)], "train.csv")
    listed(kaggle, "image_id", ["0"], "test.csv")
    data = load_folder(str(kaggle))
    assert sizes(data) == {"train": 6} and any("sample_submission.csv, test.csv: not read" in note for note in data.notes)


@pytest.mark.parametrize(
    ("header", "lines", "message"),
    [
        ("pa\rth,label", ["a,b"], "labels.csv must begin with a line that names its columns"),
        ("name,species", ["a,b"], "labels.csv must begin with a line that names its columns: one of path, file"),
        ("path,label", [], "must list images, but there is no line of one"),
        ("path,label", ["x/0.png,a", "", "x/1.png"], "labels.csv, line 4: must have 2 columns"),
        ("path,label", ["x/0.png,a", "x/1.png,"], "line 3: must have a path and a label, but the label is empty"),
        ("path,label", ["x/0.png,a", "x/9.png,b"], "line 3: 'x/9.png' is no image below"),
        ("path,label", ["x/0.png,a", "../secret.png,b"], "line 3: a path must lie below the CSV file's folder"),
        ("path,label", ["x/0.png,a", "/etc/secret.png,b"], "line 3: a path must lie below"),
        ("path,label", ["x/0.png,a", "1.png,b"], "line 3: '1.png' may be any of x/1.png, y/1.png"),
        ("path,label", ["x/0.png,a", "x/0.png,b"], "line 3: 'x/0.png' has another class or part than in line 2"),
        ("path,label", ["x/0.png,a", "x/1.png,a"], r"must name at least 2 classes, but names 1 \(a\)"),
        ("path,label,split", ["x/0.png,a,train", "x/1.png,b,monday"], "line 3: the part must be train, val or test .*'monday'"),
        ("path,label,split", ["x/0.png,a,test", "x/1.png,b,test"], "must list images to train on, but lists only those of test"),
        ("path,label", ['x/0.png,"a'], "line 2: must be CSV"),
    ],
)
def test_a_wrong_csv_is_refused_with_the_line(header: str, lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        load_folder(str(listed(lay(tmp_path, "x", "y", count=2), header, lines)))


def test_class_folders_and_a_csv_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    root = lay(tmp_path / "set", "part_1", "part_2")
    listed(root, "path,label", [f"part_{1 + i % 2}/{i}.png,{NAMES[i % 2]}" for i in range(6)])
    with pytest.raises(DataError, match=r"has class folders \(part_1, part_2\) and labels.csv with other classes \(cat, dog\)"):
        load_folder(str(root))
    assert load_folder(str(root / "labels.csv")).class_names == NAMES
    listed(root, "path,label", ["part_1/0.png,part_1"])
    assert "labels.csv: not read, since the folders say the classes" in load_folder(str(root)).notes


def test_a_run_goes_on_only_with_the_same_classes_and_parts(tmp_path: Path) -> None:
    root, index = lay(tmp_path / "set", "x"), tmp_path / "images.json"
    lines = [f"x/{i}.png,{NAMES[i % 2]},{'test' if i > 3 else 'train'}" for i in range(6)]
    file = listed(root, "path,label,split", lines)
    before = load_folder(str(file), index)
    root.rename(tmp_path / "moved")
    assert load_folder(str(tmp_path / "moved/labels.csv"), index).train.digests == before.train.digests
    for change in (("5.png,dog", "5.png,cat"), ("3.png,dog,train", "3.png,dog,test")):
        listed(tmp_path / "moved", "path,label,split", [line.replace(*change) for line in lines])
        with pytest.raises(DataError, match=r"there are 1 of another class or part \(x/[35].png\)"):
            load_folder(str(tmp_path / "moved/labels.csv"), index)


@pytest.mark.parametrize("name", ["data.zip", "photo.png"])
def test_other_files_are_no_data_set(name: str, tmp_path: Path) -> None:
    file = put(tmp_path, name) / name
    with pytest.raises(ConfigError, match=r"or a file of them \(.csv, .tsv, .parquet, .tar\)"):
        data_settings(file, None)
    with pytest.raises(DataError, match=r"is a file whose name must end in .csv, .tsv, .parquet, .tar"):
        load_folder(str(file))


# ---------------------------------------------------------------------------------------------------- tables


def rows(tag: str, count: int, labels: Mapping[int, object] = dict(enumerate(range(2)))) -> "datasets.Dataset":
    """``count`` images by turns of the labels; with names of classes where they are numbers."""
    columns = {
        "image": [{"bytes": encoded(f"{tag}{i}"), "path": f"{i}.png"} for i in range(count)],
        "label": [labels[i % 2] for i in range(count)],
    }
    label = datasets.ClassLabel(names=[*NAMES, "never"]) if isinstance(labels[0], int) else datasets.Value("string")
    return datasets.Dataset.from_dict(columns, features=datasets.Features({"image": datasets.Image(), "label": label}))


def save_dict(root: Path) -> None:
    parts = {"train": rows("a", 20), "validation": rows("b", 4), "test": rows("c", 6), "unsupervised": rows("d", 2)}
    datasets.DatasetDict(parts).save_to_disk(str(root))


def save_parquet(root: Path) -> None:
    (root / "data [1]").mkdir(parents=True)
    for number in range(2):
        rows(f"a{number}", 10).to_parquet(str(root / f"data [1]/train-0000{number}-of-00002.parquet"))
    rows("b", 4).to_parquet(str(root / "data [1]/validation-00000-of-00001.parquet"))
    rows("c", 6).to_parquet(str(root / "data [1]/test-00000-of-00001.parquet"))


def shard(file: Path, count: int, tag: str, image: str = "png", label: str = "cls") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as opened:
        for number in range(count):
            text = json.dumps({"label": NAMES[number % 2]}) if label == "json" else str(number % 2)
            for ending, content in ((image, encoded(f"{tag}{number}")), (label, text.encode())):
                entry = tarfile.TarInfo(f"{number:05}.{ending}")
                entry.size = len(content)
                opened.addfile(entry, io.BytesIO(content))


def save_shards(root: Path) -> None:
    for name, count in (("toy-train-000000", 10), ("toy-train-000001", 10), ("toy-val-000000", 4), ("toy-test-000000", 6)):
        shard(root / f"{name}.tar", count, name)


@pytest.mark.parametrize(
    ("save", "kind"), [(save_dict, "a saved data set"), (save_parquet, "parquet files"), (save_shards, "webdataset shards")]
)
def test_tables_go_the_way_of_files(save, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, index = tmp_path / "set", tmp_path / "images.json"
    save(root)
    data = load_folder(str(root), index)
    assert sizes(data) == {"train": 20, "validation": 4, "test": 6} and data.class_names == (
        NAMES if save is not save_shards else ("0", "1")
    )
    assert data.layout == f"{kind} with 2 classes in the parts train, validation and test" and (data.side, data.channels) == (8, 3)
    assert isinstance(data.train, ImageFiles) and np.asarray(data.train.open(3)).shape == (8, 8, 3)
    sent = pickle.loads(pickle.dumps(data.train))
    assert np.array_equal(np.asarray(sent.open(5)), np.asarray(data.train.open(5)))
    settings = DataSettings(name="folder", root=str(root))
    assert peek(settings).images == 20 and peek(settings).validation == 4 and peek(settings).side == 8
    held = prepare(settings, Preparation(image_size=8), index_file=index).train
    assert isinstance(held, ArrayPart) and np.array_equal(held.images[5], np.asarray(data.train.open(5)))
    monkeypatch.setattr("nas.data.image_index.decode", lambda content: pytest.fail("an image was read again"))
    root.rename(tmp_path / "moved")
    assert load_folder(str(tmp_path / "moved"), index).train.digests == data.train.digests


def test_changed_rows_are_refused(tmp_path: Path) -> None:
    rows("a", 20).to_parquet(str(tmp_path / "x.parquet"))
    load_folder(str(tmp_path / "x.parquet"), tmp_path / "images.json")
    rows("b", 20).to_parquet(str(tmp_path / "x.parquet"))
    with pytest.raises(DataError, match=r"there are 20 changed \(train/0\)"):
        load_folder(str(tmp_path / "x.parquet"), tmp_path / "images.json")


def test_what_is_missing_from_tables_is_said(tmp_path: Path) -> None:
    save_dict(tmp_path / "set")
    said = load_folder(str(tmp_path / "set")).notes
    assert "1 class has no training image and is left out: never" in said
    assert "parts that are not used, being none to train, validate or test on: unsupervised" in said
    secret = {"train": rows("a", 10), "test": rows("c", 6, {0: -1, 1: -1})}
    datasets.DatasetDict(secret).save_to_disk(str(tmp_path / "secret"))
    data = load_folder(str(tmp_path / "secret"))
    assert data.test is None and "the part test is not used: it has no labels" in data.notes
    assert len(split(data, DataSettings()).test) == 2


def test_plain_bytes_and_words_and_json_are_understood(tmp_path: Path) -> None:
    table = {"img": [encoded(f"x{i}") for i in range(10)], "category": [NAMES[i % 2] for i in range(10)], "width": [8] * 10}
    datasets.Dataset.from_dict(table).to_parquet(str(tmp_path / "x.parquet"))
    shard(tmp_path / "y.tar", 10, "y", "jpg", "json")
    for file in ("x.parquet", "y.tar"):
        data = load_folder(str(tmp_path / file))
        assert data.class_names == NAMES and sizes(data) == {"train": 10} and data.name == file[0]


def broken(root: Path) -> None:
    put(root, "train.parquet", content="PAR1 no more")


def no_archive(root: Path) -> None:
    put(root, "a.tar", content="no archive")


def no_labels(root: Path) -> None:
    root.mkdir()
    rows("a", 4).remove_columns("label").to_parquet(str(root / "a.parquet"))


def no_images(root: Path) -> None:
    root.mkdir()
    rows("a", 4).remove_columns("image").to_parquet(str(root / "a.parquet"))


def measured(root: Path) -> None:
    root.mkdir()
    datasets.Dataset.from_dict({"image": [encoded("a")] * 2, "label": [0.5, 1.5]}).to_parquet(str(root / "a.parquet"))


def strange_classes(root: Path) -> None:
    root.mkdir()
    table = rows("a", 4).data.table.set_column(1, "label", [[0, 1, 7, 1]])
    datasets.Dataset(table.replace_schema_metadata({b"huggingface": b'{"info": {"features": ' + features().encode() + b"}}"})).to_parquet(
        str(root / "a.parquet")
    )


def features() -> str:
    return json.dumps({"image": {"_type": "Image"}, "label": {"names": list(NAMES), "_type": "ClassLabel"}})


def unclear_parts(root: Path) -> None:
    put(root, "train-0.parquet", "more.parquet", content="")


def only_test(root: Path) -> None:
    datasets.DatasetDict(test=rows("a", 4), validation=rows("b", 4)).save_to_disk(str(root))


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (broken, "cannot be read by `datasets`"),
        (no_archive, "cannot be read by `datasets`"),
        (no_labels, "must have one column of classes, called label or so, but has none among image"),
        (no_images, "must have one column of images as bytes, but has none among the columns label"),
        (measured, "must have words or whole numbers as labels in label, but has 0.5"),
        (strange_classes, "must have numbers of its 2 classes in label, but has 7"),
        (unclear_parts, "of which no word tells the part: more.parquet"),
        (only_test, "must have a part with labels to train on, but it has test, validation"),
    ],
)
def test_tables_that_cannot_be_used_are_refused(save, message: str, tmp_path: Path) -> None:
    save(tmp_path / "set")
    with pytest.raises(DataError, match=message) as caught:
        load_folder(str(tmp_path / "set"))
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows("a", 20).to_parquet(str(tmp_path / "x.parquet"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'nas-engine\[data\]'"):
        load_folder(str(tmp_path))


def test_what_is_only_scored_may_be_one_class_or_a_test_part_alone(tmp_path: Path) -> None:
    only_test(tmp_path / "saved")
    one = lay(tmp_path / "one", "cat")
    alone = lay(tmp_path / "alone", "Testing/cat", "Testing/dog")
    file = listed(lay(tmp_path / "csv", "x"), "path,label,split", ["x/0.png,cat,test"])
    for place, images, classes in ((tmp_path / "saved", 4, 2), (one, 6, 1), (alone, 12, 2), (file, 1, 1)):
        data = load_folder(str(place), scoring=True)
        assert (sizes(data), data.classes) == ({"train": images}, classes)
        with pytest.raises(DataError):
            load_folder(str(place))
