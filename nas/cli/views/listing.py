"""The tables of ``nas list`` and the texts of ``nas show NAME``. Torch is loaded only to count parameters and MACs."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TypeVar

from rich.table import Table

from controllers.registry import CONTROLLERS, ControllerRow, check_options
from nas.cli.options import console
from nas.cli.views.run import short_count
from nas.cli.views.things import tables as run_tables
from nas.cli.views.writing import width
from nas.data.registry import DATASETS, DatasetEntry
from nas.errors import ConfigError, UserError
from nas.evaluators.registry import EVALUATORS, EvaluatorRow
from nas.exports.formats import FORMATS, Format
from nas.networks.architecture import Architecture, choose_architecture
from nas.runs.config import PRESETS, SearchConfig, build_config, config_from_document, config_yaml
from nas.runs.genotypes import is_genotype, resolve_genotype
from nas.settings.reading import Document
from nas.tools.stages import doing, loading_torch
from nas.training.recipe import RECIPES, Recipe, load_recipe, recipe_yaml
from search_spaces.genotype import SCHEMA as GENOTYPE_SCHEMA
from search_spaces.genotype import Genotype, to_yaml
from search_spaces.plugins import BUILT_IN, Registry, as_written, guess, is_code
from search_spaces.reference import load_reference, reference_names, reference_source
from search_spaces.registry import SPACE_SCHEMA, SPACES, load_space
from search_spaces.skeletons import FAMILIES, SKELETONS, family_of, kind_of
from search_spaces.space import SearchSpace, size
from search_spaces.strict_yaml import load_document
from search_spaces.vocabulary import OPERATIONS, OperationRow

T = TypeVar("T")

ROOM_FOR_DIGITS = 100
"""Columns of a terminal from which on counts of parameters and MACs are listed exactly (`nas cost` says them anyway)."""


def tables(what: str | None = None, places: Sequence[Path] = ()) -> Iterator[Table]:
    """What can be listed, a table each, or the one named. Genotypes and skeletons are counted out, which takes seconds: only when named.

    ``places`` are folders whose runs are listed; none: those that are found without (``nas.cli.views.things``).

    Raises:
        UserError: there is no such table, or no such folder.
    """
    kinds: dict[str, Callable[[], Table]] = {
        "spaces": _spaces,
        "genotypes": _genotypes,
        "skeletons": _skeletons,
        "presets": _presets,
        "recipes": _recipes,
        "controllers": _controllers,
        "evaluators": _evaluators,
        "exports": _exports,
        "operations": _operations,
        "datasets": _datasets,
    }
    if what is not None and what not in ("runs", *kinds):
        raise ConfigError(f"what to list must be one of runs, {', '.join(kinds)}, but got {what!r}{guess(what, ('runs', *kinds))}")
    if what in (None, "runs"):
        yield from run_tables(places)
    for kind in ("spaces", "presets", "controllers", "evaluators") if what is None else (what,) if what != "runs" else ():
        yield kinds[kind]()


def describe(name: str) -> str | None:
    """What a listed name stands for, or a genotype file's content, for ``nas show``; None where it may be a run.

    Raises:
        UserError: a genotype file cannot be read.
    """
    if name in reference_names():
        genotype = load_reference(name)
        return f"{reference_source(name)}\n{_cost_line(choose_architecture(genotype))}\n\n{to_yaml(genotype)}"
    if (own := _own_file(name)) is not None:
        return own
    if is_genotype(name):
        return to_yaml(resolve_genotype(name))
    if name in SKELETONS:
        values = "\n".join(f"  {field.name}: {getattr(SKELETONS[name], field.name)}" for field in fields(SKELETONS[name]))
        return f"skeleton {name}\n{values}\n{_cost_line(choose_architecture(_known_genotype(name), name))}"
    if name in SPACES or is_code(name):
        return _space_text(load_space(as_written(name)))
    if name in RECIPES:
        return recipe_yaml(load_recipe(name))
    if name in PRESETS:
        return config_yaml(build_config(name))
    return None


def names_described() -> dict[str, str]:
    """The names that ``describe`` knows, each with what it is of; of two that have a name, what ``describe`` takes it for."""
    kinds: dict[str, Iterable[str]]
    kinds = {"preset": PRESETS, "recipe": RECIPES, "search space": SPACES, "skeleton": SKELETONS, "reference genotype": reference_names()}
    return {name: kind for kind, names in kinds.items() for name in names}


def _own_file(name: str) -> str | None:
    """What a file declares that is no genotype: a space, or a preset of one's own; None where it is none of them."""
    path = Path(name)
    if path.suffix.lower() not in (".yaml", ".yml") or not path.is_file():
        return None
    document = load_document(path, ConfigError)
    if not isinstance(document, dict) or document.get("schema") == GENOTYPE_SCHEMA:
        return None
    if document.get("schema") == SPACE_SCHEMA:
        return _space_text(load_space(path))
    if "schema" not in document and set(document) <= set(SearchConfig.model_fields) | {"finalists"}:
        return config_yaml(config_from_document({"preset": path.stem, **document}))  # a file's: nothing that it names is imported
    return recipe_yaml(load_recipe(name)) if "schema" not in document and set(document) <= set(Recipe.model_fields) else None


def _space_text(space: SearchSpace) -> str:
    head = f"search space {space.name}: {len(space.decisions)} decisions, {size(space):.3g} action sequences"
    return "\n".join([head, *(f"  {decision.name}: {', '.join(decision.choices)}" for decision in space.decisions)])


def _cost_line(architecture: Architecture) -> str:
    side, cost = architecture.image_size, architecture.cost()
    return f"{architecture.name} at {side}×{side}, {architecture.classes} classes: {cost.parameters:,} parameters, {cost.macs:,} MACs"


def _known_genotype(skeleton: str) -> Genotype:
    """The genotype that a skeleton is known for, to give its cost by."""
    own = family_of(SKELETONS[skeleton]).genotype
    if own is not None:
        return own
    if skeleton == "nasbench201":
        return replace(SPACES[skeleton].decode((3,) * len(SPACES[skeleton].decisions)), name="a 3×3 convolution on every edge")
    for start, genotype in _KNOWN_FOR:
        if skeleton.startswith(start):
            return load_reference(genotype or skeleton)
    raise AssertionError(f"skeleton {skeleton} has no genotype in _KNOWN_FOR")


_KNOWN_FOR: tuple[tuple[str, str | None], ...] = (
    ("convnext-roadmap-", None),
    ("convnext-isotropic-l", "convnext"),
    ("convnext-isotropic", "convnext-no-layer-scale"),
    ("convnext", "convnext"),
    ("resnet-29", "resnext-8x64d"),
    ("resnet", "resnext-32x4d"),
    ("pnasnet", "pnasnet-5"),
    ("amoebanet", "amoebanet-a"),
    ("darts", "darts-v2"),
    ("nasnet", "nasnet-a"),
)


def _genotypes() -> Table:
    table = _table("reference genotypes", "name", "known in skeleton", "parameters", "MACs")
    for name in _counting(reference_names()):
        architecture = choose_architecture(load_reference(name))
        table.add_row(name, architecture.skeleton_name, *_cost_cells(architecture))
    return table


def _counting(names: Iterable[str]) -> Iterator[str]:
    """The names, one after another, while a person sees how far counting their networks has come. In an order that counts: 2 before 10."""
    ordered = sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])
    with loading_torch():
        import torch  # noqa: F401 - here, where it can be said
    with doing("counting parameters and MACs") as tell:
        for done, name in enumerate(ordered):
            tell(done, len(ordered))
            yield name


def _skeletons() -> Table:
    elsewhere = _some_elsewhere(FAMILIES)
    table = _table("skeletons", "name", "with", "side", "parameters", "MACs", *(["from"] if elsewhere else []))
    for name in _counting(SKELETONS):
        architecture = choose_architecture(_known_genotype(name), name)
        origin = [FAMILIES.origin(kind_of(SKELETONS[name]))] if elsewhere else []
        table.add_row(name, architecture.name, f"{architecture.image_size}", *_cost_cells(architecture), *origin)
    for kind in FAMILIES:
        try:
            FAMILIES[kind]
        except UserError as problem:
            table.add_row(kind, f"cannot be used: {problem}", "", "", "", FAMILIES.origin(kind))
    return table


def _cost_cells(architecture: Architecture) -> tuple[str, str]:
    """Exact, or, on a terminal that has no room for that, in few letters."""
    cost = architecture.cost()
    if console.is_terminal and width() < ROOM_FOR_DIGITS:
        return short_count(cost.parameters), short_count(cost.macs)
    return f"{cost.parameters:,}", f"{cost.macs:,}"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("name", "parameters", "MACs"))
    return table


def _some_elsewhere(registry: Registry[T]) -> bool:
    """Whether it has rows from outside: where all are built in, a column that says so tells nothing."""
    return any(registry.origin(name) != BUILT_IN for name in registry)


def _registered(title: str, registry: Registry[T], columns: tuple[str, ...], cells: Callable[[str, T], tuple[object, ...]]) -> Table:
    """A registry as a table: name, what ``cells`` says of each row, and where rows come from if some are plug-ins.

    A plug-in that cannot be used says why.
    """
    elsewhere = _some_elsewhere(registry)
    table = _table(title, "name", *columns, *(["from"] if elsewhere else []))
    for name in registry:
        try:
            row = tuple(str(cell) for cell in cells(name, registry[name]))
        except UserError as problem:
            row = (f"cannot be used: {problem}", *[""] * (len(columns) - 1))
        table.add_row(name, *row, *([registry.origin(name)] if elsewhere else []))
    return table


def _spaces() -> Table:
    def cells(name: str, space: SearchSpace) -> tuple[object, ...]:
        named = (decision for decision in space.decisions if "operation" in decision.name or decision.name.startswith("edge."))
        operations = {choice for decision in named for choice in decision.choices}
        return len(space.decisions), f"{size(space):.3g}", f"{len(operations)} operations" if operations else ""

    return _registered("search spaces", SPACES, ("decisions", "action sequences", "operations"), cells)


def _presets() -> Table:
    def cells(name: str, preset: Document) -> tuple[object, ...]:
        config = build_config(name)
        fidelity = config.fidelity
        filters = config.match if config.match is not None else f"{fidelity.filters:g}"
        return config.space, config.budget, config.data.name, fidelity.cells, filters, fidelity.epochs

    return _registered("presets", PRESETS, ("space", "budget", "data", "N", "F, or cost", "epochs"), cells)


def _recipes() -> Table:
    def cells(name: str, document: Document) -> tuple[object, ...]:
        recipe = load_recipe(name)
        optimizer = recipe.optimizer
        return recipe.epochs, recipe.batch_size, optimizer.name, f"{optimizer.learning_rate:g}", recipe.schedule.kind

    return _registered("recipes of final training", RECIPES, ("epochs", "batch", "optimiser", "learning rate", "schedule"), cells)


def _controllers() -> Table:
    def cells(name: str, row: ControllerRow) -> tuple[object, ...]:
        options = asdict(check_options(name, {}))
        return (", ".join(f"{key}={value}" for key, value in options.items()) or "none",)

    return _registered("controllers", CONTROLLERS, ("options with their defaults",), cells)


def _evaluators() -> Table:
    def cells(name: str, row: EvaluatorRow) -> tuple[object, ...]:
        options = ", ".join(row.options.model_fields) if row.options is not None else "none"
        return row.about, "yes" if row.needs_data else "no", options

    return _registered("evaluators", EVALUATORS, ("what scores a child", "needs data", "evaluator_options"), cells)


def _operations() -> Table:
    def cells(name: str, row: OperationRow) -> tuple[object, ...]:
        return (", ".join(f"{option}={rule.default}" for option, rule in row.options.items()) or "none",)

    return _registered("operations", OPERATIONS, ("options with their defaults",), cells)


def _datasets() -> Table:
    def cells(name: str, entry: DatasetEntry) -> tuple[object, ...]:
        shape = entry.shape
        size = "" if shape is None else f"{shape.images:,} of {shape.side}×{shape.side}×{shape.channels}, {shape.classes} classes"
        return entry.text, size

    return _registered("data sets", DATASETS, ("what it is", "training images"), cells)


def _exports() -> Table:
    def cells(name: str, row: Format) -> tuple[object, ...]:
        return row.takes, row.suffix or "folder", row.about

    return _registered("export formats", FORMATS, ("takes", "file", "what it is"), cells)
