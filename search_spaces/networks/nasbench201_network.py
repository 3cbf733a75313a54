"""NAS-Bench-201's network: stages of one-input cells with residual blocks between them (Dong and Yang 2020, arXiv 2001.00326)."""

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Genotype
from search_spaces.networks import fast
from search_spaces.networks.cell import NodeModule, State
from search_spaces.networks.network import FeatureInfo, Network
from search_spaces.networks.operations import Layers, Sequential, build_operation
from search_spaces.skeletons import DARTS_CONVENTIONS, NASBench201Skeleton, stage_filters

CONVENTIONS = replace(DARTS_CONVENTIONS, dilated="plain")
"""Convolutions are ReLU, convolution, batch norm; padding is symmetric; a pooling has no norm."""


def check_genotype(genotype: Genotype) -> None:
    """Raise GenotypeError where a genotype is none of NAS-Bench-201's kind."""
    if genotype.reduction is not None:
        raise GenotypeError("NAS-Bench-201's skeleton has a residual block in the place of a reduction cell, but the genotype has one")
    cell = genotype.normal
    if cell.inputs != 1 or len(cell.outputs) != 1 or any(node.combine != "add" for node in cell.nodes):
        raise GenotypeError("cell 'normal': NAS-Bench-201's skeleton takes cells with `inputs: [current]`, sums and one output")


class NASBench201Cell(nn.Module):
    """A cell of one input, of the same shape as its hidden states. All edges are built, as the benchmark's parameter counts ask."""

    def __init__(self, genotype: CellGenotype, filters: int, layers: Layers) -> None:
        super().__init__()
        self.output = genotype.outputs[0]
        self.nodes = nn.ModuleList(
            NodeModule(node, [build_operation(edge, filters, filters, 1, layers) for edge in node.edges]) for node in genotype.nodes
        )

    def forward(self, state: State) -> State:
        """The next network state."""
        states = {0: state}
        for i, node in enumerate(self.nodes, start=1):
            states[i] = State(node(states, None))
        return states[self.output]


class ResidualBlock(nn.Module):
    """ReLU, 3×3 convolution and batch norm twice, added to 2×2 average pooling and a 1×1 convolution. An odd side is rounded up."""

    def __init__(self, channels_in: int, channels_out: int, layers: Layers) -> None:
        super().__init__()
        self.first = Sequential(layers.conv(channels_in, channels_out, 3, 2), layers.norm(channels_out))
        self.second = Sequential(layers.conv(channels_out, channels_out, 3), layers.norm(channels_out))
        self.shortcut = layers.conv(channels_in, channels_out, 1)

    def forward(self, state: State) -> State:
        """The next network state, at half the resolution."""
        shortcut = self.shortcut(F.avg_pool2d(state.raw, 2, ceil_mode=True, count_include_pad=False))
        return State(State(state.through(self.first)).through(self.second, shortcut))


class NASBench201Network(Network):
    """A genotype's normal cell in NAS-Bench-201's skeleton; see ``build_network``. It is the same at every size of images."""

    def __init__(self, genotype: Genotype, skeleton: NASBench201Skeleton, *, classes: int, channels: int, image_size: int = 0) -> None:
        super().__init__()
        check_genotype(genotype)
        layers = Layers(CONVENTIONS)
        widths = stage_filters(skeleton.filters)
        self.stem = nn.Sequential(layers.conv(channels, widths[0], 3), layers.norm(widths[0]))
        self.reductions = nn.ModuleList(ResidualBlock(widths[i], widths[i + 1], layers) for i in range(2))
        self.stages = nn.ModuleList(
            nn.Sequential(*(NASBench201Cell(genotype.normal, width, layers) for _ in range(skeleton.cells))) for width in widths
        )
        self.norm = layers.norm(widths[-1])
        self.classifier = nn.Linear(widths[-1], classes) if classes else nn.Identity()
        self._feature_info = tuple(FeatureInfo(1 << i, width) for i, width in enumerate(widths))

    @property
    def feature_info(self) -> tuple[FeatureInfo, ...]:
        """One entry per map that ``features`` returns."""
        return self._feature_info

    def features(self, images: Tensor) -> list[Tensor]:
        """The last map (batch, channels, height, width) of every stage, finest first; the last one is as the head takes it."""
        state, maps = State(fast.run_sequence(self.stem, images)), []
        for i, stage in enumerate(self.stages):
            if i > 0:
                state = self.reductions[i - 1](state)
            state = stage(state)
            maps.append(state.raw)
        return [*(F.relu(x) for x in maps[:-1]), F.relu_(self.norm(maps[-1]))]

    def forward_with_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits, and None: the benchmark has no auxiliary head."""
        return self.classifier(self.features(images)[-1].mean((2, 3))), None
