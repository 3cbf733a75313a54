"""Exports are loaded back and compute what the network computes; standalone files stand alone; bad input is refused."""

import importlib.util
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.paths import ROOT
from typer.testing import CliRunner

from nas.cli.main import app
from nas.data.pixels import fit, read_image
from nas.errors import ConfigError, UserError
from nas.exports import formats, verify
from nas.exports.formats import FORMATS, export_files, export_text, format_named
from nas.exports.handover import ExportError, Handover, gather
from nas.exports.standalone import python_source
from nas.networks.architecture import Architecture, choose_architecture
from nas.networks.description import NetworkDescription, to_metadata
from nas.networks.weights.files import read_metadata, read_weights, write_weights
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node, Provenance, from_document, read_genotype
from search_spaces.networks.build import build_network
from search_spaces.networks.operations import OPERATIONS
from search_spaces.reference import load_reference
from search_spaces.registry import load_space
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import (
    AMOEBANET_CONVENTIONS,
    DARTS_CONVENTIONS,
    SKELETONS,
    TIMM_CONVENTIONS,
    Conventions,
    NASNetSkeleton,
    Skeleton,
)
from search_spaces.vocabulary import BLOCK_OPTIONS, OTHER_OPERATIONS

SMALL_RESIDUAL = ResidualSkeleton((2, 1), (32, 64), "cifar", 16)
SMALL_CONVNEXT = replace(SKELETONS["convnext-cifar"], depths=(1, 2), widths=(8, 16))  # type: ignore[type-var]


def handover(genotype: Genotype, skeleton: Skeleton, image_size: int = 16, classes: int = 5, **changes: Any) -> Handover:
    architecture = Architecture(genotype, skeleton, "custom", classes, 3, image_size)
    return Handover(architecture, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3), **changes)


def small(genotype: str = "nasnet-a", **changes: Any) -> Handover:
    return handover(load_reference(genotype), NASNetSkeleton(1, 4), **changes)


def trained(given: Handover) -> Handover:
    """The same with weights, as a training would leave them."""
    weights = {name: tensor for name, tensor in given.network().state_dict().items() if name != "progress"}
    return replace(given, weights=weights)


def loaded(text: str, path: Path) -> ModuleType:
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def agree(given: Handover, path: Path, sizes: tuple[int, ...] = (16, 19)) -> None:
    """The standalone file's network gives the same logits and feature maps, also for odd sides."""
    ours = given.network()
    theirs = loaded(python_source(given), path).Network().eval()
    theirs.load_state_dict({k: v for k, v in ours.state_dict().items() if not k.startswith(("progress", "auxiliary."))})
    for size in sizes:
        images = torch.randn(2, given.architecture.channels, size, size)
        with torch.inference_mode():
            torch.testing.assert_close(theirs(images), ours(images), rtol=1e-5, atol=1e-5)
            for found, expected in zip(theirs.features(images), ours.features(images), strict=True):
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# ---------------------------------------------------------------------------------------------------- the standalone file


@pytest.mark.parametrize(
    ("genotype", "skeleton"),
    [
        ("nasnet-a", NASNetSkeleton(2, 6)),
        ("nasnet-a", NASNetSkeleton(1, 8, "imagenet", 12, skip_reduction_input=True, dropout=0.5, norm_eps=1e-3)),
        ("nasnet-a", NASNetSkeleton(1, 8, "imagenet", 12, conventions=TIMM_CONVENTIONS)),
        ("nasnet-a", NASNetSkeleton(2, 6, auxiliary=True, drop_path_keep=0.6)),
        ("pnasnet-5", NASNetSkeleton(2, 8, "imagenet", 12, "in_place")),
        ("amoebanet-a", NASNetSkeleton(1, 4, conventions=AMOEBANET_CONVENTIONS)),
        ("darts-v2", NASNetSkeleton(2, 4, conventions=DARTS_CONVENTIONS)),
        ("darts-v1", NASNetSkeleton(1, 6, "darts_imagenet", conventions=DARTS_CONVENTIONS)),
        ("enas-micro", NASNetSkeleton(1, 3)),
        ("resnext-2x64d", SMALL_RESIDUAL),
        ("resnext-32x4d-form-a", replace(SMALL_RESIDUAL, stem="imagenet", dropout=0.2)),
        ("resnext-32x4d-form-b", SMALL_RESIDUAL),
        ("convnext", SMALL_CONVNEXT),
        ("convnext-no-layer-scale", replace(SMALL_CONVNEXT, stem_norm="none")),
        *((f"convnext-roadmap-{step}", SMALL_RESIDUAL) for step in ("3", "5", "6", "9", "10", "11")),
    ],
)
def test_the_standalone_file_computes_the_same(genotype: str, skeleton: Skeleton, tmp_path: Path) -> None:
    agree(handover(load_reference(genotype), skeleton, image_size=32), tmp_path / "net.py", (32, 35))


@pytest.mark.parametrize("actions", [[1, 2, 3, 4, 0, 1], [2, 0, 2, 0, 0, 2], [1, 1, 1, 1, 1, 1]])
def test_nasbench201_too(actions: list[int], tmp_path: Path) -> None:
    agree(handover(load_space("nasbench201").decode(actions), replace(SKELETONS["nasbench201"], cells=2, filters=4)), tmp_path / "n.py")  # type: ignore[type-var]


def random_cell(rng: random.Random, inputs: int) -> CellGenotype:
    """Any cell that can be built: all operations and blocks, sums and concatenations, dead nodes, inputs among the outputs."""
    names = [*OPERATIONS, "resnext_block", "convnext_block", "inverted_block", "depthwise_bottleneck_block"]

    def edge(state: int) -> Edge:
        name = rng.choice(names)
        rules = BLOCK_OPTIONS.get(name, {})
        options = {key: rng.choice(rule.choices) for key, rule in rules.items() if hasattr(rule, "choices")}
        if name == "resnext_block":
            options |= {"cardinality": 2}
        return Edge(rng.randrange(state), name, tuple(sorted(options.items())))

    def node(state: int) -> Node:
        return Node(tuple(edge(state) for _ in range(rng.choice((1, 2, 2, 3)))), rng.choice(("add", "concat")))

    nodes = [node(state) for state in range(inputs, inputs + 4)]
    outputs = rng.sample(range(inputs + 4), rng.randint(1, 3))
    return CellGenotype(tuple(nodes), tuple(sorted(outputs)), inputs)


@pytest.mark.parametrize("seed", range(12))
def test_any_cell_in_any_tradition(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    genotype = Genotype(random_cell(rng, rng.choice((1, 2))), random_cell(rng, 2) if rng.random() < 0.7 else None)
    conventions = rng.choice([NASNetSkeleton().conventions, DARTS_CONVENTIONS, TIMM_CONVENTIONS])
    agree(handover(genotype, NASNetSkeleton(rng.choice((1, 2)), rng.choice((1, 2, 5)), conventions=conventions)), tmp_path / "net.py")


@pytest.mark.parametrize("conventions", [AMOEBANET_CONVENTIONS, DARTS_CONVENTIONS], ids=["amoebanet", "darts"])
@pytest.mark.parametrize("name", OTHER_OPERATIONS)
def test_other_spaces_operations_at_any_stride_and_width(name: str, conventions: Conventions, tmp_path: Path) -> None:
    nodes = (Node((Edge(0, name), Edge(1, name)), "concat"), Node((Edge(2, name), Edge(1, "identity"))))
    cell = CellGenotype(nodes, outputs=(2, 3))
    agree(handover(Genotype(cell, cell), NASNetSkeleton(1, 5, conventions=conventions)), tmp_path / "net.py")


def test_an_exported_file_reads_every_kind_of_image_as_training_does(tmp_path: Path) -> None:
    given = small()
    (tmp_path / "net.py").write_text(python_source(given))
    spec = importlib.util.spec_from_file_location("net", tmp_path / "net.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rng = np.random.default_rng(0)
    turned = Image.Exif()
    turned[0x0112] = 6
    colours = Image.fromarray(rng.integers(256, size=(20, 30, 3), dtype=np.uint8))
    white = Image.merge("LA", [Image.new("L", (30, 20), 255), colours.split()[0]])
    colours.save(tmp_path / "turned.png", exif=turned)
    colours.convert("CMYK").save(tmp_path / "cmyk.tiff")
    white.save(tmp_path / "white.png")
    for name, top in (("fractions", 1), ("kelvins", 300), ("negative", -3)):
        Image.fromarray((top - rng.random((20, 30))).astype(np.float32)).save(tmp_path / f"{name}.tiff")
    Image.fromarray(rng.integers(4096, size=(1, 900), dtype=np.uint16)).save(tmp_path / "long.png")
    for file in sorted({*tmp_path.glob("*.png"), *tmp_path.glob("*.tiff")}):
        expected = fit(read_image(file), 3, 16, given.crop_fraction, given.interpolation)
        np.testing.assert_array_equal(module.read_image(str(file))[0].permute(1, 2, 0).numpy(), expected, err_msg=file.name)
    (tmp_path / "cut.png").write_bytes((tmp_path / "turned.png").read_bytes()[:900])
    with pytest.raises(ValueError, match="truncated"):
        module.read_image(str(tmp_path / "cut.png"))


def test_only_what_is_used_stands_in_the_file(tmp_path: Path) -> None:
    source = python_source(handover(load_reference("convnext"), SMALL_CONVNEXT))
    assert "SeparableConvolution" not in source
    assert "BatchNorm" not in source
    path = tmp_path / "net.py"
    for genotype in ("nasnet-a", "darts-v2"):
        path.write_text(python_source(small(genotype)))
        checked = subprocess.run(
            [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length", "140", "--select", "E,F,W,I", str(path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout
        names = [line.split("(")[0].split()[1] for line in path.read_text().splitlines() if line.startswith(("class ", "def "))]
        for name in names:
            assert path.read_text().count(name) > 1 or name == "SameConv2d", f"{name} is defined but never used"


def test_names_of_strangers_are_only_text(tmp_path: Path) -> None:
    evil = 'cell"""\\\nimport os; os.abort()\n"""'
    genotype = replace(load_reference("convnext"), name=evil.replace("\n", ""), provenance=Provenance('"""', 3, 0.5))
    given = handover(genotype, SMALL_CONVNEXT, class_names=('a"b', "c\\", "d\ne", "ö", "'"), facts={'"""': '"""; import os\n'})
    module = loaded(python_source(given), tmp_path / "net.py")
    assert list(module.CLASS_NAMES) == ['a"b', "c\\", "d\ne", "ö", "'"]
    from nas.exports.timm_file import timm_source

    compile(timm_source(given), "timm_file", "exec")


def test_the_file_classifies_images_on_the_command_line(tmp_path: Path) -> None:
    from PIL import Image

    given = trained(small(class_names=("ant", "bee", "cat", "dog", "eel")))
    files, found = export_files(given, format_named("python"), tmp_path / "net.py")
    assert [path.name for path in files] == ["net.py", "net.safetensors", "net.py.README.md"]
    assert "in a process without this package" in found
    Image.new("RGB", (40, 30), "red").save(tmp_path / "red.png")
    run = subprocess.run(
        [sys.executable, "-I", "net.py", "net.safetensors", "red.png"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    usage, missing = "usage: python net.py weights.safetensors", "no.png: there is no such file"
    for words, said in ((["red.png"], usage), (["net.safetensors", "no.png"], missing)):
        wrong = subprocess.run([sys.executable, "-I", "net.py", *words], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert wrong.returncode == 1 and wrong.stderr.startswith(said), "one line and no traceback"
    assert run.stdout.startswith("red.png: ")
    assert "%" in run.stdout
    assert any(name in run.stdout for name in ("ant", "bee", "cat", "dog", "eel"))
    module = loaded((tmp_path / "net.py").read_text(), tmp_path / "again.py")
    pixels = torch.full((1, 3, 16, 16), 255.0)
    assert torch.allclose(module.normalise(pixels)[0, :, 0, 0], (1 - torch.tensor(given.mean)) / torch.tensor(given.std))


def test_a_file_that_needs_this_package_does_not_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.exports.standalone._FUNCTIONS", "import search_spaces")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with pytest.raises(ExportError, match="could not be read back in a fresh process"):
        export_files(small(), format_named("python"), tmp_path / "net.py")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------------------------------------- timm


@pytest.mark.parametrize(
    ("genotype", "skeleton"),
    [
        ("nasnet-a", NASNetSkeleton(1, 4)),
        pytest.param("convnext", replace(SMALL_CONVNEXT, dropout=0.1), marks=pytest.mark.slow),
    ],
)
def test_timm_makes_the_model_with_features_and_other_classes(genotype: str, skeleton: Skeleton, tmp_path: Path) -> None:
    given = trained(handover(load_reference(genotype), skeleton))
    files, found = export_files(given, format_named("timm"), tmp_path / "found_net.py")
    assert [path.name for path in files] == ["found_net.py", "found_net.safetensors", "found_net.py.README.md"]
    assert "feature maps" in found  # logits and maps were compared in a process without this package
    name = genotype.replace("-", "_")
    script = f"""
import sys; sys.path.insert(0, {str(tmp_path)!r})
import timm, torch, found_net
grey = timm.create_model({name!r}, pretrained=True, in_chans=1, num_classes=3)
assert grey(torch.zeros(2, 1, 16, 16)).shape == (2, 3)
model = timm.create_model({name!r}, pretrained=True).eval()
from safetensors.torch import load_file
for key, value in load_file({str(tmp_path / "found_net.safetensors")!r}).items():
    assert torch.equal(model.state_dict()[key], value), key
config = timm.data.resolve_model_data_config(model)
assert config["mean"] == (0.5, 0.4, 0.3) and config["input_size"] == (3, 16, 16), config
pooled = timm.create_model({name!r}, num_classes=0)
assert pooled(torch.zeros(1, 3, 16, 16)).shape == (1, pooled.num_features)
maps = timm.create_model({name!r}, features_only=True, out_indices=(0, -1))
assert [m.shape[1] for m in maps(torch.zeros(1, 3, 16, 16))] == maps.feature_info.channels()
assert isinstance(model.get_classifier(), torch.nn.Linear)
assert not any(m.split(".")[0] in ("nas", "search_spaces") for m in sys.modules)
print("whole")
"""
    run = subprocess.run([sys.executable, "-I", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.stdout.strip() == "whole", run.stderr


def test_timms_file_must_be_importable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="a name that Python can import"):
        export_files(small(), format_named("timm"), tmp_path / "found-net.py")


# ---------------------------------------------------------------------------------------------------- programs


def test_torch_export_takes_any_batch_and_size(tmp_path: Path) -> None:
    given = trained(handover(load_reference("resnext-2x64d"), SMALL_RESIDUAL))
    files, found = export_files(given, format_named("torch-export"), tmp_path / "net.pt2")
    assert "people you trust only" in found
    extra = {"network.json": ""}
    program = torch.export.load(files[0], extra_files=extra).module()
    for images in (torch.randn(5, 3, 16, 16), torch.randn(1, 3, 23, 40)):
        torch.testing.assert_close(program(images), given.network()(images), rtol=1e-5, atol=1e-5)
    assert json.loads(extra["network.json"])["classes"] == 5


@pytest.mark.parametrize("given", [handover(load_reference("convnext"), SMALL_CONVNEXT, class_names=tuple("abcde"))], ids=["convnext"])
def test_onnxruntime_computes_the_same(given: Handover, tmp_path: Path) -> None:
    check_onnx(given, tmp_path, "any batch, height and width, by onnxruntime", (23, 40))


@pytest.mark.slow
@pytest.mark.parametrize(("genotype", "side"), [("nasnet-a", 16), ("nasnet-a", 19), ("amoebanet-a", 16), ("darts-v2", 16)])
def test_onnxruntime_computes_the_same_for_cells(genotype: str, side: int, tmp_path: Path) -> None:
    given = handover(load_reference(genotype), NASNetSkeleton(1, 4), side)
    said = f"heights and widths of {side} pixels and multiples of 4 more or less, by onnxruntime"
    check_onnx(given, tmp_path, said, (side + 20, side - 4))


def test_a_cells_program_takes_the_sides_that_leave_as_much_over(tmp_path: Path) -> None:
    cell = CellGenotype((Node((Edge(1, "max_pool_3x3"), Edge(0, "sep_conv_3x3"))),), (2,))
    given = trained(handover(Genotype(cell), NASNetSkeleton(1, 3), 15))
    files, found = export_files(given, format_named("torch-export"), tmp_path / "net.pt2")
    assert "heights and widths of 15 pixels and multiples of 4 more or less" in found
    program, images = torch.export.load(files[0]).module(), torch.randn(3, 3, 23, 35)
    torch.testing.assert_close(program(images), given.network()(images), rtol=1e-5, atol=1e-5)


def test_where_sides_cannot_be_freed_they_are_fixed_and_the_reason_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = trained(handover(load_reference("resnext-2x64d"), SMALL_RESIDUAL))
    forward = type(given.network()).forward

    def numbers(self: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        return forward(self, images) + float(images.shape[2] - 16)  # a Python number: the size becomes a constant

    monkeypatch.setattr(type(given.network()), "forward", numbers)
    files, found = export_files(given, format_named("torch-export"), tmp_path / "net.pt2")
    assert "for any batch of 16×16 pixels (its sides could not be freed: " in found
    assert torch.export.load(files[0]).module()(torch.zeros(3, 3, 16, 16)).shape == (3, 5)


def check_onnx(given: Handover, folder: Path, said: str, sides: tuple[int, int]) -> None:
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    path = folder / "net.onnx"
    _, found = export_files(given, format_named("onnx"), path)
    assert said in found
    assert sorted(p.name for p in folder.iterdir()) == ["net.onnx", "net.onnx.README.md"]  # weights inside
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    side = given.architecture.image_size
    for images in (torch.randn(4, 3, side, side), torch.randn(1, 3, *sides)):
        with torch.inference_mode():
            expected = given.network()(images)
        torch.testing.assert_close(torch.from_numpy(session.run(None, {"images": images.numpy()})[0]), expected, rtol=1e-3, atol=1e-3)
    described = json.loads(onnx.load(path).metadata_props[0].value)
    assert described["mean"] == [0.5, 0.4, 0.3]
    assert described["class_names"] == list(given.class_names)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ExportError, match=r"needs onnx, onnxscript, onnxruntime, .*pip install 'nas-engine\[export\]'"):
        export_files(small(), format_named("onnx"), tmp_path / "net.onnx")


def test_an_export_that_differs_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.exports.standalone._FUNCTIONS", formats_with_a_flaw())
    with pytest.raises(ExportError, match="must equal the network's to 1e-05 of the largest, but they differ by"):
        export_files(trained(small()), format_named("python"), tmp_path / "net.py")
    assert list(tmp_path.iterdir()) == []


def formats_with_a_flaw() -> str:
    from nas.exports import standalone

    return standalone._FUNCTIONS.replace("return network.eval()", "network.classifier.bias.data += 0.1\n    return network.eval()")


def test_a_comparison_notices_nan_and_shape() -> None:
    with pytest.raises(ExportError, match="they differ by nan"):
        verify.compare(torch.ones(2, 3), torch.full((2, 3), float("nan")), 1e-3, "x")
    with pytest.raises(ExportError, match=r"the shape \(2, 4\) and not \(2, 3\)"):
        verify.compare(torch.ones(2, 3), torch.ones(2, 4), 1e-3, "x")


# ---------------------------------------------------------------------------------------------------- weights and genotypes


def test_weights_describe_themselves_and_export_again(tmp_path: Path) -> None:
    given = trained(small(class_names=tuple("abcde"), facts={"data": "letters", "top1": 0.5}))
    files, _ = export_files(given, format_named("safetensors"), tmp_path / "net.safetensors")
    assert "network" in read_metadata(files[0])
    again = gather(None, files[0], {})
    assert again.architecture == given.architecture
    assert (again.mean, again.std, again.class_names, again.facts) == (given.mean, given.std, given.class_names, given.facts)
    assert again.weights is not None
    assert all(torch.equal(again.weights[key], value) for key, value in read_weights(files[0]).items())
    assert "letters" in python_source(again)


def test_weights_of_a_training_lose_what_only_training_uses(tmp_path: Path) -> None:
    skeleton = NASNetSkeleton(1, 4, auxiliary=True)
    network = build_network(load_reference("nasnet-a"), skeleton, classes=5, image_size=16)
    path = tmp_path / "w.safetensors"
    architecture = Architecture(load_reference("nasnet-a"), skeleton, "custom", 5, 3, 16)
    write_weights(path, network.state_dict(), to_metadata(NetworkDescription(architecture, (0.5,) * 3, (0.5,) * 3)))
    given = gather(None, path, {})
    assert given.weights is not None
    assert not any(name.startswith(("auxiliary.", "progress")) for name in given.weights)
    torch.testing.assert_close(given.network()(torch.ones(1, 3, 16, 16)), network.eval()(torch.ones(1, 3, 16, 16)))


def test_weights_without_a_description_need_the_flags(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    write_weights(path, trained(small()).weights or {})
    flags = {"skeleton": "nasnet-cifar", "cells": 1, "filters": 4, "classes": 5, "channels": 3, "image_size": 16}
    assert gather(load_reference("nasnet-a"), path, flags).weights is not None
    with pytest.raises(ConfigError, match="do not say which network they belong to"):
        gather(None, path, {})
    with pytest.raises(UserError, match=r"its weights must be the network's, but there are \d+ of another shape \(such as .*classifier"):
        gather(load_reference("nasnet-a"), path, {**flags, "classes": 6})
    with pytest.raises(UserError, match=r"must be the network's, but there are \d+ missing"):
        gather(load_reference("enas-micro"), path, flags)


def test_weights_of_another_genotype_are_refused(tmp_path: Path) -> None:
    export_files(trained(small()), format_named("safetensors"), tmp_path / "w.safetensors")
    with pytest.raises(ConfigError, match="belong to another genotype"):
        gather(load_reference("enas-micro"), tmp_path / "w.safetensors", {})


def test_safetensors_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"name a training .* or give --weights"):
        export_files(small(), format_named("safetensors"), tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["yaml", "json", "dot", "svg"])
def test_genotypes_keep_space_and_provenance(name: str, tmp_path: Path) -> None:
    genotype = replace(load_reference("nasnet-a"), space="nasnet", provenance=Provenance("run-7", 423, 0.358))
    given = handover(genotype, NASNetSkeleton())
    files, found = export_files(given, format_named(name), tmp_path / f"cell{FORMATS[name].suffix}")
    assert found.startswith("read back")
    assert files[0].read_text() == export_text(given, format_named(name)) or name == "svg"
    if name in ("yaml", "json"):
        again = read_genotype(files[0])
        assert (again, again.space, again.provenance) == (genotype, "nasnet", Provenance("run-7", 423, 0.358))


def test_a_genotype_file_says_its_schema_and_refuses_another() -> None:
    document = json.loads(export_text(small(), format_named("json")))
    assert document["schema"] == "nas.genotype/1"
    with pytest.raises(UserError, match=r"`schema` must be 'nas\.genotype/1'"):
        from_document({**document, "schema": "nas.genotype/2"})


# ---------------------------------------------------------------------------------------------------- the command line


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["export", *arguments], env={"COLUMNS": "300"})
    refused = isinstance(result.exception, UserError)
    return result.exit_code, str(result.exception) if refused else result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nasnet-a", "-f", "pickle"], "unknown export format 'pickle'; choose one of yaml, json, dot, svg, csv, parquet, safetensors, "),
        (["nasnet-a", "-f", "onnx"], "name it with --output, such as network.onnx"),
        (["nasnet-a", "-f", "onnx", "-o", "net.txt"], "--output must end in .onnx"),
        (["nasnet-a", "-f", "python", "-o", "net.py", "--weights", "none.safetensors"], "none.safetensors: cannot be read"),
        (["nasnet-a", "-f", "yaml", "-o", "missing/cell.yaml"], "cannot be written"),
        (["nasnet-b", "-f", "yaml"], "did you mean 'nasnet-a'?"),
        (["nasnet-a", "-f", "python", "-o", "net.py", "--skeleton", "spiral"], "unknown skeleton 'spiral'"),
        (["nasnet-a", "-f", "python", "--skeleton", "convnext-t"], "residual skeleton needs"),
    ],
)
def test_bad_input_gets_one_message(arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run(*arguments)
    assert code != 0
    assert message in output
    assert list(tmp_path.iterdir()) == []


def test_trained_weights_need_no_other_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    export_files(trained(small(class_names=tuple("abcde"))), format_named("safetensors"), tmp_path / "w.safetensors")
    code, output = run("w.safetensors", "-f", "yaml", "-o", "cell.yaml")
    assert code == 0, output
    assert read_genotype(tmp_path / "cell.yaml") == load_reference("nasnet-a")
    code, output = run("w.safetensors", "-f", "safetensors", "-o", "again.safetensors")
    assert (code, "untrained" in output) == (0, False)
    first, second = (read_weights(tmp_path / name) for name in ("w.safetensors", "again.safetensors"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_whole_way_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, output = run("nasnet-a", "-f", "svg", "-o", "cell.svg")
    assert (code, "wrote cell.svg" in output) == (0, True), output
    code, output = run("nasnet-a", "-f", "json")
    assert code == 0
    assert from_document(json.loads(output)) == load_reference("nasnet-a")
    assert choose_architecture(load_reference("nasnet-a")).name == "NASNet-A (6 @ 768)"
    assert formats.FORMATS["onnx"].suffix == ".onnx"
