"""Builds the network that a training begins with, whoever else trains in this process."""

import torch

from nas.data.prepared import PreparedData
from nas.training.turns import TURN
from search_spaces.genotype import Genotype
from search_spaces.networks.build import build_network
from search_spaces.networks.network import Network
from search_spaces.skeletons import Skeleton


def seeded_network(genotype: Genotype, skeleton: Skeleton, data: PreparedData, seed: int) -> Network:
    """The network for these images, its weights drawn with the seed.

    Raises:
        UserError: genotype and skeleton do not fit.
    """
    with TURN:
        torch.manual_seed(seed)
        return build_network(genotype, skeleton, classes=data.classes, channels=data.channels, image_size=data.image_size)
