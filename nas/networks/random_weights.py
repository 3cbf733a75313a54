"""Weights for networks that have none yet, where every part must show. Loads torch."""

import torch
from torch import nn


def fill_at_random(network: nn.Module, seed: int = 0) -> None:
    """Fill an untrained network at random, norms' statistics and layer scales too, so that no part can hide in a comparison."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point() and tensor.dim() > 0:
                scale = tensor[0].numel() ** -0.5 if tensor.dim() > 1 else 0.5
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
