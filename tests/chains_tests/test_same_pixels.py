"""Train, evaluate, predict and every export give the same image the same pixels, so the same weights the same logits."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image
from support.commands import nas
from support.image_trees import CLASSES, picture

from nas import predict
from nas.data.pixels import fit, read_image, to_channels
from nas.exports.onnx_file import onnx_logits
from nas.networks.description import from_metadata
from nas.training.folder import TrainFolder
from nas.training.measure import evaluate_weights
from nas.training.scoring import score_sums
from nas.training.session import finished


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs as people have them: of many sizes and shapes, some grey, with transparency, of a palette, in 16 bits, or turned."""
    root = tmp_path_factory.mktemp("images") / "mixed"
    turned = Image.Exif()
    turned[0x0112] = 6
    for part, count in (("train", 12), ("test", 8)):
        for label, name in enumerate(CLASSES):
            (root / part / name).mkdir(parents=True)
            for i in range(count):
                image = picture(label, i + 100 * (part == "test"), 30 + 7 * i)
                image = image.resize((image.width + 5 * (i % 3), image.height + 11 * (i % 2)))
                match i % 8:
                    case 3:
                        image = image.convert("L")
                    case 4:
                        image.putalpha(Image.linear_gradient("L").resize(image.size))
                    case 5:
                        image = image.convert("P")
                    case 6:
                        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
                image.save(root / part / name / f"{i}.png", exif=turned if i % 8 == 7 else None)
    return root


SMALL = """
schema: nas.genotype/1
name: Small
cells:
  normal: {inputs: [previous, current], nodes: [{state: 2, combine: add, edges: [[1, sep_conv_3x3], [0, identity]]}], outputs: [2]}
  reduction: {inputs: [previous, current], nodes: [{state: 2, combine: add, edges: [[1, sep_conv_3x3], [0, max_pool_3x3]]}], outputs: [2]}
"""
"""What is held against another is how images are prepared: a few layers do, and are exported in a fraction of the time."""

RECIPES = {
    "in memory": ["--recipe", "fast", "--image-size", "20"],
    "from files": ["--recipe", "fast", "--image-size", "20", "--set", "augmentation.color_jitter=0.2", "--set", "resolution.start=1"],
    "cropped": ["--recipe", "resnext-imagenet", "--image-size", "28"],
}


def run_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:Overwriting small in registry")
@pytest.mark.parametrize("how", ["cropped", "from files", pytest.param("in memory", marks=pytest.mark.slow)])
def test_a_picture_has_the_same_logits_everywhere(how, folder, tmp_path, monkeypatch):
    seen = watched(monkeypatch)
    small = ["--epochs", "1", "--batch-size", "12", "--threads", "1", "--cells", "1", "--filters", "4", "--skeleton", "nasnet-cifar"]
    (tmp_path / "small.yaml").write_text(SMALL)
    nas(["train", "small.yaml", "--data", str(folder), *RECIPES[how], *small, "-o", "net"], tmp_path, monkeypatch)
    result = finished(TrainFolder(tmp_path / "net"))
    assert result is not None and result.test is not None and result.test.images == 24
    logits = seen[-1]  # of train's one reading of the test set
    files = [path for name in CLASSES for path in sorted((folder / "test" / name).iterdir())]

    for source in (tmp_path / "net", tmp_path / "net" / "best.safetensors"):  # with and without the training's list of images
        measured = evaluate_weights(source, data={"name": "folder", "root": str(folder)}, threads=1).scores
        assert measured.top1 == result.test.top1 and measured.loss == pytest.approx(result.test.loss, abs=1e-6)
        same(seen[-1], logits)
    for batch_size in (7, 64):
        found = predict(tmp_path / "net", files, batch_size=batch_size)
        same(torch.tensor(found.probabilities).log(), logits.log_softmax(1))

    if how == "from files":  # every export takes seconds: the other ways of preparing an image have them
        return
    nas(["export", "net", "--format", "python", "-o", "exported.py"], tmp_path, monkeypatch)
    exported = run_file(tmp_path / "exported.py")
    network = exported.load(str(tmp_path / "exported.safetensors"))
    with torch.no_grad():
        same(torch.cat([network(exported.normalise(exported.read_image(str(path)))) for path in files]), logits)

    nas(["export", "net", "--format", "timm", "-o", "found.py"], tmp_path, monkeypatch)
    run_file(tmp_path / "found.py")  # registers its model
    import timm
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model("small", pretrained=True).eval()
    transform = create_transform(**resolve_data_config({}, model=model), is_training=False)
    with torch.no_grad():  # what an image's mode and EXIF data mean is for whoever opens it to know
        same(torch.cat([model(transform(to_channels(read_image(path), 3))[None]) for path in files]), logits)

    if how == "cropped":  # one is enough: an export takes seconds
        nas(["export", "net", "--format", "onnx", "-o", "found.onnx"], tmp_path, monkeypatch)
        same(torch.from_numpy(onnx_logits(tmp_path / "found.onnx", as_its_metadata_say(tmp_path / "found.onnx", files))), logits)


def watched(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The logits of every part that is scored from now on, by a training or by ``nas evaluate``."""
    seen: list[torch.Tensor] = []

    def watch(network, batches, precision=torch.float32, on_logits=lambda logits, labels: None):
        parts: list[torch.Tensor] = []
        sums = score_sums(network, batches, precision, lambda logits, labels: (parts.append(logits.cpu()), on_logits(logits, labels)))
        seen.append(torch.cat(parts))
        return sums

    for module in ("nas.training.trainer", "nas.training.scoring"):
        monkeypatch.setattr(f"{module}.score_sums", watch)
    return seen


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def as_its_metadata_say(path: Path, files: list[Path]) -> np.ndarray:
    """Images prepared by nothing but what an ONNX file says of itself."""
    import onnx

    description = from_metadata({entry.key: entry.value for entry in onnx.load(path).metadata_props}, str(path))
    assert description is not None
    side, how = description.architecture.image_size, (description.crop_fraction, description.interpolation)
    pixels = np.stack([fit(read_image(file), 3, side, *how) for file in files]) / 255
    return ((pixels - description.mean) / description.std).transpose(0, 3, 1, 2).astype(np.float32)
