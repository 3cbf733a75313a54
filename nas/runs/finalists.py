"""What ends a ladder: another rung for a finished run, and the winner, trained once more to keep its weights and read the test set."""

from collections.abc import Callable
from itertools import count

from nas.errors import ConfigError, RunError
from nas.evaluators.fitting import images_used
from nas.evaluators.registry import EVALUATORS
from nas.evaluators.settings import RungSettings
from nas.runs import session as engine
from nas.runs.config import SearchConfig, finalists_rung
from nas.runs.folder import RunFolder, found_genotype
from nas.runs.loop import QUIET, Ending, Watcher
from nas.runs.session import SearchResult
from nas.runs.sizing import with_size
from nas.runs.standings import best_known
from nas.runs.state import RunState
from nas.settings.reading import validated
from nas.tools.hardware import wanted_threads
from nas.tools.stages import doing
from nas.tools.words import counted, quoted
from nas.training.config import TrainConfig
from nas.training.fitting import amount_of
from nas.training.folder import WINNER, TrainFolder
from nas.training.recipe import RECIPES
from search_spaces.genotype import Genotype


def add_rung(folder: RunFolder, rung: RungSettings, watcher: Watcher = QUIET, root: str | None = None) -> SearchResult:
    """Train a finished run's best cells at one more rung; go on with it where an earlier call was stopped or killed.

    ``root`` is where the run's images are now; None: where they were.

    Raises:
        UserError: the run is not finished, has nothing to train again, or cannot be used.
    """
    raised, _ = with_rung_added(folder, rung)
    if raised != folder.config():
        folder.write_config(raised)
    return engine.resume(folder, None, watcher, {"data.root": root})


def with_rung_added(folder: RunFolder, rung: RungSettings) -> tuple[SearchConfig, RunState]:
    """The configuration of a finished run with one more rung, where that is not its last already; and the run's state.

    Raises:
        UserError: as ``add_rung``.
    """
    config, state = folder.config(), folder.state()
    if not state.ladder.finished:
        raise RunError(f"{folder.path}: there is no completed trial to train again")
    if state.spent < config.budget and state.closed != Ending.EXHAUSTED.value:
        raise RunError(
            f"{folder.path}: has trained {state.spent} of {config.budget} children; finish it with "
            f"`nas resume {quoted(folder.path)}`, or let `nas search --budget {state.spent} --resume {quoted(folder.path)}` end it here"
        )
    return with_rung(config, state, rung), state


def with_rung(config: SearchConfig, state: RunState, rung: RungSettings) -> SearchConfig:
    """The configuration with one more rung, unless that is the last already, though it may have grown with the budget.

    What the rung does not say is as at the last one, and its epochs are twice as many.

    Raises:
        ConfigError: its trainings would be shorter than those of the last rung: they would say less of the cells, and count for more.
    """
    if config.ladder:
        last, said = config.ladder[-1], state.ladder.said
        begun = last.model_copy(update={"children": said[-1][0]}) if len(said) == len(config.ladder) and last.children else last
        if _above(config.model_copy(update={"ladder": config.ladder[:-1]}), rung) in (last, begun):
            return config
    added = config.model_copy(update={"ladder": [*config.ladder, _above(config, rung)]})
    if config.ladder:
        _check_longer(added)
    return added


def _above(config: SearchConfig, rung: RungSettings) -> RungSettings:
    """The rung with what it does not say, its recipe as settings."""
    if not config.ladder:
        return config.spelt_out(rung)
    last = config.ladder[-1]
    own = {"children", "share", "seeds"} | ({"training"} if rung.recipe is not None else set())
    inherited = {name: value for name, value in last.model_dump().items() if name not in own}
    twice = 2 * last.fidelity(config.fidelity).epochs
    return config.spelt_out(validated(RungSettings, {**inherited, "epochs": twice, **rung.model_dump()}))


def rung_options(config: SearchConfig, rung: RungSettings) -> dict[str, int | str] | None:
    """The options of ``nas finalists`` that add this rung to a run of this configuration, by their names in settings.

    None where there are none: the recipe that a rung was trained by is kept as its settings, and only packaged ones are found again.
    """
    if rung.children is None:
        return None
    usual = _above(config, validated(RungSettings, finalists_rung(rung.children, rung.seeds)))
    names = [name for name in ("epochs", "cells", "filters", "image_size", "train_examples") if getattr(rung, name) != getattr(usual, name)]
    own = {name: getattr(rung, name) for name in names}
    for recipe in (None, *RECIPES):
        if _above(config, validated(RungSettings, finalists_rung(rung.children, rung.seeds, recipe=recipe, **own))) == rung:
            return {"top": rung.children, "seeds": rung.seeds, **own, **({} if recipe is None else {"recipe": recipe})}
    return None


def _check_longer(config: SearchConfig) -> None:
    """Raise ConfigError where a training at the last rung is shorter than one at the rung below."""
    top = len(config.ladder)
    below, here = config.at_rung(top - 1), config.at_rung(top)
    (least, asked), (most, said) = _seen(below), _seen(here)
    if most < least:
        raise ConfigError(
            f"one more rung must not train for less than rung {top - 1}, which has {asked}, but got {said}; "
            f"leave out --epochs, or say {below.fidelity.epochs} or more"
        )


def _seen(config: SearchConfig) -> tuple[int, str]:
    """The pixels that a training sees, or its epochs where it sees none, and that in words."""
    epochs, words = config.fidelity.epochs, counted(config.fidelity.epochs, "epoch")
    if not EVALUATORS[config.evaluator].needs_data:
        return epochs, words
    images, _, side = images_used(config, amount_of(config.data))
    return epochs * images * side**2, f"{words} on {images:,} images of {side}×{side} pixels"


def crown(
    folder: RunFolder, stop: Callable[[], bool] = lambda: False, begin: Callable[[int], None] = lambda trial: None
) -> bool:
    """Train the best of a run's last rung once more, as it was trained there, to read the test set, once, and to leave its weights.

    The best of those that were trained there: what is only expected of another cell, however good, wins nothing.

    Where that was begun before it goes on; where another cell was the best then, that one's folder stays beside it. ``begin`` is told
    whose trial it is, before anything is trained.

    Returns:
        Whether there is a winner and somebody did not stop it; without a ladder, or before its end, there is none.
    """
    from nas.training.session import Watcher as TrainingWatcher
    from nas.training.session import train_network

    config, state = folder.config(), folder.state()
    space = folder.space(config)
    if not config.ladder or config.evaluator != "train" or not engine.at_its_end(config, state, space):
        return False
    known = best_known(space, state)
    there = [number for number, one in enumerate(known.standings.ranked) if one.rung == len(config.ladder)]
    if not there:
        return False
    trial, believed = known.trials[there[0]], known.standings.ranked[there[0]].belief.mean
    genotype = found_genotype(space, trial, folder.path.name, config.controller.name, believed)
    place, wanted = TrainFolder(folder.path / WINNER), winner_config(genotype, with_size(config.at_rung(len(config.ladder)), trial.size))
    if place.config_file.is_file() and not _same(place, genotype, wanted):
        place.path.rename(next(path for n in count(1) if not (path := place.path.with_name(f"earlier-winner-{n}")).exists()))
    if place.result() is None:
        place.path.parent.mkdir(exist_ok=True)
        begin(trial.number)
        with doing(f"training trial {trial.number} once more") as tell:
            total = wanted.recipe.epochs
            train_network(genotype, wanted, place.path, TrainingWatcher(on_epoch=lambda record, best: tell(record.epoch, total), stop=stop))
    return place.result() is not None


def _same(place: TrainFolder, genotype: Genotype, wanted: TrainConfig) -> bool:
    """Whether that is a training of this genotype at this fidelity; of the rest versions and machines may think otherwise."""

    def fidelity(config: TrainConfig) -> tuple[object, ...]:
        return config.skeleton, config.recipe.epochs, config.image_size, config.train_examples

    return place.genotype() == genotype and fidelity(place.config()) == fidelity(wanted)


def winner_config(genotype: Genotype, config: SearchConfig) -> TrainConfig:
    """A search's settings of training as those of ``nas train``: the same skeleton, images and recipe; alone, it has all cores."""
    from nas.networks.architecture import searched_skeleton
    from nas.networks.description import skeleton_document

    skeleton = searched_skeleton(genotype, cells=config.fidelity.cells, filters=config.fidelity.filters)
    return TrainConfig(
        skeleton=skeleton_document(skeleton, "searched"),
        data=config.data,
        recipe=config.recipe(),
        image_size=config.fidelity.image_size,
        train_examples=config.fidelity.train_examples,
        seed=config.seed,
        threads=wanted_threads(),
    )
