"""Every setting of a search, with its rule: what presets, flags and ``--set`` fill in, and what a run folder records. No torch, no ray."""

from collections.abc import Sequence

import yaml
from pydantic import Field

from controllers.registry import CONTROLLERS, check_options
from nas.errors import ConfigError
from nas.evaluators.fitting import fit_children
from nas.evaluators.registry import EVALUATORS, check_evaluator_options
from nas.evaluators.settings import EvaluationConfig
from nas.networks.matching import read_limits, read_match
from nas.settings.base import Settings
from nas.settings.reading import (
    Document,
    Overrides,
    PackagedYaml,
    apply_overrides,
    document,
    named_document,
    parse_assignments,
    validated,
)
from nas.tools.hardware import detect
from nas.training.fitting import Choice, amount_of, fit_framing
from search_spaces.plugins import Registry, trust

GIVEN = "given"
"""In an evaluator's or a controller's place: an object that was given in Python, and has to be given again."""


class ControllerSettings(Settings):
    """Which controller proposes, and its own options."""

    name: str = "ppo"
    options: dict[str, int | float | str | bool | None] = Field(default_factory=dict)


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
    fit_images: bool = Field(False, description="images other than the preset's own get settings that suit them")
    budget: int = Field(500, ge=1, description="children trained")
    seed: int = Field(0, ge=0)
    controller: ControllerSettings = ControllerSettings()
    match: str | None = Field(None, description="macs=5M or params=300k: every network gets the width at which it costs that")
    limit: str | None = Field(None, description="params<=3M,macs<=8M: networks that cost more are not trained, but drawn again, free")
    finalists: FinalistSettings | None = Field(None, description="train the best again when the search has finished; null does not")


PRESETS: Registry[Document] = Registry("preset", "nas.presets", PackagedYaml("presets"), document, ConfigError, "auto, or give a YAML file")
"""Presets by name: a new one is a YAML file in ``nas/presets``."""


def preset_names() -> tuple[str, ...]:
    """The presets that come with the package, or with another that is installed."""
    return tuple(PRESETS)


def build_config(preset: str, assignments: Sequence[str] | Overrides = (), flags: Overrides | None = None) -> SearchConfig:
    """The effective configuration that a person asks for; what it names as ``module:attr`` is imported.

    Raises:
        UserError: a name or a value breaks a rule; the message states the rule, the value and the valid choices.
    """
    return fitted_config(preset, assignments, flags)[0]


def fitted_config(
    preset: str, assignments: Sequence[str] | Overrides = (), flags: Overrides | None = None
) -> tuple[SearchConfig, tuple[Choice, ...]]:
    """As ``build_config``, and what of it was chosen to suit images that are not the preset's own; what a person says stands.

    What a preset says of its own data set is left out where another is named. Raises UserError.
    """
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    said = {**parse_assignments(assignments), **given}
    document = {"preset": preset, **named_document(PRESETS, preset)}
    others = _other_images(document, said)
    if others:
        document.pop("data", None)
    config = _checked(apply_overrides(document, said))
    if config.match is not None and said.get("fidelity.filters") is not None:
        raise ConfigError(
            f"match solves for every network's width, so --filters cannot be given with it, but got match {config.match} and filters "
            f"{said['fidelity.filters']}"
        )
    if not others or not config.fit_images or not EVALUATORS[config.evaluator].needs_data:
        return config, ()
    choices = fit_children(amount_of(config.data), detect(), said, fit_framing(config.data))
    return _checked(apply_overrides(document, {**{choice.setting: choice.value for choice in choices}, **said})), choices


def _other_images(document: Document, said: Overrides) -> bool:
    """Whether a person names another data set than the preset."""
    own = document.get("data", {})
    name, root = (said.get(f"data.{key}", own.get(key)) for key in ("name", "root"))
    return bool(name != own.get("name") or (name == "folder" and root != own.get("root")))


def _checked(document: Document) -> SearchConfig:
    """A configuration as a person asks for it. Raises UserError."""
    config = config_from_document(document)
    trust([config.space, config.evaluator, config.controller.name, config.data.name])  # by their own hand, unlike a run folder's
    if config.controller.name != GIVEN:
        check_options(config.controller.name, config.controller.options)
    check_evaluator_options(config.evaluator, config.evaluator_options)
    return config


def with_overrides(config: SearchConfig, values: Overrides) -> SearchConfig:
    """The configuration with other values for some settings; None stands for a flag not given.

    Raises:
        ConfigError: a value breaks a rule.
    """
    given = {name: value for name, value in values.items() if value is not None}
    return config_from_document(apply_overrides(config.model_dump(mode="json"), given))


def config_from_document(found: object) -> SearchConfig:
    """Validate settings. Nothing is imported: the options of a controller or an evaluator from outside are checked when it is made.

    Raises:
        UserError: a setting breaks a rule.
    """
    config = validated(SearchConfig, found)
    if config.controller.name != GIVEN:
        CONTROLLERS.check(config.controller.name)
    EVALUATORS.check(config.evaluator)
    if config.controller.name in CONTROLLERS.built_in:
        check_options(config.controller.name, config.controller.options)
    if config.match is not None:
        read_match(config.match)
    if config.limit is not None:
        read_limits(config.limit)
    if config.halving is not None and not config.rungs():
        raise ConfigError(
            f"halving.first must be below fidelity.epochs ({config.fidelity.epochs}): children are compared before their last epoch, "
            f"but got {config.halving.first}"
        )
    return config


def config_yaml(config: SearchConfig) -> str:
    """The configuration as a YAML text that ``--preset FILE`` takes."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
