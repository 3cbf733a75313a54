"""What several kinds of folders have: the record of the machine and the versions. No torch."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path


def environment_facts(path: Path) -> list[tuple[str, str]]:
    """What a folder's environment.json says, a fact for each entry; none where there is no such file, or a damaged one."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    entries = document.items() if isinstance(document, Mapping) else ()
    return [(str(name).replace("_", " "), _flat(value, str(name))) for name, value in entries if value not in (None, "", [], {})]


def _flat(value: object, name: str = "") -> str:
    if name in ("command", "defaults") and isinstance(value, list):
        return shlex.join(map(str, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_flat(inner, str(name))}" for name, inner in value.items() if inner not in (None, "", [], {}))
    if isinstance(value, list):
        return ("; " if any(isinstance(inner, Mapping) for inner in value) else " ").join(map(_flat, value))
    return str(value)
