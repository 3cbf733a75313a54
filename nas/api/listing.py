"""``nas.available``: the names that the other functions take. No torch."""

from collections.abc import Callable, Iterable, Mapping

from nas.errors import ConfigError
from search_spaces.plugins import guess


def available(kind: str) -> tuple[str, ...]:
    """The names of a kind of thing that can be asked for.

    Example::

        nas.available("controllers")

    Args:
        kind: spaces, genotypes, skeletons, presets, recipes, controllers, data, formats, or runs (that are found by name).

    Raises:
        ConfigError: there is no such kind.
    """
    kinds = _kinds()
    if kind not in kinds:
        raise ConfigError(f"what is available must be one of {', '.join(kinds)}, but got {kind!r}{guess(kind, kinds)}")
    return tuple(kinds[kind]())


def _kinds() -> Mapping[str, Callable[[], Iterable[str]]]:
    from controllers.registry import CONTROLLERS
    from nas.data.registry import DATASETS
    from nas.exports.formats import FORMATS
    from nas.runs import folder
    from nas.runs.config import preset_names
    from nas.training.recipe import recipe_names
    from search_spaces.reference import reference_names
    from search_spaces.registry import SPACES
    from search_spaces.skeletons import SKELETONS

    return {
        "spaces": lambda: SPACES,
        "genotypes": reference_names,
        "skeletons": lambda: SKELETONS,
        "presets": preset_names,
        "recipes": recipe_names,
        "controllers": lambda: CONTROLLERS,
        "data": lambda: (name for name in DATASETS if name != "folder"),
        "formats": lambda: FORMATS,
        "runs": lambda: (run.path.name for run in folder.known_runs()),
    }
