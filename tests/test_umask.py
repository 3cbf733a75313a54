"""Every file that the program writes can be read by whom the user lets read files: the umask decides, not a library."""

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.commands import nas
from support.image_trees import make_tree

from nas.data.download import unpack
from nas.exports.formats import export_files, format_named
from nas.exports.handover import gather
from nas.networks.weights.files import write_weights
from nas.tools.files import write_atomically

FORMATS = ("safetensors", "python", "torch-export", "svg")


@pytest.fixture(params=[0o022, 0o077, 0o027], ids=["022", "077", "027"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def others(root: Path, umask: int) -> dict[str, str]:
    """Files below a folder whose permissions are not those of any new file."""
    return {path.name: oct(mode) for path in root.rglob("*") if path.is_file() and (mode := path.stat().st_mode & 0o777) != 0o666 & ~umask}


def test_files_of_all_kinds(umask, tmp_path):
    write_atomically(tmp_path / "text.json", "{}")
    write_weights(tmp_path / "net.safetensors", {"a": torch.zeros(2)})
    (tmp_path / "packed" / "cifar").mkdir(parents=True)
    (tmp_path / "packed" / "cifar" / "batch").write_bytes(b"1")
    (tmp_path / "packed" / "cifar" / "batch").chmod(0o644 if umask == 0o077 else 0o600)
    with tarfile.open(tmp_path / "data.tar", "w") as tar:
        tar.add(tmp_path / "packed" / "cifar", "cifar")
    (tmp_path / "packed" / "cifar" / "batch").unlink()
    unpack(tmp_path / "data.tar", tmp_path, "cifar")
    assert (tmp_path / "cifar" / "batch").read_bytes() == b"1"
    assert others(tmp_path, umask) == {}


@pytest.mark.slow
def test_a_training_and_its_exports(tmp_path, monkeypatch):
    umask = os.umask(0)
    os.umask(umask)
    make_tree(tmp_path / "images", train=6, val=2, side=16, damaged=False)
    small = ["--epochs", "1", "--batch-size", "8", "--threads", "1", "--cells", "1", "--filters", "2", "--image-size", "8"]
    nas(["train", "nasnet-a", "--data", str(tmp_path / "images"), *small, "-o", "net"], tmp_path, monkeypatch)
    for name in FORMATS:
        found = format_named(name)
        export_files(gather(None, tmp_path / "net", {}), found, tmp_path / f"exported{found.suffix}")
    assert len(list((tmp_path / "net").iterdir())) > 5
    assert others(tmp_path, umask) == {}
