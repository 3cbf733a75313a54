"""Weights for comparing two implementations of a network."""

import torch
from torch import nn


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random values everywhere, norms' statistics and layer scales too, so that no part can hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            elif tensor.is_floating_point():
                scale = 1 / tensor[0].numel() ** 0.5 if tensor.dim() > 1 else 0.5
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * scale)
    return module
