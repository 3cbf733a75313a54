"""Puts a configuration together: defaults, then a preset or a file, then ``--set`` and flags; with one clear message for a wrong value."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from nas.errors import ConfigError
from search_spaces.plugins import Registry, as_written, guess, is_code
from search_spaces.strict_yaml import load_document, parse_document

_Model = TypeVar("_Model", bound=BaseModel)

Document = Mapping[str, Any]
"""Settings as a person writes them, not yet validated."""


class PackagedYaml(Mapping[str, Document]):
    """The YAML files of a folder of this package by their stems, read when asked for."""

    def __init__(self, folder: str) -> None:
        self._folder = resources.files("nas").joinpath(folder)

    def __getitem__(self, name: str) -> Document:
        text = self._folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8")
        return document(parse_document(text, ConfigError, f"{self._folder.name}/{name}.yaml"))

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(sorted(entry.name.removesuffix(".yaml") for entry in self._folder.iterdir() if entry.name.endswith(".yaml")))


def document(found: object) -> Document:
    """Settings must be a mapping: for a registry of them. Raises TypeError."""
    if not isinstance(found, Mapping):
        raise TypeError(f"must be a mapping of settings, but got {type(found).__name__}")
    return found


def named_document(registry: Registry[Document], name_or_path: str) -> Document:
    """The settings that the user names: a row of the registry, or a YAML file.

    Raises:
        UserError: there are none of that name, the file cannot be read, or is no mapping.
    """
    path = Path(name_or_path)
    if path.suffix.lower() not in (".yaml", ".yml", ".json") or is_code(name_or_path):
        return registry[as_written(name_or_path)]
    try:
        return document(load_document(path, ConfigError))
    except TypeError as problem:
        raise ConfigError(f"{path}: a {registry.kind} {problem}") from None


Overrides = Mapping[str, Any]
"""Dotted setting names with their values, such as ``{"fidelity.epochs": 3}``; None stands for a flag not given."""


def parse_assignments(assignments: Sequence[str] | Overrides) -> dict[str, Any]:
    """``--set`` values: ``["fidelity.epochs=3"]`` → ``{"fidelity.epochs": 3}``, the value read as YAML; a mapping is taken as it is.

    Raises:
        ConfigError: one is not ``name=value``.
    """
    if isinstance(assignments, Mapping):
        return dict(assignments)
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set must be given as name=value (for example fidelity.epochs=3), but got {assignment!r}")
        values[name.strip()] = parse_document(text, ConfigError, f"--set {name.strip()}")
    return values


def apply_overrides(document: Mapping[str, Any], overrides: Overrides) -> dict[str, Any]:
    """The document with the settings of these dotted names replaced. Raises ConfigError where a name leads through a value."""
    changed = copy.deepcopy(dict(document))
    for name, value in overrides.items():
        _assign(changed, name, value)
    return changed


def flat(document: Mapping[str, Any], group: str = "") -> dict[str, Any]:
    """Settings by their dotted names: ``{"fidelity": {"epochs": 3}}`` → ``{"fidelity.epochs": 3}``."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        found |= flat(value, f"{group}{name}.") if isinstance(value, Mapping) else {f"{group}{name}": value}
    return found


def validated(model: type[_Model], document: object) -> _Model:
    """The settings of a document.

    Raises:
        ConfigError: a setting breaks a rule or is unknown; the message states the rule, the value and the valid choices.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(problem, model) for problem in error.errors())) from None


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
        return f"unknown setting {name!r}{guess(str(problem['loc'][-1]), valid)}; valid settings here: {', '.join(valid)}"
    message = problem["msg"].removeprefix("Input ").removeprefix("Value error, ")
    if not name or problem["type"] == "value_error":  # a rule between settings says itself what it got
        return f"{name}: {message}" if name else message
    return f"{name}: {message}, but got {problem['input']!r}"


def _settings_at(path: Sequence[str | int], root: type[BaseModel]) -> list[str]:
    model = root
    for part in (part for part in path if isinstance(part, str)):  # a number is a place in a list of groups
        inner = model.model_fields[part].annotation
        inner = next((a for a in get_args(inner) if isinstance(a, type) and issubclass(a, BaseModel)), inner)
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
