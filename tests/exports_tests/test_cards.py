"""Model cards: true, in the form the Hugging Face hub reads, whatever is in the names; and never over somebody else's README."""

import json
import re
import runpy
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

import nas
from nas.exports.formats import FORMATS, export_files, export_text, format_named
from nas.exports.handover import Handover, gather
from nas.networks.architecture import Architecture
from nas.networks.card import Loading, model_card, write_card
from nas.networks.weights.described import write_described
from nas.tools.intervals import wilson
from search_spaces.genotype import Provenance
from search_spaces.reference import load_reference
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import NASNetSkeleton

SCORES = {"test_top1": 0.9, "test_images": 200, "validation_top1": 0.95}
FACTS = {"data": "letters", "recipe": "fast", "epoch": 3, "train_images": 1000, **SCORES}
TINY = ResidualSkeleton((1, 1), (8, 8), "cifar", 8)
EVIL = ("---", "a: b\n- c", "```", "</details>", "ö\u202e", "`", "|", "'\"\\", "# x", "<script>", "\x00", "{}", "$x$")


def given(**changes: object) -> Handover:
    """Trained weights of a tiny network."""
    architecture = Architecture(load_reference("resnext-2x64d"), TINY, "tiny", len(EVIL), 3, 16)
    made = replace(Handover(architecture, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), facts=FACTS), **changes)  # type: ignore[arg-type]
    return replace(made, weights={name: tensor for name, tensor in made.network().state_dict().items() if name != "progress"})


def blocks(text: str, language: str) -> list[str]:
    return [found[1] for found in re.findall(rf"^(`{{3,}}){language}\n(.*?)\n\1$", text, re.MULTILINE | re.DOTALL)]


def test_the_hub_reads_what_the_network_is_and_how_good() -> None:
    text = model_card(given(facts={**FACTS, "hub_dataset": "uoft-cs/cifar10"}), Loading("net.onnx", "onnx", "import onnx"))
    data = ModelCard(text).data
    assert (data.library_name, data.pipeline_tag, data.metrics, data.datasets) == (
        "onnx",
        "image-classification",
        ["accuracy"],
        ["uoft-cs/cifar10"],
    )
    assert data.license is None
    assert data.eval_results is not None
    (found,) = data.eval_results
    assert (found.metric_value, found.dataset_type, found.dataset_name, found.dataset_split) == (0.9, "uoft-cs/cifar10", "letters", "test")
    for said in ("**90.00 %**", "85.06 to 93.43 % (Wilson), from 200 images", "images 1,000 to train on", "95.00 % of the validation part"):
        assert said in text


def test_wilsons_interval_is_as_published() -> None:
    """Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, and none of 20."""
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


def test_no_name_breaks_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    made = given(class_names=EVIL)
    cost = made.architecture.cost()
    monkeypatch.setattr(Architecture, "cost", lambda self: cost)
    for name in EVIL:
        evil = replace(made, facts={**FACTS, "data": name, "recipe": name})
        label = name if name.isprintable() else ""  # others are refused in a genotype
        genotype = replace(evil.architecture.genotype, name=label, space=label, provenance=Provenance(label or "x", 3, 0.5))
        evil = replace(evil, architecture=replace(evil.architecture, genotype=genotype, skeleton_name=name))
        text = model_card(evil, Loading(f"{name}-->", "timm", f"print({name!r})"))
        card = ModelCard(text)
        assert card.data.eval_results is not None
        assert card.data.eval_results[0].dataset_name == (name if name.isprintable() else ascii(name)[1:-1].replace("\\xf6", "ö"))
        assert json.loads(blocks(text, "json")[0]) == list(EVIL)
        compile(blocks(text, "python")[0], "card", "exec")
        body = re.sub(r"^(`{3,}).*?^\1$", "", card.text, flags=re.MULTILINE | re.DOTALL)
        assert len(re.findall(r"^#+ ", body, re.MULTILINE)) == 9
        assert "<script>" not in re.sub(r"`[^`\n]*`", "", body)
        assert "\x00" not in text
        assert "\u202e" not in text


def test_a_card_says_what_is_not_known_and_where_cells_come_from() -> None:
    text = model_card(given(facts={}), Loading("x", "timm", ""))
    assert ModelCard(text).data.eval_results is None
    assert "nothing is known of how it was" in text
    assert "whose names are not known" in text
    assert "was not measured here" in text
    assert "[arXiv:1611.05431](https://arxiv.org/abs/1611.05431)" in text
    found = given()
    genotype = replace(found.architecture.genotype, space="nasnet", provenance=Provenance("run-7", 423, 0.358, "local-search"))
    text = model_card(replace(found, architecture=replace(found.architecture, genotype=genotype)), Loading("x", "timm", ""))
    assert "the search `run-7` by the controller `local-search`, in the search space `nasnet`, trial 423" in text


# ---------------------------------------------------------------------------------------------------- beside files


def test_the_card_of_a_file_has_its_name_and_somebodys_readme_stays(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    for name in ("a.safetensors", "my net.safetensors"):
        files, _ = export_files(given(), format_named("safetensors"), tmp_path / name)
        assert files[-1].name == f"{name}.README.md"
        assert f"card of {name} -->" in files[-1].read_text(encoding="utf-8"), "as it is written"
    assert (tmp_path / "README.md").read_text() == "mine"
    assert write_card(tmp_path, given(), Loading("this training", "nas-engine", "")).name == "this training.README.md"
    assert (tmp_path / "README.md").read_text() == "mine"
    (tmp_path / "net").mkdir()
    for _ in range(2):  # its own card, made again
        assert write_card(tmp_path / "net", given(), Loading("this training", "nas-engine", "")).name == "README.md"


def test_genotypes_and_text_have_no_card(tmp_path: Path) -> None:
    files, _ = export_files(given(), format_named("yaml"), tmp_path / "cell.yaml")
    assert [path.name for path in tmp_path.iterdir()] == [files[0].name]
    assert "nas-engine's card" not in export_text(replace(given(), weights=None), format_named("json"))


NETWORKS = [name for name, row in FORMATS.items() if row.takes == "network" and not name.endswith("-weights")]


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow if name == "onnx" else ()) for name in NETWORKS])
def test_a_card_loads_what_it_is_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process: that the files stand alone is checked by the exports themselves."""
    if name == "onnx":
        pytest.importorskip("onnx")
    monkeypatch.setattr("nas.exports.verify.run_elsewhere", trusting)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    output = tmp_path / f"net_{name.replace('-', '_')}{FORMATS[name].suffix}"
    made = given(class_names=tuple(f"class {i}" for i in range(len(EVIL))))
    files, _ = export_files(made, format_named(name), output)
    folder = files[0].parent
    Image.new("RGB", (40, 30), "red").save(folder / "image.jpg")
    monkeypatch.chdir(folder)
    (code,) = blocks(files[-1].read_text(encoding="utf-8"), "python")
    (folder / "snippet.txt").write_text(code, encoding="utf-8")
    found = runpy.run_path(str(folder / "snippet.txt"))
    if name in ("onnx", "hf"):  # from a picture to the name of its class, as this package has it
        expected = nas.predict(nas.load_network(described(tmp_path / "described.safetensors")), folder / "image.jpg")[0].label
        assert capsys.readouterr().out.splitlines()[-1] == expected
    network = found.get("network")
    if network is not None:
        images = torch.randn(1, 3, 16, 16)
        torch.testing.assert_close(network(images), given().network()(images), rtol=1e-5, atol=1e-5)
    else:
        assert found["logits"].shape == (1, len(EVIL))


def described(path: Path) -> Path:
    """The weights of the tiny network in a file that says its classes."""
    made = given(class_names=tuple(f"class {i}" for i in range(len(EVIL))))
    write_described(path, dict(made.weights or {}), made)
    return path


def trusting(script: str, arguments: list[object], images: torch.Tensor, what: str) -> dict[str, torch.Tensor]:
    """Stands for the fresh process, which the tests of every format start."""
    network = given().network()
    if script != "timm_file":
        return {"logits": network(images).detach()}
    with torch.inference_mode():
        maps = {f"map_{i}": found for i, found in enumerate(network.features(images))}
        return {"logits": network(images), "head": network(images), **maps}


# ---------------------------------------------------------------------------------------------------- beside trainings


def test_a_training_leaves_its_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = nas.train("nasnet-a", data="digits", cells=1, filters=2, epochs=1, output=tmp_path / "net", threads=1)
    text = (trained.path / "README.md").read_text(encoding="utf-8")
    found = ModelCard(text).data.eval_results
    assert found is not None
    assert found[0].metric_value == trained.test_top1
    assert "images 958 to train on, 479 to choose the weights by, 360 to test once" in text
    assert f"{trained.parameters:,} parameters" in text
    Image.new("L", (8, 8)).save(trained.path / "image.jpg")
    monkeypatch.chdir(trained.path)
    (trained.path / "snippet.txt").write_text(blocks(text, "python")[0])
    assert runpy.run_path("snippet.txt")["network"].description.class_names == tuple(map(str, range(10)))
    handed = gather(None, trained.path, {})  # an export's card says the same of it
    again = model_card(handed, Loading("this training", "nas-engine", ""))
    assert [line for line in text.splitlines() if "Wilson" in line] == [line for line in again.splitlines() if "Wilson" in line]


def test_networks_of_cells_too() -> None:
    architecture = Architecture(load_reference("nasnet-a"), NASNetSkeleton(1, 4), "nasnet-cifar", 5, 1, 16)
    text = model_card(Handover(architecture, (0.5,), (0.2,)), Loading("x", "timm", ""))
    assert "1 channel (grey)" in text
    assert "arXiv:1707.07012" in text
