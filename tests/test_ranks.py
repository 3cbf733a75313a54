"""The rooms of the house are ranked: an import, a lazy one too, only ever goes to a lower rank, and nowhere in a circle."""

import ast
from collections.abc import Iterator
from pathlib import Path

import networkx
from support.paths import ROOT

NAS_RANKS = (
    ("errors",),
    ("tools",),
    ("loggers",),
    ("settings",),
    ("data", "networks"),
    ("training",),
    ("evaluators",),
    ("runners",),
    ("runs",),
    ("comparisons", "exports"),
    ("ray_tune",),
    ("api",),
    ("cli",),
    ("__main__",),
)
"""Of ``nas``, lowest first: a room imports from rooms before it and from itself, never from its neighbour. ``nas/__init__`` is lazy."""


def modules() -> dict[str, Path]:
    found = {}
    for package in ("search_spaces", "controllers", "nas"):
        for path in (ROOT / package).rglob("*.py"):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Our modules that a file imports anywhere in it, those for type checkers alone included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def graph() -> networkx.DiGraph:
    known = modules()
    drawn = networkx.DiGraph()
    drawn.add_nodes_from(known)
    drawn.add_edges_from((name, other) for name, path in known.items() for other in imports(path, known) if other != name)
    return drawn


def room(name: str) -> str:
    """``nas.data`` of ``nas.data.cifar``; ``search_spaces.networks``; a package's own files are one room."""
    parts = name.split(".")
    package = ROOT.joinpath(*parts[:2])
    return ".".join(parts[:2]) if package.is_dir() or parts[0] == "nas" else parts[0]


def test_imports_only_go_down() -> None:
    rank = {f"nas.{name}": number for number, names in enumerate(NAS_RANKS) for name in names}
    wrong = []
    for name, other in graph().edges:
        first, second = room(name), room(other)
        if name == "nas" or first == second or not (first.startswith("nas.") and second.startswith("nas")):
            continue
        if second == "nas" and first in ("nas.cli", "nas.__main__"):  # the face that people import
            continue
        if second == "nas" or rank[second] >= rank[first]:
            wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(sorted(wrong))


def test_every_room_has_a_rank() -> None:
    ranked = {f"nas.{name}" for names in NAS_RANKS for name in names}
    assert {room(name) for name in modules() if name.startswith("nas.")} <= ranked


def test_no_module_is_in_a_circle() -> None:
    drawn = graph()
    drawn.remove_node("nas")  # its lazy attributes are the whole package
    circles = [sorted(circle) for circle in networkx.strongly_connected_components(drawn) if len(circle) > 1]
    assert not circles, circles


def test_no_room_is_in_a_circle() -> None:
    rooms = networkx.DiGraph((room(a), room(b)) for a, b in graph().edges if room(a) != room(b) and "nas" not in (a, b))
    circles = [sorted(circle) for circle in networkx.strongly_connected_components(rooms) if len(circle) > 1]
    assert not circles, circles
