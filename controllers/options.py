"""The options of every controller, with their rules: frozen dataclasses, read from plain mappings. No torch."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from typing import Any, TypeVar

from search_spaces.errors import UserError

OptionValue = int | float | str | bool | None


class ControllerError(UserError):
    """A controller's name or option breaks a rule. Correct the name, or the option."""


def option(default: OptionValue, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = (), text: str = "") -> Any:  # noqa: ANN401
    """A dataclass field with its rule: bounds (inclusive), or the words it may be, and a line for people."""
    return field(default=default, metadata={"low": low, "high": high, "choices": choices, "text": text})


@dataclass(frozen=True)
class NoOptions:
    """A controller without options."""


@dataclass(frozen=True)
class EvolutionOptions:
    """Options of regularised evolution."""

    population: int = option(30, low=1, text="children that may be parents: the last ones told")
    sample: int = option(10, low=1, text="size of a tournament")


@dataclass(frozen=True)
class PolicyGradientOptions:
    """Options of the LSTM policy and its training. The defaults are measured; ``preset: paper`` has the paper's values."""

    preset: str = option("default", choices=("default", "paper"), text="the values that the other options start from")
    algorithm: str = option("ppo", choices=("ppo", "reinforce"), text="the policy gradient")
    hidden: int = option(100, low=1, high=4096, text="units of the LSTM")
    embedding: int = option(32, low=1, high=4096, text="size of the embedding of the previous action")
    recurrent: bool = option(True, text="false replaces the LSTM by independent logits for every decision")
    init_scale: float = option(0.1, low=0, high=1, text="LSTM and embeddings start uniform in ±this")
    head_init_scale: float = option(0.0, low=0, high=1, text="output layers start uniform in ±this; 0 makes the first policy uniform")
    learning_rate: float = option(0.001, low=0, text="of Adam, for the LSTM, its embeddings and output layers")
    bias_learning_rate: float = option(0.1, low=0, text="of Adam, for the biases: what is good whatever was chosen before")
    batch: int = option(5, low=1, text="outcomes an update waits for")
    replay: int = option(2, low=1, text="recent batches an update learns from, the newest included")
    epochs: int = option(4, low=1, text="gradient steps an update")
    clip: float = option(0.2, low=0, text="PPO keeps probability ratios within 1 ± this; REINFORCE caps importance weights at 1 + this")
    clip_norm: float = option(1.0, low=0, text="largest gradient norm; 0 does not clip")
    entropy: float = option(0.01, low=0, text="weight of the entropy bonus")
    entropy_floor: float = option(0.0, low=0, high=1, text="share of the greatest entropy below which a stronger bonus holds the policy")
    reward: str = option("rank", choices=("rank", "quantile", "baseline"), text="how rewards become advantages")
    baseline_decay: float = option(0.95, low=0, high=1, text="of the moving average that reward: baseline subtracts")
    normalise: bool = option(False, text="divide baseline advantages by their standard deviation")
    screen: bool = option(True, text="let a surrogate choose among many candidates what is proposed")
    screen_pool: int = option(
        0, low=2, text="candidates the surrogate chooses from; unless said, four for every choice of the space's decisions, at least 320"
    )
    screen_uniform: float = option(0.4, low=0, high=0.9, text="share of them that are uniform draws")
    screen_local: float = option(0.7, low=0, high=1, text="share of the samples that changes of the best cells replace")
    screen_local_every: int = option(1, low=1, text="in every so many pools; in the others there are no changes")
    screen_features: bool = option(True, text="the surrogate may look at what the space says that architectures are like")
    screen_start: int = option(5, low=3, text="outcomes told before the surrogate is asked; none where it learns from earlier searches")
    screen_capacity: int = option(300, low=10, text="outcomes the surrogate learns from")


PAPER: dict[str, OptionValue] = {
    "hidden": 100,
    "embedding": 100,
    "init_scale": 0.1,
    "head_init_scale": 0.1,
    "learning_rate": 0.00035,
    "bias_learning_rate": 0.00035,
    "batch": 20,
    "replay": 1,
    "epochs": 1,
    "clip_norm": 0.0,
    "entropy": 0.00001,
    "reward": "baseline",
    "baseline_decay": 0.95,
    "normalise": False,
    "screen": False,
}
"""Zoph et al. 2018 (arXiv 1707.07012), appendix A.1. Unstated there and chosen here: epochs, clip 0.2, embedding, no normalisation."""

REINFORCE: dict[str, OptionValue] = {"epochs": 1}
"""Where REINFORCE's defaults differ: nothing bounds how far several steps on the same batch would carry it."""

T = TypeVar("T")


def read_options(kind: type[T], controller: str, given: Mapping[str, OptionValue]) -> T:
    """Check a mapping against the fields of an options class and build it.

    Raises:
        ControllerError: an option is unknown, of the wrong type, or out of its range.
    """
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    checked: dict[str, OptionValue] = {}
    for name, value in given.items():
        if name not in known:
            raise ControllerError(f"controller {controller!r} has no option {name!r}; valid options: {', '.join(known) or 'none'}")
        rule = known[name]
        assert rule.default is not MISSING
        checked[name] = _check(f"option {name!r} of controller {controller!r}", value, type(rule.default), rule.metadata)
    return kind(**checked)


def policy_gradient_options(controller: str, given: Mapping[str, OptionValue]) -> PolicyGradientOptions:
    """Options of a policy-gradient controller: the preset's values first, then those given. ``controller`` fixes the algorithm.

    Raises:
        ControllerError: an option breaks its rule.
    """
    chosen = read_options(PolicyGradientOptions, controller, {"algorithm": controller, **given})
    if chosen.algorithm != controller:
        raise ControllerError(f"controller {controller!r} cannot have algorithm {chosen.algorithm!r}; choose the controller of that name")
    preset = PAPER if chosen.preset == "paper" else REINFORCE if controller == "reinforce" else {}
    return replace(chosen, **{name: value for name, value in preset.items() if name not in given})  # type: ignore[arg-type]


def _check(what: str, value: OptionValue, kind: type, rule: Mapping[str, Any]) -> OptionValue:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        name = {int: "an integer", float: "a number", str: "a word", bool: "true or false"}[kind]
        raise ControllerError(f"{what} must be {name}, but got {value!r}")
    if rule["choices"] and value not in rule["choices"]:
        raise ControllerError(f"{what} must be one of {', '.join(rule['choices'])}, but got {value!r}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = rule["low"], rule["high"]
        if not ((low is None or value >= low) and (high is None or value <= high) and abs(value) < float("inf")):
            bounds = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
            raise ControllerError(f"{what} must be {bounds}, but got {value!r}")
    return value
