"""Collects the definitions that a standalone file needs from ``nas.exports.parts``, as text: those named and what these use."""

import ast
from functools import cache
from importlib.resources import files
from typing import Literal

Padding = Literal["same", "symmetric"]


def definitions(names: set[str], padding: Padding) -> str:
    """The text of the named classes and functions, and of all that they need in turn, each once, in an order that runs.

    Args:
        names: of definitions in the parts.
        padding: which of the two definitions of ``conv`` is meant, see ``search_spaces.skeletons.Conventions``.
    """
    available = _parts(padding)
    needed: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in available and name not in needed:
            needed.add(name)
            waiting += available[name].uses
        assert name in available, name
    return "\n\n\n".join(part.text for name, part in available.items() if name in needed)


class _Part:
    """One top-level definition: its text, and the other definitions that it names."""

    def __init__(self, node: ast.ClassDef | ast.FunctionDef, source: str, known: frozenset[str]) -> None:
        self.text = ast.get_source_segment(source, node) or ""
        self.uses = sorted({n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n.id in known and n.id != node.name})


@cache
def _parts(padding: Padding) -> dict[str, _Part]:
    """Every definition by its name, in the order of the modules (what is used comes before what uses it)."""
    found: dict[str, tuple[ast.ClassDef | ast.FunctionDef, str]] = {}
    for module in (padding, "strided", "layers", "blocks"):
        source = (files("nas.exports.parts") / f"{module}.py").read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                found[node.name] = node, source
    return {name: _Part(node, source, frozenset(found)) for name, (node, source) in found.items()}
