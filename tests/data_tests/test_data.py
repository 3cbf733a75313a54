"""Data sets are read from every layout, refused where they are damaged or hostile, and split without touching the test part."""

import dataclasses
import hashlib
import io
import os
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data import prepare
from nas.data.cifar import CIFAR10, CIFAR100, CifarSpec, find, load_cifar, read_binary, read_python, unofficial_files
from nas.data.dataset import ArrayPart, Dataset, ImageFiles, balanced_choice, from_arrays, stratified_choice
from nas.data.embedded import load_digits, make_synthetic
from nas.data.image_index import load_folder
from nas.data.layouts import find_images
from nas.data.pixels import channel_statistics, fit, resize_all
from nas.data.plain_pickle import load_plain_pickle
from nas.data.prepared import PreparedData, prepare_dataset
from nas.data.registry import load_dataset
from nas.data.settings import DataSettings, Preparation
from nas.data.split import split
from nas.errors import DataError
from nas.evaluators.settings import Fidelity
from nas.runs.config import SearchConfig

RECORDS = 30


def small(spec: CifarSpec) -> CifarSpec:
    """The specification with 30 records a file: all else as in the official one."""

    def fewer(files):
        return tuple((name, RECORDS) for name, _ in files)

    return dataclasses.replace(
        spec,
        binary_train=fewer(spec.binary_train),
        binary_test=(spec.binary_test[0], RECORDS),
        python_train=fewer(spec.python_train),
        python_test=(spec.python_test[0], RECORDS),
    )


TEN, HUNDRED = small(CIFAR10), small(CIFAR100)


def records(spec: CifarSpec, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (30,) and pixels (30, 3072), plane by plane as in the files."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(spec.class_names), size=RECORDS)
    return labels, rng.integers(256, size=(RECORDS, 3072), dtype=np.uint8)


def write_binary(spec: CifarSpec, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, _) in enumerate((*spec.binary_train, spec.binary_test)):
        labels, pixels = records(spec, seed)
        columns = [labels[:, None].astype(np.uint8), pixels]
        if spec.label_bytes == 2:
            columns.insert(0, np.full((RECORDS, 1), 19, dtype=np.uint8))  # the coarse label, which is not used
        (folder / name).write_bytes(np.hstack(columns).tobytes())


def write_python(spec: CifarSpec, folder: Path, protocol: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, _) in enumerate((*spec.python_train, spec.python_test)):
        labels, pixels = records(spec, seed)
        content = {b"batch_label": b"batch", spec.python_labels.encode(): labels.tolist(), b"data": pixels, b"filenames": [b"a.png"]}
        (folder / name).write_bytes(pickle.dumps(content, protocol=protocol))


# ---------------------------------------------------------------------------------------------------- CIFAR


@pytest.mark.parametrize("spec", [TEN, HUNDRED], ids=lambda spec: spec.name)
def test_both_layouts_hold_the_same_images_channels_last(spec, tmp_path):
    write_binary(spec, tmp_path / "bin")
    write_python(spec, tmp_path / "py")
    binary, python = read_binary(spec, tmp_path / "bin"), read_python(spec, tmp_path / "py")
    labels, pixels = records(spec, 0)
    assert binary.train.images.shape == (RECORDS * len(spec.binary_train), 32, 32, 3)
    assert binary.train.images.dtype == np.uint8 and binary.train.labels.dtype == np.int64
    # Record 7, row 3, column 5: red, green and blue are 1,024 bytes apart in the file.
    assert binary.train.images[7, 3, 5].tolist() == [pixels[7, plane * 1024 + 3 * 32 + 5] for plane in range(3)]
    assert binary.train.labels[:RECORDS].tolist() == labels.tolist()
    for ours, theirs in ((binary.train, python.train), (binary.test, python.test)):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


@pytest.mark.parametrize("place", ["cifar-10-batches-bin", "cifar-10-batches-py", "."])
def test_cifar_is_found_with_and_without_its_folder(place, tmp_path):
    write = write_python if place.endswith("py") else write_binary
    write(TEN, tmp_path / place)
    assert len(load_cifar(TEN, str(tmp_path), download=False).train.labels) == 5 * RECORDS


@pytest.mark.parametrize("place", ["cifar-10-batches-bin", "."])
def test_a_folder_of_cifar_as_it_is_published_is_named(place, tmp_path):
    write_binary(CIFAR10, tmp_path / place)
    for root in {tmp_path, tmp_path / place}:
        with pytest.raises(DataError, match=rf"it is CIFAR-10 as it is published: --data cifar10 --data-dir {re.escape(str(root))}"):
            find_images(str(root))
    (tmp_path / place / "data_batch_1.bin").unlink()
    with pytest.raises(DataError) as plain:
        find_images(str(tmp_path))
    assert "published" not in str(plain.value), "a part of it is none"


def test_cifar_is_found_through_the_environment(tmp_path, monkeypatch):
    write_binary(TEN, tmp_path / "cifar-10-batches-bin")
    monkeypatch.setenv("NAS_DATA", str(tmp_path))
    assert len(load_cifar(TEN, None, download=False).test.labels) == RECORDS


def test_class_names_come_from_the_archive(tmp_path):
    write_binary(TEN, tmp_path)
    assert load_cifar(TEN, str(tmp_path), download=False).class_names[:2] == ("airplane", "automobile")
    (tmp_path / "batches.meta.txt").write_text("\n".join(f"name{i}" for i in range(10)) + "\n\n")
    assert load_cifar(TEN, str(tmp_path), download=False).class_names[:2] == ("name0", "name1")


@pytest.mark.parametrize(("write", "name"), [(write_binary, "data_batch_4.bin"), (write_python, "data_batch_4")])
def test_files_that_are_not_the_official_ones_are_named(write, name, tmp_path):
    write(TEN, tmp_path)
    ours = tuple((path.name, hashlib.md5(path.read_bytes()).hexdigest()) for path in tmp_path.iterdir())
    spec = dataclasses.replace(TEN, file_md5=ours)
    assert unofficial_files(spec, str(tmp_path)) == []
    content = bytearray((tmp_path / name).read_bytes())
    content[2000] ^= 1
    (tmp_path / name).write_bytes(content)
    assert unofficial_files(spec, str(tmp_path)) == [tmp_path / name]
    assert len(unofficial_files(TEN, str(tmp_path))) == 6, "none of these generated files is CIFAR-10's"


def test_missing_cifar_without_download_names_two_ways_out(tmp_path):
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(root=str(tmp_path), download=False))
    for part in (CIFAR10.url, str(tmp_path / "cifar-10-batches-bin"), "--data digits"):
        assert part in str(caught.value)


def test_incomplete_cifar_names_what_is_missing(tmp_path):
    write_binary(TEN, tmp_path / "cifar-10-batches-bin")
    (tmp_path / "cifar-10-batches-bin" / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"incomplete: data_batch_3\.bin missing"):
        find(TEN, [tmp_path])


@pytest.mark.parametrize("change", [b"", b"x", b"x" * 3073])
def test_binary_file_of_another_size_is_refused(change, tmp_path):
    write_binary(TEN, tmp_path)
    path = tmp_path / "data_batch_2.bin"
    path.write_bytes(path.read_bytes()[:-3073] + change if change != b"x" * 3073 else path.read_bytes() + change)
    with pytest.raises(DataError, match=r"data_batch_2\.bin: must have 92,190 bytes"):
        read_binary(TEN, tmp_path)


def test_label_out_of_range_is_refused(tmp_path):
    write_binary(TEN, tmp_path)
    content = bytearray((tmp_path / "test_batch.bin").read_bytes())
    content[3073] = 10
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(DataError, match=r"labels must be 0\.\.9, but got 10"):
        read_binary(TEN, tmp_path)


def test_cifar100_uses_the_fine_label(tmp_path):
    write_binary(HUNDRED, tmp_path)
    assert read_binary(HUNDRED, tmp_path).test.labels.tolist() == records(HUNDRED, 1)[0].tolist()


# ---------------------------------------------------------------------------------------------------- pickles


class Shell:
    """Asks the unpickler to run a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Codec:
    """Asks for an encoding other than that of plain bytes."""

    def __reduce__(self):
        import codecs

        return codecs.encode, ("abc", "rot13")


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_pickle_is_refused_and_not_run(protocol, tmp_path):
    trap = tmp_path / "ran"
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Shell(f"touch {trap}")}, protocol=protocol))
    with pytest.raises(DataError, match=r"asks for \w+\.system"):
        load_plain_pickle(path)
    assert not trap.exists()
    pickle.loads(path.read_bytes())  # the same bytes do run in an ordinary unpickler: the trap is a real one
    assert trap.exists()


HOSTILE = {
    "eval": b"c__builtin__\neval\n(S'1'\ntR.",
    "getattr": b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
    "dotted": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.tofile\x93.",
    "numpy_load": b"cnumpy\nload\n(S'x'\ntR.",
    "codec": pickle.dumps(Codec(), protocol=2),
    "object_array": pickle.dumps(np.array([{}, 1], dtype=object), protocol=2),
    "truncated": pickle.dumps({b"data": np.zeros(9, np.uint8)}, protocol=2)[:-20],
    "noise": bytes(range(256)),
    "empty": b"",
    "persistent": b"Psome_id\n.",
    "big_memo": b"\x80\x02N" + b"r\xff\xff\xff\x7f" + b".",
    "state_of_wrong_form": b"cnumpy.core.multiarray\n_reconstruct\n(tRI1\nb.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickle_never_gets_past_the_reader(name, tmp_path):
    write_python(TEN, tmp_path)
    (tmp_path / "data_batch_1").write_bytes(HOSTILE[name])
    with pytest.raises(DataError, match="data_batch_1"):
        read_python(TEN, tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        {b"labels": [1] * RECORDS},
        {b"labels": [1] * RECORDS, b"data": np.zeros((RECORDS, 3071), np.uint8)},
        {b"labels": [1] * RECORDS, b"data": np.zeros((RECORDS, 3072), np.int32)},
        {b"labels": [1] * (RECORDS - 1), b"data": np.zeros((RECORDS, 3072), np.uint8)},
        {b"labels": ["1"] * RECORDS, b"data": np.zeros((RECORDS, 3072), np.uint8)},
        {b"labels": [-1] * RECORDS, b"data": np.zeros((RECORDS, 3072), np.uint8)},
        {b"labels": [10] * RECORDS, b"data": np.zeros((RECORDS, 3072), np.uint8)},
        [1, 2],
    ],
)
def test_plain_pickle_with_wrong_contents_is_refused(content, tmp_path):
    write_python(TEN, tmp_path)
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match="data_batch_1"):
        read_python(TEN, tmp_path)


def test_pickle_written_by_python_2_is_read(tmp_path):
    """The official files: text keys without an encoding, array bytes as a Python 2 string, `numpy.core`."""
    pixels = records(TEN, 0)[1]
    raw = pixels.tobytes()
    stream = io.BytesIO()
    stream.write(b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq\x05")
    stream.write(
        b"(K\x01K\x1eM\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    )
    stream.write(b"T" + len(raw).to_bytes(4, "little") + raw + b"tbU\x06labels](" + b"K\x03" * RECORDS + b"eu.")
    write_python(TEN, tmp_path)
    (tmp_path / "data_batch_1").write_bytes(stream.getvalue())
    read = read_python(TEN, tmp_path)
    assert set(read.train.labels[:RECORDS].tolist()) == {3}
    assert read.train.images[29, 31, 31, 2] == pixels[29, 3071]


# ---------------------------------------------------------------------------------------------------- embedded


def test_digits_are_real_fixed_and_split():
    digits = load_digits()
    assert digits.train.images.shape == (1437, 8, 8, 1) and digits.test.images.shape == (360, 8, 8, 1)
    assert digits.train.images.max() == 255 and digits.train.images.min() == 0 and not digits.mirrors
    both = np.concatenate([digits.train.images, digits.test.images]).reshape(1797, 64)
    from sklearn import datasets

    original = np.rint(datasets.load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, both)) == sorted(map(bytes, original)), "every image is in exactly one part"
    assert set(Counter(digits.test.labels.tolist()).values()) <= {35, 36, 37}
    np.testing.assert_array_equal(digits.test.images, load_digits().test.images)


def test_synthetic_images_follow_the_seed_and_can_be_learned():
    from sklearn.linear_model import LogisticRegression

    data, again, other = make_synthetic(), make_synthetic(), make_synthetic(seed=1)
    np.testing.assert_array_equal(data.train.images, again.train.images)
    assert not np.array_equal(data.train.images, other.train.images)

    def spectrum(images):  # random phases hide the class from pixels, and not from the amplitudes
        return np.abs(np.fft.rfft2(images.astype(float).mean(-1))).reshape(len(images), -1)[:, 1:]

    scale = spectrum(data.train.images).std(0)
    model = LogisticRegression(max_iter=200).fit(spectrum(data.train.images) / scale, data.train.labels)
    assert model.score(spectrum(data.test.images) / scale, data.test.labels) > 0.8


# ---------------------------------------------------------------------------------------------------- folders


def picture(path: Path, mode: str = "RGB", size: tuple[int, int] = (20, 14), colour: object = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour if colour is not None else 90).save(path)


def seen(files: ImageFiles, side: int = 8) -> np.ndarray:
    """What scoring sees of the files, in colour."""
    return np.stack([fit(files.open(i), 3, side) for i in range(len(files))])


def test_folder_without_split_gets_a_fixed_one(tmp_path):
    for name in ("cat", "dog"):
        for i in range(10):
            picture(tmp_path / name / "deeper" / f"{i}.png", colour=(10 * i, 0, 0))
    data = load_folder(str(tmp_path))
    assert data.class_names == ("cat", "dog") and data.test is None
    first, again = split(data, DataSettings()), split(load_folder(str(tmp_path)), DataSettings())
    assert (len(first.train) + len(first.validation), Counter(first.test.labels.tolist())) == (16, {0: 2, 1: 2})
    assert first.test.names == again.test.names
    cats = [seen(part)[part.labels == 0] for part in (first.train, first.validation, first.test)]
    assert sorted(np.concatenate(cats)[:, 0, 0, 0].tolist()) == [10 * i for i in range(10)]


@pytest.mark.parametrize("test_name", ["test", "val", "validation"])
def test_folder_with_its_own_split(test_name, tmp_path):
    for name in ("cat", "dog"):
        picture(tmp_path / "train" / name / "a.png")
    picture(tmp_path / test_name / "dog" / "b.png", colour=(200, 0, 0))
    data = load_dataset(DataSettings(name="folder", root=str(tmp_path), image_size=16))
    assert data.train.labels.tolist() == [0, 1] and data.test.labels.tolist() == [1]
    assert seen(data.test, 16).shape == (1, 16, 16, 3) and seen(data.test)[0, 0, 0].tolist() == [200, 0, 0]


def test_every_colour_mode_becomes_rgb(tmp_path):
    picture(tmp_path / "a" / "grey.png", "L", colour=128)
    picture(tmp_path / "a" / "clear.png", "RGBA", colour=(0, 0, 0, 0))
    picture(tmp_path / "a" / "deep.png", "I;16", colour=128 * 256)
    picture(tmp_path / "b" / "ink.jpg", "CMYK", colour=(0, 255, 255, 0))
    picture(tmp_path / "b" / "one.bmp", "1", colour=1)
    picture(tmp_path / "b" / "UPPER.PNG", "P", colour=0)
    data = load_folder(str(tmp_path))
    images = seen(data.train)
    corners = sorted(tuple(int(v) for v in image[4, 4]) for image in images)
    red = next(corner for corner in corners if corner[0] > 200 and corner[1] < 60)
    assert "skipped" not in "".join(data.notes) and len(corners) == 6 and data.channels == 3
    assert corners.count((255, 255, 255)) == 2, "transparency is laid on white; the one-bit image is white"
    assert corners.count((128, 128, 128)) == 2, "8-bit and 16-bit grey agree"
    assert red[2] < 60, "CMYK cyan 0, magenta and yellow full is red"


def test_photographs_are_turned_upright_and_cut_to_the_middle(tmp_path):
    image = Image.new("RGB", (40, 20), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the left half belongs on top
    image.save(tmp_path / "turned.png", exif=exif)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(3):
            (tmp_path / name / f"{i}.png").write_bytes((tmp_path / "turned.png").read_bytes())
    image = seen(load_folder(str(tmp_path)).train)[0]
    assert image[1, 4, 0] > 200 and image[6, 4, 2] > 200


def test_corrupt_images_are_named_and_skipped(tmp_path):
    for name in ("a", "b"):
        for i in range(5):
            picture(tmp_path / name / f"{i}.png")
    (tmp_path / "a" / "broken.png").write_bytes(b"not an image")
    whole = (tmp_path / "a" / "0.png").read_bytes()
    (tmp_path / "b" / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "b" / "notes.txt").write_text("not of the data set")
    data = load_folder(str(tmp_path))
    assert len(data.train) == 10
    (note,) = data.notes
    assert note.startswith("2 files cannot be read as images and are skipped: a/broken.png (") and "b/half.png (" in note
    assert "notes.txt" not in note


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "at least 2 classes, but it has 0"),
        (["a/1.png"], "at least 2 classes, but it has 1"),
        (["a/1.txt", "b/2.txt"], "no readable one is left"),
        (["a/1.png", "a/2.png", "b/x.txt"], "'b' has none"),
        (["a/1.png", "b/2.png"], "at least 5 images to split"),
        (["test/a/1.png", "test/b/1.png"], "no train/ folder beside it"),
        (["train/a/1.png", "train/b/1.png", "test/c/1.png"], "class folder 'c' has no counterpart"),
        (["train/a/1.png", "train/b/1.png", "test/a/1.txt"], "none is left"),
    ],
)
def test_unusable_folder_says_why(files, message, tmp_path):
    for name in files:
        if name.endswith(".png"):
            picture(tmp_path / name)
        else:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=message):
        split(load_folder(str(tmp_path)), DataSettings())


def test_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match="must exist"):
        load_folder(str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="--data FOLDER"):
        load_dataset(DataSettings(name="folder"))


def test_images_too_many_for_the_memory_stay_files(tmp_path, monkeypatch):
    for name in ("a", "b"):
        for i in range(10):
            picture(tmp_path / name / f"{i}.png", colour=(10 * i, 0, 0))
    settings = DataSettings(name="folder", root=str(tmp_path))
    held = prepare(settings, Preparation(image_size=8))
    monkeypatch.setattr("nas.data.prepared.total_memory", lambda: 4 * 20 * 8 * 8 * 3 - 1)
    streamed = prepare(settings, Preparation(image_size=8))
    for there, here in ((held.train, streamed.train), (held.validation, streamed.validation), (held.test, streamed.test)):
        assert isinstance(there, ArrayPart) and isinstance(here, ImageFiles)
        np.testing.assert_array_equal(there.images, seen(here))
    np.testing.assert_allclose(streamed.mean, held.mean)


def test_unknown_data_set_lists_the_valid_ones():
    with pytest.raises(DataError, match=r"unknown data set 'mnist'; choose one of cifar10, cifar100, digits"):
        load_dataset(DataSettings(name="mnist"))


# ---------------------------------------------------------------------------------------------------- splits


def labelled(labels: np.ndarray, size: int = 8) -> Dataset:
    """Images that carry their own index in the first two pixels."""
    images = np.zeros((len(labels), size, size, 1), dtype=np.uint8)
    images[:, 0, 0, 0], images[:, 0, 1, 0] = np.arange(len(labels)) // 256, np.arange(len(labels)) % 256
    names = tuple(str(i) for i in range(int(labels.max()) + 1))
    whole = ArrayPart(images, labels.astype(np.int64))
    return from_arrays("labelled", whole, whole.take(range(5)), names)


def numbers(part: ArrayPart) -> list[int]:
    """The images' own indices."""
    return (part.images[:, 0, 0, 0].astype(int) * 256 + part.images[:, 0, 1, 0]).tolist()


def test_validation_split_is_stratified_seeded_and_disjoint():
    data = labelled(np.repeat(np.arange(10), 5000))
    parts = split(data, DataSettings())
    assert len(parts.validation) == 5000 and len(parts.train) == 45_000 and parts.test is data.test
    assert set(Counter(parts.validation.labels.tolist()).values()) == {500}
    assert sorted(numbers(parts.train) + numbers(parts.validation)) == list(range(50_000))
    assert numbers(parts.validation) == numbers(split(data, DataSettings()).validation)
    assert numbers(parts.validation) != numbers(split(data, DataSettings(split_seed=1)).validation)


def test_default_validation_split_of_a_small_set_is_a_third():
    assert len(split(labelled(np.arange(900) % 9), DataSettings()).validation) == 300
    assert len(split(labelled(np.arange(1500) % 10), DataSettings()).validation) == 500


def test_too_large_a_validation_split_is_refused():
    data = labelled(np.arange(100) % 10)
    assert len(split(data, DataSettings(validation_examples=90)).train) == 10
    with pytest.raises(DataError, match=r"must be 1\.\.90 .* but got 91"):
        split(data, DataSettings(validation_examples=91))


def test_stratified_choice_keeps_shares_and_count():
    labels = np.repeat([0, 1, 2], [70, 20, 11]).astype(np.int64)
    chosen = stratified_choice(labels, 50, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 50 and Counter(labels[chosen].tolist()) == {0: 35, 1: 10, 2: 5}


def test_balanced_choice_takes_equal_numbers_as_far_as_there_are():
    labels = np.repeat([0, 1, 2], [70, 20, 5]).astype(np.int64)
    chosen = balanced_choice(labels, 46, np.random.default_rng(0))
    assert len(set(chosen.tolist())) == 46 and Counter(labels[chosen].tolist()) == {0: 21, 1: 20, 2: 5}
    assert Counter(labels[balanced_choice(labels, 7, np.random.default_rng(0))].tolist()) == {0: 3, 1: 2, 2: 2}
    assert len(balanced_choice(labels, 95, np.random.default_rng(0))) == 95


# ---------------------------------------------------------------------------------------------------- prepared data


def of_search(config: SearchConfig, data: Dataset | None = None) -> PreparedData:
    if data is None:
        return prepare(config.data, config.preparation())
    return prepare_dataset(data, config.data, config.preparation())


def test_a_search_never_holds_an_image_of_the_test_part():
    data = of_search(SearchConfig(data=DataSettings(name="digits")))
    digits = load_digits()
    assert data.test is None
    held = {bytes(image) for image in np.concatenate([data.train.images, data.validation.images])}
    train = {bytes(image) for image in digits.train.images}
    assert held <= train and len(data.train) + len(data.validation) == len(digits.train)
    assert data.channels == 1 and data.classes == 10 and data.image_size == 8 and not data.mirrors


def test_fidelity_chooses_balanced_subsets_and_resolution():
    data = labelled(np.repeat(np.arange(4), [400, 300, 200, 100]), size=16)
    config = SearchConfig(
        data=DataSettings(validation_examples=200), fidelity=Fidelity(image_size=8, train_examples=120, validation_examples=50)
    )
    prepared = of_search(config, data)
    assert prepared.train.images.shape == (120, 8, 8, 1) and prepared.validation.images.shape == (50, 8, 8, 1)
    assert Counter(prepared.train.labels.tolist()) == {0: 30, 1: 30, 2: 30, 3: 30}
    assert Counter(prepared.validation.labels.tolist()) == {0: 20, 1: 15, 2: 10, 3: 5}
    assert not prepared.train.images.flags.writeable and not prepared.validation.labels.flags.writeable
    more = of_search(config.model_copy(update={"fidelity": Fidelity(train_examples=10**6, validation_examples=10**6)}), data)
    assert len(more.train) == 800 and len(more.validation) == 200


def test_shrinking_averages_areas_exactly():
    images = np.arange(4 * 4, dtype=np.uint8).reshape(1, 4, 4, 1) * 16
    small_images = resize_all(images, 2)
    expected = images.reshape(1, 2, 2, 2, 2, 1).mean(axis=(2, 4))
    np.testing.assert_allclose(small_images, expected, atol=0.5)
    assert resize_all(images, 4) is images
    assert resize_all(np.zeros((2, 8, 8, 3), np.uint8), 20).shape == (2, 20, 20, 3)


def test_channel_statistics_are_those_of_numpy():
    images = np.random.default_rng(0).integers(256, size=(50, 9, 9, 3), dtype=np.uint8)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)))
    assert channel_statistics(np.full((3, 8, 8, 1), 7, np.uint8))[1] == (1.0,)


def test_real_cifar10_has_its_published_statistics():
    try:
        data = load_dataset(DataSettings(download=False))
    except DataError:
        pytest.skip("CIFAR-10 is not here; NAS_DATA names its folder")
    assert unofficial_files(CIFAR10, None) == []
    mean, std = channel_statistics(data.train.images)
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=5e-5)
    np.testing.assert_allclose(std, (0.2470, 0.2435, 0.2616), atol=5e-5)
    assert set(Counter(data.train.labels.tolist()).values()) == {5000}
