"""Collects the definitions that a standalone file needs from ``nas.exports.parts``, as text: those named and what these use."""

import ast
import inspect
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Literal

from nas.exports.handover import ExportError

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


def copied_definitions(outside: Mapping[str, object]) -> list[str]:
    """The text of operations from outside, each class after what it uses of its own file.

    Args:
        outside: the class of each operation, by the operation's name.

    Raises:
        ExportError: a text cannot be read, needs more than torch, or has a name that the file needs for something else.
    """
    texts: dict[str, str] = {}
    for operation, found in outside.items():
        home = inspect.getmodule(found)
        try:
            source = inspect.getsource(home) if home is not None else ""
        except OSError:
            source = ""
        for name, text in _with_its_needs(operation, str(getattr(found, "__name__", found)), source).items():
            if name in _parts("same") or name in _TAKEN or texts.setdefault(name, text) != text:
                raise ExportError(f"operation {operation!r}: its {name!r} has a name that is taken in the exported file; give it another")
    return list(texts.values())


_TAKEN = frozenset({"Network", "NormalCell", "ReductionCell", "Cell", "load", "main", "normalise", "read_image", "map_indices", "norm"})
_IMPORTED = {"torch": "torch", "nn": "torch.nn", "F": "torch.nn.functional", "Tensor": "torch.Tensor"}
"""What every exported file imports, under which name."""


def _with_its_needs(operation: str, name: str, source: str) -> dict[str, str]:
    """A definition of a file and those that it uses, in the order of the file."""
    defined: dict[str, ast.stmt] = {}
    imported: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            defined[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            defined.update({target.id: node for target in targets if isinstance(target, ast.Name)})
        elif isinstance(node, ast.Import | ast.ImportFrom):
            start = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            imported.update({alias.asname or alias.name.partition(".")[0]: start + alias.name for alias in node.names})
    if name not in defined:
        raise ExportError(f"operation {operation!r}: the text of {name!r} is not found; it must stand at the top level of a Python file")
    needed, waiting = set(), [name]
    while waiting:
        here = waiting.pop()
        needed.add(here)
        used = {part.id for part in ast.walk(defined[here]) if isinstance(part, ast.Name)}
        waiting += sorted((used & defined.keys()) - needed)
        for word in sorted(used & imported.keys()):
            if _IMPORTED.get(word) != imported[word]:
                raise ExportError(
                    f"operation {operation!r} uses {imported[word]!r}, and so cannot be copied into a file that needs torch alone "
                    f"(allowed: {', '.join(_IMPORTED)}); export it as torch-export or onnx"
                )
    return {word: _text_of(node, source) for word, node in defined.items() if word in needed}


def _text_of(node: ast.stmt, source: str) -> str:
    text = ast.get_source_segment(source, node) or ""
    decorators = getattr(node, "decorator_list", [])
    return "".join(f"@{ast.get_source_segment(source, decorator)}\n" for decorator in decorators) + text


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
