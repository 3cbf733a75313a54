"""The contract that every controller keeps; ``test_controllers.py`` runs it for each, bare and in the canonical-cell cache."""

import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import torch

from controllers.controller import Completed, Controller, Failed, Outcome, Proposal, Stopped
from search_spaces.space import CellSpace, SearchSpace, check_actions

SMALL_SPACE = CellSpace("small", operations=("identity", "sep_conv_3x3", "max_pool_3x3"), nodes=2)
"""Two cells of two nodes: 20 decisions, some with a varying number of choices."""

Make = Callable[[SearchSpace, int], Controller]
History = list[tuple[Proposal, Outcome]]


def reward_for(actions: Sequence[int]) -> float:
    """A smooth objective: the share of decisions that take their first choice."""
    return sum(action == 0 for action in actions) / len(actions)


def disorderly_history(controller: Controller, trials: int, seed: int = 0) -> tuple[History, list[Proposal], list[Proposal]]:
    """Drive a controller with up to 7 in flight, told in random order, with every kind of outcome; some never arrive.

    Returns what was told, in order, the proposals never told, and all proposals as asked.
    """
    rng = random.Random(seed)
    told: History = []
    pending: list[Proposal] = []
    asked: list[Proposal] = []
    for trial in range(trials):
        proposal = controller.ask(trial, pending)
        pending.append(proposal)
        asked.append(proposal)
        while len(pending) > rng.randrange(1, 8):
            finished = pending.pop(rng.randrange(len(pending)))
            kind, reward = rng.random(), reward_for(finished.actions)
            outcome: Outcome
            if kind < 0.7:
                outcome = Completed(reward)
            elif kind < 0.85:
                outcome = Stopped(1, reward / 2)
            else:
                outcome = Failed(rng.choice(["diverged", "worker_lost", "out_of_memory"]))
            controller.tell(finished, outcome)
            told.append((finished, outcome))
    return told, pending, asked


def tell_all(controller: Controller, history: History) -> Controller:
    for proposal, outcome in history:
        controller.tell(proposal, outcome)
    return controller


def through_storage(state: Any) -> Any:
    """The state as it comes back from a file: plain JSON values, tensors by value; anything else is refused."""
    if isinstance(state, dict):
        assert all(isinstance(key, str) for key in state)
        return {key: through_storage(value) for key, value in state.items()}
    if isinstance(state, list):
        return [through_storage(value) for value in state]
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    assert state is None or type(state) in (str, int, float), f"{type(state)} cannot be stored"
    return json.loads(json.dumps(state, allow_nan=False))


def proposals_are_valid(make: Make) -> None:
    """Proposals carry their trial's number, valid actions, and one finite log-probability an action, or none."""
    _, _, asked = disorderly_history(make(SMALL_SPACE, 1), 40)
    assert [proposal.trial for proposal in asked] == list(range(40))
    for proposal in asked:
        check_actions(SMALL_SPACE.decisions, proposal.actions)
        assert all(type(action) is int for action in proposal.actions)
        assert len(proposal.log_probs) in (0, len(SMALL_SPACE.decisions))
        assert all(-50 < p <= 0 for p in proposal.log_probs)
        assert proposal == Proposal(**json.loads(json.dumps(as_plain(proposal)), object_hook=_tuples))


def as_plain(proposal: Proposal) -> dict[str, Any]:
    return {name: getattr(proposal, name) for name in ("trial", "actions", "log_probs", "policy_version")}


def _tuples(plain: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in plain.items()}


def asking_changes_nothing(make: Make) -> None:
    """Ask is a function: extra asks, with other arguments, leave the next proposals as they were."""
    history, pending, _ = disorderly_history(make(SMALL_SPACE, 2), 30)
    curious, plain = tell_all(make(SMALL_SPACE, 2), history), tell_all(make(SMALL_SPACE, 2), history)
    for trial in (100, 30, 31, 107):
        for redraw in (0, 3, 9, 40):
            curious.ask(trial, pending[:1], redraw)
    assert curious.ask(30, pending) == plain.ask(30, pending) == plain.ask(30, pending)


def different_trials_and_redraws_differ(make: Make) -> None:
    """Neither the trial's number nor the redraw is ignored."""
    controller = tell_all(make(SMALL_SPACE, 3), disorderly_history(make(SMALL_SPACE, 3), 12)[0])
    assert len({controller.ask(12, [], redraw).actions for redraw in range(24)}) > 3
    untold = make(SMALL_SPACE, 3)
    assert len({untold.ask(trial, []).actions for trial in range(24)}) > 20


def replay_at_every_prefix(make: Make) -> None:
    """Telling the record to a fresh controller makes it the same controller, after any number of outcomes."""
    history, _, _ = disorderly_history(make(SMALL_SPACE, 4), 40)
    original = make(SMALL_SPACE, 4)
    for told, (proposal, outcome) in enumerate(history):
        rebuilt = tell_all(make(SMALL_SPACE, 4), history[:told])
        pending = [later for later, _ in history[told : told + 2]]
        assert rebuilt.ask(told, pending) == original.ask(told, pending), f"after {told} outcomes"
        original.tell(proposal, outcome)


def restore_at_every_prefix(make: Make) -> None:
    """A controller restored from its state goes on as the one it came from, through later outcomes as well."""
    history, _, _ = disorderly_history(make(SMALL_SPACE, 5), 40)
    original = make(SMALL_SPACE, 5)
    for told, (proposal, outcome) in enumerate(history):
        restored = make(SMALL_SPACE, 5)
        restored.load_state_dict(through_storage(original.state_dict()))
        pending = [later for later, _ in history[told : told + 2]]
        assert restored.ask(told, pending) == original.ask(told, pending), f"after {told} outcomes"
        if told % 10 == 0:
            branch = make(SMALL_SPACE, 5)
            branch.load_state_dict(through_storage(original.state_dict()))
            tell_all(branch, history[told:])
            assert branch.ask(99, []) == tell_all(make(SMALL_SPACE, 5), history).ask(99, [])
        original.tell(proposal, outcome)


def foreign_state_is_refused(make: Make) -> None:
    """A state that does not fit raises ValueError."""
    for foreign in ({"nonsense": 1}, {"told": "x", "population": 3}):
        try:
            make(SMALL_SPACE, 6).load_state_dict(foreign)
        except ValueError:
            continue
        raise AssertionError(f"accepted {foreign}")


def lost_workers_teach_nothing(make: Make) -> None:
    """A lost worker says nothing about an architecture: the next proposal is as if it had not been told."""
    history, _, _ = disorderly_history(make(SMALL_SPACE, 7), 20)
    controller = tell_all(make(SMALL_SPACE, 7), history)
    before = controller.ask(20, [])
    controller.tell(Proposal(50, tuple(0 for _ in SMALL_SPACE.decisions)), Failed("worker_lost"))
    assert controller.ask(20, []) == before


def rewards_that_are_none_are_refused(make: Make) -> None:
    """NaN, infinities and what is no share never reach a controller; what is refused leaves no trace."""
    history, _, _ = disorderly_history(make(SMALL_SPACE, 8), 12)
    controller = tell_all(make(SMALL_SPACE, 8), history)
    before, proposal = json.dumps(str(controller.state_dict())), controller.ask(12, [])
    for value in (float("nan"), float("inf"), -float("inf"), 1.5, -0.1, None, "0.5"):
        for outcome in (Completed, lambda reward: Stopped(1, reward)):
            try:
                controller.tell(proposal, outcome(value))
            except ValueError:
                continue
            raise AssertionError(f"accepted {value!r}")
    assert json.dumps(str(controller.state_dict())) == before


CONTRACT: tuple[Callable[[Make], None], ...] = (
    proposals_are_valid,
    asking_changes_nothing,
    different_trials_and_redraws_differ,
    replay_at_every_prefix,
    restore_at_every_prefix,
    foreign_state_is_refused,
    lost_workers_teach_nothing,
    rewards_that_are_none_are_refused,
)
