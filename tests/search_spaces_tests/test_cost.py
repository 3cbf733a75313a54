"""Costs: parameters and MACs without data, and the memory of a training step."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node
from search_spaces.networks.build import build_network
from search_spaces.networks.cost import Cost, count_macs, count_parameters, training_memory
from search_spaces.networks.pieces import network_cost
from search_spaces.residual_skeletons import ResidualSkeleton, convnext_skeleton, resnext_genotype


class Handmade(nn.Module):
    """One layer of every kind that is counted, and some that are not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)  # 16×16×8 outputs of 27 products
        self.depthwise = nn.Conv2d(8, 8, 5, padding=2, groups=8, bias=False)  # 16×16×8 of 25
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 10)
        self.frozen = nn.Parameter(torch.ones(7), requires_grad=False)
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> Tensor:
        self.modes.append(self.training)
        x = F.avg_pool2d(F.relu(self.norm(self.depthwise(self.conv(images)))), 16)
        return self.linear(x.flatten(1))


def test_counts_are_those_worked_out_by_hand():
    network = Handmade()
    assert count_parameters(network) == (3 * 8 * 9 + 8) + 8 * 25 + 16 + (8 * 10 + 10)
    assert count_macs(network, image_size=32) == 16 * 16 * 8 * 27 + 16 * 16 * 8 * 25 + 80


def test_counting_leaves_the_network_as_it_was():
    network = Handmade().train()
    network.norm.eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    count_macs(network, image_size=32)
    assert network.modes == [False] and network.training and not network.norm.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(tensor.is_meta for tensor in network.state_dict().values())


def test_a_network_on_the_meta_device_is_counted_too():
    genotype, skeleton = resnext_genotype(4, 16), ResidualSkeleton((1, 1), (32, 64), "cifar", 16)
    cost = network_cost(genotype, skeleton, classes=10, channels=1, image_size=28)
    network = build_network(genotype, skeleton, classes=10, channels=1, image_size=28)
    assert cost == Cost(count_parameters(network), count_macs(network, channels=1, image_size=28))


def test_macs_grow_with_the_area_where_every_map_divides():
    genotype, skeleton = resnext_genotype(4, 16), ResidualSkeleton((1, 1), (32, 64), "cifar", 16)
    small, large = (network_cost(genotype, skeleton, classes=0, image_size=size) for size in (16, 32))
    assert large.macs == 4 * small.macs and large.parameters == small.parameters


def test_what_does_not_fit_is_refused():
    cell = CellGenotype((Node((Edge(0, "conv_3x3"),)),), (1,), inputs=1)
    with pytest.raises(GenotypeError, match="a residual skeleton needs"):
        network_cost(Genotype(cell), convnext_skeleton((1,), 8), classes=2, image_size=32)


# ------------------------------------------------------------------------------------------------ memory


class Chain(nn.Module):
    """``length`` sigmoids, each of which keeps its result for the backward pass."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.linear = nn.Linear(3, 2)

    def forward(self, images: Tensor) -> Tensor:
        x = images + self.linear.bias[0]
        for _ in range(self.length):
            x = torch.sigmoid(x)
        return self.linear(x.mean((2, 3)))


def test_memory_of_a_step_grows_by_what_is_kept_for_backward():
    map_bytes = 10 * 3 * 64 * 64 * 4
    short, long = (training_memory(Chain(length), batch_size=10, image_size=64) for length in (10, 30))
    assert long - short == 20 * map_bytes
    # the batch, every map kept, and at most three more on the way
    assert 31 * map_bytes <= long <= 34 * map_bytes


def test_memory_of_weights_gradients_and_momenta():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 100_000, bias=False))
    weights = 4 * 48 * 100_000
    assert 3 * weights <= training_memory(network, batch_size=1, image_size=4) <= 3.2 * weights
    assert network[1].weight.grad is None  # the step was done on a copy


def test_memory_can_be_foretold_from_shapes():
    network = build_network(resnext_genotype(4, 16), ResidualSkeleton((1, 1), (32, 64), "cifar", 16), classes=10, image_size=32)
    measured = training_memory(network, batch_size=16, image_size=32)
    assert training_memory(network, batch_size=16, image_size=32, device="meta") == pytest.approx(measured, rel=0.02)


@pytest.mark.gpu
def test_memory_on_a_gpu_is_at_least_that_of_the_tensors():
    network = nn.Sequential(nn.Flatten(), nn.Linear(48, 100_000, bias=False))
    assert training_memory(network, batch_size=1, image_size=4, device="cuda") >= 3 * 4 * 48 * 100_000
