"""Two operations. Exports to source files copy the classes as text, so they use torch and this file alone."""

import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.vocabulary import IntOption, OperationRow


class SwishConvolution(nn.Module):
    """3×3 convolution and batch norm of the state's swish."""

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels_in, h, w) to (batch, channels_out, ⌈h / stride⌉, ⌈w / stride⌉)."""
        return self.norm(self.conv(F.silu(x)))


class InvertedResidual(nn.Module):
    """MobileNetV2's layer (Sandler et al. 2018, arXiv 1801.04381): expand, depthwise convolution, project, and a shortcut."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, kernel: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.shortcut = stride == 1 and channels_in == channels_out
        self.layers = nn.Sequential(
            nn.Conv2d(channels_in, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, channels_out, 1, bias=False),
            nn.BatchNorm2d(channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (batch, channels_in, h, w) to (batch, channels_out, ⌈h / stride⌉, ⌈w / stride⌉)."""
        return x + self.layers(x) if self.shortcut else self.layers(x)


MBCONV = OperationRow({"kernel": IntOption(3, 7, 3), "expansion": IntOption(1, 8, 4)}, InvertedResidual, kind="block")
