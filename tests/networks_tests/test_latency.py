"""Latency is measured: it follows the work, names its conditions, and leaves the network as it was."""

import time

import pytest
import torch
from torch import Tensor, nn

from nas.networks.latency import LatencyError, measure_latency
from search_spaces.networks.build import build_network
from search_spaces.reference import load_reference
from search_spaces.skeletons import NASNetSkeleton


class Sleeper(nn.Module):
    """Takes a known time, longer at first; remembers how it was called."""

    def __init__(self, seconds: float, first: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.seconds, self.first = seconds, first
        self.calls: list[tuple[tuple[int, ...], bool, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(self.first if len(self.calls) < 2 else self.seconds)
        self.calls.append((tuple(images.shape), self.training, torch.is_grad_enabled()))
        return images


def test_a_known_time_is_found_and_warm_up_is_not_counted():
    network = Sleeper(0.01, first=0.1)
    latency = measure_latency(network, image_size=8, channels=1, batch_size=4, runs=9, warmup=2)
    assert 0.01 <= latency.fastest <= latency.p10 <= latency.median <= latency.p90
    assert latency.median < 0.05
    assert latency.throughput == pytest.approx(4 / latency.median)
    assert network.calls == [((4, 1, 8, 8), False, False)] * 11
    assert network.training


def test_every_condition_is_named():
    latency = measure_latency(Sleeper(0), image_size=16, batch_size=2, runs=3, warmup=1, dtype="bfloat16", channels_last=False)
    assert (latency.runs, latency.warmup, latency.batch_size, latency.channels, latency.image_size) == (3, 1, 2, 3, 16)
    assert (latency.device, latency.dtype, latency.channels_last, latency.threads) == ("cpu", "bfloat16", False, torch.get_num_threads())
    for part in ("batch of 2", "3 runs after 1", "images/s", "3×16×16", "bfloat16", "channels first", "cpu"):
        assert part in str(latency)


def test_the_folded_network_is_measured_and_named():
    network = build_network(load_reference("nasnet-a"), NASNetSkeleton(1, 4), classes=10, image_size=8)
    latency = measure_latency(network, image_size=8, runs=2, warmup=1, folded=True)
    assert latency.folded and "channels last, folded" in str(latency)
    assert network.training and any(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_a_single_run_is_its_own_percentiles():
    latency = measure_latency(Sleeper(0), image_size=8, runs=1, warmup=0)
    assert latency.p10 == latency.median == latency.p90 == latency.fastest


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_cell_network_is_measured(dtype):
    network = build_network(load_reference("nasnet-a"), NASNetSkeleton(1, 4), classes=10, image_size=8)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    latency = measure_latency(network, image_size=8, batch_size=2, runs=3, warmup=1, dtype=dtype)
    assert latency.median > 0
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.gpu
def test_a_gpu_is_waited_for_and_named():
    network = nn.Conv2d(64, 64, 7, padding=3)
    latency = measure_latency(network, image_size=256, channels=64, batch_size=16, device="cuda", runs=5)
    assert torch.cuda.get_device_name() in latency.device
    assert latency.median > 1e-4  # 0.2 TMACs; without synchronisation it would seem to take microseconds


@pytest.mark.parametrize(
    "options,message",
    [
        ({"device": "gpu"}, "the device must be cpu, cuda or cuda:N, but got 'gpu'"),
        ({"device": "meta"}, "the device must be cpu, cuda or cuda:N, but got 'meta'"),
        ({"device": "cuda:99"}, "device 'cuda:99' was asked for, but PyTorch sees"),
        ({"dtype": "int8"}, "the dtype must be one of float32, bfloat16, float16, but got 'int8'"),
        ({"runs": 0}, "at least one image, one run"),
    ],
)
def test_what_cannot_be_measured_is_refused(options, message):
    with pytest.raises(LatencyError, match=message):
        measure_latency(Sleeper(0), image_size=8, **options)
