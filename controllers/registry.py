"""Makes a controller from its name and options. Importing this module does not import torch; making a policy does."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from controllers.controller import Controller
from controllers.evolution import Evolution
from controllers.local_search import LocalSearch
from controllers.options import (
    ControllerError,
    EvolutionOptions,
    NoOptions,
    OptionValue,
    PolicyGradientOptions,
    policy_gradient_options,
    read_options,
)
from controllers.random_search import RandomSearch
from search_spaces.plugins import Registry
from search_spaces.space import SearchSpace


@dataclass(frozen=True)
class ControllerRow:
    """A controller as a search finds it.

    Attributes:
        make: from space, seed and options; imports what is heavy when called.
        options: a dataclass whose fields ``controllers.options.option`` made.
        read: from the controller's name and what is given, the options; None checks each field by its rule.
        learns: whether, with these options, it is a ``Beginner``: learns from earlier searches.
    """

    make: Callable[[SearchSpace, int, Any], Controller]
    options: type = NoOptions
    read: Callable[[str, Mapping[str, OptionValue]], Any] | None = None
    learns: Callable[[Any], bool] = lambda options: False


def _policy_gradient(space: SearchSpace, seed: int, options: PolicyGradientOptions) -> Controller:
    from controllers.policy_gradient import PolicyGradientController  # here, so that listing controllers does not load torch

    return PolicyGradientController(space, seed, options)


def _has_surrogate(options: PolicyGradientOptions) -> bool:
    return options.screen


def _row(found: object) -> ControllerRow:
    if isinstance(found, ControllerRow):
        return found
    if callable(found):
        return ControllerRow(lambda space, seed, options: found(space, seed))
    raise TypeError(f"must be a controllers.registry.ControllerRow, or a class made from space and seed, but got {found!r:.200}")


CONTROLLERS: Registry[ControllerRow] = Registry(
    "controller",
    "nas.controllers",
    {
        "ppo": ControllerRow(_policy_gradient, PolicyGradientOptions, policy_gradient_options, _has_surrogate),
        "reinforce": ControllerRow(_policy_gradient, PolicyGradientOptions, policy_gradient_options, _has_surrogate),
        "evolution": ControllerRow(Evolution, EvolutionOptions),
        "local_search": ControllerRow(lambda space, seed, options: LocalSearch(space, seed)),
        "random": ControllerRow(lambda space, seed, options: RandomSearch(space, seed)),
    },
    _row,
    ControllerError,
)
"""Every controller: a new one is a file in this package and a row here, which enters it in the contract tests."""


def check_options(name: str, options: Mapping[str, OptionValue]) -> Any:  # noqa: ANN401 - of the row's class
    """The options of a controller, complete and valid, without making it.

    Raises:
        ControllerError: the name or an option breaks a rule.
        PluginError: a controller from outside cannot be imported.
    """
    row = CONTROLLERS[name]
    return row.read(name, options) if row.read is not None else read_options(row.options, name, options)


def learns(name: str, options: Mapping[str, OptionValue]) -> bool:
    """Whether the controller, with these options, learns from earlier searches. Raises as ``check_options``."""
    return CONTROLLERS[name].learns(check_options(name, options))


def check_learning(name: str, options: Mapping[str, OptionValue]) -> None:
    """Raise ControllerError where the controller, with these options, learns nothing from earlier searches."""
    if not learns(name, options):
        if isinstance(check_options(name, options), PolicyGradientOptions):
            raise ControllerError(
                f"{name} learns from earlier trainings unless screen is false, as it is with the options that it got; set "
                "controller.options.screen=true, or learn from none"
            )
        able = [known for known in CONTROLLERS.built_in if learns(known, {})]
        raise ControllerError(
            f"only a controller with a surrogate learns from earlier trainings ({', '.join(able)}, unless screen is false), but got "
            f"controller {name!r}; choose another, or learn from none"
        )


def make_controller(name: str, space: SearchSpace, seed: int, options: Mapping[str, OptionValue] | None = None) -> Controller:
    """The controller of that name. Wrap it in ``wrappers.Deduplicated`` so that no cell is trained twice.

    Raises:
        ControllerError: the name or an option breaks a rule.
        PluginError: a controller from outside cannot be imported.
    """
    return CONTROLLERS[name].make(space, seed, check_options(name, options or {}))
