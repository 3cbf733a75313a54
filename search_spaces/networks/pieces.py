"""What a network costs, to the unit and within milliseconds: a network of cells is the sum of its pieces, each of them counted once."""

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn

from search_spaces import vocabulary
from search_spaces.canonical import read_inputs
from search_spaces.errors import UserError
from search_spaces.genotype import CellGenotype, Edge, Genotype, validate
from search_spaces.networks.build import build_network
from search_spaces.networks.cell import CellPieces, Piece, State, cell_pieces
from search_spaces.networks.cell_network import AuxiliaryHead, Wiring, build_stem, genotype_of, sides, wire
from search_spaces.networks.cost import Cost, count_macs, count_parameters
from search_spaces.networks.nasbench201_network import CONVENTIONS, ResidualBlock, check_genotype
from search_spaces.networks.operations import Layers
from search_spaces.skeletons import Conventions, NASBench201Skeleton, NASNetSkeleton, Skeleton, stage_filters

KEPT = 65_536
"""Pieces whose counts are remembered (about 20 MB): a search meets some thousands."""
SidedPiece = tuple[Piece, int, Conventions]
"""A piece, the side in pixels of what it takes, and the conventions it is built by."""


def network_cost(genotype: Genotype, skeleton: Skeleton, *, classes: int, channels: int = 3, image_size: int) -> Cost:
    """Parameters and MACs of the network that ``build_network`` makes of the same arguments, without allocating its weights.

    Exactly those of the network built whole, which is what happens outside the built-in families of cells.

    Raises:
        UserError: the genotype does not fit the skeleton.
    """
    if classes < 0 or channels < 1 or image_size < 8 or type(skeleton) not in (NASNetSkeleton, NASBench201Skeleton):
        return whole_cost(genotype, skeleton, classes=classes, channels=channels, image_size=image_size)
    try:
        validate(genotype)
        if isinstance(skeleton, NASNetSkeleton):
            return _cost_of_cells(genotype, skeleton, classes, channels, image_size)
        assert isinstance(skeleton, NASBench201Skeleton)
        return _cost_of_nasbench201(genotype, skeleton, classes, channels, image_size)
    except UserError:  # the network built whole says where in which cell the fault is
        return whole_cost(genotype, skeleton, classes=classes, channels=channels, image_size=image_size)


def whole_cost(genotype: Genotype, skeleton: Skeleton, *, classes: int, channels: int = 3, image_size: int) -> Cost:
    """As ``network_cost``, by building the network on the meta device and counting what runs. Raises UserError."""
    with torch.device("meta"):
        network = build_network(genotype, skeleton, classes=classes, channels=channels, image_size=image_size)
    return Cost(count_parameters(network), count_macs(network, channels=channels, image_size=image_size))


def network_pieces(genotype: Genotype, skeleton: NASNetSkeleton | NASBench201Skeleton, *, image_size: int) -> Iterator[SidedPiece]:
    """The pieces of a network's cells, in order: all of it but stem, residual blocks between NAS-Bench-201's stages, and heads."""
    if isinstance(skeleton, NASNetSkeleton):
        yield from _pieces_of_cells(genotype, skeleton, wire(genotype, skeleton, skeleton.auxiliary), image_size)
    else:
        yield from _pieces_of_nasbench201(genotype, skeleton, image_size)


# ------------------------------------------------------------------------------------------------ NASNet's skeletons


def _cost_of_cells(genotype: Genotype, skeleton: NASNetSkeleton, classes: int, channels: int, image_size: int) -> Cost:
    with_auxiliary = skeleton.auxiliary and classes > 0
    wiring = wire(genotype, skeleton, with_auxiliary)
    frame = NASNetSkeleton(1, skeleton.filters, skeleton.stem, skeleton.stem_filters, conventions=skeleton.conventions)
    parts = [_stem_cost(frame, channels, image_size), _linear(wiring.shapes[-1].channels, classes)]
    parts += [piece_cost(*sided) for sided in _pieces_of_cells(genotype, skeleton, wiring, image_size)]
    if with_auxiliary:
        side = sides(skeleton, wiring.plans, image_size)[wiring.auxiliary]
        parts.append(_auxiliary_cost(frame, wiring.shapes[wiring.auxiliary].channels, side, classes))
    return _sum(parts)


def _pieces_of_cells(genotype: Genotype, skeleton: NASNetSkeleton, wiring: Wiring, image_size: int) -> Iterator[SidedPiece]:
    pixels = sides(skeleton, wiring.plans, image_size)
    for step in wiring.steps:
        plan = wiring.plans[step.index]
        cell = genotype_of(genotype, plan)
        previous = None if plan.previous is None else wiring.shapes[plan.previous]
        pieces = cell_pieces(cell, plan.filters, plan.stride, previous, wiring.shapes[plan.current], skeleton.conventions)
        found = {cell.inputs - 1: pixels[plan.current]}
        if cell.inputs == 2:
            found[0] = pixels[plan.current if plan.previous is None else plan.previous]
        for piece, side in _sided(cell, pieces, {state: found[state] for state in read_inputs(cell)}, plan.stride):
            yield piece, side, skeleton.conventions


def _sided(cell: CellGenotype, pieces: CellPieces, found: Mapping[int, int], stride: int) -> Iterator[tuple[Piece, int]]:
    """The pieces of a cell with the side that each one takes; ``found`` has the sides of the network states that it reads."""
    pixels: dict[int, int] = {}
    for state, side in found.items():
        yield pieces.inputs[state], side
        pixels[state] = -(-side // pieces.inputs[state].stride)
    inner = -(-next(iter(pixels.values())) // stride)
    for state, parts in pieces.nodes.items():
        for edge, piece in zip(cell.nodes[state - cell.inputs].edges, parts, strict=True):
            yield piece, pixels.get(edge.source, inner)
    for state, piece in pieces.match.items():
        yield piece, pixels[state]


@lru_cache(KEPT)
def _stem_cost(frame: NASNetSkeleton, channels: int, image_size: int) -> Cost:
    with torch.device("meta"):
        stem = nn.Sequential(*build_stem(frame, channels, Layers(frame.conventions)))
    return Cost(count_parameters(stem), count_macs(stem, channels=channels, image_size=image_size))


@lru_cache(KEPT)
def _auxiliary_cost(frame: NASNetSkeleton, channels: int, side: int, classes: int) -> Cost:
    """Of a head that no inference runs: parameters alone."""
    with torch.device("meta"):
        head = AuxiliaryHead(channels, side, classes, frame, Layers(frame.conventions))
    return Cost(count_parameters(head), 0)


# ------------------------------------------------------------------------------------------------ NAS-Bench-201's skeleton


def _cost_of_nasbench201(genotype: Genotype, skeleton: NASBench201Skeleton, classes: int, channels: int, image_size: int) -> Cost:
    check_genotype(genotype)
    widths = stage_filters(skeleton.filters)
    parts = [_stem_cost(NASNetSkeleton(1, 1, stem_filters=widths[0], conventions=CONVENTIONS), channels, image_size)]
    parts += [_between(widths[i], widths[i + 1], -(-image_size // 2**i)) for i in range(2)]
    parts += [piece_cost(*sided) for sided in _pieces_of_nasbench201(genotype, skeleton, image_size)]
    return _sum([*parts, Cost(2 * widths[-1], 0), _linear(widths[-1], classes)])


def _pieces_of_nasbench201(genotype: Genotype, skeleton: NASBench201Skeleton, image_size: int) -> Iterator[SidedPiece]:
    """All edges, as all are built and run."""
    for stage, width in enumerate(stage_filters(skeleton.filters)):
        for edge in [edge for node in genotype.normal.nodes for edge in node.edges] * skeleton.cells:
            yield Piece("operation", width, width, 1, Edge(0, edge.operation, edge.options)), -(-image_size // 2**stage), CONVENTIONS


@lru_cache(KEPT)
def _between(channels_in: int, channels_out: int, side: int) -> Cost:
    with torch.device("meta"):
        block = ResidualBlock(channels_in, channels_out, Layers(CONVENTIONS))
    return Cost(count_parameters(block), count_macs(_OfStates(block), channels=channels_in, image_size=side))


class _OfStates(nn.Module):
    """What maps network states, as a module of plain tensors."""

    def __init__(self, block: ResidualBlock) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        state: State = self.block(State(x))
        return state.raw


# ------------------------------------------------------------------------------------------------ what everything is made of


def piece_cost(piece: Piece, side: int, conventions: Conventions) -> Cost:
    """Parameters and MACs of one piece that takes maps of ``side`` pixels a side. Raises GenotypeError where it cannot be built."""
    own = vocabulary.OPERATIONS[piece.edge.operation].module if piece.edge is not None else None
    return _piece_cost(piece, side, conventions, own)


@lru_cache(KEPT)
def _piece_cost(piece: Piece, side: int, conventions: Conventions, own: object) -> Cost:
    """``own`` is the module of an operation from outside, which may change its meaning while its name stays."""
    if piece.kind == "as_is":
        return Cost(0, 0)
    if piece.kind == "project":  # its widths are the most various, and to build one takes two milliseconds
        weights = piece.channels_in * piece.channels_out
        return Cost(weights + 2 * piece.channels_out, weights * (-(-side // piece.stride)) ** 2)
    with torch.device("meta"):
        module = piece.build(Layers(conventions))
    return Cost(count_parameters(module), count_macs(module, channels=piece.channels_in, image_size=side))


def _linear(channels: int, classes: int) -> Cost:
    return Cost((channels + 1) * classes, channels * classes)


def _sum(parts: Iterable[Cost]) -> Cost:
    found = list(parts)
    return Cost(sum(part.parameters for part in found), sum(part.macs for part in found))
