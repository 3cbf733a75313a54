"""The policy-gradient controller: an LSTM policy trained by PPO or REINFORCE on small, replayed batches of outcomes."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from controllers import policy_gradient as pg
from controllers.controller import Outcome, Proposal, random_for
from controllers.moves import reward_of
from controllers.options import PolicyGradientOptions
from controllers.policy import Policy
from controllers.surrogate import Integers, Surrogate
from search_spaces.space import Actions, Decision, SearchSpace, check_actions

TEMPERATURES = (1.0, 1.5, 2.5, 5.0)
"""At which redraws sample: the first eight at 1, the next eight at 1.5, …, all further ones at 5."""
DRAWS_A_LEVEL = 8
TRIALS_A_POOL = 16
"""Trials that share one batched pass of the policy; its cost is almost the same for 1 sequence and for 128."""
SCREENED_REDRAWS = 48
"""How far down the surrogate's list redraws go."""
LEADERS = 10
"""Best cells told whose changes the surrogate is offered."""
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
    """

    def __init__(self, space: SearchSpace, seed: int, options: PolicyGradientOptions) -> None:
        self.space, self.seed, self.options = space, seed, options
        self.policy = Policy(
            space.decisions,
            hidden=options.hidden,
            embedding=options.embedding,
            recurrent=options.recurrent,
            init_scale=options.init_scale,
            head_init_scale=options.head_init_scale,
            generator=_generator(seed, "policy"),
        )
        biases = [self.policy.bias, self.policy.kind_bias]
        others = [p for name, p in self.policy.named_parameters() if name not in ("bias", "kind_bias")]
        groups: list[dict[str, Any]] = [{"params": biases, "lr": options.bias_learning_rate}]
        groups += [{"params": others, "lr": options.learning_rate}] if others else []
        self.optimiser = torch.optim.Adam(groups, foreach=False)
        self.version = 0
        self.told = 0
        self.batch: list[Trajectory] = []
        self.recent: list[list[Trajectory]] = []
        self.history: deque[float] = deque(maxlen=HISTORY)
        self.baseline: float | None = None
        self._greatest_entropy = torch.tensor([math.log(len(decision.choices)) for decision in space.decisions])
        self.surrogate = Surrogate(space.decisions, options.screen_capacity, options.screen_start) if options.screen else None
        # Derived from the above, and forgotten when it changes:
        self._pools: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}  # samples of the current version
        self._wide_pool: Integers | None = None  # samples of the current version for the surrogate
        self._ranking: tuple[object, list[Actions]] | None = None

    # ------------------------------------------------------------------------------------------------ ask

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        """What the surrogate likes best among samples of the policy and changes of the best cells; without it a sample.

        ``redraw`` goes down the surrogate's list, and then draws ever hotter samples.
        """
        if self.surrogate is not None and self.surrogate.ready:
            ranked = self._ranked(self.surrogate, pending)[:SCREENED_REDRAWS]
            if redraw < len(ranked):
                return Proposal(trial, ranked[redraw], self._log_probs(ranked[redraw]), self.version)
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
            generator = _generator(self.seed, "pool", self.version, group, level)
            self._pools[group, level] = self.policy.sample(TRIALS_A_POOL * DRAWS_A_LEVEL, generator, temperature)
        return self._pools[group, level]

    def _ranked(self, surrogate: Surrogate, pending: Sequence[Proposal]) -> list[Actions]:
        """Candidates that are neither told nor pending, best expected improvement first."""
        waiting = [proposal.actions for proposal in pending]
        state = (self.version, self.told, tuple(waiting))
        if self._ranking is None or self._ranking[0] != state:
            known = {*waiting, *(actions for actions, _ in (*surrogate.points, *surrogate.fresh))}
            rows = dict.fromkeys(map(tuple, self._candidates(surrogate).tolist()))
            candidates = [actions for actions in rows if actions not in known]
            if candidates:
                width = len(self.space.decisions)
                scores = surrogate.expected_improvement(np.array(candidates), np.array(waiting, dtype=np.int64).reshape(-1, width))
                candidates = [candidates[i] for i in np.argsort(-scores, kind="stable")[:SCREENED_REDRAWS]]
            self._ranking = (state, candidates)
        return self._ranking[1]

    def _candidates(self, surrogate: Surrogate) -> Integers:
        """Samples of the policy, half of them hotter, and cells that differ from the best ones told in one or two decisions."""
        options = self.options
        local = round(options.screen_pool * options.screen_local)
        if self._wide_pool is None:
            count = max(options.screen_pool - local, 1)
            temperatures = torch.ones(count, 1)
            temperatures[count // 2 :] = TEMPERATURES[1]
            generator = _generator(self.seed, "candidates", self.version)
            self._wide_pool = self.policy.sample(count, generator, temperatures)[0].numpy()
        rng = np.random.default_rng(random_for(self.seed, "changes", self.told).getrandbits(63))
        return np.concatenate([self._wide_pool, changed(surrogate.leaders(LEADERS), self.space.decisions, local, rng)])

    # ------------------------------------------------------------------------------------------------ tell

    def tell(self, proposal: Proposal, outcome: Outcome) -> dict[str, float] | None:
        """Learn from an outcome; returns telemetry (see ``_update``) where it completed a batch."""
        reward = reward_of(outcome)
        if reward is None:
            return None
        check_actions(self.space.decisions, proposal.actions)
        log_probs = proposal.log_probs or self._log_probs(proposal.actions)
        self.batch.append(Trajectory(proposal.actions, log_probs, proposal.policy_version, reward))
        self.history.append(reward)
        self.told += 1
        if self.surrogate is not None:
            self.surrogate.add(proposal.actions, reward)
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
        sequences among 64 samples of the new policy), ``gradient_norm`` and ``policy_version``.
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
        self._wide_pool = None
        fresh, _ = self.policy.sample(64, _generator(self.seed, "telemetry", self.version))
        return telemetry | {
            "advantage_scale": float(advantages.std(correction=0)),
            "mean_reward": mean_reward,
            "version_lag": lag,
            "distinct_rate": len({tuple(row) for row in fresh.tolist()}) / len(fresh),
            "policy_version": float(self.version),
        }

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
            "told": self.told,
            "surrogate": None if self.surrogate is None else self.surrogate.state_dict(),
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
            version, told, surrogate = int(state["version"]), int(state["told"]), state["surrogate"]
        except (KeyError, TypeError, AttributeError, RuntimeError) as problem:
            raise ValueError(f"not the state of this policy-gradient controller: {problem}") from None
        for trajectory in [*batch, *(t for old in recent for t in old)]:
            check_actions(self.space.decisions, trajectory.actions)
        if (surrogate is None) != (self.surrogate is None):
            raise ValueError("not the state of this policy-gradient controller: one has a surrogate and the other has none")
        if self.surrogate is not None:
            self.surrogate.load_state_dict(surrogate)
        self.batch, self.recent, self.version, self.told = batch, recent, version, told
        self.history = deque(history, maxlen=HISTORY)
        self.baseline = None if baseline is None else float(baseline)
        self._pools.clear()
        self._wide_pool = self._ranking = None


def changed(parents: Integers, decisions: Sequence[Decision], count: int, rng: np.random.Generator) -> Integers:
    """``count`` action sequences [count, D], each a parent (taken in turns) with one decision changed, and three in ten with another."""
    sizes = np.array([len(decision.choices) for decision in decisions])
    free = np.flatnonzero(sizes > 1)
    children: Integers = parents[np.arange(count) % len(parents)].copy()
    for rows in (np.arange(count), np.flatnonzero(rng.random(count) < 0.3)):
        places = rng.choice(free, len(rows))
        steps = 1 + (rng.random(len(rows)) * (sizes[places] - 1)).astype(np.int64)
        children[rows, places] = (children[rows, places] + steps) % sizes[places]
    return children


def _generator(seed: int, *labels: object) -> torch.Generator:
    """``random_for`` for torch."""
    return torch.Generator().manual_seed(random_for(seed, *labels).getrandbits(63))


def _pack(trajectories: Sequence[Trajectory]) -> list[dict[str, Any]]:
    return [{"actions": list(t.actions), "log_probs": list(t.log_probs), "version": t.version, "reward": t.reward} for t in trajectories]


def _unpack(packed: Sequence[Mapping[str, Any]]) -> list[Trajectory]:
    return [
        Trajectory(tuple(int(a) for a in t["actions"]), tuple(float(p) for p in t["log_probs"]), int(t["version"]), float(t["reward"]))
        for t in packed
    ]
