"""A network as code: what every form of file is put together from."""

from dataclasses import dataclass

from nas.exports.source import Padding
from search_spaces.networks.network import FeatureInfo


@dataclass(frozen=True)
class NetworkCode:
    """A network as code, to be put into a file of any form. Lines have no indentation of their own.

    Attributes:
        classes: the classes that this network alone has, in order.
        parts: names of the definitions that it takes from ``nas.exports.parts``.
        padding: the tradition of its convolutions.
        norm_eps: batch norm's epsilon; None where ``norm`` is not used.
        init: lines that make stem and cells or stages; ``channels`` is the images'.
        features: lines that compute ``maps``, the feature maps of ``images``, finest first.
        head: lines from ``x``, the last map, to ``x``, what the classifier takes.
        classifier: the classifier's place in the network: an attribute, or an entry of a dictionary.
        width: features that the classifier takes.
        head_init: lines that make the head; ``{classifier}`` stands for the linear layer.
        first_conv: the module that sees the images, by its dotted name.
        info: stride and channels of the maps.
        modules: the module behind each map, by its dotted name.
    """

    classes: tuple[str, ...]
    parts: frozenset[str]
    padding: Padding
    norm_eps: float | None
    init: tuple[str, ...]
    features: tuple[str, ...]
    head: tuple[str, ...]
    classifier: str
    width: int
    head_init: tuple[str, ...]
    first_conv: str
    info: tuple[FeatureInfo, ...]
    modules: tuple[str, ...]
