"""What the controller chose and how sure it was: its policy's telemetry, every decision over time, the best cells' operations. No torch."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

from nas.reports.parts import Figure, Table, Value
from nas.runs.state import RunState
from search_spaces.genotype import Genotype
from search_spaces.space import SearchSpace, sample_actions

WINDOWS = 12
"""Parts of a search, each of as many proposals, whose choices are counted together."""
DRAWS = 200
"""Groups of random cells that say what chance has."""
MEASURES = {
    "entropy_share": "entropy, as a share of the greatest",
    "entropy": "entropy of a decision, nats",
    "distinct_rate": "share of distinct cells among its samples",
    "approximate_kl": "KL divergence of an update",
    "clip_fraction": "share of clipped ratios",
    "advantage_scale": "deviation of the advantages",
    "mean_reward": "mean reward of the batch",
    "version_lag": "updates since the batch's proposals",
    "gradient_norm": "norm of the gradient",
}
"""The telemetry of an update in words; see the controller's ``tell``."""


def policy_figures(state: RunState, space: SearchSpace) -> tuple[Figure, ...]:
    """Entropy, all telemetry, and the choices and confidence of each decision over time, of what the ledger has."""
    entropy = Table.of(
        ("trial", "share", "series"),
        [(trial, said["entropy_share"], "entropy") for trial, said in state.updates if "entropy_share" in said],
    )
    telemetry = Table.of(
        ("trial", "value", "series"),
        [(trial, said[name], words) for name, words in MEASURES.items() for trial, said in state.updates if name in said],
    )
    choices, confidence = _over_time(state, space)
    first = next((decision.name for decision in space.decisions if "operation" in decision.name), space.decisions[0].name)
    return (
        Figure(
            "Entropy of the policy",
            "lines",
            entropy,
            "1 is a policy that draws every choice alike; near 0 it proposes always the same.",
            options={"x": "trial", "y": "share of the greatest entropy", "format": "~%"},
        ),
        Figure(
            "Telemetry of the policy's updates",
            "chosen line",
            telemetry,
            "One point for each update.",
            options={"x": "trial", "y": "value"},
        ),
        Figure(
            "What each decision chose over time",
            "heat",
            choices,
            "Shares of the choices among the search's own proposals, in parts of the search; the menu chooses the decision.",
            wide=True,
            options={"choose": "decision", "first": first, "x": "trials"},
        ),
        Figure(
            "How sure the policy was of each decision",
            "heat",
            confidence,
            "Mean probability that the policy gave to the choice that it proposed.",
            wide=True,
            options={"x": "trials"},
        ),
    )


def _over_time(state: RunState, space: SearchSpace) -> tuple[Table, Table]:
    """Shares of choices, and mean probabilities of the choices taken, by decision and part of the search."""
    numbers = [trial.number for trial in state.trials.values() if trial.searched and trial.warm is None]
    size = math.ceil(len(numbers) / WINDOWS) or 1
    shares: list[tuple[Value, ...]] = []
    sure: list[tuple[Value, ...]] = []
    for start in range(0, len(numbers), size):
        window = [state.trials[number].proposal for number in numbers[start : start + size]]
        label = f"{window[0].trial}–{window[-1].trial}" if size > 1 else str(window[0].trial)
        probabilities = [proposal.log_probs for proposal in window if proposal.log_probs]
        for place, decision in enumerate(space.decisions):
            counts = Counter(proposal.actions[place] for proposal in window)
            shares += [(label, choice, counts[i] / len(window), decision.name) for i, choice in enumerate(decision.choices)]
            if probabilities:
                sure.append((label, decision.name, fmean(math.exp(one[place]) for one in probabilities)))
    columns = ("trials", "choice", "share", "decision")
    return Table.of(columns, shares), Table.of(("trials", "decision", "probability"), sure)


def operation_figures(genotypes: Sequence[Genotype], space: SearchSpace) -> tuple[Figure, ...]:
    """For each kind of cell, the shares of operations in these genotypes, beside as many cells drawn at random."""
    if not genotypes:
        return ()
    rng = random.Random(0)  # noqa: S311 - not for secrets
    groups = [[space.decode(sample_actions(space, rng)) for _ in genotypes] for _ in range(DRAWS)]
    found = []
    for name, _ in genotypes[0].cells():
        own, chance = _shares(genotypes, name), [_shares(group, name) for group in groups]
        operations = sorted({operation for shares in (own, *chance) for operation in shares}, key=lambda one: (-own.get(one, 0.0), one))
        rows = [(one, own.get(one, 0.0), *_range([shares.get(one, 0.0) for shares in chance])) for one in operations]
        found.append(
            Figure(
                f"Operations of the best {len(genotypes)} cells: {name} cell",
                "against",
                Table.of(("operation", "share", "chance", "low", "high"), rows),
                f"Bars: share of the edges. Orange: {len(genotypes)} random cells, their mean and the range of 95 % of such groups.",
                options={"y": "share of the edges"},
            )
        )
    return tuple(found)


def _shares(genotypes: Sequence[Genotype], cell: str) -> dict[str, float]:
    """Each operation's share of the edges of one kind of cell."""
    cells = [found for genotype in genotypes for name, found in genotype.cells() if name == cell]
    counts = Counter(edge.operation for found in cells for node in found.nodes for edge in node.edges)
    return {operation: count / counts.total() for operation, count in counts.items()}


def _range(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, and the 2.5 % and 97.5 % points."""
    ordered = sorted(values)
    return fmean(ordered), ordered[round(0.025 * (len(ordered) - 1))], ordered[round(0.975 * (len(ordered) - 1))]
