"""Finds a search space by its name or in a YAML file. No torch; the controllers and the engine may import it."""

from pathlib import Path
from typing import cast

from search_spaces.errors import SpaceError
from search_spaces.genotype import MAX_NAME
from search_spaces.nasbench201 import NASBENCH201
from search_spaces.nasnet import NASNET, NASNET_PAPER
from search_spaces.plugins import Registry, is_code
from search_spaces.space import CellSpace, SearchSpace
from search_spaces.strict_yaml import load_document
from search_spaces.vocabulary import COMBINES, OPERATIONS


def _row(found: object) -> SearchSpace:
    missing = [part for part in ("name", "decisions", "decode", "encode", "canonical") if not hasattr(found, part)]
    if missing or isinstance(found, type):
        lacks = f"without {', '.join(missing)}" if missing else "a class"
        raise TypeError(f"must be a search space (search_spaces.space.SearchSpace), but got {found!r:.200}, which is {lacks}")
    return cast(SearchSpace, found)


SPACES: Registry[SearchSpace] = Registry(
    "search space",
    "nas.spaces",
    {space.name: space for space in (NASNET, NASNET_PAPER, NASBENCH201)},
    _row,
    SpaceError,
    "or give a YAML file that declares one",
)
"""The search spaces by name: a new one is a file in this package and a name here."""

SPACE_SCHEMA = "nas.space/1"
_KEYS = ("schema", "name", "operations", "nodes", "combine", "cells", "outputs")


def load_space(name_or_path: str | Path) -> SearchSpace:
    """The space of that name (or ``module:attr``), or the space declared in that YAML file.

    Raises:
        SpaceError: there is no such space or file, or the declaration breaks a rule.
        PluginError: a space from outside cannot be imported.
    """
    path = Path(name_or_path)
    if path.suffix.lower() not in (".yaml", ".yml", ".json") or is_code(str(name_or_path)):
        return SPACES[str(name_or_path)]
    try:
        return space_from_document(load_document(path, SpaceError))
    except SpaceError as error:
        raise SpaceError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None


def space_from_document(document: object) -> CellSpace:
    """Validate a declaration of a cell space.

    It has ``schema``, ``name`` and ``operations``, and optionally ``nodes``, ``combine``, ``cells`` and ``outputs``.

    Raises:
        SpaceError: a rule is broken.
    """
    if not isinstance(document, dict) or document.get("schema") != SPACE_SCHEMA:
        raise SpaceError(f"a search space must be a mapping with `schema: {SPACE_SCHEMA}`")
    for key in document:
        if key not in _KEYS:
            raise SpaceError(f"a search space has an unknown key {key!r}; valid keys: {', '.join(_KEYS)}")
    name = document.get("name")
    if not isinstance(name, str) or not name or len(name) > 100 or not name.isprintable():
        raise SpaceError(f"`name` must be a short text, but got {name!r}")
    nodes = document.get("nodes", 5)
    if not isinstance(nodes, int) or isinstance(nodes, bool) or not 1 <= nodes <= 12:
        raise SpaceError(f"`nodes` must be an integer 1..12, but got {nodes!r}")
    outputs = document.get("outputs", "loose_ends")
    if outputs not in ("loose_ends", "all"):
        raise SpaceError(f"`outputs` must be loose_ends or all, but got {outputs!r}")
    cells = _names(document.get("cells", ["normal", "reduction"]), "cells", ("normal", "reduction"))
    if cells not in (("normal", "reduction"), ("normal",)):
        raise SpaceError(f"`cells` must be [normal, reduction], or [normal] for one cell in both places, but got {list(cells)}")
    return CellSpace(
        name=name,
        operations=_operations(document.get("operations")),
        nodes=nodes,
        combine=_names(document.get("combine", ["add"]), "combine", COMBINES),
        cells=cells,
        outputs=outputs,
    )


def _operations(value: object) -> tuple[str, ...]:
    """Operations without options: built-in ones, and those from outside that are named."""
    built_in = tuple(name for name, row in OPERATIONS.built_in.items() if not row.options)
    named = [name for name in value if isinstance(name, str) and len(name) <= MAX_NAME] if isinstance(value, list) else []
    from_outside = [name for name in named if name not in OPERATIONS.built_in and (name in OPERATIONS or is_code(name))]
    return _names(value, "operations", (*built_in, *(name for name in from_outside if not OPERATIONS[name].options)))


def _names(value: object, key: str, valid: tuple[str, ...]) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise SpaceError(f"`{key}` must be a list of names, but got {value!r}")
    for name in value:
        if name not in valid:
            raise SpaceError(f"`{key}`: unknown name {name!r}; valid names: {', '.join(valid)}")
    if len(set(value)) != len(value):
        raise SpaceError(f"`{key}` must not repeat a name, but got {value!r}")
    return tuple(value)
