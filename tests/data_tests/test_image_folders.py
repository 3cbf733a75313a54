"""Training on a folder of images: broken files skipped before training, odd ones converted, the same batches from any loader."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.image_trees import CLASSES, make_tree, picture

from nas.data.batches import Resident, Share, TrainingBatches, open_or_neighbour, scoring_batches
from nas.data.dataset import ArrayPart, ImageFiles
from nas.data.image_index import load_folder
from nas.data.prepared import PreparedData, prepare, prepare_dataset, training_side
from nas.data.registry import peek
from nas.data.settings import LARGE_SIDE, DataSettings, Preparation
from nas.data.split import split
from nas.errors import DataError
from nas.networks.description import skeleton_document
from nas.tools.hardware import Hardware
from nas.training import setup
from nas.training.config import TrainConfig
from nas.training.recipe import Recipe, load_recipe, recipe_names
from nas.training.session import train_network
from nas.training.setup import Request, configure
from nas.training.trainer import Ending
from search_spaces.reference import load_reference
from search_spaces.residual_skeletons import ResidualSkeleton

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tree(tmp_path_factory.mktemp("images") / "tree")


def load(root: Path, recipe: Recipe, **options) -> PreparedData:
    return prepare(DataSettings(name="folder", root=str(root)), recipe.preparation(**options))


def batches(data: PreparedData, recipe: Recipe, workers: int = 0, first: int = 0, share: Share | None = None) -> list[torch.Tensor]:
    source = TrainingBatches(data, recipe.augmentation, 3, Resident(CPU), workers)
    return [images for passes in source.epoch(2, share or Share(8, 4), first, 3) for images, _ in passes]


def test_broken_files_are_skipped_and_odd_ones_counted(tree: Path) -> None:
    data = load_folder(str(tree))
    assert data.class_names == CLASSES and (len(data.train), len(data.test)) == (64, 18)
    assert (data.channels, data.side) == (3, 40)
    skipped, converted = data.notes
    assert skipped.startswith("4 files cannot be read as images and are skipped: ")
    assert skipped.count("cut.jpg") == 2 and "empty.jpg (no known image format)" in skipped and "text.png (no known" in skipped
    assert converted == "converted while reading: 1 CMYK, 1 greyscale, 1 palette, 1 transparent"


def test_a_folder_without_a_split_has_one_test_part_and_validates_by_the_stated_seed(tmp_path: Path) -> None:
    for label, name in enumerate(CLASSES):
        (tmp_path / "all" / name).mkdir(parents=True)
        for number in range(10):
            picture(label, number).save(tmp_path / "all" / name / f"{number}.png")
    data = load_folder(str(tmp_path / "all"))
    first, second = (split(data, DataSettings(split_seed=seed)) for seed in (0, 1))
    assert (len(first.train) + len(first.validation), len(first.test)) == (24, 6)
    assert np.bincount(first.test.labels).tolist() == [2, 2, 2] and "the test part has 6 images" in first.notes[-1]
    assert first.test.names == second.test.names and first.validation.names != second.validation.names
    assert split(data, DataSettings()).validation.names == first.validation.names


def test_greyscale_folders_have_one_channel_and_small_images_keep_their_side(tmp_path: Path) -> None:
    for label, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        for number in range(12):
            picture(label, number, 30).convert("L").save(tmp_path / name / f"{number}.png")
    data = load(tmp_path, load_recipe("fast"))
    assert (data.channels, data.image_size, data.classes) == (1, 28, 3) and isinstance(data.train, ArrayPart)
    pixels = data.train.images / 255.0
    assert data.mean == pytest.approx([pixels.mean()], abs=0.02) and data.std == pytest.approx([pixels.std()], abs=0.02)


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_streams_the_same_batches_from_any_step(name: str, tree: Path) -> None:
    recipe = load_recipe(name, {"image_size": 16, "batch_size": 8})
    data = load(tree, recipe, image_size=16, stream=True)
    assert isinstance(data.train, ImageFiles)
    whole = batches(data, recipe)
    assert len(whole) == 6 and whole[0].shape == (4, 3, 16, 16) and whole[0].dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(whole[4:], batches(data, recipe, first=2), strict=True))
    assert not torch.equal(whole[0], whole[1])
    shared = [batches(data, recipe, share=Share(8, 4, rank, 2)) for rank in range(2)]
    together = torch.stack([shared[0][0][0], shared[1][0][0], shared[0][0][1], shared[1][0][1]])
    assert torch.equal(together, whole[0]), "two workers take turns in the same order"


def test_batches_do_not_depend_on_the_number_of_loaders(tree: Path) -> None:
    recipe = load_recipe("convnext", {"batch_size": 8})
    data = load(tree, recipe, image_size=16)
    assert all(torch.equal(a, b) for a, b in zip(batches(data, recipe), batches(data, recipe, workers=2), strict=True))


def test_scoring_sees_the_middle_of_the_image(tree: Path) -> None:
    recipe = load_recipe("resnext-imagenet")
    data = load(tree, recipe, image_size=28)
    assert isinstance(data.test, ImageFiles)
    images = torch.cat([images for images, _ in scoring_batches(data, data.test, Resident(CPU))])
    assert images.shape == (18, 3, 28, 28)
    from torchvision.transforms import v2

    expected = v2.functional.center_crop(v2.functional.resize(data.test.open(0), 32, interpolation=v2.InterpolationMode.BICUBIC), 28)
    tensor = v2.functional.to_dtype(v2.functional.pil_to_tensor(expected), torch.float32, scale=True)
    mean, std = (torch.tensor(value)[:, None, None] for value in (data.mean, data.std))
    assert torch.allclose(images[0], (tensor - mean) / std, atol=1e-6) and data.mean == (0.485, 0.456, 0.406)


def test_a_file_that_becomes_unreadable_is_replaced_by_the_next(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", train=3, val=1, damaged=False)
    files = load_folder(str(root)).train
    (root / files.names[2]).write_bytes(b"gone")
    (root / files.names[3]).unlink()
    image, label = open_or_neighbour(files, 2, 3)
    assert label == files.labels[4] and np.array_equal(np.asarray(image), np.asarray(Image.open(root / files.names[4])))
    for name in files.names:
        (root / name).write_bytes(b"")
    with pytest.raises(DataError, match="files in a row cannot be read any more"):
        open_or_neighbour(files, 0, 3)


def test_training_on_a_damaged_folder_runs_to_its_end_and_resumes_from_its_index(tree: Path, tmp_path: Path) -> None:
    skeleton = ResidualSkeleton((1, 1), (8, 16), "patch", None, 4, stem_norm="layer", activation="gelu", head_norm=True)
    recipe = load_recipe("convnext", {"epochs": 2, "batch_size": 16, "ema.decay": 0.5, "optimizer.per_images": 16})
    data = DataSettings(name="folder", root=str(tree), validation_examples=12)
    settings = TrainConfig(skeleton=skeleton_document(skeleton, "tiny"), recipe=recipe, data=data)
    result = train_network(load_reference("convnext"), settings, tmp_path / "run")
    assert result.ending is Ending.FINISHED and result.test is not None and result.test.images == 18
    listed = json.loads((tmp_path / "run/images.json").read_text())
    assert sum(bool(file[5]) for file in listed["files"].values()) == 4
    assert len(load_folder(str(tree), tmp_path / "run/images.json").train) == 64


def test_the_skeleton_follows_the_images(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "detect", lambda: Hardware(8, 64, ("a GPU",)))
    large = make_tree(tmp_path / "large", train=4, val=1, side=200, damaged=False)
    found = {}
    for name, root in (("small", tree), ("large", large)):
        for source in ("nasnet-a", "convnext", "resnext-32x4d"):
            request = Request(load_reference(source), data={"data.name": "folder", "data.root": str(root)})
            found[name, source] = configure(request)[1].skeleton["name"]
    assert found == {
        ("small", "nasnet-a"): "nasnet-cifar",
        ("small", "convnext"): "convnext-cifar",
        ("small", "resnext-32x4d"): "resnet-29-cifar",
        ("large", "nasnet-a"): "nasnet-mobile",
        ("large", "convnext"): "convnext-t",
        ("large", "resnext-32x4d"): "resnet-50",
    }
    assert training_side(peek(DataSettings(name="folder", root=str(large))).side, LARGE_SIDE) == 224
    monkeypatch.setattr(setup, "detect", lambda: Hardware(2, 16, ()))
    _, config, choices = configure(Request(load_reference("nasnet-a"), data={"data.name": "folder", "data.root": str(large)}))
    assert (config.image_size, config.skeleton["name"]) == (48, "nasnet-cifar")
    assert {"image_size", "network"} <= {choice.setting for choice in choices}


def test_a_val_folder_without_classes_is_explained(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "flat", train=2, val=1, damaged=False)
    for file in list((root / "val").rglob("*.jpg")):
        file.rename(root / "val" / f"{file.parent.name}-{file.name}")
    for folder in list((root / "val").iterdir()):
        if folder.is_dir():
            folder.rmdir()
    with pytest.raises(DataError, match="one sub-folder for each class"):
        load_folder(str(root))


def test_a_file_that_breaks_while_images_are_read_is_named(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "tree", train=4, val=1, damaged=False)
    dataset = load_folder(str(root))
    for name in dataset.train.names:  # type: ignore[union-attr]
        (root / name).write_bytes(b"gone")
    with pytest.raises(DataError, match="has become unreadable since it was checked"):
        prepare_dataset(dataset, DataSettings(name="folder", root=str(root), mirrors=True), Preparation(image_size=8))
