"""A stopwatch whose seconds are counted, so that what is decided by latency can be tested on a busy machine."""

from nas.networks.architecture import Architecture
from nas.networks.stopwatch import OF_PIECES, Stopwatch
from search_spaces.networks.cell import Piece
from search_spaces.networks.pieces import network_pieces, piece_cost
from search_spaces.skeletons import Conventions


class CountedStopwatch(Stopwatch):
    """A piece takes 20 µs and a nanosecond a MAC; a network half a millisecond and 1.3 times what its pieces do; ``slower`` times that."""

    def __init__(self, slower: float = 1.0) -> None:
        super().__init__("cpu")
        self.slower = slower
        self.networks: list[tuple[Architecture, int]] = []
        """Every network that was measured, and in how many runs."""
        self.pieces: list[tuple[Piece, int]] = []

    def time_network(self, architecture: Architecture, runs: int) -> float:
        self.networks.append((architecture, runs))
        if not isinstance(architecture.skeleton, OF_PIECES):
            return self.slower * (0.001 + 2e-9 * architecture.cost().macs)
        pieces = network_pieces(architecture.genotype, architecture.skeleton, image_size=architecture.image_size)
        return self.slower * (0.0005 + 1.3 * sum(of_piece(*sided) for sided in pieces))

    def time_piece(self, piece: Piece, side: int, conventions: Conventions) -> float:
        self.pieces.append((piece, side))
        return self.slower * of_piece(piece, side, conventions)


def of_piece(piece: Piece, side: int, conventions: Conventions) -> float:
    """Seconds of a piece."""
    return 0.0 if piece.kind == "as_is" else 20e-6 + 1e-9 * piece_cost(piece, side, conventions).macs
