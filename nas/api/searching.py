"""``nas.search`` and its kin: begin a run, go on with one, open one. No torch at import."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from controllers.controller import Controller
from controllers.function import Choice, FunctionController
from nas.api.run import Run
from nas.api.wishes import Assignments, Place, absolute, logger_names, own_search_config, path_of, search_wish
from nas.errors import ConfigError
from nas.evaluators.evaluator import Evaluator
from nas.runs import folder as run_folder
from nas.runs.config import GIVEN, SearchConfig, space_of
from nas.runs.folder import RunFolder
from nas.runs.loop import QUIET, Ending, Watcher
from nas.tools.hardware import detect
from search_spaces.genotype import Genotype
from search_spaces.space import SearchSpace

ControllerLike = str | Controller | Choice
"""A controller's name, an object with ``ask`` and ``tell`` (``controllers.controller.Controller``), or a function that chooses actions."""
EvaluatorLike = str | Evaluator | Callable[[Genotype], float]
"""An evaluator's name, an object with ``evaluate`` (``nas.evaluators.evaluator.Evaluator``), or a function that returns a reward."""


def search(
    space: Place | None = None,
    *,
    budget: int | None = None,
    minutes: float | None = None,
    preset: str = "auto",
    data: Place | None = None,
    data_dir: Place | None = None,
    controller: ControllerLike | None = None,
    evaluator: EvaluatorLike | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    cells: int | None = None,
    filters: int | None = None,
    match: str | None = None,
    limit: str | None = None,
    objective: str | None = None,
    latency_on: str | None = None,
    workers: int | None = None,
    gpus_per_child: float | None = None,
    address: str | None = None,
    sync: str | None = None,
    runner: str | None = None,
    time_limit: float | None = None,
    cards: Sequence[str] | None = None,
    warm_start: Sequence[str] | None = None,
    learn_from: Sequence[str] | None = None,
    log: Sequence[str] | None = None,
    settings: Assignments = (),
    run: Place | None = None,
    watcher: Watcher = QUIET,
) -> Run:
    """Search for cells: propose, train, learn, and keep everything in a run folder. The arguments are those of ``nas search``.

    An evaluator or a controller that is an object or a function works in this process, one child after the other; to go on with
    such a run later, give ``resume`` the same ones again.

    Example::

        nas.search("nasnet", budget=50, evaluator=lambda genotype: my_score(genotype)).best

    Args:
        space: a search space's name, or a YAML file that declares one; None: the preset's.
        budget: children to train.
        minutes: in place of ``budget``: children and rungs are made as many as fit into the time; where it is short the top rungs go.
        preset: auto, laptop, cpu, gpu, paper, or a YAML file of settings.
        data: cifar10, cifar100, digits, synthetic, or a folder of images.
        data_dir: folder that holds the named data set.
        controller: what proposes: a name (``nas.available("controllers")``); an object that obeys
            ``controllers.controller.Controller``; or a function ``choose(space, history, rng)`` that returns one index for every
            decision of the space (``controllers.function``).
        evaluator: the reward's source: a name; an ``nas.evaluators.evaluator.Evaluator``; a function of a genotype, in [0, 1], or raises.
        seed: of everything random.
        epochs: that a child is trained for.
        cells: N, normal cells a stage.
        filters: F, filters of the first stage.
        match: what every network shall cost, ``macs=5M``, ``params=300k`` or ``latency=8ms``: the width of each is solved for it.
        limit: what a network may cost at most, such as ``params<=3M,latency<=8ms``: others are drawn again, free of budget.
        objective: ``accuracy,macs`` or ``accuracy,latency@8ms``: cheap networks are sought as well as accurate ones.
        latency_on: where latency is measured: cpu (one thread), cuda, cuda:N, onnx; None: where children are trained, GPU or CPU.
        workers: children trained at once; with ``runner="local"`` in threads, for a GPU.
        gpus_per_child: whole or fractional GPUs for each child.
        address: Ray cluster to join.
        sync: URL that the run folder is mirrored to as it grows.
        runner: ray, or local for this process: one child at a time unless ``workers`` says more.
        time_limit: seconds a child may take.
        cards: reference genotypes trained at every rung, outside the budget, to compare with; an empty list: none.
        warm_start: the search's first children: reference genotypes, genotype files, or runs (the best six of each).
        learn_from: what the controller's surrogate learns from first: packaged tables, CSV files of trials, or runs; empty: nothing.
        log: where scalars go: ``["tensorboard"]`` (the default), ``wandb``, ``mlflow``; an empty list: nowhere.
        settings: any setting by its dotted name, such as ``{"training.learning_rate": 0.05}``.
        run: folder of the run; None makes one under runs/.
        watcher: told what happens, and asked whether to stop.

    Returns:
        The run; ``run.ending`` says how it ended.

    Raises:
        UserError: something cannot be used as asked; or the search gave up because children failed one after the other.
    """
    return _search({**locals()})


def _search(said: dict[str, Any]) -> Run:
    """The arguments of ``search``, by their names, turned into a run."""
    controller, evaluator, preset, settings = said["controller"], said["evaluator"], said["preset"], said["settings"]
    given = {**said, "space": None if said["space"] is None else str(said["space"])}
    given["controller"] = controller if isinstance(controller, str | None) else GIVEN
    if isinstance(evaluator, str | None):
        scorer, config = None, search_wish(preset, settings, given)[0]
    else:
        scorer, config = as_evaluator(evaluator), own_search_config(preset, settings, given)
    if said["minutes"] is not None:
        from nas.runs.plan import expect_within

        config = expect_within(config, detect(), said["minutes"], measure=False).config
    from nas.runs import session as engine
    from nas.training.numerics import own_threads

    with own_threads():
        thinker = as_controller(controller, config, space_of(config))
        folder = None if said["run"] is None else path_of(said["run"], "--run")
        result = engine.start(config, folder, said["watcher"], engine.Parts(scorer, thinker))
    return _ended(result, thinker, said["watcher"])


def new_run(
    space: Place | None = None,
    *,
    budget: int | None = None,
    preset: str = "auto",
    controller: ControllerLike | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    settings: Assignments = (),
    run: Place | None = None,
) -> Run:
    """Begin a run whose children you train yourself: ask it for them and tell it their rewards (``Run.ask``, ``Run.tell``).

    Example::

        with nas.new_run("nasnet", budget=50, controller="evolution", run="runs/mine") as run:
            while (child := run.ask()) is not None:
                run.tell(child, my_training(child.genotype, child.seed))

    After a kill, the same loop over ``nas.open_run("runs/mine")`` goes on.

    Args:
        space: a search space's name, or a YAML file that declares one; None: the preset's.
        budget: children to train.
        preset: where settings come from that are not given.
        controller: a name, an object or a function, as for ``nas.search``.
        seed: of everything random.
        epochs: that you train a child for, where early stopping shall compare children on the way (``Run.report``).
        settings: any setting by its dotted name, such as ``{"halving.first": 1}``, which stops children early.
        run: folder of the run; None makes one under runs/.

    Raises:
        UserError: something cannot be used as asked, or the folder holds a run already.
    """
    from nas.runs import session as engine

    name = controller if isinstance(controller, str | None) else GIVEN
    given = {"space": None if space is None else str(space), "budget": budget, "controller": name, "seed": seed, "epochs": epochs}
    config = own_search_config(preset, settings, given)
    thinker = as_controller(controller, config, space_of(config))
    return Run(engine.create(config, None if run is None else path_of(run, "--run")), thinker)


def open_run(run: Place, *, controller: Controller | Choice | None = None) -> Run:
    """A run that exists, to look at or to go on with by asking and telling.

    Example::

        nas.open_run("last").to_pandas()

    Args:
        run: its folder, its name under runs/, or ``last``.
        controller: the object or function that proposes, where the run was begun with one.

    Raises:
        RunError: there is no such run.
    """
    folder = run_folder.find(str(run))
    config = folder.config()
    return Run(folder, None if controller is None else as_controller(controller, config, folder.space(config)))


def resume(
    run: "Place | Run",
    *,
    budget: int | None = None,
    evaluator: EvaluatorLike | None = None,
    controller: Controller | Choice | None = None,
    address: str | None = None,
    workers: int | None = None,
    data_dir: Place | None = None,
    sync: str | None = None,
    log: Sequence[str] | None = None,
    into: Place | None = None,
    watcher: Watcher = QUIET,
) -> Run:
    """Go on with a run that was interrupted or killed, or that shall have a larger budget.

    Example::

        nas.resume("last", budget=200)

    Args:
        run: a run, its folder, its name under runs/, ``last``, or the URL of a mirror.
        budget: children to train in all; None: as before.
        evaluator: the object or function that gives the reward, where the run was begun with one.
        controller: the object or function that proposes, where the run was begun with one, made in the same way.
        address: Ray cluster to join.
        workers: children trained at once.
        data_dir: folder that holds the data set on this machine.
        sync: URL that the run folder is mirrored to.
        log: where scalars go; None: as before.
        into: folder that a mirror is fetched into.
        watcher: told what happens, and asked whether to stop.

    Raises:
        UserError: the run or its data cannot be used; or the search gave up because children failed one after the other.
    """
    from nas.runs import session as engine
    from nas.training.numerics import own_threads

    if isinstance(evaluator, str):
        raise ConfigError(f"a run keeps the evaluator that it began with; only an object can be given again, but got {evaluator!r}")
    folder, mirror = find_or_fetch(str(run.path if isinstance(run, Run) else run), into)
    places: dict[str, Any] = {"runner.address": address, "runner.workers": workers, "data.root": absolute(data_dir)}
    places |= {"runner.sync": sync or mirror, "log": logger_names(log)}
    scorer = None if evaluator is None else as_evaluator(evaluator)
    config = folder.config()
    thinker = None if controller is None else as_controller(controller, config, folder.space(config))
    with own_threads():
        result = engine.resume(folder, budget, watcher, places, engine.Parts(scorer, thinker))
    return _ended(result, thinker, watcher)


def find_or_fetch(name: str, into: Place | None) -> tuple[RunFolder, str | None]:
    """The folder of a run, fetched where ``name`` is the URL of its mirror; and that URL. Raises UserError."""
    if "://" in name:
        from nas.runs import mirror

        return mirror.fetch(name, None if into is None else path_of(into, "--run")), name
    if into is not None:
        raise ConfigError(f"--run names the folder that a mirror is fetched into, and goes with a URL, but got {name!r}")
    return run_folder.find(name), None


def as_evaluator(given: Evaluator | Callable[[Genotype], float]) -> Evaluator:
    """An evaluator of an object or a function. Raises ConfigError where it is neither."""
    if hasattr(given, "evaluate"):
        return given
    if not callable(given):
        raise ConfigError(f"an evaluator must be a name, an object with `evaluate`, or a function of a genotype, but got {given!r}")
    from nas.evaluators.function import FunctionEvaluator

    return FunctionEvaluator(given)


def as_controller(given: ControllerLike | None, config: SearchConfig, space: SearchSpace) -> Controller | None:
    """A controller of an object or a function; None for a name, which the session makes one of. Raises ConfigError where it is neither."""
    if isinstance(given, str | None):
        return None
    if all(callable(getattr(given, name, None)) for name in ("ask", "tell", "state_dict", "load_state_dict")):
        return cast(Controller, given)
    if not callable(given):
        raise ConfigError(
            "a controller must be a name, an object with ask, tell, state_dict and load_state_dict, or a function that chooses actions, "
            f"but got {given!r}"
        )
    return FunctionController(given, space, config.seed)


def _ended(result: Any, controller: Controller | None, watcher: Watcher) -> Run:  # noqa: ANN401 - nas.runs.session.SearchResult, whose import is slow
    """The run of a session that has ended, after its winner was trained where it has a ladder."""
    from nas.runs import session as engine

    engine.check_failing(result)
    if result.config.ladder and result.ending in (Ending.FINISHED, Ending.EXHAUSTED):
        from nas.runs.finalists import crown
        from nas.training.numerics import own_threads

        with own_threads():
            crown(result.folder, watcher.stop)
    return Run(result.folder, controller)
