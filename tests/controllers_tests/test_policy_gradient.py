"""The losses equal an independent reference, and both algorithms solve a two-decision bandit."""

import math
import random

import pytest
import torch

from controllers import losses as pg
from controllers.controller import Completed, Proposal
from controllers.registry import make_controller
from search_spaces.errors import GenotypeError
from search_spaces.space import CellSpace, Decision


def batch(seed: int, trajectories: int = 7, decisions: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    new = -3 * torch.rand(trajectories, decisions, generator=generator, dtype=torch.double)
    old = new + 0.6 * torch.randn(trajectories, decisions, generator=generator, dtype=torch.double)
    return new.requires_grad_(), old, torch.randn(trajectories, generator=generator, dtype=torch.double)


def reference_ppo(new, old, advantages, clip):
    """Equation 7 of arXiv 1707.06347 term by term: value, and derivative by every new log-probability."""
    total, count, gradient = 0.0, len(new) * len(new[0]), []
    for row_new, row_old, a in zip(new, old, advantages, strict=True):
        gradient.append([])
        for n, o in zip(row_new, row_old, strict=True):
            r = math.exp(n - o)
            clipped = min(max(r, 1 - clip), 1 + clip)
            total -= min(r * a, clipped * a) / count
            gradient[-1].append(-r * a / count if r * a <= clipped * a else 0.0)
    return total, gradient


def reference_reinforce(new, old, advantages, clip):
    total, count, gradient = 0.0, len(new) * len(new[0]), []
    for row_new, row_old, a in zip(new, old, advantages, strict=True):
        weights = [min(math.exp(n - o), 1 + clip) for n, o in zip(row_new, row_old, strict=True)]
        total -= sum(w * a * n for w, n in zip(weights, row_new, strict=True)) / count
        gradient.append([-w * a / count for w in weights])
    return total, gradient


@pytest.mark.parametrize(("loss", "reference"), [(pg.ppo_loss, reference_ppo), (pg.reinforce_loss, reference_reinforce)])
@pytest.mark.parametrize("seed", range(3))
def test_losses_equal_the_reference(loss, reference, seed):
    new, old, advantages = batch(seed)
    result = loss(new, old, advantages, 0.2)
    result.total.backward()
    value, gradient = reference(new.tolist(), old.tolist(), advantages.tolist(), 0.2)
    assert float(result.total) == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(new.grad, torch.tensor(gradient, dtype=torch.double))
    ratios = [math.exp(n - o) for rn, ro in zip(new.tolist(), old.tolist(), strict=True) for n, o in zip(rn, ro, strict=True)]
    assert result.clip_fraction == pytest.approx(sum(abs(r - 1) > 0.2 for r in ratios) / len(ratios))
    assert result.approximate_kl == pytest.approx(sum(r - 1 - math.log(r) for r in ratios) / len(ratios))
    assert 0 < result.clip_fraction < 1


def test_on_its_own_samples_both_gradients_are_the_plain_policy_gradient():
    new, _, advantages = batch(3)
    for loss in (pg.ppo_loss, pg.reinforce_loss):
        new.grad = None
        loss(new, new.detach().clone(), advantages, 0.2).total.backward()
        torch.testing.assert_close(new.grad, (-advantages[:, None] / new.numel()).expand_as(new))


def test_rank_advantages():
    assert pg.rank_advantages([0.1, 0.9, 0.5]) == [-1.0, 1.0, 0.0]
    assert pg.rank_advantages([0.3, 0.3]) == [0.0, 0.0]
    assert pg.rank_advantages([0.7]) == [0.0]
    assert pg.rank_advantages([0.0, 0.0, 0.0, 1.0]) == pytest.approx([-1 / 3, -1 / 3, -1 / 3, 1.0])
    rewards = [random.Random(0).random() for _ in range(11)]
    assert pg.rank_advantages([100 * r**3 for r in rewards]) == pg.rank_advantages(rewards)


def test_quantile_advantages_reward_the_top_fifth_only():
    history = [i / 10 for i in range(10)]
    advantages = pg.quantile_advantages([0.9, 0.8, 0.7, 0.0], history)
    assert advantages == pytest.approx([1.5, 0.5, -0.25, -0.25])


def test_baseline_advantages_and_moving_average():
    assert pg.baseline_advantages([0.5, 0.7], 0.4, normalise=False) == pytest.approx([0.1, 0.3])
    assert pg.baseline_advantages([0.5, 0.7], 0.6, normalise=True) == pytest.approx([-1, 1], rel=1e-6)
    assert pg.moving_average(None, 0.6, 0.95) == 0.6
    assert pg.moving_average(0.6, 1.0, 0.95) == pytest.approx(0.62)


def test_entropy_penalty():
    entropy, greatest = torch.full((3, 2), 0.5), torch.tensor([1.0, 1.0])
    assert float(pg.entropy_penalty(entropy, greatest, 0.1, 0.0)) == pytest.approx(-0.05)
    assert float(pg.entropy_penalty(entropy, greatest, 0.1, 0.8)) == pytest.approx(0.3 - 0.05)
    assert float(pg.entropy_penalty(entropy, greatest, 0.0, 0.4)) == 0.0


class Bandit:
    """Two decisions of three arms. Arms (2, 1) pay 0.9, either alone 0.4, neither 0.1: the second is worth more after the first."""

    name = "bandit"
    decisions = (Decision("first", ("a", "b", "c")), Decision("second", ("d", "e", "f")))
    _cells = CellSpace("x", operations=("identity", "zero", "conv_1x1"), nodes=1, combine=("add",), cells=("normal",))

    def decode(self, actions):
        return self._cells.decode((0, 0, *actions))

    def encode(self, genotype):
        raise GenotypeError("not needed")

    def canonical(self, genotype):
        return repr(genotype)


def pay(actions: tuple[int, ...]) -> float:
    return {2: 0.9, 1: 0.4, 0: 0.1}[(actions[0] == 2) + (actions[1] == 1)]


@pytest.mark.parametrize("reward", ["rank", "baseline"])  # the quantile reward needs distinct cells: see its docstring
@pytest.mark.parametrize("recurrent", [True, False], ids=["lstm", "logits"])
@pytest.mark.parametrize("algorithm", ["ppo", "reinforce"])
def test_solves_a_two_decision_bandit(algorithm, recurrent, reward):
    """After 60 updates, without cache or surrogate, most samples take the best pair."""
    for seed in range(2):
        options = {"reward": reward, "recurrent": recurrent, "hidden": 16, "screen": False, "normalise": True, "batch": 10}
        controller = make_controller(algorithm, Bandit(), seed, options)
        updates = []
        for trial in range(600):
            proposal = controller.ask(trial, [])
            updates.append(controller.tell(proposal, Completed(pay(proposal.actions))))
        share = sum(controller.ask(trial, []).actions == (2, 1) for trial in range(1000, 1100)) / 100
        assert share > 0.7, f"seed {seed}: {share}"
        told = [update for update in updates if update is not None]
        assert len(told) == 60 and told[-1]["entropy"] < told[0]["entropy"]


def test_telemetry_of_an_update():
    controller = make_controller("ppo", Bandit(), 0, {"batch": 4, "screen": False, "hidden": 8})
    asked = [controller.ask(trial, []) for trial in range(8)]
    first = [controller.tell(proposal, Completed(0.1 * i)) for i, proposal in enumerate(asked[:4])]
    assert first[:3] == [None] * 3
    second = [controller.tell(proposal, Completed(0.5)) for proposal in asked[4:]][-1]
    assert first[3]["policy_version"] == 1 and first[3]["version_lag"] == 0 and first[3]["mean_reward"] == pytest.approx(0.15)
    assert second["policy_version"] == 2 and second["version_lag"] == 1
    assert 0 < first[3]["entropy"] <= math.log(3) + 1e-6 and 0 <= first[3]["entropy_share"] <= 1
    assert 0 < first[3]["distinct_rate"] <= 9 / 64
    assert first[3]["advantage_scale"] == pytest.approx((5 / 9) ** 0.5, rel=1e-5)  # ranks -1, -1/3, 1/3, 1
    for name in ("approximate_kl", "clip_fraction", "gradient_norm"):
        assert first[3][name] >= 0


def test_foreign_proposals_count_as_on_policy():
    """A proposal without log-probabilities (drawn uniformly by the cache) is learnt from."""
    controller = make_controller("ppo", Bandit(), 0, {"batch": 2, "screen": False, "hidden": 8})
    before = controller.policy.evaluate(torch.tensor([[2, 1]]))[0].sum().item()
    controller.tell(Proposal(0, (2, 1)), Completed(0.9))
    assert controller.tell(Proposal(1, (0, 0)), Completed(0.1))["policy_version"] == 1
    assert controller.policy.evaluate(torch.tensor([[2, 1]]))[0].sum().item() > before
