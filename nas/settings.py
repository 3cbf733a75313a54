"""Puts a configuration together: defaults, then a preset or a file, then ``--set`` and flags; with one clear message for a wrong value."""

import copy
import difflib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from controllers.registry import check_options
from nas.config import SearchConfig
from nas.errors import ConfigError
from search_spaces.strict_yaml import load_document, parse_document

_Model = TypeVar("_Model", bound=BaseModel)

Overrides = Mapping[str, Any]
"""Dotted setting names with their values, such as ``{"fidelity.epochs": 3}``; None stands for a flag not given."""


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


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """``--set`` values: ``["fidelity.epochs=3"]`` → ``{"fidelity.epochs": 3}``, the value read as YAML.

    Raises:
        ConfigError: one is not ``name=value``.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set must be given as name=value (for example fidelity.epochs=3), but got {assignment!r}")
        values[name.strip()] = parse_document(text, ConfigError, f"--set {name.strip()}")
    return values


def build_config(preset: str, assignments: Sequence[str] = (), flags: Overrides | None = None) -> SearchConfig:
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


def apply_overrides(document: dict[str, Any], overrides: Overrides) -> dict[str, Any]:
    """The document with the settings of these dotted names replaced. Raises ConfigError where a name leads through a value."""
    changed = copy.deepcopy(document)
    for name, value in overrides.items():
        _assign(changed, name, value)
    return changed


def config_from_document(document: object) -> SearchConfig:
    """Validate settings, the controller's own options among them.

    Raises:
        UserError: a setting breaks a rule.
    """
    config = validated(SearchConfig, document)
    check_options(config.controller.name, config.controller.options)
    if config.halving is not None and not config.rungs():
        raise ConfigError(
            f"halving.first must be below fidelity.epochs ({config.fidelity.epochs}): children are compared before their last epoch, "
            f"but got {config.halving.first}"
        )
    return config


def validated(model: type[_Model], document: object) -> _Model:
    """The settings of a document.

    Raises:
        ConfigError: a setting breaks a rule or is unknown; the message states the rule, the value and the valid choices.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem, model) for problem in error.errors())) from None


def to_yaml(config: SearchConfig) -> str:
    """The configuration as a YAML text that ``--preset FILE`` takes."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _assign(document: dict[str, Any], name: str, value: object) -> None:
    *path, last = name.split(".")
    place = document
    for part in path:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{name}: {part!r} is a value, not a group of settings")
        place = inner
    place[last] = value


def _explain(problem: Any, root: type[BaseModel]) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    name = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        valid = _settings_at(problem["loc"][:-1], root)
        near = difflib.get_close_matches(str(problem["loc"][-1]), valid, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        return f"unknown setting {name!r}{hint} Valid settings here: {', '.join(valid)}"
    message = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
    if not name or problem["type"] == "value_error":  # a rule between settings says itself what it got
        return f"{name}: {message}" if name else message
    return f"{name}: {message}, but got {problem['input']!r}"


def _settings_at(path: Sequence[str | int], root: type[BaseModel]) -> list[str]:
    model = root
    for part in path:
        inner = model.model_fields[str(part)].annotation
        inner = next((a for a in get_args(inner) if isinstance(a, type) and issubclass(a, BaseModel)), inner)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
