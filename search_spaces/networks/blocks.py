"""Residual blocks as operations: ResNeXt's bottleneck in its three forms, ConvNeXt's block, and the blocks on the road between them.

Every block maps (batch, channels_in, height, width) to (batch, channels_out, ceil(height / stride), ceil(width / stride)), for any
widths and stride 1 or 2, so a genotype may use it wherever it may use an operation. ``drop_rate`` is the block's stochastic depth:
the probability with which an example skips the residual branch while training.
"""

from collections.abc import Callable, Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.errors import GenotypeError
from search_spaces.networks.convolution import Conv2d
from search_spaces.networks.drop_path import drop_path
from search_spaces.vocabulary import BLOCK_OPTIONS, OptionValue

EXPANSION = 4
"""A bottleneck's output is 4 times its stage width; an inverted block's hidden width is 4 times its output."""
LAYER_SCALE_INIT = 1e-6
LAYER_NORM_EPS = 1e-6


BlockFactory = Callable[..., nn.Module]
"""Makes a block from channels in, channels out, stride (1 or 2), the keyword ``drop_rate``, and the vocabulary's options as keywords."""


def build_block(
    name: str, channels_in: int, channels_out: int, stride: int, options: Mapping[str, OptionValue] | None = None, *, drop_rate: float = 0.0
) -> nn.Module:
    """The block of that name; options left out take the vocabulary's default.

    Raises:
        GenotypeError: there is no such block, or an option is outside its rule.
    """
    if name not in BLOCKS:
        raise GenotypeError(f"unknown block {name!r}; valid blocks: {', '.join(BLOCKS)}")
    if stride not in (1, 2):
        raise GenotypeError(f"the stride of a block must be 1 or 2, but got {stride}")
    values = {key: rule.default for key, rule in BLOCK_OPTIONS[name].items()} | dict(options or {})
    kernel = values.get("kernel", 1)
    if isinstance(kernel, int) and kernel % 2 == 0:
        raise GenotypeError(f"`kernel` of {name} must be odd, but got {kernel}")
    return BLOCKS[name](channels_in, channels_out, stride, drop_rate=drop_rate, **values)


# ------------------------------------------------------------------------------------------------ parts


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels at each position of a (batch, channels, height, width) map."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; the permutations are views, and free for maps in channels-last memory format."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class StochasticDepth(nn.Module):
    """Zeroes a residual branch for some examples while training and rescales the others (Huang et al. 2016, arXiv 1603.09382).

    One Bernoulli(1 - rate) draw per example; kept branches are divided by the keep probability, so evaluation needs no scaling.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"the stochastic-depth rate must be at least 0 and below 1, but got {rate}")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Drop examples of a branch (batch, channels, height, width)."""
        if not self.training or self.rate == 0:
            return branch
        return drop_path(branch, 1 - self.rate)

    def extra_repr(self) -> str:
        """Shown in the network's printed form."""
        return f"rate={self.rate:g}"


def stochastic_depth_rates(largest: float, blocks: int) -> tuple[float, ...]:
    """Rates of the blocks in order: linear from 0 at the first to ``largest`` at the last (Liu et al. 2022, arXiv 2201.03545)."""
    return tuple(largest * i / max(1, blocks - 1) for i in range(blocks))


def make_activation(name: str) -> nn.Module:
    """``relu`` or the exact ``gelu``."""
    return nn.ReLU(inplace=True) if name == "relu" else nn.GELU()


def make_norm(name: str, channels: int) -> nn.Module:
    """``batch`` (eps 1e-5, momentum 0.1) or ``layer`` (over channels, eps 1e-6)."""
    return nn.BatchNorm2d(channels) if name == "batch" else ChannelNorm(channels, eps=LAYER_NORM_EPS)


def make_shortcut(channels_in: int, channels_out: int, stride: int, norm: str = "batch") -> nn.Module:
    """Identity where shapes agree, else a 1×1 convolution with the stride and a norm (He et al. 2016, type B)."""
    if stride == 1 and channels_in == channels_out:
        return nn.Identity()
    return nn.Sequential(Conv2d(channels_in, channels_out, 1, stride, bias=False), make_norm(norm, channels_out))


def initialise_he(module: nn.Module) -> None:
    """Convolutions N(0, sqrt(2 / (k² · out))), as the released ResNeXt code; norms keep scale 1 and shift 0."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def initialise_truncated(module: nn.Module) -> None:
    """Convolutions and linear layers truncated normal of std 0.02, biases 0: the released ConvNeXt code (its paper prints 0.2)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


# ------------------------------------------------------------------------------------------------ ResNet and ResNeXt


def path_width(channels_out: int, width: int) -> int:
    """Channels of one path, D = floor(n · width / 64) with n = channels_out / 4: ``width`` is d of the stage whose n is 64.

    So ``32×4d`` keeps its name while d doubles from stage to stage. At least 1, so that a block fits a narrow cell.
    """
    return max(1, channels_out // EXPANSION * width // 64)


class Bottleneck(nn.Module):
    """1×1, grouped 3×3 with the stride, 1×1, each followed by BatchNorm; ReLU after all but the last, and after the addition.

    With one group it is ResNet's bottleneck, with C groups ResNeXt's form (c) (Xie et al. 2017, arXiv 1611.05431, figure 3).
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, *, hidden: int, groups: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.groups = groups
        self.conv1 = nn.Conv2d(channels_in, hidden, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(hidden)
        self.conv2 = nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=groups, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden)
        self.conv3 = nn.Conv2d(hidden, channels_out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_out)
        self.shortcut = make_shortcut(channels_in, channels_out, stride)
        self.drop = StochasticDepth(drop_rate)
        initialise_he(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels_in, height, width) to (batch, channels_out, height / stride, width / stride)."""
        branch = F.relu(self.norm1(self.conv1(x)), inplace=True)
        branch = F.relu(self.norm2(self.conv2(branch)), inplace=True)
        branch = self.norm3(self.conv3(branch))
        return F.relu(self.drop(branch) + self.shortcut(x), inplace=True)


class _Path(nn.Module):
    """One of the C parallel paths of forms (a) and (b); ``channels_out`` None is form (b)'s, without the last 1×1."""

    def __init__(self, channels_in: int, width: int, channels_out: int | None, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Identity() if channels_out is None else nn.Conv2d(width, channels_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return cast(Tensor, self.conv3(F.relu(self.norm2(self.conv2(x)), inplace=True)))


class MultiPathBottleneck(nn.Module):
    """ResNeXt's forms with explicit paths: (a) sums C paths of three convolutions; (b) concatenates C of two, then one 1×1.

    Both compute exactly what form (c) computes (arXiv 1611.05431, figure 3); BatchNorm comes after the sum in (a). They are for
    study: C small convolutions run far slower than one grouped convolution.
    """

    def __init__(
        self, channels_in: int, channels_out: int, stride: int, *, width: int, cardinality: int, form: str, drop_rate: float = 0.0
    ) -> None:
        super().__init__()
        self.form = form
        last = channels_out if form == "a" else None
        self.paths = nn.ModuleList(_Path(channels_in, width, last, stride) for _ in range(cardinality))
        self.conv3 = nn.Identity() if form == "a" else nn.Conv2d(cardinality * width, channels_out, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(channels_out)
        self.shortcut = make_shortcut(channels_in, channels_out, stride)
        self.drop = StochasticDepth(drop_rate)
        # Initialised as form (c) is, whose fans are those of all paths together.
        template = Bottleneck(channels_in, channels_out, stride, hidden=cardinality * width, groups=cardinality)
        self.load_state_dict(split_paths(template.state_dict(), cardinality, form), assign=self.norm3.weight.is_meta)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels_in, height, width) to (batch, channels_out, height / stride, width / stride)."""
        outputs = [path(x) for path in self.paths]
        merged = torch.stack(outputs).sum(0) if self.form == "a" else self.conv3(torch.cat(outputs, 1))
        return F.relu(self.drop(self.norm3(merged)) + self.shortcut(x), inplace=True)


def split_paths(state: Mapping[str, Tensor], cardinality: int, form: str) -> dict[str, Tensor]:
    """State dict of form (c), made one of form ``a`` or ``b``: path i has the channels i·D … i·D + D - 1 of (c).

    The mapping only slices, so it also maps gradients.
    """
    result = {key: value for key, value in state.items() if key.startswith(("norm3.", "shortcut."))}
    sliced = ("conv1.", "norm1.", "conv2.", "norm2.")
    for key, value in state.items():
        if key.startswith(sliced):
            parts = [value] * cardinality if value.dim() == 0 else value.chunk(cardinality, 0)
            result |= {f"paths.{i}.{key}": part.clone() for i, part in enumerate(parts)}
    last = state["conv3.weight"]
    if form == "b":
        return result | {"conv3.weight": last}
    return result | {f"paths.{i}.conv3.weight": part.clone() for i, part in enumerate(last.chunk(cardinality, 1))}


def merge_paths(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State dict of form ``a`` or ``b``, made one of form (c): the inverse of ``split_paths``. It also maps gradients."""
    result = {key: value for key, value in state.items() if not key.startswith("paths.")}
    cardinality = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("paths."))
    for key in [key.removeprefix("paths.0.") for key in state if key.startswith("paths.0.")]:
        parts = [state[f"paths.{i}.{key}"] for i in range(cardinality)]
        result[key] = parts[0] if parts[0].dim() == 0 else torch.cat(parts, 1 if key == "conv3.weight" else 0)
    return result


def resnext_block(
    channels_in: int, channels_out: int, stride: int, *, cardinality: int, width: int, form: str, drop_rate: float = 0.0
) -> nn.Module:
    """ResNeXt's block ``cardinality × width d``; ``1×64d`` is ResNet's bottleneck.

    ``form`` is ``a``, ``b`` or ``c`` of the paper's figure 3, which are the same function.
    """
    channels = path_width(channels_out, width)
    if form == "c":
        return Bottleneck(channels_in, channels_out, stride, hidden=cardinality * channels, groups=cardinality, drop_rate=drop_rate)
    return MultiPathBottleneck(channels_in, channels_out, stride, width=channels, cardinality=cardinality, form=form, drop_rate=drop_rate)


def depthwise_bottleneck_block(channels_in: int, channels_out: int, stride: int, *, drop_rate: float = 0.0) -> nn.Module:
    """ResNet's bottleneck with a depthwise 3×3 convolution: ConvNeXt's roadmap, steps 3 and 4 (arXiv 2201.03545, table 10)."""
    hidden = max(1, channels_out // EXPANSION)
    return Bottleneck(channels_in, channels_out, stride, hidden=hidden, groups=hidden, drop_rate=drop_rate)


# ------------------------------------------------------------------------------------------------ from ResNet to ConvNeXt


class InvertedBlock(nn.Module):
    """The blocks of ConvNeXt's roadmap, steps 5 to 11 (arXiv 2201.03545, table 10): wide between two 1×1 convolutions.

    ``order`` is where the depthwise convolution stands: on the wide map after the first 1×1 (``expand_first``, step 5), or on the
    block's input (``depthwise_first``, step 6). It carries the stride. Convolutions have no bias; the wide map has 4 times the
    *output's* channels, also at a stage's start. With ``activations="one"`` only the one before the last 1×1 stays, none follows
    the addition (step 9); with ``norms="one"`` only the one after the depthwise convolution stays (step 10). The projection
    shortcut, of which the paper does not speak, keeps its norm, of the block's kind: that is what the published counts fit.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        stride: int,
        *,
        order: str,
        kernel: int,
        activation: str,
        activations: str,
        norm: str,
        norms: str,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        wide = EXPANSION * channels_out
        depthwise_first = order == "depthwise_first"
        at = channels_in if depthwise_first else wide
        depthwise = self._layer(nn.Conv2d(at, at, kernel, stride, kernel // 2, groups=at, bias=False), at, norm, True)
        expand = self._layer(nn.Conv2d(channels_in, wide, 1, bias=False), wide, norm, norms == "all")
        first, second = (depthwise, expand) if depthwise_first else (expand, depthwise)
        project = self._layer(nn.Conv2d(wide, channels_out, 1, bias=False), channels_out, norm, norms == "all")
        between = [make_activation(activation)] if activations == "all" else []
        self.branch = nn.Sequential(*first, *between, *second, make_activation(activation), *project)
        self.shortcut = make_shortcut(channels_in, channels_out, stride, norm)
        self.drop = StochasticDepth(drop_rate)
        self.activation = make_activation(activation) if activations == "all" else nn.Identity()
        initialise_he(self)

    @staticmethod
    def _layer(conv: nn.Conv2d, channels: int, norm: str, normed: bool) -> list[nn.Module]:
        return [conv, make_norm(norm, channels)] if normed else [conv]

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels_in, height, width) to (batch, channels_out, height / stride, width / stride)."""
        return cast(Tensor, self.activation(self.drop(self.branch(x)) + self.shortcut(x)))


# ------------------------------------------------------------------------------------------------ ConvNeXt


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, LayerNorm, 1×1 to ``expansion`` times the width, GELU, 1×1 back, layer scale, addition.

    Liu et al. 2022, arXiv 2201.03545, figure 4. The 1×1 convolutions are linear layers on channels-last data, which is the same.
    """

    def __init__(self, channels: int, *, kernel: int, expansion: int, layer_scale: str, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=LAYER_NORM_EPS)
        self.expand = nn.Linear(channels, expansion * channels)
        self.project = nn.Linear(expansion * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), LAYER_SCALE_INIT)) if layer_scale == "learned" else None
        self.drop = StochasticDepth(drop_rate)
        initialise_truncated(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to the same shape."""
        branch = self.norm(self.depthwise(x).permute(0, 2, 3, 1))  # (batch, height, width, channels) up to the way back
        branch = self.project(F.gelu(self.expand(branch)))
        if self.scale is not None:
            branch = branch * self.scale
        return x + cast(Tensor, self.drop(branch.permute(0, 3, 1, 2)))


class Downsample(nn.Sequential):
    """ConvNeXt's layer between stages: LayerNorm, then a convolution of kernel and stride 2 (or 1, where only the width changes).

    A map narrower than the kernel is padded with zeros up to it, so that small images work; no published size needs that.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(ChannelNorm(channels_in, eps=LAYER_NORM_EPS), PatchConv(channels_in, channels_out, stride))
        initialise_truncated(self)


class PatchConv(nn.Conv2d):
    """Convolution of non-overlapping patches; a map smaller than a patch is padded with zeros (right, bottom) up to one."""

    def __init__(self, channels_in: int, channels_out: int, patch: int, bias: bool = True) -> None:
        super().__init__(channels_in, channels_out, patch, stride=patch, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels_in, height, width) to (batch, channels_out, height // patch, width // patch), at least 1×1."""
        bottom, right = (max(0, k - side) for k, side in zip(self.kernel_size, x.shape[-2:], strict=True))
        return super().forward(F.pad(x, (0, right, 0, bottom)) if bottom or right else x)


def convnext_block(
    channels_in: int, channels_out: int, stride: int, *, kernel: int, expansion: int, layer_scale: str, drop_rate: float = 0.0
) -> nn.Module:
    """ConvNeXt's block; where resolution or width changes, ConvNeXt's downsampling layer comes before it."""
    block = ConvNeXtBlock(channels_out, kernel=kernel, expansion=expansion, layer_scale=layer_scale, drop_rate=drop_rate)
    if stride == 1 and channels_in == channels_out:
        return block
    return nn.Sequential(Downsample(channels_in, channels_out, stride), block)


BLOCKS: Mapping[str, BlockFactory] = {
    "resnext_block": resnext_block,
    "depthwise_bottleneck_block": depthwise_bottleneck_block,
    "inverted_block": InvertedBlock,
    "convnext_block": convnext_block,
}
"""The factory behind each name of ``vocabulary.BLOCK_OPTIONS``."""
