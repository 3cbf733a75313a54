"""Neural architecture search: search, train, transfer, compare and export networks, from Python as from the command line.

Everything is loaded when it is first used: ``import nas`` is instant. The functions take the names that the flags of the command
``nas`` have, return objects, print nothing, and raise ``UserError`` (a ``ValueError``) with one clear message for bad input.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nas.api.checking import check_data
    from nas.api.listing import available
    from nas.api.networks import cost, draw, export
    from nas.api.predicting import load_network, predict
    from nas.api.reporting import report
    from nas.api.searching import new_run, open_run, resume, search
    from nas.api.training import compare, evaluate, train, transfer

    __version__: str

if "OMP_WAIT_POLICY" not in os.environ:
    # Read when torch loads OpenMP. By default its threads wait spinning for milliseconds: where anything else runs on the same cores, the
    # one waited for does not get on, and a step takes up to twenty times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

_HOMES = {
    "search": "searching",
    "new_run": "searching",
    "open_run": "searching",
    "resume": "searching",
    "train": "training",
    "transfer": "training",
    "evaluate": "training",
    "compare": "training",
    "predict": "predicting",
    "load_network": "predicting",
    "cost": "networks",
    "draw": "networks",
    "export": "networks",
    "report": "reporting",
    "available": "listing",
    "check_data": "checking",
}
"""Every public function, and the module of ``nas.api`` that has it."""

__all__ = [
    "__version__",
    "available",
    "check_data",
    "compare",
    "cost",
    "draw",
    "evaluate",
    "export",
    "load_network",
    "new_run",
    "open_run",
    "predict",
    "report",
    "resume",
    "search",
    "train",
    "transfer",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - functions, and the version's text
    if name == "__version__":
        from importlib.metadata import version

        value: Any = version("nas-engine")
    elif name in _HOMES:
        value = getattr(import_module(f"nas.api.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
