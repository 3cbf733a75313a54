"""Every setting of a search, with its rule: what presets, flags and ``--set`` fill in, and what a run folder records. No torch, no ray."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from controllers.registry import CONTROLLERS, check_options, learns
from nas.errors import ConfigError
from nas.evaluators.fitting import fit_children, images_used, named
from nas.evaluators.registry import EVALUATORS, check_evaluator_options
from nas.evaluators.settings import EvaluationConfig
from nas.loggers.registry import DEFAULT_LOGGERS, LoggerNames, check_installed
from nas.networks.matching import check_place, chosen_place, read_limits, read_match, read_objective
from nas.settings.base import Float, Settings
from nas.settings.reading import (
    Document,
    Overrides,
    PackagedYaml,
    apply_overrides,
    document,
    flat,
    named_document,
    parse_assignments,
    validated,
)
from nas.tools.hardware import detect
from nas.training.fitting import Choice, amount_of, fit_framing
from search_spaces.plugins import Registry, guess, trust
from search_spaces.reference import reference_names
from search_spaces.registry import load_space
from search_spaces.space import Draws, SearchSpace, favouring
from search_spaces.strict_yaml import dump_document

LOOKS = 0.02
"""Share of a search's children that may be looked at a second time where there is no ladder: of fewer than 50, a trial run, none."""
FOR_OWN_IMAGES = ("data", "match", "draws", "ladder")
"""Of a preset: what was chosen for its own images, and is left out where others are named."""
OF_OWN_IMAGES = ("optimizer", "schedule")
"""Of a preset's training: what was chosen for its own images and for steps of its own number; others get what suits them."""
GIVEN = "given"
"""In an evaluator's or a controller's place: an object that was given in Python, and has to be given again."""


class ControllerSettings(Settings):
    """Which controller proposes, and its own options."""

    name: str = "ppo"
    options: dict[str, int | float | str | bool | None] = Field(default_factory=dict)


def finalists_rung(top: object = 25, seeds: object = 3, **fidelity: object) -> dict[str, Any]:
    """A rung of the ladder as ``nas finalists`` and settings of earlier versions say it, not yet checked.

    What is None is as in the search, but that all images are used.
    """
    said = {name: value for name, value in fidelity.items() if value is not None}
    return {"children": top, "seeds": seeds, "train_examples": None, "validation_examples": None, **said}


class SearchConfig(EvaluationConfig):
    """The effective configuration of a search; a run folder keeps it as config.yaml."""

    preset: str = "custom"
    fit_images: bool = Field(False, description="images other than the preset's own get settings that suit them")
    budget: int = Field(500, ge=1, description="children trained")
    seed: int = Field(0, ge=0)
    controller: ControllerSettings = ControllerSettings()
    draws: Draws = Field(
        "even", description="what random draws, a first policy and mutations favour: nothing, or choices of little cost"
    )
    match: str | None = Field(None, description="macs=5M, params=300k or latency=8ms: every network gets the width at which it costs that")
    limit: str | None = Field(None, description="params<=3M,latency<=8ms: networks that cost more are not trained, but drawn again, free")
    objective: str | None = Field(None, description="accuracy,macs or accuracy,latency@8ms: told is accuracy · (cost / target)^-0.07")
    latency_on: str = Field(
        "auto", description="where latency is measured: cpu (one thread), cuda, cuda:N, onnx; auto: where children are trained, GPU or CPU"
    )
    cards: list[str] = Field(
        default_factory=list, description="control cards: reference genotypes trained at every rung, outside the budget, to compare with"
    )
    warm_start: list[str] = Field(
        default_factory=list, description="the search's first children: genotypes, their files, RUN:2 for the second best of a run"
    )
    learn_from: list[str] = Field(
        default_factory=list,
        description="what a controller's surrogate learns from before the first child: packaged tables, tables of trials (CSV), runs",
    )
    log: LoggerNames = Field([*DEFAULT_LOGGERS], description="where scalars go: tensorboard, wandb, mlflow; none of them: []")
    looks: Float = Field(0.0, ge=0, le=1, description="in the end, who is believed best is trained again: at most this share of the budget")

    @property
    def second_looks(self) -> int:
        """How many cells may be looked at a second time, beside the budget (see ``nas.runs.ladder``)."""
        return int(self.looks * self.budget + 1e-9)

    @property
    def measures(self) -> bool:
        """Whether the latency of a child is measured before it is trained."""
        return any("latency" in (rule or "") for rule in (self.match, self.limit, self.objective))

    @model_validator(mode="before")
    @classmethod
    def _read_finalists(cls, document: object) -> object:
        """Versions before the ladder had one rung of their own kind, ``finalists``."""
        if not isinstance(document, Mapping) or "finalists" not in document:
            return document
        rest = {name: value for name, value in document.items() if name != "finalists"}
        said = document["finalists"]
        if said is None:
            return {**rest, "ladder": []}
        return {**rest, "ladder": [finalists_rung(**said)]} if isinstance(said, Mapping) else {**rest, "ladder": said}


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
    whole = {"preset": preset, **named_document(PRESETS, preset)}
    others = _other_images(whole, said)
    document = _with_looks(_without_what_goes(whole, said, others), said)
    config = _checked(apply_overrides(document, said))
    unlearnt = _unlearnt(whole, config, said)
    if unlearnt:
        document = {name: value for name, value in document.items() if name != "learn_from"}
        config = config.model_copy(update={"learn_from": []})
    if config.match is not None and said.get("fidelity.filters") is not None:
        raise ConfigError(
            f"match solves for every network's width, so --filters cannot be given with it, but got match {config.match} and filters "
            f"{said['fidelity.filters']}"
        )
    if not others or not EVALUATORS[config.evaluator].needs_data:
        return _pinned(config), unlearnt
    if not config.fit_images:
        return _pinned(config), (*_set_aside(whole, config, said), *unlearnt)
    choices = fit_children(amount_of(config.data), detect(), said, fit_framing(config.data))
    settled = {**{choice.setting: choice.value for choice in choices}, **said}
    fitted = _checked(apply_overrides(document, settled))
    return _pinned(fitted), (*choices, *_set_aside(whole, fitted, settled), *unlearnt)


def _set_aside(preset: Document, config: SearchConfig, said: Overrides) -> tuple[Choice, ...]:
    """What a preset says for its own images, and what other images have in its place: of settings that are not ``said``."""
    now = flat(config.model_dump(mode="json"))
    stated = flat({name: preset[name] for name in (*FOR_OWN_IMAGES, "training") if preset.get(name) is not None})
    rungs = stated.pop("ladder", None)
    found = [
        Choice(name, now[name], f"the preset's {value if isinstance(value, str) else json.dumps(value)} was chosen for its own images")
        for name, value in stated.items()
        if name in now and now[name] != value and name not in ("data.name", "data.root") and not named(name, said)
    ]
    if not rungs or config.ladder or named("ladder", said) or named("finalists", said):
        return tuple(found)
    again = (Choice("looks", config.looks, "in place of the preset's rungs"),) if config.second_looks and not named("looks", said) else ()
    return (*found, *again, Choice("ladder", [], "the preset's rungs were chosen for its own images"))


def _unlearnt(whole: Document, config: SearchConfig, said: Overrides) -> tuple[Choice, ...]:
    """That nothing is learnt from what a preset says, and why: a controller does not that a person chose, or it was for other searches."""
    if not whole.get("learn_from") or "learn_from" in said:
        return ()
    chosen = config.controller
    if {name.split(".")[0] for name in said} & {"controller"} and (chosen.name == GIVEN or not learns(chosen.name, chosen.options)):
        return (Choice("learn_from", [], "the controller, as it is chosen here, does not learn from earlier trainings"),)
    if config.learn_from:
        return ()
    return (Choice("learn_from", [], "the preset's is for its own space, controller and evaluator; --learn-from says another"),)


def _without_what_goes(document: Document, said: Overrides, others: bool) -> Document:
    """A preset without what does not go with what a person says.

    Its ladder, the cost that networks are matched to, with its draws, and, where settings are to suit the images, how children's
    weights change were chosen for its own images; the first three, control cards and what is learnt from were for its own evaluator,
    what is learnt from for its own space and controller, too, whose options are its own; and a width that is said is not solved for.
    """
    left = set(FOR_OWN_IMAGES) if others else set()
    evaluator = document.get("evaluator", "train")
    if said.get("evaluator", evaluator) != evaluator:
        left |= {"match", "draws", "ladder", "cards", "learn_from"}
    space = document.get("space")
    if said.get("space", space) != space:
        left.add("learn_from")
    if said.get("fidelity.filters") is not None:
        left |= {"match", "draws"}
    kept = {name: value for name, value in document.items() if name not in left}
    if others and said.get("fit_images", document.get("fit_images")) and (training := _section(kept, "training")):
        kept["training"] = {name: value for name, value in training.items() if name not in OF_OWN_IMAGES}
    controller = _section(kept, "controller").get("name", ControllerSettings().name)
    if said.get("controller.name", controller) != controller:
        kept["controller"] = {"name": controller}
        kept.pop("learn_from", None)
    return kept


def _section(document: Document, name: str) -> Document:
    """What a preset says under a name; nothing where that is no mapping, which is refused when the whole is checked."""
    found = document.get(name)
    return dict(found) if isinstance(found, Mapping) else {}


def _with_looks(document: Document, said: Overrides) -> Document:
    """Second looks where nobody says anything of a ladder: an empty one is none, and none of those."""
    named = {name.split(".")[0] for name in (*document, *said)}
    return document if named & {"ladder", "finalists", "looks"} else {**document, "looks": LOOKS}


def _pinned(config: SearchConfig) -> SearchConfig:
    """The configuration with the side at which networks have their cost said, so that it stays when rungs are added or timed apart.

    The recipes of rungs are written out, and where latency counts, the place that it is measured on: a run goes on with what it began with.
    """
    config = config.model_copy(update={"ladder": [config.spelt_out(rung) for rung in config.ladder]})
    if config.measures:
        config = config.model_copy(update={"latency_on": latency_place(config)})
    if config.match is None or read_match(config.match).side is not None:
        return config
    return config.model_copy(update={"match": f"{config.match.strip()}@{target_rung(config)[1]}"})


def latency_place(config: SearchConfig) -> str:
    """Where a search measures latency."""
    return chosen_place(config.latency_on, config.runner.gpus_per_child != 0 and bool(detect().gpus))


def space_of(config: SearchConfig) -> SearchSpace:
    """The search space, with the draws that the configuration asks for. Raises SpaceError or PluginError."""
    return favouring(load_space(config.space), config.draws)


def target_rung(config: SearchConfig) -> tuple[SearchConfig, int]:
    """The rung of the largest images, the highest of them, where networks have the cost that they are matched to; and its side."""
    amount = amount_of(config.data)
    rungs = [config.at_rung(rung) for rung in reversed(range(len(config.ladder) + 1))]
    top = max(rungs, key=lambda rung: images_used(rung, amount)[2])
    return top, images_used(top, amount)[2]


def _other_images(document: Document, said: Overrides) -> bool:
    """Whether a person names another data set than the preset."""
    own = _section(document, "data")
    name, root = (said.get(f"data.{key}", own.get(key)) for key in ("name", "root"))
    return bool(name != own.get("name") or (name == "folder" and root != own.get("root")))


def _checked(document: Document) -> SearchConfig:
    """A configuration as a person asks for it. Raises UserError."""
    config = config_from_document(document)
    named = [config.space, config.evaluator, config.controller.name, config.data.name, *config.log]
    trust(named)  # by their own hand, unlike a run folder's
    known = reference_names()
    if unknown := [name for name in config.cards if name not in known]:
        raise ConfigError(f"cards must be reference genotypes ({', '.join(known)}), but got {unknown[0]!r}{guess(unknown[0], known)}")
    if config.controller.name != GIVEN:
        check_options(config.controller.name, config.controller.options)
    check_evaluator_options(config.evaluator, config.evaluator_options)
    check_installed(config.log)
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
    if config.objective is not None:
        read_objective(config.objective)
    check_place(config.latency_on)
    if config.halving is not None and not config.rungs():
        raise ConfigError(
            f"halving.first must be below fidelity.epochs ({config.fidelity.epochs}): children are compared before their last epoch, "
            f"but got {config.halving.first}"
        )
    return config


def config_yaml(config: SearchConfig) -> str:
    """The configuration as a YAML text that ``--preset FILE`` takes."""
    return dump_document(config.model_dump(mode="json"))
