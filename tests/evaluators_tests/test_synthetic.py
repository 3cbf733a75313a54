"""The synthetic objective: its optimum is one, equivalent genotypes are worth the same, and decisions interact."""

import random
from dataclasses import replace

import pytest

from nas.evaluators.objective import cell_objective, noisy_reward, synthetic_optimum, synthetic_reward
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node, validate
from search_spaces.nasbench201 import NASBENCH201
from search_spaces.nasnet import NASNET, NASNET_PAPER
from search_spaces.space import sample_actions

GENOTYPES = [NASNET.decode(sample_actions(NASNET, random.Random(i))) for i in range(200)]


@pytest.mark.parametrize("seed", range(5))
def test_the_optimum_lies_in_the_nasnet_spaces_has_reward_one_and_nothing_beats_it(seed):
    best = validate(synthetic_optimum(seed))
    for space in (NASNET, NASNET_PAPER):
        assert space.decode(space.encode(best)) == best
    assert synthetic_reward(best, seed) == pytest.approx(1.0, abs=1e-12)
    rewards = [synthetic_reward(genotype, seed) for genotype in GENOTYPES]
    assert 0.4 < sum(rewards) / 200 < 0.7 and max(rewards) < 0.85
    actions = NASNET.encode(best)
    for place, decision in enumerate(NASNET.decisions):
        for choice in range(len(decision.choices)):
            changed = (*actions[:place], choice, *actions[place + 1 :])
            assert synthetic_reward(NASNET.decode(changed), seed) <= 1.0 + 1e-12


def test_reward_follows_the_formula_on_one_cell():
    """Written out by hand for two nodes."""
    objective = cell_objective("normal", 3)
    d = objective.draw
    nodes = (Node((Edge(1, "identity"), Edge(0, "conv_3x3")), "add"), Node((Edge(2, "conv_1x1"), Edge(1, "conv_1x1")), "concat"))
    first = 0.4 * (d("worth", "conv_3x3") + d("worth", "identity")) / 2 + 0.2 * (
        d("synergy", "conv_3x3", "identity")
        + d("merge", "add", "conv_3x3", "identity")
        + (d("affinity", "current", "identity") + d("affinity", "previous", "conv_3x3")) / 2
    )
    second = 0.4 * d("worth", "conv_1x1") + 0.2 * (
        d("synergy", "conv_1x1", "conv_1x1")
        + d("merge", "concat", "conv_1x1", "conv_1x1")
        + (max(d("affinity", "identity", "conv_1x1"), d("affinity", "conv_3x3", "conv_1x1")) + d("affinity", "current", "conv_1x1")) / 2
    )
    assert objective.quality(CellGenotype(nodes, (3,))) == pytest.approx(0.9 * (first + second) / 2 + 0.1)


def test_swapped_operands_are_worth_the_same():
    for genotype in GENOTYPES[:50]:
        cell = genotype.normal
        swapped = replace(cell, nodes=tuple(replace(node, edges=node.edges[::-1]) for node in cell.nodes))
        assert synthetic_reward(Genotype(swapped, genotype.reduction)) == pytest.approx(synthetic_reward(genotype), abs=1e-12)


def test_decisions_interact():
    """The effect of changing one operation depends on another: no additive model is exact."""
    actions = NASNET.encode(GENOTYPES[0])

    def value(one: int, two: int) -> float:
        return synthetic_reward(NASNET.decode((*actions[:2], one, two, *actions[4:])))

    gaps = [abs(value(a, b) - value(a, 0) - value(0, b) + value(0, 0)) for a in range(1, 5) for b in range(1, 5)]
    assert max(gaps) > 0.01


def test_noise_is_by_child_seed_and_bounded():
    genotype = synthetic_optimum()
    assert noisy_reward(genotype, 0, 1, 0.0) == pytest.approx(1.0)
    draws = [noisy_reward(GENOTYPES[0], 0, child, 0.05) for child in range(400)]
    assert draws[7] == noisy_reward(GENOTYPES[0], 0, 7, 0.05)
    mean = sum(draws) / 400
    assert mean == pytest.approx(synthetic_reward(GENOTYPES[0]), abs=0.01)
    assert 0.04 < (sum((draw - mean) ** 2 for draw in draws) / 399) ** 0.5 < 0.06
    assert max(noisy_reward(genotype, 0, child, 0.5) for child in range(20)) == 1.0


def test_any_space_and_seed():
    for seed in (0, 1):
        assert 0 <= synthetic_reward(NASBENCH201.decode((3, 1, 2, 4, 0, 3)), seed) <= 1
    assert synthetic_reward(GENOTYPES[0], 0) != synthetic_reward(GENOTYPES[0], 1)
