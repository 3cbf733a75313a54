"""Published networks in full size take a few steps on real CIFAR-10 images, loss falling."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.paths import SHARED_DATA

from nas.data.cifar import CIFAR10, find, load_cifar
from nas.data.dataset import Dataset
from search_spaces.networks.build import build_network
from search_spaces.reference import load_reference
from search_spaces.skeletons import NASNetSkeleton, load_skeleton

FETCH = SHARED_DATA / "get_cifar10"


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """CIFAR-10 from NAS_DATA where it is, else from the machine's own script."""
    if os.environ.get("NAS_DATA") and find(CIFAR10, [Path(os.environ["NAS_DATA"])]):
        return load_cifar(CIFAR10, os.environ["NAS_DATA"], download=False)
    if not FETCH.exists():
        pytest.skip("needs CIFAR-10: set NAS_DATA")
    folder = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, FETCH, folder], check=True)
    return load_cifar(CIFAR10, str(folder), download=False)


@pytest.mark.slow
def test_nasnet_a_learns_real_images_with_drop_path_and_auxiliary_head(cifar10: Dataset) -> None:
    """NASNet-A (6 @ 768), keep probability 0.6 growing over the steps, auxiliary loss at 0.4: the published recipe's parts."""
    torch.manual_seed(0)
    skeleton = load_skeleton("nasnet-cifar")
    assert isinstance(skeleton, NASNetSkeleton) and skeleton.drop_path_keep == 0.6
    network = build_network(load_reference("nasnet-a"), replace(skeleton, auxiliary=True), classes=10, image_size=32)
    network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    pixels = torch.from_numpy(np.array(cifar10.train.images[:16])).permute(0, 3, 1, 2).float() / 127.5 - 1
    images = pixels.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(np.array(cifar10.train.labels[:16]))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.025, momentum=0.9, weight_decay=5e-4)
    main, auxiliary = [], []
    for step in range(16):
        network.set_progress(step / 16)
        logits, extra = network.forward_with_auxiliary(images)
        assert extra is not None
        losses = F.cross_entropy(logits, labels), F.cross_entropy(extra, labels)
        optimizer.zero_grad()
        (losses[0] + 0.4 * losses[1]).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        main.append(losses[0].item())
        auxiliary.append(losses[1].item())
    assert np.isfinite(main).all() and np.isfinite(auxiliary).all()
    assert np.mean(main[-3:]) < 0.9 * main[0]
    assert np.mean(auxiliary[-3:]) < 0.9 * auxiliary[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    "genotype,skeleton,image_size,examples,optimizer",
    [
        ("resnext-8x64d", "resnet-29-cifar", 32, 8, lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=5e-4)),
        ("convnext", "convnext-t", 224, 4, lambda p: torch.optim.AdamW(p, lr=2e-4, weight_decay=0.05)),
    ],
    ids=["ResNeXt-29 8x64d", "ConvNeXt-T"],
)
def test_a_published_network_learns_a_few_real_images(cifar10, genotype, skeleton, image_size, examples, optimizer):
    torch.manual_seed(0)
    network = build_network(load_reference(genotype), load_skeleton(skeleton), classes=10, image_size=image_size)
    network.to(memory_format=torch.channels_last).train()
    pixels = torch.from_numpy(np.array(cifar10.train.images[:examples])).permute(0, 3, 1, 2).float() / 127.5 - 1
    images = F.interpolate(pixels, size=(image_size, image_size), mode="bilinear").contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(np.array(cifar10.train.labels[:examples]))
    steps = optimizer(network.parameters())
    losses = []
    for _ in range(6):
        steps.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        steps.step()
        losses.append(loss.item())
    print([round(value, 3) for value in losses])
    assert all(np.isfinite(losses))
    assert np.mean(losses[-2:]) < 0.85 * losses[0]
