"""``nas.predict`` sees what scoring sees; and takes images in whatever way a person has them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.image_trees import CLASSES, make_tree, picture

import nas
from nas.api.training import Training
from nas.errors import ConfigError, DataError


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several shapes, so that another preparation would show."""
    root = make_tree(tmp_path_factory.mktemp("photos"), train=12, val=9, damaged=False)
    for number, label in enumerate(CLASSES):
        picture(number, 77, 61).resize((90 + 10 * number, 50)).save(root / "val" / label / "wide.png")
    return root


@pytest.fixture(scope="module")
def training(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Training:
    settings = {"augmentation.crop": "inception", "crop_fraction": 0.8, "resolution.start": 1.0}  # scoring sees the middle alone
    given = {"cells": 1, "filters": 4, "image_size": 24, "epochs": 2, "batch_size": 12, "settings": settings, "threads": 1}
    return nas.train("nasnet-a", data=photos, output=tmp_path_factory.mktemp("out") / "trained", **given)


def test_predict_and_evaluate_see_the_same_pixels(training: Training, photos: Path) -> None:
    files = sorted((photos / "val").rglob("*.*"))
    found = nas.predict(training, files, batch_size=7)
    truth = [CLASSES.index(file.parent.name) for file in files]
    measured = nas.evaluate(training)
    assert measured.images == len(files)
    loss = -np.log(found.probabilities[range(len(files)), truth]).mean()
    assert loss == pytest.approx(measured.loss, abs=1e-4)
    assert np.mean([label == file.parent.name for label, file in zip(found.labels, files, strict=True)]) == measured.top1
    assert measured.top1 == training.test_top1


def test_images_may_be_paths_pictures_and_arrays_one_or_many(training: Training, photos: Path) -> None:
    file = photos / "val" / CLASSES[0] / "wide.png"
    image = Image.open(file)
    alone = nas.predict(training, file)
    assert len(alone) == 1 and set(dict(alone[0].likeliest)) == set(CLASSES)
    assert alone[0].probability == max(share for _, share in alone[0].likeliest)
    network = nas.load_network(training)
    network.train()
    for images in (str(file), [file], image, [image], np.asarray(image), [np.asarray(image)], np.asarray(image)[None]):
        assert np.allclose(nas.predict(network, images).probabilities, alone.probabilities, atol=1e-6)
    assert network.training, "it is left as it was"
    assert len(nas.predict(network, [])) == 0
    assert [one.label for one in nas.predict(network, [file] * 3)[1:]] == alone.labels * 2
    assert CLASSES[0] in alone._repr_html_()


def test_what_is_no_image_or_no_network_of_ours_is_named(training: Training, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not an image")
    for images, words in (
        (tmp_path / "text.png", "text.png"),
        (tmp_path / "none.jpg", "none.jpg"),
        ([np.zeros((4, 4, 3))], "uint8"),
        ([object()], "object"),
    ):
        with pytest.raises(DataError, match=words):
            nas.predict(training, images)
    import torch

    with pytest.raises(ConfigError, match="load_network"):
        nas.predict(torch.nn.Linear(1, 1), [])
    with pytest.raises(ConfigError, match="best, last"):
        nas.load_network(training, which="worst")
