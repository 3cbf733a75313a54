"""Muon for networks of hundreds of small matrices: those of one shape are turned together. For ``nas.training.optimisation`` alone."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from timm.optim import NAdamW
from timm.optim.muon import zeropower_via_newtonschulz
from torch import Tensor

COEFFICIENTS = [(4.0848, -6.8946, 2.9270), (3.9505, -6.3029, 2.6377), (3.7418, -5.5913, 2.3037), (2.8769, -3.1427, 1.2046)]
"""Of four iterations of Newton and Schulz: the first of the five known as `quintic`, with which it was measured (benchmarks/README.md)."""
LEAST_NORM = 1e-7
"""A matrix of a smaller norm is not brought to norm one."""


class Muon(NAdamW):  # type: ignore[misc]
    """AdamW with Nesterov's momentum, but for groups with ``orthogonal: True``: their steps are matrices of about equal singular values.

    Jordan et al. 2024, https://kellerjordan.github.io/posts/muon; step sizes of Liu et al. 2025, arXiv 2502.16982: 0.2 · rate ·
    √(longer side), so that both parts take the same learning rate. A kernel [out, in, height, width] is a matrix of out rows. The
    iteration and NAdamW are timm's; timm's own Muon turns one matrix after the other, in bfloat16, which takes such networks longer.
    """

    def __init__(self, params: Iterable[dict[str, Any]], *, momentum: float, nesterov: bool, **adamw: Any) -> None:  # noqa: ANN401 - torch's own
        super().__init__(params, foreach=True, **adamw)  # quicker on a CPU, too
        self.momentum, self.nesterov = momentum, nesterov

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401 - torch's own
        """One step; the gradients of what was orthogonalised are gone afterwards, so that NAdamW passes it by."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            if group.get("orthogonal"):
                self._turn([one for one in group["params"] if one.grad is not None], group["lr"], group["weight_decay"])
        super().step()
        return loss

    def _turn(self, parameters: list[Tensor], rate: float, decay: float) -> None:
        shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)
        for parameter in parameters:
            gradient, state = parameter.grad, self.state[parameter]
            assert gradient is not None
            if "momentum_buffer" not in state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            average = state["momentum_buffer"].lerp_(gradient, 1 - self.momentum)
            matrix = (gradient.lerp(average, self.momentum) if self.nesterov else average).flatten(1)
            shapes[matrix.shape[0], matrix.shape[1]].append((parameter, matrix))
            parameter.grad = None
        for shape, members in shapes.items():
            stack = torch.stack([matrix for _, matrix in members])
            turned = zeropower_via_newtonschulz(stack, len(COEFFICIENTS), COEFFICIENTS, eps=LEAST_NORM, dtype=torch.float32)
            for (parameter, _), matrix in zip(members, turned, strict=True):
                if decay:
                    parameter.mul_(1 - rate * decay)
                parameter.add_(matrix.reshape(parameter.shape), alpha=-0.2 * rate * max(shape) ** 0.5)
