"""The tables of ``nas list``: runs, spaces, presets, controllers, reference genotypes. No torch, no ray."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from controllers.registry import CONTROLLERS, check_options
from nas import run_folder
from nas.errors import UserError
from nas.settings import preset_names, read_preset
from search_spaces.registry import SPACES
from search_spaces.space import size


def tables(root: Path) -> Iterator[Table]:
    """Everything that can be listed, a table each."""
    yield _runs(root)
    yield _spaces()
    yield _presets()
    yield _controllers()


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _runs(root: Path) -> Table:
    table = _table(f"runs in {root}/", "run", "space", "controller", "data", "trained", "best reward", "ended")
    for folder in run_folder.all_runs(root):
        try:
            config, state = folder.config(), folder.state()
        except UserError as error:
            table.add_row(folder.path.name, "", "", "", "", "", f"damaged: {error}")
            continue
        ranked = state.ranked()
        table.add_row(
            folder.path.name,
            config.space,
            config.controller.name,
            config.data.name,
            f"{state.spent}/{state.budget}",
            f"{ranked[0].reward:.4f}" if ranked else "–",
            state.closed or "running or killed",
        )
    return table


def _spaces() -> Table:
    table = _table("search spaces", "name", "decisions", "action sequences", "operations")
    for name, space in SPACES.items():
        operations = sorted({choice for d in space.decisions if "operation" in d.name for choice in d.choices})
        table.add_row(name, str(len(space.decisions)), f"{size(space):.3g}", f"{len(operations)} operations" if operations else "")
    return table


def _presets() -> Table:
    table = _table("presets", "name", "space", "budget", "data", "N", "F", "epochs")
    for name in preset_names():
        preset = read_preset(name)
        fidelity = preset.get("fidelity", {})
        row = (preset["space"], preset["budget"], preset["data"]["name"], fidelity["cells"], fidelity["filters"], fidelity["epochs"])
        table.add_row(name, *(str(value) for value in row))
    return table


def _controllers() -> Table:
    table = _table("controllers", "name", "options with their defaults")
    for name in CONTROLLERS:
        options = asdict(check_options(name, {}))
        table.add_row(name, ", ".join(f"{key}={value}" for key, value in options.items()) or "none")
    return table
