"""The network of a NASNet cell as public code writes it: every operation a plain ``nn.Sequential``, channels first. For comparison only.

It has the engine's layers (``search_spaces.networks``, NASNet's conventions) and parameter counts, except that a cell which nobody reads is
built too, and that strided windows are padded evenly.
"""

import torch
from torch import Tensor, nn

from search_spaces.canonical import live_nodes
from search_spaces.genotype import CellGenotype, Genotype
from search_spaces.networks.cell import read_inputs
from search_spaces.skeletons import NASNetSkeleton, plan_cells, rounded_width

CONVOLUTIONS = {
    "conv_1x3_3x1": (((1, 3), (3, 1)), 3 / 8, 1),
    "conv_1x7_7x1": (((1, 7), (7, 1)), 1 / 4, 1),
    "dil_conv_3x3": (((3, 3),), 1 / 4, 2),
    "dil_conv_5x5": (((5, 5),), 1 / 4, 2),
    "conv_3x3": (((3, 3),), 1 / 4, 1),
    "conv_5x5": (((5, 5),), 1 / 4, 1),
}
"""Kernels, width of the bottleneck as a share of the filters, dilation."""


def norm_after(*layers: nn.Module, channels: int) -> nn.Sequential:
    """Layers and batch norm."""
    return nn.Sequential(*layers, nn.BatchNorm2d(channels))


def pointwise(channels_in: int, channels_out: int, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """ReLU, 1×1 convolution, batch norm."""
    conv = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
    return norm_after(*([nn.ReLU()] if relu else []), conv, channels=channels_out)


def separable(kernel: int, channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """ReLU, depthwise and 1×1 convolution, batch norm: twice."""
    layers: list[nn.Module] = []
    for width, step in ((channels_in, stride), (channels_out, 1)):
        depthwise = nn.Conv2d(width, width, kernel, step, kernel // 2, groups=width, bias=False)
        layers += [nn.ReLU(), depthwise, nn.Conv2d(width, channels_out, 1, bias=False), nn.BatchNorm2d(channels_out)]
    return nn.Sequential(*layers)


def convolution(name: str, channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    """Convolutions in a bottleneck, batch norm and ReLU before and after each."""
    kernels, share, dilation = CONVOLUTIONS[name]
    inner = int(channels_out * share)
    narrow, width = inner or channels_out, inner or channels_in
    layers: list[nn.Module] = [nn.ReLU()]
    layers += [nn.Conv2d(channels_in, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.ReLU()] if inner else []
    for i, (height, breadth) in enumerate(kernels):
        step = (stride if height > 1 or len(kernels) == 1 else 1, stride if breadth > 1 or len(kernels) == 1 else 1)
        padding = (dilation * (height // 2), dilation * (breadth // 2))
        layers += [nn.BatchNorm2d(narrow), nn.ReLU()] if i else []
        layers.append(nn.Conv2d(width, narrow, (height, breadth), step, padding, dilation, bias=False))
        width = narrow
    layers += [nn.BatchNorm2d(inner), nn.ReLU(), nn.Conv2d(inner, channels_out, 1, bias=False)] if inner else []
    return norm_after(*layers, channels=channels_out)


class FactorizedReduction(nn.Module):
    """ReLU, two strided 1×1 convolutions, the second one pixel further on, concatenated; batch norm."""

    def __init__(self, channels_in: int, channels_out: int, relu: bool) -> None:
        super().__init__()
        self.relu = nn.ReLU() if relu else nn.Identity()
        self.even = nn.Conv2d(channels_in, channels_out // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(channels_in, channels_out - channels_out // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(channels_out)

    def forward(self, x: Tensor) -> Tensor:
        """At half the resolution."""
        x = self.relu(x)
        return self.norm(torch.cat([self.even(x), self.odd(x[:, :, 1:, 1:])], 1))


def operation(name: str, channels_in: int, channels_out: int, stride: int) -> nn.Module:
    """The layers of an operation of the NASNet space."""
    kind, _, size = name.rpartition("_")
    if name == "identity":
        return nn.Identity() if stride == 1 and channels_in == channels_out else pointwise(channels_in, channels_out, stride)
    if kind.endswith("pool"):
        kernel = int(size[0])
        padding = (kernel - 1) // 2
        after = [] if channels_in == channels_out else [pointwise(channels_in, channels_out, relu=False)]
        if kind == "avg_pool":
            return nn.Sequential(nn.AvgPool2d(kernel, stride, padding, count_include_pad=False), *after)
        same = [] if kernel % 2 or stride > 1 else [nn.ZeroPad2d((0, 1, 0, 1))]
        return nn.Sequential(*same, nn.MaxPool2d(kernel, stride, padding), *after)
    if kind == "sep_conv":
        return separable(int(size[0]), channels_in, channels_out, stride)
    return pointwise(channels_in, channels_out, stride) if name == "conv_1x1" else convolution(name, channels_in, channels_out, stride)


class Cell(nn.Module):
    """A cell: its two inputs brought to shape, the sums of pairs of operations, and the concatenation of the outputs."""

    def __init__(
        self, genotype: CellGenotype, filters: int, stride: int, previous: tuple[int, int] | None, current: tuple[int, int]
    ) -> None:
        super().__init__()
        self.genotype, self.live = genotype, live_nodes(genotype)
        used = read_inputs(genotype)
        widths = {0: filters, 1: filters}
        self.inputs = nn.ModuleDict({"1": pointwise(current[0], filters)} if 1 in used else {})
        if previous is not None and previous[1] != current[1]:
            self.inputs["0"] = FactorizedReduction(previous[0], filters, True)
        elif previous is not None and previous[0] != filters:
            self.inputs["0"] = pointwise(previous[0], filters)
        else:
            self.inputs["0"], widths[0] = nn.Identity(), (previous or current)[0]
        if 0 not in used:
            del self.inputs["0"]
        self.operations = nn.ModuleDict()
        for state in self.live:
            node = genotype.nodes[state - 2]
            for i, edge in enumerate(node.edges):
                step = stride if edge.source < 2 else 1
                self.operations[f"{state}-{i}"] = operation(edge.operation, widths[edge.source], filters, step)
            widths[state] = filters * (len(node.edges) if node.combine == "concat" else 1)
        self.match = nn.ModuleDict()
        for state in genotype.outputs:
            if state < 2 and stride > 1:
                self.match[str(state)] = FactorizedReduction(widths[state], filters, False)
            elif state < 2 and widths[state] != filters:
                self.match[str(state)] = pointwise(widths[state], filters, relu=False)
        self.channels = sum(filters if state < 2 else widths[state] for state in genotype.outputs)

    def forward(self, previous: Tensor, current: Tensor) -> Tensor:
        """The next network state."""
        states = {int(key): module(current if key == "1" else previous) for key, module in self.inputs.items()}
        for state in self.live:
            node = self.genotype.nodes[state - 2]
            results = [self.operations[f"{state}-{i}"](states[edge.source]) for i, edge in enumerate(node.edges)]
            states[state] = torch.cat(results, 1) if node.combine == "concat" else sum(results[1:], results[0])
        return torch.cat([self.match[str(s)](states[s]) if str(s) in self.match else states[s] for s in self.genotype.outputs], 1)


class ReferenceNetwork(nn.Module):
    """A genotype's cells stacked as a NASNet skeleton says, on small images."""

    def __init__(self, genotype: Genotype, skeleton: NASNetSkeleton, classes: int) -> None:
        super().__init__()
        self.plans = plan_cells(skeleton)
        width = skeleton.stem_filters or rounded_width(3 * skeleton.filters)
        self.stem = norm_after(nn.Conv2d(3, width, 3, padding=1, bias=False), channels=width)
        shapes = [(width, 1)]
        self.cells = nn.ModuleList()
        for plan in self.plans:
            cell = genotype.normal if plan.genotype == "normal" else genotype.reduction or genotype.normal
            previous = None if plan.previous is None else shapes[plan.previous]
            self.cells.append(Cell(cell, plan.filters, plan.stride, previous, shapes[plan.current]))
            shapes.append((self.cells[-1].channels, shapes[plan.current][1] * plan.stride))
        self.classifier = nn.Linear(shapes[-1][0], classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits."""
        states = [self.stem(images)]
        for plan, cell in zip(self.plans, self.cells, strict=True):
            previous = plan.current if plan.previous is None else plan.previous
            states.append(cell(states[previous], states[plan.current]))
        return self.classifier(torch.relu(states[-1]).mean((2, 3)))
