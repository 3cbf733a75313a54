"""ScheduledDropPath: the published schedule, what is dropped, and that it is off when it should be."""

import pytest
import torch
from torch import Tensor

from search_spaces.genotype import CellGenotype, Edge, Node
from search_spaces.networks.build import build_network
from search_spaces.networks.cell import Cell, State, StateShape
from search_spaces.networks.drop_path import drop_path, path_factors, scheduled_keep
from search_spaces.networks.operations import Layers
from search_spaces.reference import load_reference
from search_spaces.skeletons import DARTS_CONVENTIONS, NASNET_CONVENTIONS, Conventions, NASNetSkeleton


@pytest.mark.parametrize(
    ("cell", "cells", "progress", "expected"),
    [
        (0, 20, 1.0, 1 - 0.4 / 20),
        (9, 20, 1.0, 0.8),
        (19, 20, 1.0, 0.6),
        (19, 20, 0.5, 0.8),
        (19, 20, 0.0, 1.0),
        (4, 8, 0.25, 1 - 0.25 * 0.4 * 5 / 8),
    ],
)
def test_keep_falls_with_depth_and_training(cell: int, cells: int, progress: float, expected: float) -> None:
    """By hand from the released code's v3: 1 − progress · (1 − (1 − (cell + 1) / cells · (1 − 0.6)))."""
    assert scheduled_keep(0.6, cell, cells, progress) == pytest.approx(expected)
    assert float(scheduled_keep(0.6, cell, cells, torch.tensor(progress))) == pytest.approx(expected)


def test_darts_keep_falls_with_training_only() -> None:
    for cell in (0, 19):
        assert scheduled_keep(0.8, cell, 20, 0.5, by_depth=False) == pytest.approx(0.9)


def test_factors_are_per_example_and_path_and_keep_the_mean() -> None:
    torch.manual_seed(0)
    factors = path_factors(3, torch.zeros(20000, 4, 2, 2), 0.8)
    assert factors.shape == (3, 20000, 1, 1, 1)
    assert set(factors.unique().tolist()) == {0.0, 1.25}
    # 3σ of the mean of 20,000 draws is 3 · sqrt(0.2 / 0.8 / 20000) = 0.011
    assert torch.allclose(factors.mean((1, 2, 3, 4)), torch.ones(3), atol=0.011)
    assert abs(float(torch.corrcoef(factors.flatten(1))[0, 1])) < 0.03


def test_a_dropped_example_is_zero_and_a_kept_one_rescaled() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 3, 4, 4) + 1
    y = drop_path(x, 0.5)
    dropped = (y == 0).flatten(1).all(1)
    assert 10 < int(dropped.sum()) < 54
    assert torch.equal(y[~dropped], 2 * x[~dropped])


def test_factors_take_the_type_of_the_examples() -> None:
    assert path_factors(1, torch.zeros(2, 1, 1, 1, dtype=torch.bfloat16), 0.5).dtype == torch.bfloat16


def run_cell(
    edges: tuple[Edge, ...], keep: float | None, stride: int = 1, conventions: Conventions = NASNET_CONVENTIONS
) -> tuple[Tensor, Tensor]:
    """A cell of one node on 256 examples: what it gives under drop path, and what it gives without."""
    torch.manual_seed(0)
    shape = StateShape(4, 1)
    cell = Cell(CellGenotype((Node(edges),), (2,)), filters=4, stride=stride, previous=shape, current=shape, layers=Layers(conventions))
    state = State(torch.rand(256, 4, 6, 6))
    cell.eval()
    with torch.no_grad():
        return cell(state, state, keep).raw, cell(state, state).raw


def multiples(dropped: Tensor, whole: Tensor) -> set[float]:
    return {round(float(ratio), 3) for ratio in (dropped.flatten(1).sum(1) / whole.flatten(1).sum(1))}


def test_the_two_sides_of_a_node_are_dropped_independently_before_the_sum() -> None:
    average = Edge(0, "avg_pool_3x3")
    dropped, whole = run_cell((average, average), 0.5)
    assert multiples(dropped, whole) == {0.0, 1.0, 2.0}


def test_an_identity_is_never_dropped() -> None:
    dropped, whole = run_cell((Edge(0, "identity"), Edge(0, "identity")), 0.1)
    assert torch.equal(dropped, whole)
    strided, whole = run_cell((Edge(0, "identity"), Edge(0, "identity")), 0.1, stride=2)
    assert torch.equal(strided, whole)


def test_darts_drops_a_strided_identity() -> None:
    edges = (Edge(0, "identity"), Edge(0, "identity"))
    strided, whole = run_cell(edges, 0.5, stride=2, conventions=DARTS_CONVENTIONS)
    assert not torch.equal(strided, whole)
    unstrided, whole = run_cell(edges, 0.5, conventions=DARTS_CONVENTIONS)
    assert torch.equal(unstrided, whole)


def networks(keep: float) -> tuple[torch.nn.Module, Tensor]:
    torch.manual_seed(0)
    skeleton = NASNetSkeleton(1, 4, drop_path_keep=keep)
    return build_network(load_reference("nasnet-a"), skeleton, classes=10, image_size=8), torch.randn(8, 3, 8, 8)


def test_nothing_is_dropped_at_the_start_of_training_or_in_evaluation() -> None:
    (dropping, images), (whole, _) = networks(0.5), networks(1.0)
    torch.testing.assert_close(dropping.train()(images), whole.train()(images))
    dropping.set_progress(1.0)
    assert not torch.allclose(dropping(images), whole(images))
    for network in (dropping, whole):
        network.load_state_dict({**whole.state_dict(), "progress": torch.tensor(1.0)})
    torch.testing.assert_close(dropping.eval()(images), whole.eval()(images))


def test_every_cell_is_told_its_own_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, float]] = []

    def record(paths: int, examples: Tensor, keep: Tensor | float) -> Tensor:
        told.append((paths, float(keep)))
        return path_factors(paths, examples, keep)

    monkeypatch.setattr("search_spaces.networks.cell.path_factors", record)
    network, images = networks(0.6)
    network.train().set_progress(0.5)
    network(images)
    # N=1: normal, reduction, normal, reduction, normal. Of NASNet-A's 10 edges, 2 (normal) and 1 (reduction) are identities.
    assert [paths for paths, _ in told] == [8, 9, 8, 9, 8]
    assert [keep for _, keep in told] == pytest.approx([1 - 0.5 * 0.4 * (i + 1) / 5 for i in range(5)])


def test_progress_survives_a_checkpoint_and_stays_in_range() -> None:
    network, _ = networks(0.6)
    network.set_progress(0.75)
    other, _ = networks(0.6)
    other.load_state_dict(network.state_dict())
    assert float(other.progress) == 0.75
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], but got 1.5"):
        network.set_progress(1.5)


def test_drop_path_trains_in_half_precision() -> None:
    network, images = networks(0.6)
    network.train().set_progress(1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network(images).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
