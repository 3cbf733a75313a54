"""Every setting of a search, with its rule: what presets, flags and ``--set`` fill in, and what a run folder records. No torch, no ray."""

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from controllers.registry import check_options
from nas.errors import ConfigError
from nas.evaluators.settings import EvaluationConfig
from nas.runners.settings import RunnerSettings
from nas.runs.halving import rung_epochs
from nas.settings.base import Settings
from nas.settings.reading import Overrides, apply_overrides, parse_assignments, validated
from search_spaces.strict_yaml import load_document, parse_document

GIVEN = "given"
"""In an evaluator's or a controller's place: an object that was given in Python, and has to be given again."""


class ControllerSettings(Settings):
    """Which controller proposes, and its own options."""

    name: str = "ppo"
    options: dict[str, int | float | str | bool | None] = Field(default_factory=dict)


class HalvingSettings(Settings):
    """Early stopping: at each rung only the best share of the children goes on."""

    reduction: int = Field(3, ge=2, description="1/reduction of the children go on at a rung; each rung is so many times the one before")
    first: int = Field(1, ge=1, description="epoch of the first rung; must be below fidelity.epochs")


class FinalistSettings(Settings):
    """The second stage: the best children trained again at a higher fidelity, with several seeds."""

    top: int = Field(25, ge=1, le=1000, description="children trained again")
    seeds: int = Field(3, ge=1, le=100, description="times that each is trained")
    epochs: int | None = Field(None, ge=1, description="null: as in the search")
    cells: int | None = Field(None, ge=1, le=50, description="null: as in the search")
    filters: int | None = Field(None, ge=1, description="null: as in the search")
    image_size: int | None = Field(None, ge=8, description="null: as in the search")
    train_examples: int | None = Field(None, ge=1, description="training images used at most; null uses all")


class SearchConfig(EvaluationConfig):
    """The effective configuration of a search; a run folder keeps it as config.yaml."""

    preset: str = "custom"
    space: str = "nasnet"
    budget: int = Field(500, ge=1, description="children trained")
    seed: int = Field(0, ge=0)
    controller: ControllerSettings = ControllerSettings()
    halving: HalvingSettings | None = Field(None, description="early stopping; null trains every child to the end")
    finalists: FinalistSettings | None = Field(None, description="train the best again when the search has finished; null does not")
    runner: RunnerSettings = RunnerSettings()

    def rungs(self) -> tuple[int, ...]:
        """The epochs at which children are compared; none without early stopping."""
        if self.halving is None:
            return ()
        return rung_epochs(self.halving.first, self.halving.reduction, self.fidelity.epochs)


def preset_names() -> tuple[str, ...]:
    """The presets that come with the package."""
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in resources.files("nas").joinpath("presets").iterdir()))


def read_preset(name_or_path: str) -> dict[str, Any]:
    """The settings of a preset by name, or of a YAML file by path.

    Raises:
        ConfigError: there is no such preset or file, or it is not a mapping.
    """
    if name_or_path in preset_names():
        text = resources.files("nas").joinpath("presets", f"{name_or_path}.yaml").read_text(encoding="utf-8")
        document = parse_document(text, ConfigError, f"preset {name_or_path}")
    elif Path(name_or_path).suffix.lower() in (".yaml", ".yml", ".json"):
        document = load_document(Path(name_or_path), ConfigError)
    else:
        raise ConfigError(f"unknown preset {name_or_path!r}; choose one of auto, {', '.join(preset_names())}, or give a YAML file")
    if not isinstance(document, dict):
        raise ConfigError(f"{name_or_path}: settings must be a mapping, but got {type(document).__name__}")
    return document


def build_config(preset: str, assignments: Sequence[str] | Overrides = (), flags: Overrides | None = None) -> SearchConfig:
    """The effective configuration.

    Raises:
        ConfigError: a name or a value breaks a rule; the message states the rule, the value and the valid choices.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    document = apply_overrides({"preset": preset, **read_preset(preset)}, {**parse_assignments(assignments), **given})
    return config_from_document(document)


def with_overrides(config: SearchConfig, values: Overrides) -> SearchConfig:
    """The configuration with other values for some settings; None stands for a flag not given.

    Raises:
        ConfigError: a value breaks a rule.
    """
    given = {name: value for name, value in values.items() if value is not None}
    return config_from_document(apply_overrides(config.model_dump(mode="json"), given))


def config_from_document(document: object) -> SearchConfig:
    """Validate settings, the controller's own options among them.

    Raises:
        UserError: a setting breaks a rule.
    """
    config = validated(SearchConfig, document)
    if config.controller.name != GIVEN:
        check_options(config.controller.name, config.controller.options)
    if config.halving is not None and not config.rungs():
        raise ConfigError(
            f"halving.first must be below fidelity.epochs ({config.fidelity.epochs}): children are compared before their last epoch, "
            f"but got {config.halving.first}"
        )
    return config


def config_yaml(config: SearchConfig) -> str:
    """The configuration as a YAML text that ``--preset FILE`` takes."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
