"""Weights of NASNet-A and PNASNet-5 in and out, in the layout of timm (nasnetalarge, pnasnet5large), which is Cadene's too.

The released TensorFlow networks have 1001 classes, with the background as class 0; a network of 1000 classes takes such weights
without it, as timm did. timm's NASNet also differs from TensorFlow's in one computation, see ``Conventions``: for logits that are
timm's to rounding, use the skeleton ``nasnet-large-timm``.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from nas.networks.weights.files import WeightsError, with_counters
from search_spaces.networks.cell_network import CellNetwork
from search_spaces.networks.network import Network
from search_spaces.reference import load_reference

_CELLS = {"stem": "cell_stem", "cell": "cell", "reduction": "reduction_cell"}
_SIDES = ("left", "right")
_CELL = re.compile(r"cells\.(?P<kind>stem|cell|reduction)_(?P<number>\d+)\.(?P<rest>.+)")
_NODE = re.compile(r"nodes\.(?P<state>\d+)\.operations\.(?P<edge>[01])\.(?P<rest>.+)")
_PARTS = (
    (r"^depthwise_(\d)", r"separable_\1.depthwise_conv2d"),
    (r"^pointwise_(\d)", r"separable_\1.pointwise_conv2d"),
    (r"^norm_(\d)", r"bn_sep_\1"),
    (r"^(project\.)?layers\.0", "conv"),
    (r"^(project\.)?layers\.1", "bn"),
)
"""A part of an operation in our name, and in timm's."""


def in_our_names(network: Network, weights: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """A timm state dict by the network's own names; a tensor that has no place keeps its name.

    Raises:
        WeightsError: the network is not of the ``family``, nasnet or pnasnet.
    """
    names = _names(network) | {f"last_linear.{part}": f"classifier.{part}" for part in ("weight", "bias")}  # a backbone lacks them
    in_place = isinstance(network, CellNetwork) and network.skeleton.reductions == "in_place"
    if in_place != (family == "pnasnet"):
        raise WeightsError(f"the network is {'PNASNet-5' if in_place else 'NASNet-A'}")
    own = network.state_dict()
    fitting = {key: _without_background(value, own.get(names.get(key, "")), key) for key, value in weights.items()}
    return with_counters(own, {names.get(key, key): value for key, value in fitting.items()})


def to_timm(network: Network) -> dict[str, Tensor]:
    """The weights of a NASNet-A or PNASNet-5 as timm names them, sharing memory. An auxiliary head is left out: timm has none.

    Raises:
        WeightsError: the network is neither.
    """
    state = network.state_dict()
    return {theirs: state[ours] for theirs, ours in _names(network).items()}


def _names(network: Network) -> dict[str, str]:
    """Timm's name of every tensor -> ours."""
    if not isinstance(network, CellNetwork) or network.skeleton.stem != "imagenet":
        raise WeightsError("timm has NASNet-A and PNASNet-5 with the ImageNet stem; this network is neither")
    in_place = network.skeleton.reductions == "in_place"
    family = "pnasnet-5" if in_place else "nasnet-a"
    if network.genotype != load_reference(family):
        raise WeightsError(f"timm has {family} in such a skeleton, but the network's cells are others")
    ours = [name for name in network.state_dict() if name != "progress" and not name.startswith("auxiliary.")]
    return {_translate(name, in_place): name for name in ours}


def _translate(name: str, pnasnet: bool) -> str:
    stem = "conv_0" if pnasnet else "conv0"
    if name.startswith("stem."):
        return name.replace("stem.0.0", f"{stem}.conv").replace("stem.0.1", f"{stem}.bn")
    if name.startswith("classifier."):
        return name.replace("classifier", "last_linear")
    cell = _CELL.fullmatch(name)
    assert cell is not None, name
    prefix, rest = f"{_CELLS[cell['kind']]}_{cell['number']}", cell["rest"]
    node = _NODE.fullmatch(rest)
    if node is not None:
        return f"{prefix}.comb_iter_{int(node['state']) - 2}_{_SIDES[int(node['edge'])]}.{_part(node['rest'])}"
    if rest.startswith("adjust.1."):
        return f"{prefix}.conv_1x1.{_part(rest.removeprefix('adjust.1.'))}"
    rest = rest.removeprefix("adjust.0.")
    if rest.startswith("layers."):
        return f"{prefix}.conv_prev_1x1.{_part(rest)}"
    rest = rest.replace("even.", "path_1.conv.").replace("odd.", "path_2.conv.").replace("norm.", "final_path_bn.")
    return f"{prefix}.conv_prev_1x1.{rest}" if pnasnet else f"{prefix}.{rest}"


def _part(name: str) -> str:
    for ours, theirs in _PARTS:
        name, found = re.subn(ours, theirs, name)
        if found:
            return name
    raise AssertionError(name)


def _without_background(value: Tensor, ours: Tensor | None, name: str) -> Tensor:
    background = ours is not None and name.startswith("last_linear.") and value.shape[0] == 1001 and ours.shape[0] == 1000
    return value[1:] if background else value
