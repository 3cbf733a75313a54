"""Genotypes: architectures as frozen data, with a validated, versioned YAML/JSON form. No torch; anyone may import it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from search_spaces.errors import GenotypeError, UserError
from search_spaces.strict_yaml import SafeDumper, load_document
from search_spaces.vocabulary import COMBINES, OPERATIONS, ChoiceOption, IntOption, Option, OptionValue

SCHEMA = "nas.genotype/1"
MAX_NODES = 64
"""Upper limit of nodes in a cell: far above any published cell, low enough that a hostile file stays cheap."""
MAX_INPUTS = 2
MAX_NAME = 200
"""Longest name of an operation, ``module:attr`` included."""
STATE_NAMES = ("previous", "current")


@dataclass(frozen=True, slots=True)
class Edge:
    """One operation applied to one hidden state."""

    source: int
    operation: str
    options: tuple[tuple[str, OptionValue], ...] = ()


@dataclass(frozen=True, slots=True)
class Node:
    """Applies its edges and combines their results into a new hidden state."""

    edges: tuple[Edge, ...]
    combine: str = "add"


@dataclass(frozen=True, slots=True)
class CellGenotype:
    """A small DAG. Hidden states are numbered: the inputs first (0 = PREVIOUS, 1 = CURRENT), then the nodes in order.

    ``outputs`` are the hidden states that the cell concatenates, in this order, inputs allowed (the released NASNet-A
    concatenates PREVIOUS). A cell with ``inputs=1`` has CURRENT alone, as hidden state 0.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    inputs: int = 2

    def loose_ends(self) -> tuple[int, ...]:
        """The nodes' hidden states that no node consumes, in order."""
        consumed = {edge.source for node in self.nodes for edge in node.edges}
        return tuple(s for s in range(self.inputs, self.inputs + len(self.nodes)) if s not in consumed)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a found genotype comes from. ``reward`` is its validation accuracy in [0, 1], as far as the search knows it.

    That is what is believed after all trainings of the cell, at the highest rung of a ladder, and not the luckiest of them.

    ``controller`` is the name of the one that proposed it; empty where that is not known.
    """

    run: str
    trial: int
    reward: float | None = None
    controller: str = ""


@dataclass(frozen=True, slots=True)
class Genotype:
    """A concrete architecture: a normal cell and, where the skeleton does not bring its own, a reduction cell.

    Two genotypes are equal where their cells are: name, space, skeleton and provenance are labels. ``skeleton`` names the macro
    network that the cells are meant for, where it is not found by name or space. It is what makes a genotype of a space that is not
    made of cells: there the nodes of the normal cell are the layers of the network, and the skeleton says how they are stacked.
    """

    normal: CellGenotype
    reduction: CellGenotype | None = None
    name: str = field(default="", compare=False)
    space: str = field(default="", compare=False)
    skeleton: str = field(default="", compare=False)
    provenance: Provenance | None = field(default=None, compare=False)

    def cells(self) -> tuple[tuple[str, CellGenotype], ...]:
        """The cells with their names, normal first."""
        named = (("normal", self.normal), ("reduction", self.reduction))
        return tuple((name, cell) for name, cell in named if cell is not None)


# ---------------------------------------------------------------------------------------------------- writing


def to_document(genotype: Genotype) -> dict[str, Any]:
    """The genotype as plain dictionaries, lists, strings and numbers, ready for YAML or JSON."""
    document: dict[str, Any] = {"schema": SCHEMA}
    if genotype.name:
        document["name"] = genotype.name
    if genotype.space:
        document["space"] = genotype.space
    if genotype.skeleton:
        document["skeleton"] = genotype.skeleton
    document["cells"] = {name: _cell_document(cell) for name, cell in genotype.cells()}
    if genotype.provenance is not None:
        origin = genotype.provenance
        document["provenance"] = {"run": origin.run, "trial": origin.trial}
        if origin.reward is not None:
            document["provenance"]["reward"] = origin.reward
        if origin.controller:
            document["provenance"]["controller"] = origin.controller
    return document


def _cell_document(cell: CellGenotype) -> dict[str, Any]:
    nodes = []
    for state, node in enumerate(cell.nodes, start=cell.inputs):
        edges = [[e.source, e.operation, dict(e.options)] if e.options else [e.source, e.operation] for e in node.edges]
        nodes.append({"state": state, "combine": node.combine, "edges": edges})
    return {"inputs": list(STATE_NAMES[-cell.inputs :]), "nodes": nodes, "outputs": list(cell.outputs)}


class _Dumper(SafeDumper):
    """Block style with every edge and list of states on one line, as a person would write it."""


def _represent_list(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence(
        "tag:yaml.org,2002:seq", value, flow_style=not any(isinstance(v, dict) and "edges" in v for v in value)
    )


_Dumper.add_representer(list, _represent_list)


def to_yaml(genotype: Genotype) -> str:
    """The genotype in its YAML form."""
    return yaml.dump(to_document(genotype), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def to_json(genotype: Genotype, indent: int | None = 2) -> str:
    """The genotype in its JSON form."""
    return json.dumps(to_document(genotype), indent=indent, allow_nan=False)


# ---------------------------------------------------------------------------------------------------- reading


def read_genotype(path: str | Path) -> Genotype:
    """Read a genotype from a YAML or JSON file.

    Raises:
        GenotypeError: the file cannot be read, or breaks a rule of the format; the message names the file and the node.
    """
    try:
        return from_document(load_document(path, GenotypeError))
    except GenotypeError as error:
        raise GenotypeError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None


def from_document(document: object) -> Genotype:
    """Validate plain data (from YAML or JSON) and make it a genotype.

    Raises:
        GenotypeError: a rule is broken; the message names the cell and the node.
    """
    top = _mapping(document, "a genotype")
    _only_keys(top, ("schema", "name", "space", "skeleton", "cells", "provenance"), "a genotype")
    if top.get("schema") != SCHEMA:
        raise GenotypeError(f"`schema` must be {SCHEMA!r}, but got {_short(top.get('schema'))}")
    cells = _mapping(top.get("cells"), "`cells`")
    _only_keys(cells, ("normal", "reduction"), "`cells`")
    if "normal" not in cells:
        raise GenotypeError("`cells` must have a 'normal' cell")
    return Genotype(
        normal=_read_cell(cells["normal"], "normal"),
        reduction=_read_cell(cells["reduction"], "reduction") if "reduction" in cells else None,
        name=_text(top.get("name", ""), "`name`"),
        space=_text(top.get("space", ""), "`space`"),
        skeleton=_text(top.get("skeleton", ""), "`skeleton`"),
        provenance=_read_provenance(top["provenance"]) if "provenance" in top else None,
    )


def validate(genotype: Genotype) -> Genotype:
    """Check a genotype made in code by the rules that a file must keep; returns it unchanged.

    Raises:
        GenotypeError: a rule is broken.
    """
    from_document(to_document(genotype))
    return genotype


def _read_cell(value: object, name: str) -> CellGenotype:
    where = f"cell '{name}'"
    cell = _mapping(value, where)
    _only_keys(cell, ("inputs", "nodes", "outputs"), where)
    inputs = cell.get("inputs")
    if inputs not in (list(STATE_NAMES), list(STATE_NAMES[1:])):
        raise GenotypeError(f"{where}: `inputs` must be [previous, current] or [current], but got {_short(inputs)}")
    assert isinstance(inputs, list)
    raw_nodes = cell.get("nodes")
    if not isinstance(raw_nodes, list) or not 1 <= len(raw_nodes) <= MAX_NODES:
        raise GenotypeError(f"{where}: `nodes` must be a list of 1 to {MAX_NODES} nodes, but got {_short(raw_nodes)}")
    nodes = tuple(_read_node(raw, len(inputs) + i, name) for i, raw in enumerate(raw_nodes))
    states = len(inputs) + len(nodes)
    outputs = cell.get("outputs")
    if not isinstance(outputs, list) or not outputs:
        raise GenotypeError(f"{where}: `outputs` must list at least one hidden state, but got {_short(outputs)}")
    for output in outputs:
        if not _is_int(output) or not 0 <= output < states:
            raise GenotypeError(f"{where}: every output must be a hidden state 0..{states - 1}, but got {_short(output)}")
    if len(set(outputs)) != len(outputs):
        raise GenotypeError(f"{where}: `outputs` must not repeat a hidden state, but got {_short(outputs)}")
    return CellGenotype(nodes=nodes, outputs=tuple(outputs), inputs=len(inputs))


def _read_node(value: object, state: int, cell: str) -> Node:
    where = f"cell '{cell}', node {state}"
    node = _mapping(value, where)
    _only_keys(node, ("state", "combine", "edges"), where)
    if node.get("state", state) != state or not _is_int(node.get("state", state)):
        raise GenotypeError(f"{where}: `state` must be {state} (nodes are numbered after the inputs), but got {_short(node['state'])}")
    combine = node.get("combine", "add")
    if not isinstance(combine, str) or combine not in COMBINES:
        raise GenotypeError(f"{where}: `combine` must be one of {', '.join(COMBINES)}, but got {_short(combine)}")
    edges = node.get("edges")
    if not isinstance(edges, list) or not 1 <= len(edges) <= MAX_NODES:
        raise GenotypeError(f"{where}: `edges` must be a list of [input, operation], but got {_short(edges)}")
    return Node(edges=tuple(_read_edge(edge, state, where) for edge in edges), combine=combine)


def _read_edge(value: object, state: int, where: str) -> Edge:
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise GenotypeError(f"{where}: an edge must be [input, operation] or [input, operation, options], but got {_short(value)}")
    source, operation = value[0], value[1]
    if not _is_int(source) or not 0 <= source < state:
        raise GenotypeError(f"{where}: an input must be an earlier hidden state 0..{state - 1}, but got {_short(source)}")
    if not isinstance(operation, str) or len(operation) > MAX_NAME:
        raise GenotypeError(f"{where}: unknown operation {_short(operation)}; valid operations: {', '.join(OPERATIONS)}")
    try:
        rules = OPERATIONS[operation].options
    except UserError as problem:
        raise GenotypeError(f"{where}: {problem}") from None
    options = _read_options(value[2], operation, rules, where) if len(value) == 3 else ()
    return Edge(source=source, operation=operation, options=options)


def _read_options(value: object, operation: str, rules: Mapping[str, Option], where: str) -> tuple[tuple[str, OptionValue], ...]:
    options = _mapping(value, f"{where}: the options of {operation}")
    _only_keys(options, tuple(rules), f"{where}: the options of {operation}")
    for key, given in options.items():
        rule = rules[key]
        if isinstance(rule, IntOption) and not (_is_int(given) and rule.low <= given <= rule.high):
            raise GenotypeError(f"{where}: `{key}` of {operation} must be an integer {rule.low}..{rule.high}, but got {_short(given)}")
        if isinstance(rule, ChoiceOption) and given not in rule.choices:
            raise GenotypeError(f"{where}: `{key}` of {operation} must be one of {', '.join(rule.choices)}, but got {_short(given)}")
    return tuple(sorted(options.items()))


def _read_provenance(value: object) -> Provenance:
    origin = _mapping(value, "`provenance`")
    _only_keys(origin, ("run", "trial", "reward", "controller"), "`provenance`")
    trial, reward = origin.get("trial"), origin.get("reward")
    if not isinstance(trial, int) or isinstance(trial, bool) or trial < 0:
        raise GenotypeError(f"`provenance`: `trial` must be an integer of at least 0, but got {_short(trial)}")
    if reward is not None and (isinstance(reward, bool) or not isinstance(reward, int | float) or not abs(reward) < 1e300):
        raise GenotypeError(f"`provenance`: `reward` must be a finite number, but got {_short(reward)}")
    return Provenance(
        run=_text(origin.get("run"), "`provenance`: `run`"),
        trial=trial,
        reward=None if reward is None else float(reward),
        controller=_text(origin.get("controller", ""), "`provenance`: `controller`"),
    )


# ---------------------------------------------------------------------------------------------------- small rules


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _mapping(value: object, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise GenotypeError(f"{what} must be a mapping with text keys, but got {_short(value)}")
    return value


def _only_keys(value: Mapping[str, Any], allowed: tuple[str, ...], what: str) -> None:
    for key in value:
        if key not in allowed:
            raise GenotypeError(f"{what} has an unknown key {_short(key)}; valid keys: {', '.join(allowed) or 'none'}")


def _text(value: object, what: str) -> str:
    if not isinstance(value, str) or len(value) > 500 or not value.isprintable():
        raise GenotypeError(f"{what} must be printable text of at most 500 characters, but got {_short(value)}")
    return value


def _short(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:  # an integer of more digits than Python turns into text
        text = f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."
