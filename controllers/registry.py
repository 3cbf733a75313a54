"""Makes a controller from its name and options. Importing this module does not import torch; making a policy does."""

from collections.abc import Mapping

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
from search_spaces.space import SearchSpace

CONTROLLERS: dict[str, type] = {
    "ppo": PolicyGradientOptions,
    "reinforce": PolicyGradientOptions,
    "evolution": EvolutionOptions,
    "local_search": NoOptions,
    "random": NoOptions,
}
"""Every controller's name and its options: a new controller is a file in this package and a name here and below."""


def check_options(name: str, options: Mapping[str, OptionValue]) -> PolicyGradientOptions | EvolutionOptions | NoOptions:
    """The options of a controller, complete and valid, without making it.

    Raises:
        ControllerError: the name or an option breaks a rule.
    """
    if name not in CONTROLLERS:
        raise ControllerError(f"unknown controller {name!r}; choose one of {', '.join(CONTROLLERS)}")
    if name in ("ppo", "reinforce"):
        return policy_gradient_options(name, options)
    checked: EvolutionOptions | NoOptions = read_options(CONTROLLERS[name], name, options)
    return checked


def make_controller(name: str, space: SearchSpace, seed: int, options: Mapping[str, OptionValue] | None = None) -> Controller:
    """The controller of that name. Wrap it in ``wrappers.Deduplicated`` so that no cell is trained twice.

    Raises:
        ControllerError: the name or an option breaks a rule.
    """
    checked = check_options(name, options or {})
    if isinstance(checked, PolicyGradientOptions):
        from controllers.policy_gradient import PolicyGradientController  # here, so that listing controllers does not load torch

        return PolicyGradientController(space, seed, checked)
    if isinstance(checked, EvolutionOptions):
        return Evolution(space, seed, checked)
    return LocalSearch(space, seed) if name == "local_search" else RandomSearch(space, seed)
