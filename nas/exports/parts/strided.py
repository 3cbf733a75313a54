"""Layers of standalone files that read every other pixel."""

from torch import Tensor, nn


class Strided(nn.Sequential):
    """Layers on every `stride`-th pixel of each side.

    With a 1×1 convolution first this is the strided 1×1 convolution, whose own weight gradient is not safe in oneDNN where
    channels-last states have few channels (uxlfoundation/oneDNN#6035).
    """

    def __init__(self, stride: int, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, :: self.stride, :: self.stride])
