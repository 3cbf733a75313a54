"""Our controllers and child training inside somebody's own Ray Tune set-up: a ``Searcher`` and a trainable for ``tune.Tuner``.

With Tune's schedulers, loggers and callbacks; ``examples/ray_tune_search.py`` is a whole program. Tune's own limits remain
(its schedulers forget their rungs on restore, its cost for each trial grows with their number): ``nas search`` has neither.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from controllers.controller import FAILURE_REASONS, Completed, Controller, Failed, Outcome, Proposal, Stopped, as_number, random_for
from controllers.deduplicated import Deduplicated
from controllers.options import ControllerError, OptionValue
from controllers.registry import make_controller
from nas.errors import ConfigError, GenotypeError, RunError
from nas.evaluators.evaluator import Attempt, Evaluation
from nas.evaluators.registry import build_evaluator, prepare_data, prepare_shared
from nas.networks.matching import read_match
from nas.runners.ray_pool import actor_options
from nas.runners.ray_start import start_ray
from nas.runners.runner import Job, run_child
from nas.runs import controller_state as snapshot
from nas.runs.config import SearchConfig
from nas.runs.loop import MAX_REPEATS_IN_A_ROW
from nas.runs.sizing import sized
from nas.tools.files import write_atomically
from nas.tools.hardware import detect
from search_spaces.genotype import Genotype, from_document, to_json
from search_spaces.plugins import trust_modules, trusted
from search_spaces.registry import load_space
from search_spaces.space import SearchSpace
from search_spaces.strict_yaml import parse_document

GENOTYPE, SEED = "genotype", "seed"
"""Keys of a trial's config: the genotype as one line of JSON, and the seed of its child."""
METRIC = "reward"
"""What the trainable reports, and the searcher learns from unless told otherwise: validation accuracy in [0, 1]."""
FAILURE, DETAIL = "failure", "failure_detail"
"""Keys of the last result of a child that failed; its reward is NaN there."""
SCHEMA = "nas.searcher/1"


class ControllerSearcher(Searcher):
    """A controller behind its canonical-cell cache, as Ray Tune's ``search_alg``.

    ``suggest`` returns ``{"genotype": JSON, "seed": int}``, which joins the constants of ``param_space``. Wrap it in
    ``ConcurrencyLimiter``, or set ``TuneConfig(max_concurrent_trials=…)``: a bare searcher is asked for one trial at a time.

    How results become outcomes: a trial that ended by itself or has reported its last epoch (``epoch`` = ``epochs``) is
    ``Completed``; one that the scheduler or a stopping criterion ended is ``Stopped``; an error, a missing metric
    and a ``failure`` among the last result are ``Failed``, a metric that is no finite number is ``Failed("diverged")``; a
    trial that was removed without any result counts as untrained, and may be proposed again.

    Args:
        space: a search space, or the name or YAML file of one.
        controller: a controller of the space, or the name of one (``controllers.registry.CONTROLLERS``).
        seed: decides every draw of the controller, and the seeds of the children.
        options: of the controller, where it is given by name.
        metric: what to learn from. With ``mode="max"`` it must be a share in [0, 1].
        mode: ``max``; or ``min`` for a loss v, which becomes the reward ½ (1 − v / (1 + |v|)).

    Raises:
        UserError: space, controller, option or mode do not exist or break a rule.
    """

    CKPT_FILE_TMPL = "searcher-state-{}.pkl"
    """Tune brings files of this name back when it restores, and no others; what is in them is safetensors all the same."""

    def __init__(
        self,
        space: SearchSpace | str = "nasnet",
        controller: Controller | str = "ppo",
        *,
        seed: int = 0,
        options: Mapping[str, OptionValue] | None = None,
        metric: str = METRIC,
        mode: str = "max",
    ) -> None:
        if mode not in ("max", "min"):
            raise ControllerError(f"mode must be max or min, but got {mode!r}")
        if options and not isinstance(controller, str):
            raise ControllerError("options belong to a controller that is given by name; this one is made already")
        super().__init__(metric=metric, mode=mode)
        self._learns_from, self._minimises = metric, mode == "min"
        self.space = load_space(space) if isinstance(space, str) else space
        inner = make_controller(controller, self.space, seed, options) if isinstance(controller, str) else controller
        self.controller = Deduplicated(inner, self.space, seed)
        self.seed = seed
        self.asked = 0
        self.pending: dict[str, Proposal] = {}
        """Proposals being trained, by Tune's trial id."""
        self._passed_on: dict[str, int] = {}  # trial id -> last iteration after which Tune let the trial go on

    # ------------------------------------------------------------------------------------------------ Tune's calls

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: object) -> bool:
        """Called by Tune with what ``TuneConfig`` says. Raises ControllerError where that contradicts the searcher."""
        for name, asked, ours in (("metric", metric, self._metric), ("mode", mode, self._mode)):
            if asked is not None and asked != ours:
                raise ControllerError(f"TuneConfig({name}={asked!r}) must agree with the searcher, which has {name}={ours!r}")
        return False  # no part of param_space is searched: Tune refuses distributions in it, and takes constants

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The next genotype; None while all that is left is being trained, FINISHED when the space is exhausted."""
        for _ in range(MAX_REPEATS_IN_A_ROW):
            pending = list(self.pending.values())
            proposal = self.controller.ask(self.asked, pending)
            earlier = self.controller.recall(proposal)
            if earlier is None and self.controller.is_pending(proposal, pending):
                return None
            self.asked += 1
            if earlier is None:
                self.pending[trial_id] = proposal
                child_seed = random_for(self.seed, "child", proposal.trial).getrandbits(31)
                return {GENOTYPE: to_json(self.space.decode(proposal.actions), indent=None), SEED: child_seed}
            self.controller.tell(proposal, earlier[1])
        return Searcher.FINISHED  # type: ignore[return-value]  # a word, against the annotation of Ray's own base class

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Called for a result after which the trial goes on."""
        if trial_id in self.pending:
            self._passed_on[trial_id] = _iteration(result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Called once when a trial has ended. Trials that are unknown, or known to have ended, are ignored."""
        proposal = self.pending.pop(trial_id, None)
        last = self._passed_on.pop(trial_id, -1)
        if proposal is not None:
            self.controller.tell(proposal, self._outcome(result, error, last))

    def add_evaluated_point(
        self,
        parameters: dict[str, Any],
        value: float,
        error: bool = False,
        pruned: bool = False,
        intermediate_values: list[float] | None = None,
    ) -> None:
        """Learn from a trial of another experiment. Raises GenotypeError where its config has no genotype of this space."""
        proposal = Proposal(self.asked, self.space.encode(genotype_of(parameters)))
        self.asked += 1
        outcome = self._outcome(None if value is None else {self._learns_from: value}, error, -1 if pruned else 0)
        self.controller.tell(proposal, outcome)

    def _outcome(self, result: Mapping[str, Any] | None, error: bool, passed_on: int) -> Outcome:
        if error:
            return Failed("exception", "the trial ended with an error; its error.txt says more")
        if not result:
            return Failed("worker_lost", "the trial was removed before it had a result")
        if result.get(FAILURE) in FAILURE_REASONS:
            return Failed(result[FAILURE], str(result.get(DETAIL, "")))
        if self._learns_from not in result:
            return Failed("exception", f"the last result has no {self._learns_from!r}")
        value = as_number(result[self._learns_from])
        if not math.isfinite(value):
            return Failed("diverged", f"{self._learns_from} is {result[self._learns_from]!r}")
        if self._minimises:
            value = 0.5 * (1 - value / (1 + abs(value)))
        elif not 0 <= value <= 1:
            raise ControllerError(f"{self._learns_from} must be a share in [0, 1] to be a reward, but a trial reported {value:g}")
        whole = result["epoch"] >= result["epochs"] if "epoch" in result and "epochs" in result else _iteration(result) <= passed_on
        return Completed(value) if whole else Stopped(_iteration(result), value)

    # ------------------------------------------------------------------------------------------------ save and restore

    def save(self, checkpoint_path: str) -> None:
        """Write the whole state as one safetensors file (no pickle), atomically."""
        state = {
            "asked": self.asked,
            "pending": {trial_id: [p.trial, list(p.actions), list(p.log_probs), p.policy_version] for trial_id, p in self.pending.items()},
            "passed_on": self._passed_on,
            "controller": self.controller.state_dict(),
        }
        write_atomically(Path(checkpoint_path), snapshot.to_bytes(state, self._identity()))

    def restore(self, checkpoint_path: str) -> None:
        """Go on exactly where ``save`` was called: the same proposals follow.

        Raises:
            RunError: the file cannot be read, or belongs to another space, controller or seed.
        """
        try:
            header, state = snapshot.from_bytes(Path(checkpoint_path).read_bytes())
            for key, ours in self._identity().items():
                if header.get(key) != ours:
                    raise ValueError(f"its {key} is {header.get(key)!r}, but this searcher's is {ours!r}")
            pending = {
                str(trial_id): Proposal(int(number), tuple(map(int, actions)), tuple(map(float, log_probs)), int(version))
                for trial_id, (number, actions, log_probs, version) in state["pending"].items()
            }
            passed_on = {str(trial_id): int(iteration) for trial_id, iteration in state["passed_on"].items()}
            asked = int(state["asked"])
            self.controller.load_state_dict(state["controller"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as problem:
            raise RunError(f"{checkpoint_path}: not the state of this searcher: {problem}") from None
        self.asked, self.pending, self._passed_on = asked, pending, passed_on

    def __getstate__(self) -> dict[str, Any]:
        """For Tune, which pickles its whole ``Tuner`` before it starts: all but the cache's memory of canonical keys."""
        cache = self.controller
        return {**self.__dict__, "controller": (cache.controller, cache.trained)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        inner, trained = state["controller"]
        self.controller = Deduplicated(inner, self.space, self.seed)
        self.controller.trained = trained

    def _identity(self) -> dict[str, str]:
        choices = ",".join(str(len(decision.choices)) for decision in self.space.decisions)
        return {
            "schema": SCHEMA,
            "space": f"{self.space.name}:{choices}",
            "controller": type(self.controller.controller).__name__,
            "seed": str(self.seed),
            "metric": f"{self.mode} {self.metric}",
        }


def _iteration(result: Mapping[str, Any]) -> int:
    return int(result.get("training_iteration", 0))


def genotype_of(config: Mapping[str, Any]) -> Genotype:
    """The genotype in a trial's config, such as ``results.get_best_result().config``. Raises GenotypeError."""
    text = config.get(GENOTYPE)
    if not isinstance(text, str):
        raise GenotypeError(f"a trial's config must have a {GENOTYPE!r} (JSON text), but it has {', '.join(map(str, config)) or 'nothing'}")
    return from_document(parse_document(text, GenotypeError, f"config[{GENOTYPE!r}]"))


# ---------------------------------------------------------------------------------------------------- the trainable


CHECKPOINT = "child.safetensors"
"""The file in a Tune checkpoint."""


def child_trainable(config: SearchConfig, checkpoint_every: int = 1) -> Callable[[dict[str, Any]], None]:
    """The child training of a search (data, fidelity, recipe, resources) as a function for ``tune.Tuner``.

    It reports after every epoch: ``reward``, ``epoch`` of ``epochs`` (the time attribute for schedulers), and what was
    measured; with the last epoch also ``params``, ``macs`` and ``train_seconds``. A child that diverges or runs out of memory
    or time ends with the reward NaN and its reason as ``failure``. The data set is read once, here, and shared through
    Ray's object store; so Ray is started here, on this machine or with the cluster that ``config.runner`` names, unless it was.

    Args:
        config: the search whose children are trained; its controller, limits, objective and runner's workers mean nothing here; with
            ``match`` a child has the width that comes nearest to the cost.
        checkpoint_every: epochs between two checkpoints, from which Tune goes on with a child that was interrupted or paused,
            as if it had not been; 0 keeps none.

    Raises:
        UserError: the data cannot be used, the resources do not exist, or networks are matched to a latency.
    """
    if config.match is not None and read_match(config.match).measured:
        raise ConfigError(f"Tune's workers would measure a latency each for itself: match must be macs or params, but is {config.match}")
    shared = prepare_shared(config, prepare_data(config))
    if not ray.is_initialized():
        start_ray(config.runner, detect().cores)
    with_data = tune.with_parameters(child, search=config, shared=shared, modules=trusted(), checkpoint_every=checkpoint_every)
    asked = actor_options(config.runner, ray.cluster_resources())  # type: ignore[no-untyped-call]
    trainable: Callable[[dict[str, Any]], None] = tune.with_resources(with_data, {"cpu": asked["num_cpus"], "gpu": asked["num_gpus"]})
    return trainable


def child(config: dict[str, Any], search: SearchConfig, shared: object, checkpoint_every: int, modules: tuple[str, ...] = ()) -> None:
    """Train the child of one trial; runs in Tune's worker."""
    trust_modules(modules)
    epochs = search.fidelity.epochs
    job = Job(0, 1, genotype_of(config), int(config.get(SEED, search.seed)))
    fidelity = None if search.match is None else sized(search, job.genotype).fidelity
    attempt = Attempt(
        _resumed(), keep=lambda epoch: checkpoint_every > 0 and epoch % checkpoint_every == 0 and epoch < epochs, fidelity=fidelity
    )
    training = run_child(build_evaluator(search, shared), job, search.runner.time_limit, attempt)
    held: dict[str, Any] = {}
    reached = 0
    while True:
        try:
            report = next(training)
        except StopIteration as end:
            evaluation: Evaluation = end.value
            break
        reached = report.epoch
        held = {METRIC: report.reward, "epoch": report.epoch, "epochs": epochs, **report.metrics}
        if report.epoch < epochs:
            _report(held, report.checkpoint)
    outcome = evaluation.outcome
    if isinstance(outcome, Failed):
        ending = {METRIC: math.nan, FAILURE: outcome.reason, DETAIL: outcome.detail}
        tune.report({**ending, "epoch": reached, "epochs": epochs, **evaluation.metrics})
    else:
        tune.report({**held, **evaluation.metrics, METRIC: outcome.reward, "epoch": epochs, "epochs": epochs})


def _report(metrics: dict[str, Any], checkpoint: bytes | None) -> None:
    if checkpoint is None:
        tune.report(metrics)
        return
    with TemporaryDirectory() as folder:
        Path(folder, CHECKPOINT).write_bytes(checkpoint)
        tune.report(metrics, checkpoint=tune.Checkpoint.from_directory(folder))


def _resumed() -> bytes | None:
    """The state that Tune wants the child to go on from."""
    kept = tune.get_checkpoint()
    if kept is None:
        return None
    with kept.as_directory() as folder:
        return Path(folder, CHECKPOINT).read_bytes()
