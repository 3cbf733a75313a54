"""NAS-Bench-201's network: the parameters that the benchmark recorded, its layers, and any size."""

import csv
import gzip
import random

import pytest
import torch
import torch.nn.functional as F
from support.paths import SHARED_DATA

from nas.networks.drawing.networks import network_parts
from search_spaces.errors import GenotypeError, SkeletonError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.networks.build import build_network
from search_spaces.networks.cell import State
from search_spaces.networks.cost import count_parameters
from search_spaces.networks.nasbench201_network import ResidualBlock
from search_spaces.networks.network import Network
from search_spaces.networks.operations import Layers
from search_spaces.reference import load_reference
from search_spaces.registry import load_space
from search_spaces.skeletons import DARTS_CONVENTIONS, NASBench201Skeleton, load_skeleton

SPACE = load_space("nasbench201")
TABLE = SHARED_DATA / "nasbench201_extra.csv.gz"


def network(cell: str, skeleton: NASBench201Skeleton | None = None) -> Network:
    """The network of a cell given as the six actions' digits."""
    return build_network(SPACE.decode([int(digit) for digit in cell]), skeleton or NASBench201Skeleton(), classes=10, image_size=32)


@pytest.mark.parametrize(
    ("cell", "parameters"),
    [("333132", 1_073_466), ("333133", 1_288_506), ("000000", 73_306)],
    ids=["best on CIFAR-10", "best on CIFAR-100", "nothing but zeros"],
)
def test_parameters_are_those_that_the_benchmark_recorded(cell: str, parameters: int) -> None:
    with torch.device("meta"):
        assert count_parameters(network(cell)) == parameters


@pytest.mark.skipif(not TABLE.exists(), reason="needs the benchmark's table")
def test_parameters_of_random_cells_are_those_of_the_table() -> None:
    with gzip.open(TABLE, "rt", encoding="utf-8") as file:
        rows = random.Random(1).sample(list(csv.DictReader(file)), 40)
    different = 0
    for row in rows:
        with torch.device("meta"):
            different += count_parameters(network(row["cell"])) != int(row["params"])
    assert different <= 3  # for 1 % of the cells the table stores an isomorphic twin's count


@pytest.mark.parametrize("size", [8, 9, 32])
@pytest.mark.parametrize("cell", ["333132", "012340", "400000", "010101"])
def test_any_cell_and_size_trains(cell: str, size: int) -> None:
    torch.manual_seed(0)
    net = network(cell, NASBench201Skeleton(1, 4)).train()
    images = torch.randn(4, 3, size, size)
    logits, auxiliary = net.forward_with_auxiliary(images)
    assert logits.shape == (4, 10) and auxiliary is None
    F.cross_entropy(logits, torch.arange(4)).backward()
    assert [(info.stride, info.channels) for info in net.feature_info] == [(1, 4), (2, 8), (4, 16)]
    assert [f.shape[2] for f in net.features(images)] == [size, -(-size // 2), -(-size // 4)]


def test_a_node_is_the_sum_of_its_edges() -> None:
    """skip 0→1, skip 0→2, zero 1→2, zero 0→3, skip 1→3, skip 2→3: the output is twice the input."""
    cell = network("110011", NASBench201Skeleton(1, 4)).eval().stages[0][0]
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(cell(State(x)).raw, 2 * x)


def test_the_residual_block_is_the_benchmarks() -> None:
    torch.manual_seed(0)
    block = ResidualBlock(4, 8, Layers(DARTS_CONVENTIONS)).eval()
    x = torch.randn(2, 4, 6, 6)
    first, second = (branch.layers[0].weight for branch in (block.first, block.second))
    scale = (1 + 1e-5) ** -0.5
    branch = F.conv2d((F.conv2d(x.relu(), first, stride=2, padding=1) * scale).relu(), second, padding=1) * scale
    torch.testing.assert_close(block(State(x)).raw, branch + F.conv2d(F.avg_pool2d(x, 2), block.shortcut.weight))


def test_other_genotypes_are_refused() -> None:
    pair = CellGenotype((Node((Edge(0, "identity"), Edge(1, "identity"))),), (2,))
    for genotype, message in (
        (load_reference("nasnet-a"), "has a residual block in the place of a reduction cell"),
        (Genotype(pair), r"takes cells with `inputs: \[current\]`, sums and one output"),
    ):
        with pytest.raises(GenotypeError, match=message):
            build_network(genotype, NASBench201Skeleton(), classes=10, image_size=32)
    with pytest.raises(SkeletonError, match=r"`cells` must be 1\.\.50, but got 0"):
        NASBench201Skeleton(cells=0)
    assert load_skeleton("nasbench201") == NASBench201Skeleton()


def test_the_network_is_drawn_in_parts() -> None:
    genotype = SPACE.decode([3, 3, 3, 1, 3, 2])
    parts = network_parts(genotype, NASBench201Skeleton(5, 16), classes=10, channels=3, image_size=32)
    assert [part.shape for part in parts] == [
        "3 × 32 × 32",
        "16 × 32 × 32",
        "16 × 32 × 32",
        "32 × 16 × 16",
        "32 × 16 × 16",
        "64 × 8 × 8",
        "64 × 8 × 8",
        "10 classes",
    ]
