"""From a trained network to the same function for inference: every convolution and the batch norm after it are one convolution.

What follows a convolution (a node's other edges, the ReLU where nobody reads what was before it) is done in its pass: see ``fused``.
Layers and networks from outside stay as they are, since only their authors know what is read where.
"""

import copy
from collections.abc import Callable, Mapping
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.networks.blocks import Bottleneck, ConvNeXtBlock, InvertedBlock, MultiPathBottleneck
from search_spaces.networks.cell import Cell, NodeModule, State
from search_spaces.networks.cell_network import CellNetwork
from search_spaces.networks.fused import Fused, FusedConvolution, FusedLinear, fuse, fuse_layers, fuse_parts
from search_spaces.networks.nasbench201_network import NASBench201Cell, NASBench201Network, ResidualBlock
from search_spaces.networks.operations import (
    BlockOperation,
    FactorizedReduction,
    Identity,
    Operation,
    Pooling,
    SeparableConvolution,
    Sequential,
)
from search_spaces.networks.residual_network import ResidualNetwork

NetworkT = TypeVar("NetworkT", bound=nn.Module)


def fold(network: NetworkT) -> NetworkT:
    """The network for inference: equal logits within rounding, fewer passes over memory, no auxiliary head.

    It is a copy, without gradients and in evaluation mode for good; the network itself stays as it is. The copy has the network's
    class, device and methods, but other parameters: it is for use, not for training, saving or counting.
    """
    copied = copy.deepcopy(network).eval().requires_grad_(False)
    folded = _fold(copied.to(memory_format=torch.channels_last))
    if isinstance(folded, CellNetwork):
        folded.auxiliary = None  # it takes part in training only
        _rectify(folded)
    return cast(NetworkT, folded.eval())


def _fold(module: nn.Module) -> nn.Module:
    """The module with its parts folded, or what takes its place."""
    if type(module) in CONTAINERS:
        for name, part in module.named_children():
            setattr(module, name, _fold(part))
    make = FOLDS.get(type(module))
    return module if make is None else make(module)


# ------------------------------------------------------------------------------------------------ cells


class FoldedNode(nn.Module):
    """A node for inference: the edges that are convolutions come last and add the others as they are written."""

    def __init__(self, node: NodeModule) -> None:
        super().__init__()
        order = sorted(range(len(node.sources)), key=lambda i: not node.concat and isinstance(node.operations[i], Fused))
        self.concat = node.concat
        self.doubled = not node.concat and len(order) == 2 and len(set(node.sources)) == 1 and _same_pooling(*node.operations)
        """Whether both edges are one pooling of one state, as NASNet-A's normal cell has it: computed once."""
        order = order[:1] if self.doubled else order
        self.sources = tuple(node.sources[i] for i in order)
        self.operations = nn.ModuleList(node.operations[i] for i in order)
        self.rectified = False
        """Whether the state that it makes is read as its ReLU only."""

    def forward(self, states: dict[int, State], factors: object = None) -> Tensor:
        """The new hidden state, or its ReLU; nothing is dropped."""
        taken = [states[source] for source in self.sources]
        if self.concat:
            results = [_through(state, cast(Operation, op)) for state, op in zip(taken, self.operations, strict=True)]
            return F.relu_(torch.cat(results, 1)) if self.rectified else torch.cat(results, 1)
        total: Tensor | None = None
        for i, (state, operation) in enumerate(zip(taken, self.operations, strict=True)):
            last = i == len(taken) - 1
            total = _through(state, cast(Operation, operation), total, relu_after=self.rectified and last)
        assert total is not None  # every node has an edge
        return total + total if self.doubled else total


def _same_pooling(one: nn.Module, other: nn.Module) -> bool:
    """Whether two operations are the same one, without weights."""
    if type(one) is not Pooling or type(other) is not Pooling or one.project is not None or other.project is not None:
        return False
    settings = [(part.kind, part.kernel, part.stride, part.same, part.counts_padding) for part in (one, other)]
    return settings[0] == settings[1]


def _through(state: State, operation: Operation, addend: Tensor | None = None, *, relu_after: bool = False) -> Tensor:
    """The operation's result for the state plus ``addend``, then perhaps a ReLU."""
    x = state.activated if operation.activated else state.raw
    if isinstance(operation, Fused):
        return operation(x, addend, relu_after)  # type: ignore[no-any-return]
    result = operation(x)
    fresh = type(operation) is Pooling  # nobody else has what it makes
    if addend is not None:
        result, fresh = result.add_(addend) if fresh else result + addend, True
    if not relu_after:
        return result  # type: ignore[no-any-return]
    return F.relu_(result) if fresh else F.relu(result)


class FoldedCell(nn.Module):
    """A cell for inference, of a cell's folded parts."""

    def __init__(self, cell: Cell) -> None:
        super().__init__()
        self.inputs, self.outputs = cell.inputs, cell.outputs
        self.adjust, self.nodes, self.match = cell.adjust, cell.nodes, cell.match
        self.rectified = False
        """Whether the network state that it makes is read as its ReLU only."""

    def readers(self, state: int) -> list[Operation]:
        """The operations that take a hidden state of the cell."""
        nodes = [cast(FoldedNode, node) for node in self.nodes.values()]
        found = [op for node in nodes for source, op in zip(node.sources, node.operations, strict=True) if source == state]
        return [cast(Operation, op) for op in (*found, *([self.match[str(state)]] if str(state) in self.match else []))]

    def rectify(self, whole: bool) -> None:
        """Note which states are read as their ReLU only; ``whole`` says whether the cell's own result is."""
        self.rectified = whole
        for key, node in self.nodes.items():
            shown = int(key) in self.outputs and not whole
            node.rectified = not shown and all(reader.activated for reader in self.readers(int(key)))  # type: ignore[assignment]

    def forward(self, previous: State, current: State, keep: object = None) -> State:
        """The next network state; nothing is dropped."""
        states: dict[int, State] = {}
        for key, module in self.adjust.items():
            state = current if int(key) == self.inputs - 1 else previous
            states[int(key)] = state if isinstance(module, Identity) else State(_through(state, cast(Operation, module)))
        for key, node in self.nodes.items():
            states[int(key)] = State(node(states), rectified=cast(FoldedNode, node).rectified)
        results = [self._result(states[state], state) for state in self.outputs]
        return State(torch.cat(results, 1) if len(results) > 1 else results[0], rectified=self.rectified)

    def _result(self, state: State, number: int) -> Tensor:
        if str(number) in self.match:
            return _through(state, cast(Operation, self.match[str(number)]), relu_after=self.rectified)
        return state.activated if self.rectified else state.raw


def _rectify(network: CellNetwork) -> None:
    """Tell every cell, and the last layer of every stage of the stem, whether what it makes is read as its ReLU only."""
    for name, made, _, _ in network.wiring:
        cast(FoldedCell, network.cells[name]).rectify(_read_as_relu(network, made))
    stages = [cast(nn.Sequential, stage) for stage in network.stem]
    rectified = []
    for state, stage in enumerate(stages):
        next_reads = state + 1 < len(stages) and not isinstance(stages[state + 1][0], nn.ReLU)
        if isinstance(stage[-1], FusedConvolution) and not next_reads and _read_as_relu(network, state):
            stage[-1].relu = True
            rectified.append(state)
    network.rectified_stages = frozenset(rectified)


def _read_as_relu(network: CellNetwork, made: int) -> bool:
    """Whether a network state is read by nobody but operations that take its ReLU."""
    if made in network.feature_states and not network.skeleton.conventions.head_relu:
        return False
    for name, _, previous, current in network.wiring:
        cell = cast(FoldedCell, network.cells[name])
        for key, module in cell.adjust.items():
            if made != (current if int(key) == cell.inputs - 1 else previous):
                continue
            passed_on = isinstance(module, Identity)
            if passed_on and int(key) in cell.outputs:
                return False
            readers = cell.readers(int(key)) if passed_on else [cast(Operation, module)]
            if not all(reader.activated for reader in readers):
                return False
    return True


class FoldedReduction(Operation):
    """A factorized reduction for inference: each of its convolutions has its channels' share of the norm."""

    def __init__(self, reduction: FactorizedReduction) -> None:
        super().__init__()
        self.activated = reduction.activated
        parts = [part for part in (reduction.even, reduction.odd) if part is not None]
        *even, odd = (FusedConvolution(conv) for conv in fuse_parts(parts, reduction.norm))
        self.even, self.odd = even[0] if even else None, odd

    def forward(self, x: Tensor) -> Tensor:
        """See ``FactorizedReduction``."""
        odd = x[:, :, 1::2, 1::2]
        if x.shape[2] % 2 or x.shape[3] % 2:
            odd = F.pad(odd, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
        odd = self.odd(odd)
        return odd if self.even is None else torch.cat([self.even(x[:, :, ::2, ::2]), odd], 1)


def _fold_pooling(pooling: Pooling) -> Pooling:
    pooling.project = _fold(pooling.project) if pooling.project is not None else None  # type: ignore[assignment]
    return pooling


# ------------------------------------------------------------------------------------------------ blocks


class FoldedBottleneck(nn.Module):
    """ResNeXt's block for inference: every ReLU and the addition are done by the convolution before."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.conv1 = FusedConvolution(fuse(block.conv1, block.norm1), relu=True)
        self.conv2 = FusedConvolution(fuse(block.conv2, block.norm2), relu=True)
        self.conv3 = FusedConvolution(fuse(block.conv3, block.norm3))
        self.shortcut = _fold(block.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        """See ``Bottleneck``."""
        return self.conv3(self.conv2(self.conv1(x)), self.shortcut(x), relu_after=True)  # type: ignore[no-any-return]


def _fold_paths(block: MultiPathBottleneck) -> MultiPathBottleneck:
    for path in block.paths:
        for conv, norm in (("conv1", "norm1"), ("conv2", "norm2")):
            _replace(path, conv, norm)
    if block.form != "a":  # where the norm follows a sum
        _replace(block, "conv3", "norm3")
    block.shortcut = _fold(block.shortcut)
    return block


def _replace(module: nn.Module, conv: str, norm: str) -> None:
    """Fold two layers of a module that goes on calling both."""
    setattr(module, conv, FusedConvolution(fuse(getattr(module, conv), getattr(module, norm))))
    setattr(module, norm, nn.Identity())


class FoldedConvNeXtBlock(nn.Module):
    """ConvNeXt's block for inference: no batch norm, but a layer scale that is a product with the last linear layer's weights."""

    def __init__(self, block: ConvNeXtBlock) -> None:
        super().__init__()
        if block.scale is not None:
            block.project.weight.data = block.project.weight * block.scale[:, None]
            block.project.bias.data = block.project.bias * block.scale
        self.depthwise, self.norm = FusedConvolution(block.depthwise), block.norm
        self.expand, self.project = FusedLinear(block.expand, gelu=True), FusedLinear(block.project)

    def forward(self, x: Tensor) -> Tensor:
        """See ``ConvNeXtBlock``."""
        branch = self.expand(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        return self.project(branch, x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------------------------ the tables

CONTAINERS: frozenset[type[nn.Module]] = frozenset(
    {CellNetwork, NASBench201Network, ResidualNetwork, nn.ModuleList, nn.ModuleDict, Cell, NodeModule, NASBench201Cell, ResidualBlock}
    | {BlockOperation, InvertedBlock}
)
"""Modules whose parts are folded one by one."""

FOLDS: Mapping[type[nn.Module], Callable[..., nn.Module]] = {
    Cell: FoldedCell,
    NodeModule: FoldedNode,
    Sequential: lambda operation: Fused(fuse_layers(operation.layers), activated=operation.activated),
    SeparableConvolution: lambda operation: Fused(fuse_layers(operation.in_order()), activated=True),
    FactorizedReduction: FoldedReduction,
    Pooling: _fold_pooling,
    nn.Sequential: lambda layers: nn.Sequential(*fuse_layers(_fold(layer) for layer in layers)),
    Bottleneck: FoldedBottleneck,
    MultiPathBottleneck: _fold_paths,
    ConvNeXtBlock: FoldedConvNeXtBlock,
}
"""What takes the place of a module for inference. A class that is not here is left alone: its subclasses may do anything."""
