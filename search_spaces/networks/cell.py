"""A cell: the module of a cell genotype at given widths, stride and inputs."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.canonical import live_nodes, read_inputs
from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Edge, Node
from search_spaces.networks import fast
from search_spaces.networks.drop_path import path_factors
from search_spaces.networks.operations import FactorizedReduction, Identity, Layers, Operation, build_operation, project
from search_spaces.skeletons import Conventions


@dataclass(frozen=True, slots=True)
class StateShape:
    """Channels of a network state, and how many times smaller than the image it is."""

    channels: int
    stride: int


@dataclass(frozen=True, slots=True)
class Piece:
    """One module of a cell as data: what it does, from how many channels to how many. Equal pieces at equal sides cost the same.

    ``kind`` is an edge's ``operation`` (whose edge is kept without its source), a 1×1 convolution that brings a state to another
    width (``project``), a ``factorized`` reduction, or a state taken ``as_is``.
    """

    kind: Literal["operation", "project", "factorized", "as_is"]
    channels_in: int
    channels_out: int
    stride: int = 1
    edge: Edge | None = None
    activated: bool = True

    def build(self, layers: Layers) -> Operation:
        """The module. Raises GenotypeError where there is no such operation in a cell."""
        if self.edge is not None:
            return build_operation(self.edge, self.channels_in, self.channels_out, self.stride, layers)
        if self.kind == "factorized":
            return FactorizedReduction(self.channels_in, self.channels_out, layers, activated=self.activated)
        if self.kind == "project":
            return project(self.channels_in, self.channels_out, self.stride, layers, activated=self.activated)
        return Identity()


@dataclass(frozen=True, slots=True)
class CellPieces:
    """The pieces of a cell by the hidden state they belong to: what brings inputs to its shape, the nodes' operations, what outputs need.

    ``inputs`` has both inputs, read or not, and ``channels`` is the width of the cell's output.
    """

    inputs: Mapping[int, Piece]
    nodes: Mapping[int, tuple[Piece, ...]]
    match: Mapping[int, Piece]
    channels: int


class State:
    """A hidden state (batch, channels, height, width) and, once someone asks for it, its ReLU: computed once, shared by all consumers.

    ``rectified`` says that ``raw`` is its ReLU already: nobody reads what it was before.
    """

    __slots__ = ("_activated", "raw")

    def __init__(self, raw: Tensor, *, rectified: bool = False) -> None:
        self.raw = raw
        self._activated = raw if rectified else None

    @property
    def activated(self) -> Tensor:
        """ReLU of the state."""
        if self._activated is None:
            self._activated = F.relu(self.raw)
        return self._activated

    def through(self, operation: Operation, addend: Tensor | None = None) -> Tensor:
        """The operation's result for the state, in the form that it takes, plus ``addend``."""
        return fast.apply(operation, self.raw, (lambda: self.activated) if operation.activated else self.raw, addend)


class NodeModule(nn.Module):
    """Applies a node's operations to their hidden states and combines the results."""

    def __init__(self, node: Node, operations: list[Operation]) -> None:
        super().__init__()
        self.sources = tuple(edge.source for edge in node.edges)
        self.concat = node.combine == "concat"
        self.operations = nn.ModuleList(operations)
        self.droppable = sum(operation.droppable for operation in operations)

    def forward(self, states: dict[int, State], factors: list[Tensor] | None) -> Tensor:
        """The new hidden state. ``factors`` are drop path's: one is taken for every droppable operation."""
        if not self.concat and factors is None:
            return self._sum(states)
        results: list[Tensor] = []
        for source, operation in zip(self.sources, self.operations, strict=True):
            operation = cast(Operation, operation)  # one from outside is a module with the same attributes
            result = states[source].through(operation)
            results.append(result if factors is None or not operation.droppable else result * factors.pop())
        if self.concat:
            return torch.cat(results, 1)
        return functools.reduce(torch.add, results)

    def _sum(self, states: dict[int, State]) -> Tensor:
        """The sum of all operations' results; those that come last are added to it as they are written, where kernels write them."""
        total: Tensor | None = None
        for source, operation in zip(self.sources, self.operations, strict=True):
            total = states[source].through(cast(Operation, operation), total)
        assert total is not None  # every node has an edge
        return total


class Cell(nn.Module):
    """One cell of a network (shape matching as in tensorflow/models nasnet_utils).

    CURRENT is always brought to ``filters`` channels by ReLU, 1×1 convolution and batch norm; PREVIOUS by a factorized
    reduction where it is larger, by a 1×1 convolution where its width differs, and else it is taken as it is. With
    ``previous=None`` there is no cell before the previous one yet, and PREVIOUS is CURRENT's raw network state. In a cell of
    stride 2, the operations on the two inputs have stride 2, and an input that is also an output passes a factorized
    reduction. Nodes that reach no output, and inputs that only such nodes read, are not built.

    Args:
        genotype: the cell as data.
        filters: channels of every hidden state (a concat-combined one has them once for each edge).
        stride: 1 or 2.
        previous: shape of the network state behind PREVIOUS, or None.
        current: shape of the network state behind CURRENT.
        layers: makes the layers.

    Raises:
        GenotypeError: an operation cannot be built in a cell.
    """

    def __init__(
        self, genotype: CellGenotype, *, filters: int, stride: int, previous: StateShape | None, current: StateShape, layers: Layers
    ) -> None:
        super().__init__()
        used = read_inputs(genotype)
        self.inputs = genotype.inputs
        self.outputs = genotype.outputs
        pieces = cell_pieces(genotype, filters, stride, previous, current, layers.conventions)
        inputs = {state: piece.build(layers) for state, piece in pieces.inputs.items()}
        self.adjust = nn.ModuleDict({str(state): inputs[state] for state in sorted(inputs) if state in used})
        self.nodes = nn.ModuleDict()
        for state, parts in pieces.nodes.items():
            operations = [_operation(piece, state, layers) for piece in parts]
            self.nodes[str(state)] = NodeModule(genotype.nodes[state - genotype.inputs], operations)
        self.match = nn.ModuleDict({str(state): piece.build(layers) for state, piece in pieces.match.items()})
        self.channels = pieces.channels
        self.droppable = sum(node.droppable for node in self.nodes.values() if isinstance(node, NodeModule))

    def forward(self, previous: State, current: State, keep: Tensor | float | None = None) -> State:
        """The next network state.

        Args:
            previous: network state behind PREVIOUS.
            current: network state behind CURRENT.
            keep: drop path's probability to keep a path; None drops nothing.
        """
        states: dict[int, State] = {}
        for key, module in self.adjust.items():
            assert isinstance(module, Operation)
            state = current if int(key) == self.inputs - 1 else previous
            states[int(key)] = state if isinstance(module, Identity) else State(state.through(module))
        factors = None
        if keep is not None and self.droppable:
            factors = list(path_factors(self.droppable, current.raw, keep).unbind(0))
        for key, node in self.nodes.items():
            states[int(key)] = State(node(states, factors))
        results = [states[s].through(cast(Operation, self.match[str(s)])) if str(s) in self.match else states[s].raw for s in self.outputs]
        return State(torch.cat(results, 1) if len(results) > 1 else results[0])


def cell_pieces(
    genotype: CellGenotype, filters: int, stride: int, previous: StateShape | None, current: StateShape, conventions: Conventions
) -> CellPieces:
    """What a cell is made of; arguments as of ``Cell``."""
    inputs = _input_pieces(genotype.inputs, filters, previous, current, conventions)
    widths = {state: piece.channels_out for state, piece in inputs.items()}
    nodes: dict[int, tuple[Piece, ...]] = {}
    for state in live_nodes(genotype):
        node = genotype.nodes[state - genotype.inputs]
        nodes[state] = tuple(
            Piece(
                "operation",
                widths[edge.source],
                filters,
                stride if edge.source < genotype.inputs else 1,
                Edge(0, edge.operation, edge.options),
            )
            for edge in node.edges
        )
        widths[state] = filters * (len(node.edges) if node.combine == "concat" else 1)
    match: dict[int, Piece] = {}
    for state in genotype.outputs:
        if state < genotype.inputs and stride > 1:
            match[state] = Piece("factorized", widths[state], filters, 2, activated=False)
        elif state < genotype.inputs and widths[state] != filters:
            match[state] = Piece("project", widths[state], filters, activated=False)
    channels = sum(filters if state < genotype.inputs else widths[state] for state in genotype.outputs)
    return CellPieces(inputs, nodes, match, channels)


def _input_pieces(
    inputs: int, filters: int, previous: StateShape | None, current: StateShape, conventions: Conventions
) -> dict[int, Piece]:
    """For each input state: what brings the network state to the cell's shape. CURRENT's comes first, as its weights are drawn first."""
    pieces = {inputs - 1: Piece("project", current.channels, filters)}
    if inputs == 1:
        return pieces
    channels = (previous or current).channels
    if previous is not None and previous.stride != current.stride:
        pieces[0] = Piece("factorized", channels, filters, 2)
    elif conventions.adjust_always or (previous is not None and channels != filters):
        pieces[0] = Piece("project", channels, filters)
    else:
        pieces[0] = Piece("as_is", channels, channels)
    return pieces


def _operation(piece: Piece, state: int, layers: Layers) -> Operation:
    try:
        return piece.build(layers)
    except GenotypeError as error:
        raise GenotypeError(f"node {state}: {error}") from None
