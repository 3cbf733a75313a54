"""The policy-gradient controller: an LSTM policy trained by PPO or REINFORCE on small, replayed batches of outcomes."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from controllers import losses as pg
from controllers.controller import Earlier, Outcome, Proposal
from controllers.moves import reward_of
from controllers.options import ControllerError, PolicyGradientOptions
from controllers.policy import Policy, generator_for
from controllers.screening import Screen
from controllers.surrogate import Point
from search_spaces.space import Actions, SearchSpace, check_actions

TEMPERATURES = (1.0, 1.5, 2.5, 5.0)
"""At which redraws sample: the first eight at 1, the next eight at 1.5, …, all further ones at 5."""
DRAWS_A_LEVEL = 8
TRIALS_A_POOL = 16
"""Trials that share one batched pass of the policy; its cost is almost the same for 1 sequence and for 128."""
HISTORY = 2000
"""Rewards kept for quantiles."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """A told proposal: what an update learns from."""

    actions: Actions
    log_probs: tuple[float, ...]
    version: int
    reward: float


class PolicyGradientController:
    """Samples from a policy and improves it after every ``batch`` outcomes, whatever their order and age.

    The stored log-probabilities of the policy that proposed make the updates off-policy correct when many workers are busy.
    Rewards of higher rungs are for the surrogate alone: they are not on the scale of a batch, and of cells that have been rewarded already.
    """

    learns_from_rungs = True
    """Whether outcomes of trainings at higher rungs may be told."""

    def __init__(self, space: SearchSpace, seed: int, options: PolicyGradientOptions) -> None:
        self.space, self.seed, self.options = space, seed, options
        self.policy = Policy(
            space.decisions,
            hidden=options.hidden,
            embedding=options.embedding,
            recurrent=options.recurrent,
            init_scale=options.init_scale,
            head_init_scale=options.head_init_scale,
            generator=generator_for(seed, "policy"),
        )
        biases = [self.policy.bias, self.policy.kind_bias]
        others = [p for name, p in self.policy.named_parameters() if name not in ("bias", "kind_bias")]
        groups: list[dict[str, Any]] = [{"params": biases, "lr": options.bias_learning_rate}]
        groups += [{"params": others, "lr": options.learning_rate}] if others else []
        self.optimiser = torch.optim.Adam(groups, fused=True)
        self.version = 0
        self.batch: list[Trajectory] = []
        self.recent: list[list[Trajectory]] = []
        self.history: deque[float] = deque(maxlen=HISTORY)
        self.baseline: float | None = None
        self._greatest_entropy = torch.tensor([math.log(len(decision.choices)) for decision in space.decisions])
        self.screen = Screen(space, seed, options) if options.screen else None
        self._pools: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # samples of the current version

    def begin_with(self, earlier: Sequence[Earlier]) -> None:
        """Let the surrogate expect what earlier searches let one expect; the policy begins as it does without. Raises ControllerError."""
        if self.screen is None:
            raise ControllerError("without a surrogate (screen: false) nothing is learnt from earlier trainings")
        for actions in (actions for search in earlier for actions, _ in search.trained):
            check_actions(self.space.decisions, actions)
        self.screen.surrogate.begin_with([Point(*cell, rung) for rung, search in enumerate(earlier) for cell in search.trained])
        self.screen.forget()

    # ------------------------------------------------------------------------------------------------ ask

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        """What the surrogate likes best among samples of the policy and changes of the best cells; without it a sample.

        ``redraw`` goes down the surrogate's list, and then draws ever hotter samples.
        """
        if self.screen is not None and self.screen.surrogate.ready:
            ranked = self.screen.ranked(self.policy, self.version, pending)
            if redraw < len(ranked):
                chosen = ranked[redraw]
                return Proposal(trial, chosen, self.screen.log_probs(chosen) or self._log_probs(chosen), self.version)
            redraw -= len(ranked)
        level, draw = min(redraw // DRAWS_A_LEVEL, len(TEMPERATURES) - 1), redraw % DRAWS_A_LEVEL
        beyond = redraw // DRAWS_A_LEVEL - level  # further pools at the last temperature
        actions, log_probs = self._pool(trial // TRIALS_A_POOL, level + beyond)
        index = trial % TRIALS_A_POOL * DRAWS_A_LEVEL + draw
        return Proposal(trial, tuple(actions[index].tolist()), tuple(log_probs[index].tolist()), self.version)

    def _pool(self, group: int, level: int) -> tuple[Tensor, Tensor]:
        if (group, level) not in self._pools:
            if len(self._pools) >= 64:
                self._pools.clear()
            temperature = TEMPERATURES[min(level, len(TEMPERATURES) - 1)]
            generator = generator_for(self.seed, "pool", self.version, group, level)
            self._pools[group, level] = self.policy.sample(TRIALS_A_POOL * DRAWS_A_LEVEL, generator, temperature)
        return self._pools[group, level]

    # ------------------------------------------------------------------------------------------------ tell

    def tell(self, proposal: Proposal, outcome: Outcome) -> dict[str, float] | None:
        """Learn from an outcome; returns telemetry (see ``_update``) where it completed a batch."""
        reward = reward_of(outcome)
        if reward is None:
            return None
        check_actions(self.space.decisions, proposal.actions)
        if proposal.rung:
            if self.screen is not None:
                self.screen.surrogate.add(proposal.actions, reward, proposal.rung)
            return None
        log_probs = proposal.log_probs or self._log_probs(proposal.actions)
        self.batch.append(Trajectory(proposal.actions, log_probs, proposal.policy_version, reward))
        self.history.append(reward)
        if self.screen is not None:
            self.screen.surrogate.add(proposal.actions, reward)
        return self._update() if len(self.batch) >= self.options.batch else None

    def _log_probs(self, actions: Actions) -> tuple[float, ...]:
        """For proposals that the policy did not make: as if it had, now."""
        with torch.no_grad():
            return tuple(self.policy.evaluate(torch.tensor([actions]))[0][0].tolist())

    def _update(self) -> dict[str, float]:
        """Train the policy on the recent batches.

        Telemetry: ``entropy`` (mean of a decision, nats) and ``entropy_share`` of the greatest, ``approximate_kl`` and
        ``clip_fraction`` at the last epoch, ``advantage_scale`` (standard deviation), ``mean_reward`` of the batch,
        ``version_lag`` (mean number of updates since the batch's proposals), ``distinct_rate`` (share of different action
        sequences among up to 64 samples of the new policy), ``gradient_norm`` and ``policy_version``.
        """
        options = self.options
        lag = sum(self.version - trajectory.version for trajectory in self.batch) / len(self.batch)
        mean_reward = sum(trajectory.reward for trajectory in self.batch) / len(self.batch)
        self.recent = [*self.recent, self.batch][-options.replay :]
        window = [trajectory for batch in self.recent for trajectory in batch]
        advantages = torch.tensor(self._advantages(window))
        for trajectory in self.batch:
            self.baseline = pg.moving_average(self.baseline, trajectory.reward, options.baseline_decay)
        self.batch = []
        telemetry = self._train(window, advantages)
        self.version += 1
        self._pools.clear()
        return telemetry | {
            "advantage_scale": float(advantages.std(correction=0)),
            "mean_reward": mean_reward,
            "version_lag": lag,
            "distinct_rate": self._distinct_rate(),
            "policy_version": float(self.version),
        }

    def _distinct_rate(self) -> float:
        """Of the samples that the next proposals are chosen from, where there is a screen: they cost nothing more."""
        if self.screen is not None and self.screen.surrogate.ready:
            fresh = self.screen.samples(self.policy, self.version)[::2][:64]  # those at temperature 1
        else:
            fresh = self.policy.sample(64, generator_for(self.seed, "telemetry", self.version))[0].numpy()
        return len({tuple(row) for row in fresh.tolist()}) / max(len(fresh), 1)

    def _advantages(self, window: Sequence[Trajectory]) -> list[float]:
        rewards = [trajectory.reward for trajectory in window]
        if self.options.reward == "rank":
            return pg.rank_advantages(rewards)
        if self.options.reward == "quantile":
            return pg.quantile_advantages(rewards, self.history)
        baseline = sum(rewards) / len(rewards) if self.baseline is None else self.baseline
        return pg.baseline_advantages(rewards, baseline, self.options.normalise)

    def _train(self, window: Sequence[Trajectory], advantages: Tensor) -> dict[str, float]:
        options = self.options
        actions = torch.tensor([trajectory.actions for trajectory in window])
        old = torch.tensor([trajectory.log_probs for trajectory in window])
        loss_of = pg.ppo_loss if options.algorithm == "ppo" else pg.reinforce_loss
        for _ in range(options.epochs):
            new, entropy = self.policy.evaluate(actions)
            loss = loss_of(new, old, advantages, options.clip)
            total = loss.total + pg.entropy_penalty(entropy, self._greatest_entropy, options.entropy, options.entropy_floor)
            self.optimiser.zero_grad()
            total.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), options.clip_norm or math.inf, foreach=False)
            self.optimiser.step()
        mean_entropy = float(entropy.detach().mean())
        return {
            "entropy": mean_entropy,
            "entropy_share": mean_entropy / max(float(self._greatest_entropy.mean()), 1e-12),
            "approximate_kl": loss.approximate_kl,
            "clip_fraction": loss.clip_fraction,
            "gradient_norm": float(norm),
        }

    # ------------------------------------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """The policy, its optimiser, the outcomes that wait for an update and those that will be replayed: of bounded size."""
        moments = self.optimiser.state_dict()["state"]
        return {
            "version": self.version,
            "policy": {name: value.clone() for name, value in self.policy.state_dict().items()},
            "optimiser": {str(i): {name: value.clone() for name, value in entry.items()} for i, entry in moments.items()},
            "batch": _pack(self.batch),
            "recent": [_pack(batch) for batch in self.recent],
            "history": list(self.history),
            "baseline": self.baseline,
            "surrogate": None if self.screen is None else self.screen.surrogate.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned. Raises ValueError where it does not fit."""
        try:
            self.policy.load_state_dict(state["policy"])
            groups = self.optimiser.state_dict()["param_groups"]
            moments = {int(i): {name: value.clone() for name, value in entry.items()} for i, entry in state["optimiser"].items()}
            self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
            batch, recent = _unpack(state["batch"]), [_unpack(packed) for packed in state["recent"]]
            history, baseline = [float(r) for r in state["history"]], state["baseline"]
            version, surrogate = int(state["version"]), state["surrogate"]
        except (KeyError, TypeError, AttributeError, RuntimeError) as problem:
            raise ValueError(f"not the state of this policy-gradient controller: {problem}") from None
        for trajectory in [*batch, *(t for old in recent for t in old)]:
            check_actions(self.space.decisions, trajectory.actions)
        if (surrogate is None) != (self.screen is None):
            raise ValueError("not the state of this policy-gradient controller: one has a surrogate and the other has none")
        if self.screen is not None:
            self.screen.surrogate.load_state_dict(surrogate)
            self.screen.forget()
        self.batch, self.recent, self.version = batch, recent, version
        self.history = deque(history, maxlen=HISTORY)
        self.baseline = None if baseline is None else float(baseline)
        self._pools.clear()


def _pack(trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    return [{"actions": list(t.actions), "log_probs": list(t.log_probs), "version": t.version, "reward": t.reward} for t in trajectories]


def _unpack(packed: Sequence[Mapping[str, Any]]) -> list[Trajectory]:
    return [
        Trajectory(tuple(int(a) for a in t["actions"]), tuple(float(p) for p in t["log_probs"]), int(t["version"]), float(t["reward"]))
        for t in packed
    ]
