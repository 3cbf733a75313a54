"""examples/extend, installed beside the engine: everything it adds is listed, searched, trained, exported, without a change here."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.contracts import CONTRACT
from support.paths import ROOT
from typer.testing import CliRunner

from controllers.registry import CONTROLLERS, make_controller
from nas.cli.main import app
from nas.data.registry import DATASETS
from nas.evaluators.registry import EVALUATORS
from nas.exports.formats import FORMATS, export_files, format_named
from nas.exports.handover import ExportError, gather
from nas.networks.architecture import choose_architecture
from nas.runs.config import PRESETS
from nas.runs.folder import RunFolder
from nas.training.recipe import RECIPES
from search_spaces import plugins
from search_spaces.errors import SkeletonError
from search_spaces.genotype import read_genotype, to_yaml
from search_spaces.plugins import PluginError, forget_installed
from search_spaces.registry import SPACES, load_space
from search_spaces.skeletons import FAMILIES
from search_spaces.space import sample_actions
from search_spaces.vocabulary import OPERATIONS

REGISTRIES = (DATASETS, EVALUATORS, CONTROLLERS, SPACES, OPERATIONS, FAMILIES, FORMATS, RECIPES, PRESETS)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the package was installed into; on the path of this process while the module's tests run."""
    folder = tmp_path_factory.mktemp("extend")
    shutil.copytree(ROOT / "examples" / "extend", folder / "source")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target"]
    subprocess.run([*command, str(folder / "site"), str(folder / "source")], check=True, capture_output=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder / "site")
        patch.setattr(plugins, "_trusted", set())
        forget_installed()
        yield folder / "site"
    for registry in REGISTRIES:
        registry._loaded.clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "nas_extend"]:
        del sys.modules[name]
    forget_installed()


def nas(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def run(site: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    nas("search", "--preset", "mobile", "--budget", 12, "--runner", "local", "--run", folder)
    return folder


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("datasets", "corners"),
        ("evaluators", "mobile-table"),
        ("controllers", "climb"),
        ("spaces", "mobile"),
        ("operations", "swish_conv_3x3"),
        ("exports", "layers"),
        ("presets", "mobile"),
        ("recipes", "mobile"),
    ],
)
def test_what_it_adds_is_listed_with_where_it_comes_from(site: Path, kind: str, name: str) -> None:
    row = next(line for line in nas("list", kind).splitlines() if f" {name} " in line)
    assert "package" in row and "cannot be used" not in row


def test_its_skeletons_are_known_by_name(site: Path) -> None:
    assert "nas-extend-example" in FAMILIES.origin("mobile")
    with pytest.raises(SkeletonError, match="did you mean 'mobile-wide'"):
        nas("cost", "nasnet-a", "--skeleton", "mobile-wid")


def test_its_space_is_searched_by_its_controller_with_its_table(run: Path) -> None:
    state = RunFolder(run).state()
    assert state.spent == 12 and len({trial.reward for trial in state.ranked()}) > 6
    nas("search", "--resume", run, "--budget", 15)
    assert RunFolder(run).state().spent == 15
    assert "mbconv" in nas("show", run)


def test_options_of_its_evaluator_and_controller_are_checked(site: Path, tmp_path: Path) -> None:
    base = ("search", "--preset", "mobile", "--dry-run")
    with pytest.raises(ValueError, match=r"unknown setting 'sed' \(did you mean 'seed'"):
        nas(*base, "--set", "evaluator_options.sed=1")
    with pytest.raises(ValueError, match="option 'start' of controller 'climb' must be at least 1, but got 0"):
        nas(*base, "--set", "controller.options={start: 0}")


def test_its_genotypes_say_which_skeleton_they_are_for(run: Path) -> None:
    genotype = read_genotype(run / "best" / "1.yaml")
    assert genotype.skeleton == "mobile-tiny" and genotype.space == "mobile"
    assert load_space("mobile").decode(load_space("mobile").encode(genotype)) == genotype
    network = choose_architecture(genotype).build()
    assert type(network).__name__ == "MobileNetwork" and [info.stride for info in network.feature_info] == [1, 2, 4]
    scaled = nas("cost", run / "best" / "1.yaml", "--params", "100k")
    assert "(F=" in scaled


def test_its_networks_are_trained_in_a_search_and_to_the_end_on_its_data(site: Path, run: Path, tmp_path: Path) -> None:
    small = ("--set", "fidelity.train_examples=64", "--set", "data.validation_examples=64", "--epochs", 1)
    nas("search", "--preset", "mobile", "--evaluator", "train", "--budget", 2, "--runner", "local", "--run", tmp_path / "run", *small)
    ranked = RunFolder(tmp_path / "run").state().ranked()
    assert len(ranked) == 2 and ranked[0].evaluation is not None and ranked[0].evaluation.metrics["params"] > 1000
    net = tmp_path / "net"
    nas("train", run, "--data", "corners", "--recipe", "mobile", "--epochs", 1, "-o", net)
    assert "%" in nas("evaluate", net)
    export_files(gather(None, net, {}), format_named("safetensors"), tmp_path / "net.safetensors")
    with pytest.raises(ExportError, match="family 'mobile' bring no source code; export the network as torch-export"):
        export_files(gather(None, net, {}), format_named("python"), tmp_path / "net.py")
    alone = subprocess.run(
        [sys.executable, "-m", "nas", "export", str(net), "--format", "safetensors", "-o", str(tmp_path / "again.safetensors")],
        capture_output=True,
        text=True,
        check=False,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )
    assert alone.returncode == 2 and "unknown" in alone.stderr and "Traceback" not in alone.stderr, "without the package: one message"


def test_its_operation_is_searched_in_cells_and_exported_as_source(site: Path, tmp_path: Path) -> None:
    declared = {"schema": "nas.space/1", "name": "swish", "operations": ["identity", "swish_conv_3x3", "max_pool_3x3"], "nodes": 2}
    (tmp_path / "swish.yaml").write_text(yaml.safe_dump(declared))
    space = load_space(str(tmp_path / "swish.yaml"))
    genotype = next(g for seed in range(99) if "swish" in to_yaml(g := space.decode(sample_actions(space, random.Random(seed)))))
    (tmp_path / "cell.yaml").write_text(to_yaml(genotype))
    settings = {"cells": 1, "filters": 4, "skeleton": "nasnet-cifar"}
    for name, output in (("python", "cell.py"), ("timm", "cell_timm.py")):
        files, _ = export_files(gather(read_genotype(tmp_path / "cell.yaml"), None, settings), format_named(name), tmp_path / output)
        assert "class SwishConvolution(nn.Module):" in files[0].read_text() and "nas_extend" not in files[0].read_text()
    nas("draw", tmp_path / "cell.yaml", "-o", tmp_path / "cell.svg")
    lines = nas("export", tmp_path / "cell.yaml", "--format", "layers").splitlines()
    assert len(lines) == 8 and any(line.endswith(",swish_conv_3x3") for line in lines)


@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__)
def test_its_controller_keeps_the_contract(site: Path, rule) -> None:
    rule(lambda space, seed: make_controller("climb", space, seed))


def test_a_module_of_the_working_directory_is_a_space_too(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_space.py").write_text("from nas_extend.space import MobileSpace\n\nSPACE = MobileSpace()\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PluginError, match="comes from a file"):
        load_space("my_space:SPACE")
    nas("search", "--preset", "mobile", "--space", "my_space:SPACE", "--budget", 3, "--runner", "local", "--run", tmp_path / "run")
    assert RunFolder(tmp_path / "run").state().spent == 3
