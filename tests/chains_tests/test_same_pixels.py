"""Train, evaluate, predict and every export give the same image the same pixels, so the same weights the same score."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from support.commands import nas
from support.image_trees import CLASSES, picture

from nas.training.folder import TrainFolder
from nas.training.measure import evaluate_weights
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


@pytest.mark.filterwarnings("ignore:Overwriting nasnet_a in registry")
@pytest.mark.parametrize("how", RECIPES)
def test_the_test_set_scores_the_same_everywhere(how, folder, tmp_path, monkeypatch):
    small = ["--epochs", "1", "--batch-size", "12", "--threads", "1", "--cells", "1", "--filters", "4", "--skeleton", "nasnet-cifar"]
    nas(["train", "nasnet-a", "--data", str(folder), *RECIPES[how], *small, "-o", "net"], tmp_path, monkeypatch)
    result = finished(TrainFolder(tmp_path / "net"))
    assert result is not None and result.test is not None and result.test.images == 24

    for source in (tmp_path / "net", tmp_path / "net" / "best.safetensors"):  # with and without the training's list of images
        measured = evaluate_weights(source, data={"name": "folder", "root": str(folder)}, threads=1).scores
        assert measured.top1 == result.test.top1 and measured.loss == pytest.approx(result.test.loss, abs=1e-6)

    nas(["export", "net", "--format", "python", "-o", "exported.py"], tmp_path, monkeypatch)
    exported = run_file(tmp_path / "exported.py")
    network = exported.load(str(tmp_path / "exported.safetensors"))
    files = [(path, label) for label, name in enumerate(CLASSES) for path in sorted((folder / "test" / name).iterdir())]
    with torch.no_grad():
        logits = torch.cat([network(exported.normalise(exported.read_image(str(path)))) for path, _ in files])
    loss = F.cross_entropy(logits, torch.tensor([label for _, label in files])).item()
    assert loss == pytest.approx(result.test.loss, abs=1e-5)

    nas(["export", "net", "--format", "timm", "-o", "found.py"], tmp_path, monkeypatch)
    run_file(tmp_path / "found.py")  # registers its model
    import timm
    from timm.data import create_transform, resolve_data_config

    model = timm.create_model("nasnet_a", pretrained=True).eval()
    transform = create_transform(**resolve_data_config({}, model=model), is_training=False)
    plain = [(path, i) for i, (path, _) in enumerate(files) if Image.open(path).mode == "RGB" and not Image.open(path).getexif()]
    assert len(plain) >= 9
    with torch.no_grad():
        theirs = torch.stack([model(transform(Image.open(path))[None])[0] for path, _ in plain])
    torch.testing.assert_close(theirs, logits[[i for _, i in plain]], atol=2e-5, rtol=1e-5)
