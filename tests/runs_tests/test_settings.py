"""Configuration: presets are valid, overrides win in order, and a wrong value gets one clear message."""

from pathlib import Path

import pytest
from support.image_trees import make_tree

from nas.errors import ConfigError
from nas.runs.config import build_config, config_from_document, config_yaml, fitted_config, preset_names
from nas.training.recipe import load_recipe
from search_spaces.registry import load_space
from search_spaces.strict_yaml import parse_document


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_valid_configuration(name: str) -> None:
    config = build_config(name)
    assert config.preset == name
    load_space(config.space)


def test_the_paper_preset_has_the_papers_values() -> None:
    config = build_config("paper")
    assert (config.space, config.budget) == ("nasnet-paper", 20_000)
    assert (config.fidelity.cells, config.fidelity.epochs, config.fidelity.filters) == (2, 20, 32)
    assert (config.training.optimizer.momentum, config.data.validation_examples) == (0.9, 5000)
    assert config.training.augmentation.crop == "upsample"
    assert config.controller.options["preset"] == "paper"


def test_set_overrides_the_preset_and_flags_override_set() -> None:
    config = build_config("laptop", ["fidelity.epochs=7", "training.weight_decay=1e-5"], {"fidelity.epochs": 9, "budget": None})
    assert config.fidelity.epochs == 9
    assert config.training.optimizer.weight_decay == 1e-5, "a short name stands for the nested one"
    assert build_config("laptop", ["training.optimizer.weight_decay=1e-5"]).training == config.training
    assert config.budget == build_config("laptop").budget


def test_a_ladder_left_out_for_other_images_is_said(tmp_path: Path) -> None:
    make_tree(tmp_path / "own", train=8, val=4, side=12, damaged=False)
    own = {"data.name": "folder", "data.root": str(tmp_path / "own")}
    config, choices = fitted_config("laptop", own)
    assert not config.ladder and [str(choice).partition("  ")[0] for choice in choices][-1] == "ladder=[]"
    assert not any(choice.setting == "ladder" for choice in fitted_config("laptop", own | {"ladder": [{"children": 2}]})[1])


def test_a_setting_can_be_set_to_null() -> None:
    assert build_config("gpu").fidelity.train_examples is not None
    assert build_config("gpu", ["fidelity.train_examples=null"]).fidelity.train_examples is None


def test_the_second_rung_of_the_preset_cpu_trains_by_the_recipe_fast() -> None:
    rung, recipe = build_config("cpu").at_rung(1).recipe(), load_recipe("fast", {"epochs": 2})
    assert rung.model_dump(exclude={"name"}) == recipe.model_dump(exclude={"name"})


def test_a_presets_draws_go_with_its_matched_cost() -> None:
    cheap = build_config("cpu")
    assert (cheap.draws, cheap.match is None) == ("cheap", False)
    for other in (["evaluator=synthetic"], ["data.name=digits"], ["fidelity.filters=8"]):
        config = build_config("cpu", other)
        assert (config.draws, config.match) == ("even", None), other
        assert build_config("cpu", [*other, "draws=cheap"]).draws == "cheap"


def test_a_presets_controller_options_are_its_own_controllers() -> None:
    own = build_config("paper").controller
    assert own.name == "ppo"
    assert own.options
    assert build_config("paper", ["controller.name=ppo"]).controller == own
    assert build_config("paper", ["controller.options.hidden=50"]).controller.options == {**own.options, "hidden": 50}
    assert not build_config("paper", ["controller.name=random"]).controller.options
    chosen = build_config("paper", ["controller.name=evolution", "controller.options={population: 10}"]).controller
    assert (chosen.name, chosen.options) == ("evolution", {"population": 10})


@pytest.mark.parametrize("name", ["controller", "data", "training"])
@pytest.mark.parametrize("value", ["random", "5", "null", "[ppo]"])
def test_a_presets_file_whose_section_is_no_mapping_is_refused_in_a_line(name: str, value: str, tmp_path) -> None:
    (tmp_path / "own.yaml").write_text(f"space: nasnet\nbudget: 5\n{name}: {value}\n")
    with pytest.raises(ConfigError, match=name):
        build_config(str(tmp_path / "own.yaml"))


def test_the_written_configuration_reads_back_equal() -> None:
    config = build_config("cpu", ["controller.options={entropy: 0.5}"])
    assert config_from_document(parse_document(config_yaml(config), ConfigError, "test")) == config


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("fidelity.epoch=3", ["unknown setting 'fidelity.epoch'", "did you mean 'epochs'", "filters"]),
        ("fidelity.epochs=0", ["fidelity.epochs", "greater than or equal to 1", "got 0"]),
        ("fidelity.epochs=many", ["fidelity.epochs", "valid integer", "'many'"]),
        ("fidelity.epochs=true", ["fidelity.epochs", "valid integer", "True"]),
        ("training.augmentation=mixup", ["training: augmentation", "one of none, shift_flip, paper", "'mixup'"]),
        ("training.augmentation={crop: mixup}", ["training.augmentation.crop", "'none', 'shift', 'upsample' or 'inception'", "'mixup'"]),
        ("training.learning_rate=.nan", ["training.optimizer.learning_rate", "nan"]),
        ("budget", ["name=value", "'budget'"]),
        ("budget.x=3", ["'budget' is a value"]),
        ("data.root=!!python/object:os.system x", ["not plain YAML"]),
    ],
)
def test_a_wrong_setting_gets_a_clear_message(assignment: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config("laptop", [assignment])
    for word in words:
        assert word in str(caught.value)


def test_an_unknown_preset_lists_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match="cpu, gpu, laptop, paper, auto, or"):
        build_config("papper")


def test_a_preset_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("budget: 12\nspace: nasnet-paper\n")
    assert build_config(str(path)).budget == 12
    path.write_text("- 1\n")
    with pytest.raises(ConfigError, match="mapping"):
        build_config(str(path))
