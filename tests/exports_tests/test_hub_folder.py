"""A folder for the Hugging Face hub: timm and from_pretrained load it elsewhere, and nothing of somebody else's is lost."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nas.errors import ConfigError
from nas.exports import hub_folder
from nas.exports.formats import export_files, format_named
from nas.exports.handover import ExportError, Handover, gather
from nas.networks.architecture import Architecture, choose_architecture
from search_spaces.genotype import Genotype, read_genotype
from search_spaces.reference import load_reference
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import NASNetSkeleton, Skeleton

TINY = ResidualSkeleton((1, 1), (8, 8), "cifar", 8)


def given(genotype: Genotype | None = None, skeleton: Skeleton = TINY, channels: int = 3, name: str = "") -> Handover:
    """Trained weights of a tiny network."""
    genotype = replace(genotype or load_reference("resnext-2x64d"), name=name or "Found 7")
    statistics = (0.5,) * channels
    return with_weights(Handover(Architecture(genotype, skeleton, "tiny", 4, channels, 16), statistics, statistics, tuple("abcd")))


def with_weights(made: Handover) -> Handover:
    return replace(made, weights={key: value for key, value in made.network().state_dict().items() if key != "progress"})


def test_a_found_cell_is_loaded_with_its_module(tmp_path: Path) -> None:
    """By timm and by the class itself, in a process without this package; with four channels, which timm's loader treats apart."""
    made = given(load_reference("nasnet-a"), NASNetSkeleton(1, 3), channels=4)
    files, found = export_files(made, format_named("hf"), tmp_path / "hub")
    expected = ["README.md", "config.json", "found_7_network.py", "genotype.yaml", "model.safetensors"]
    assert sorted(path.name for path in files) == sorted(path.name for path in (tmp_path / "hub").iterdir()) == expected
    assert files[-1].name == "README.md"
    assert "after `import found_7_network`, and Network.from_pretrained" in found
    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["label_names"]) == ("found_7", 4, list("abcd"))
    assert read_genotype(tmp_path / "hub" / "genotype.yaml") == made.architecture.genotype
    again = gather(None, tmp_path / "hub" / "model.safetensors", {})
    torch.testing.assert_close(again.network()(torch.ones(1, 4, 16, 16)), made.network()(torch.ones(1, 4, 16, 16)))


def test_a_network_of_timms_needs_no_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timm = pytest.importorskip("timm")
    architecture = choose_architecture(load_reference("resnext-1x64d"), "resnet-50", classes=3, image_size=32)
    made = with_weights(Handover(architecture, (0.5,) * 3, (0.5,) * 3))
    monkeypatch.setattr("nas.exports.verify.run_elsewhere", lambda script, arguments, images, what: here(timm, arguments[0], images))
    files, found = export_files(made, format_named("hf"), tmp_path / "hub")
    assert sorted(path.name for path in files) == ["README.md", "config.json", "genotype.yaml", "model.safetensors"]
    assert "which has the network itself" in found
    assert json.loads((tmp_path / "hub" / "config.json").read_text())["architecture"] == "resnet50"
    assert "import resnet50" not in (tmp_path / "hub" / "README.md").read_text()


def here(timm: object, folder: object, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Stands for the fresh process: timm knows this architecture by itself."""
    network = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()  # type: ignore[attr-defined]
    return {"logits": network(images).detach()}


def test_the_module_takes_no_name_of_timms() -> None:
    pytest.importorskip("timm")
    assert hub_folder.own_module(given(name="ResNet50")) == "nas_resnet50_network"


@pytest.fixture
def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is believed: other tests start the process that reads it."""
    monkeypatch.setattr("nas.exports.verify.run_elsewhere", lambda _1, _2, images, _3: {"logits": given().network()(images).detach()})


def test_an_export_is_made_again_but_nothing_else_is_mixed_with_it(tmp_path: Path, trusting: None) -> None:
    folder = tmp_path / "hub"
    export_files(given(), format_named("hf"), folder)
    (folder / ".git").mkdir()  # a clone of a repository of the hub
    (folder / "model.safetensors").unlink()
    export_files(given(), format_named("hf"), folder)
    assert (folder / "model.safetensors").is_file()
    assert (folder / ".git").is_dir()
    for other in (tmp_path / "other", tmp_path / "file"):
        if other.name == "other":
            other.mkdir()
            (other / "README.md").write_text("mine")
        else:
            other.write_text("mine")
        with pytest.raises(ConfigError, match="must be a new or an empty folder, or an earlier export of this format, but there is "):
            export_files(given(), format_named("hf"), other)
    assert (tmp_path / "other" / "README.md").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "hub", "other"]


def test_a_folder_that_reads_back_otherwise_does_not_appear(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.exports.verify.run_elsewhere", lambda *_: {"logits": torch.zeros(2, 4)})
    with pytest.raises(ExportError, match="must equal the network's"):
        export_files(given(), format_named("hf"), tmp_path / "hub")
    assert list(tmp_path.iterdir()) == []


def test_weights_are_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--format hf hands weights over"):
        export_files(replace(given(), weights=None), format_named("hf"), tmp_path / "hub")
    assert list(tmp_path.iterdir()) == []
