"""The policy: a proper distribution, one function for sampling and re-evaluation, right gradients, masks, temperature."""

import itertools
import math

import pytest
import torch

from controllers.policy import Policy
from search_spaces.nasnet import NASNET
from search_spaces.space import Decision, chances, favouring

DECISIONS = (Decision("a", ("x", "y", "z")), Decision("b", ("p", "q")), Decision("c", ("x", "y", "z")), Decision("d", ("only",)))


def make(decisions=DECISIONS, seed=0, scale=0.7, **options) -> Policy:
    """A policy far from uniform."""
    options = {"hidden": 8, "embedding": 5, "init_scale": scale, "head_init_scale": scale, **options}
    return Policy(decisions, generator=torch.Generator().manual_seed(seed), **options)


@pytest.mark.parametrize("recurrent", [True, False])
def test_probabilities_of_all_sequences_sum_to_one(recurrent):
    every = torch.tensor(list(itertools.product(range(3), range(2), range(3), range(1))))
    log_probs, entropy = make(recurrent=recurrent).evaluate(every)
    assert log_probs.shape == entropy.shape == (18, 4)
    assert float(log_probs.sum(1).exp().sum()) == pytest.approx(1, abs=1e-5)
    assert log_probs[:, 3].eq(0).all() and entropy[:, 3].eq(0).all()


def test_sampling_and_re_evaluation_agree():
    for decisions in (DECISIONS, NASNET.decisions):
        policy = make(decisions)
        actions, sampled = policy.sample(64, torch.Generator().manual_seed(1))
        evaluated, _ = policy.evaluate(actions)
        torch.testing.assert_close(sampled, evaluated.detach(), atol=2e-5, rtol=1e-5)
        sizes = torch.tensor([len(decision.choices) for decision in decisions])
        assert (actions >= 0).all() and (actions < sizes).all()


def test_later_decisions_depend_on_earlier_ones_only_with_recurrence():
    pairs = torch.tensor([[0, 0, 0, 0], [2, 0, 0, 0]])
    for recurrent in (True, False):
        log_probs, _ = make(recurrent=recurrent).evaluate(pairs)
        assert bool(log_probs[0, 2].isclose(log_probs[1, 2])) == (not recurrent)


def test_sample_frequencies_match_the_probabilities():
    """Every sequence's count within 5 standard deviations of its expectation: a right policy fails in 1 of 100,000 runs."""
    policy = make(scale=1.0)
    every = list(itertools.product(range(3), range(2), range(3), range(1)))
    expected = policy.evaluate(torch.tensor(every))[0].sum(1).exp().tolist()
    actions, _ = policy.sample(20_000, torch.Generator().manual_seed(2))
    counts = dict.fromkeys(every, 0)
    for row in actions.tolist():
        counts[tuple(row)] += 1
    for row, share in zip(every, expected, strict=True):
        assert abs(counts[row] - 20_000 * share) < 5 * math.sqrt(20_000 * share * (1 - share)) + 1, row


def test_temperature_flattens_sampling_and_not_the_reported_probabilities():
    policy = make(scale=2.0)
    _, cold_log_probs = policy.sample(4000, torch.Generator().manual_seed(3))
    mixed, log_probs = policy.sample(4000, torch.Generator().manual_seed(3), torch.full((4000, 1), 1000.0))
    torch.testing.assert_close(log_probs, policy.evaluate(mixed)[0].detach(), atol=2e-5, rtol=1e-5)
    share = torch.bincount(mixed[:, 0], minlength=3) / 4000
    assert (share - 1 / 3).abs().max() < 0.05
    assert cold_log_probs.sum(1).mean() > log_probs.sum(1).mean() + 0.5


def test_zero_heads_make_the_first_policy_uniform():
    log_probs, entropy = make(NASNET.decisions, head_init_scale=0.0).evaluate(torch.zeros(1, 50, dtype=torch.long))
    expected = torch.tensor([-math.log(len(decision.choices)) for decision in NASNET.decisions])
    torch.testing.assert_close(log_probs[0].detach(), expected)
    torch.testing.assert_close(entropy[0].detach(), -expected)


def test_the_first_policy_draws_as_the_weights_say():
    space = favouring(NASNET, "cheap")
    policy = make(space.decisions, head_init_scale=0.0)
    actions, log_probs = policy.sample(64, torch.Generator().manual_seed(4))
    expected = torch.tensor(chances(space.decisions)).gather(1, actions.T).T.log().float()
    torch.testing.assert_close(log_probs, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("recurrent", [True, False])
def test_gradient_of_the_log_probability_against_finite_differences(recurrent):
    policy = make(recurrent=recurrent).double()
    actions = torch.tensor([[2, 1, 0, 0], [0, 0, 1, 0]])
    weights = torch.tensor([[1.0], [-0.5]], dtype=torch.double)

    def value() -> torch.Tensor:
        return (policy.evaluate(actions)[0] * weights).sum()

    value().backward()
    step = 1e-6
    for name, parameter in policy.named_parameters():
        assert parameter.grad is not None, name
        flat, gradient = parameter.data.view(-1), parameter.grad.view(-1)
        for i in range(0, flat.numel(), max(1, flat.numel() // 12)):
            original = flat[i].item()
            flat[i] = original + step
            above = value().item()
            flat[i] = original - step
            below = value().item()
            flat[i] = original
            assert gradient[i].item() == pytest.approx((above - below) / (2 * step), abs=1e-7, rel=1e-5), f"{name}[{i}]"


def test_entropy_is_that_of_the_masked_softmax():
    policy = make()
    actions = torch.tensor([[1, 0, 2, 0]])
    _, entropy = policy.evaluate(actions)
    log_probs, _ = policy.advance(torch.zeros(1, 1, dtype=torch.long), 0, None, policy.outputs())
    first = log_probs[0, 0].exp()
    assert float(entropy[0, 0]) == pytest.approx(float(-(first * first.log()).sum()), abs=1e-6)
    masked, _ = policy.advance(torch.tensor([[0, 2]]), 0, None, policy.outputs())
    assert masked[1, 0, 2] == -torch.inf


def test_decisions_with_the_same_choices_share_a_head():
    """A push towards choice z at decision a alone makes z likelier at decision c."""
    policy = make(head_init_scale=0.0, recurrent=False)
    optimiser = torch.optim.SGD(policy.parameters(), lr=1.0)
    before = policy.evaluate(torch.tensor([[0, 0, 2, 0]]))[0][0, 2].item()
    loss = -policy.evaluate(torch.tensor([[2, 0, 0, 0]]))[0][0, 0]
    loss.backward()
    optimiser.step()
    assert policy.evaluate(torch.tensor([[0, 0, 2, 0]]))[0][0, 2].item() > before + 0.1
