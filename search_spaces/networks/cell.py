"""A cell: the module of a cell genotype at given widths, stride and inputs."""

import functools
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces.canonical import live_nodes
from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Edge, Node
from search_spaces.networks import fast
from search_spaces.networks.drop_path import path_factors
from search_spaces.networks.operations import FactorizedReduction, Identity, Layers, Operation, build_operation, project


@dataclass(frozen=True, slots=True)
class StateShape:
    """Channels of a network state, and how many times smaller than the image it is."""

    channels: int
    stride: int


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
        inputs = _input_modules(genotype.inputs, filters, previous, current, layers)
        self.adjust = nn.ModuleDict({str(state): module for state, (module, _) in inputs.items() if state in used})
        widths = {state: width for state, (_, width) in inputs.items()}
        self.nodes = nn.ModuleDict()
        for state in live_nodes(genotype):
            node = genotype.nodes[state - genotype.inputs]
            steps = [stride if edge.source < genotype.inputs else 1 for edge in node.edges]
            operations = [
                _operation(edge, state, widths[edge.source], filters, step, layers) for edge, step in zip(node.edges, steps, strict=True)
            ]
            self.nodes[str(state)] = NodeModule(node, operations)
            widths[state] = filters * (len(node.edges) if node.combine == "concat" else 1)
        self.match = nn.ModuleDict()
        for state in genotype.outputs:
            if state < genotype.inputs and stride > 1:
                self.match[str(state)] = FactorizedReduction(widths[state], filters, layers, activated=False)
            elif state < genotype.inputs and widths[state] != filters:
                self.match[str(state)] = project(widths[state], filters, 1, layers, activated=False)
        self.channels = sum(filters if state < genotype.inputs else widths[state] for state in genotype.outputs)
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


def read_inputs(genotype: CellGenotype) -> frozenset[int]:
    """The input states that the cell's output depends on."""
    sources = {edge.source for state in live_nodes(genotype) for edge in genotype.nodes[state - genotype.inputs].edges}
    return frozenset(state for state in sources.union(genotype.outputs) if state < genotype.inputs)


def _input_modules(
    inputs: int, filters: int, previous: StateShape | None, current: StateShape, layers: Layers
) -> dict[int, tuple[Operation, int]]:
    """For each input state: what brings the network state to the cell's shape, and the width that results."""
    modules: dict[int, tuple[Operation, int]] = {inputs - 1: (project(current.channels, filters, 1, layers), filters)}
    if inputs == 1:
        return modules
    if previous is not None and previous.stride != current.stride:
        modules[0] = FactorizedReduction(previous.channels, filters, layers), filters
    elif layers.conventions.adjust_always or (previous is not None and previous.channels != filters):
        modules[0] = project((previous or current).channels, filters, 1, layers), filters
    else:
        modules[0] = Identity(), (previous or current).channels
    return dict(sorted(modules.items()))


def _operation(edge: Edge, state: int, channels_in: int, channels_out: int, stride: int, layers: Layers) -> Operation:
    try:
        return build_operation(edge, channels_in, channels_out, stride, layers)
    except GenotypeError as error:
        raise GenotypeError(f"node {state}: {error}") from None
