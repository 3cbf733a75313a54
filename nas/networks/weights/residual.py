"""Weights of ResNet, ResNeXt and ConvNeXt in and out, in the layouts (names and shapes) of torchvision, timm and the released code.

Our networks' names are translated rule by rule; nothing is guessed from the order of tensors. ResNeXt blocks of form (a) or (b)
are read and written as form (c), which is the one that others have.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from nas.networks.weights.files import WeightsError, with_counters
from search_spaces.networks.blocks import Bottleneck, ConvNeXtBlock, MultiPathBottleneck, merge_paths, split_paths
from search_spaces.networks.residual_network import ResidualNetwork

Rule = tuple[str, str | Callable[[re.Match[str]], str]]
"""A pattern that matches the whole of one of our names, and the name it becomes."""


def _stage(pattern: str, first: int = 0, step: int = 1) -> Callable[[re.Match[str]], str]:
    """Fills a template's ``{stage}`` with ``first + step · stage``, ``{block}`` with the block, ``{rest}`` with what follows."""

    def name(match: re.Match[str]) -> str:
        groups = match.groupdict()
        return pattern.format(stage=first + step * int(groups["stage"]), block=groups.get("block"), rest=groups.get("rest"))

    return name


_RESNET: tuple[Rule, ...] = (
    (r"stem\.conv\.(?P<rest>.+)", r"conv1.\g<rest>"),
    (r"stem\.norm\.(?P<rest>.+)", r"bn1.\g<rest>"),
    (r"stages\.(?P<stage>\d+)\.(?P<block>\d+)\.norm(?P<rest>\d\..+)", _stage("layer{stage}.{block}.bn{rest}", first=1)),
    (r"stages\.(?P<stage>\d+)\.(?P<block>\d+)\.(?P<rest>conv\d\..+)", _stage("layer{stage}.{block}.{rest}", first=1)),
    (r"stages\.(?P<stage>\d+)\.(?P<block>\d+)\.shortcut\.(?P<rest>.+)", _stage("layer{stage}.{block}.downsample.{rest}", first=1)),
    (r"head\.classifier\.(?P<rest>.+)", r"fc.\g<rest>"),
)
_HEAD = ("head.classifier.weight", "head.classifier.bias")
"""Our names of a classifier, which a network of no classes lacks."""
_BLOCK = r"stages\.(?P<stage>\d+)\.(?P<block>\d+)\.(?:1\.)?"
_DOWNSAMPLE = r"stages\.(?P<stage>\d+)\.0\.0\.(?P<rest>.+)"


def _convnext(
    stem: tuple[str, str], downsample: tuple[str, int, int], block: tuple[str, int, int], parts: tuple[str, ...], head: tuple[str, str]
) -> tuple[Rule, ...]:
    """The rules of one ConvNeXt layout. ``parts`` are the depthwise convolution, norm, two linear layers and layer scale of a block."""
    ours = (r"depthwise\.", r"norm\.", r"expand\.", r"project\.", "scale")
    prefix, first, step = block
    return (
        (r"stem\.conv\.(?P<rest>.+)", rf"{stem[0]}.\g<rest>"),
        (r"stem\.norm\.(?P<rest>.+)", rf"{stem[1]}.\g<rest>"),
        (_DOWNSAMPLE, _stage(*downsample)),
        *((f"{_BLOCK}{part}(?P<rest>.*)", _stage(f"{prefix}{name}{{rest}}", first, step)) for part, name in zip(ours, parts, strict=True)),
        (r"head\.norm\.(?P<rest>.+)", rf"{head[0]}.\g<rest>"),
        (r"head\.classifier\.(?P<rest>.+)", rf"{head[1]}.\g<rest>"),
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    rules: tuple[Rule, ...]
    scale_shape: tuple[int, ...] = (-1,)


_LAYOUTS: Mapping[tuple[str, str], _Layout] = {
    ("resnet", "torchvision"): _Layout(_RESNET),
    ("resnet", "timm"): _Layout(_RESNET),
    ("convnext", "torchvision"): _Layout(
        _convnext(
            ("features.0.0", "features.0.1"),
            ("features.{stage}.{rest}", 0, 2),
            ("features.{stage}.{block}.", 1, 2),
            ("block.0.", "block.2.", "block.3.", "block.5.", "layer_scale"),
            ("classifier.0", "classifier.2"),
        ),
        scale_shape=(-1, 1, 1),
    ),
    ("convnext", "timm"): _Layout(
        _convnext(
            ("stem.0", "stem.1"),
            ("stages.{stage}.downsample.{rest}", 0, 1),
            ("stages.{stage}.blocks.{block}.", 0, 1),
            ("conv_dw.", "norm.", "mlp.fc1.", "mlp.fc2.", "gamma"),
            ("head.norm", "head.fc"),
        )
    ),
    ("convnext", "facebook"): _Layout(
        _convnext(
            ("downsample_layers.0.0", "downsample_layers.0.1"),
            ("downsample_layers.{stage}.{rest}", 0, 1),
            ("stages.{stage}.{block}.", 0, 1),
            ("dwconv.", "norm.", "pwconv1.", "pwconv2.", "gamma"),
            ("norm", "head"),
        )
    ),
}
LAYOUTS: tuple[str, ...] = ("torchvision", "timm", "facebook")
"""Whose names and shapes: ``facebook`` is the code released with the ConvNeXt paper."""


def export_weights(network: ResidualNetwork, layout: str) -> dict[str, Tensor]:
    """The network's weights with the names and shapes of a layout, sharing memory where nothing had to be rearranged.

    Raises:
        WeightsError: the layout is unknown, or has no name for a part of the network.
    """
    chosen = _layout(network, layout)
    return {
        _translate(name, chosen.rules, layout): value.reshape(chosen.scale_shape) if _is_layer_scale(name) else value
        for name, value in grouped_state(network).items()
        if name != "progress"
    }


def in_our_names(network: ResidualNetwork, weights: Mapping[str, Tensor], layout: str) -> dict[str, Tensor]:
    """Published weights by the network's own names and shapes; a tensor that has no place keeps its name, one that does not fit its shape.

    Raises:
        WeightsError: the layout is unknown, or has no name for a part of the network.
    """
    chosen = _layout(network, layout)
    ours = grouped_state(network)
    names = {_translate(name, chosen.rules, layout): name for name in (*ours, *_HEAD) if name != "progress"}
    state = with_counters(ours, {names.get(key, key): value.detach() for key, value in weights.items()})
    for name, like in ours.items():
        if name in state and _sides(state[name]) == _sides(like):
            state[name] = state[name].reshape(like.shape)
    for prefix, block in _multi_path_blocks(network):
        keys = [key for key in ours if key.startswith(prefix)]
        if all(key in state and state[key].shape == ours[key].shape for key in keys):
            parts = {key.removeprefix(prefix): state.pop(key) for key in keys}
            state |= {prefix + key: value for key, value in split_paths(parts, len(block.paths), block.form).items()}
    return state


def family(network: ResidualNetwork) -> str:
    """Resnet (ResNeXt too), convnext, or other."""
    kinds = {type(module) for module in network.modules()}
    return "convnext" if ConvNeXtBlock in kinds else "resnet" if kinds & {Bottleneck, MultiPathBottleneck} else "other"


def grouped_state(network: ResidualNetwork) -> dict[str, Tensor]:
    """The network's state dict as if every ResNeXt block had form (c)."""
    state = dict(network.state_dict())
    for prefix, _ in _multi_path_blocks(network):
        parts = {key.removeprefix(prefix): state.pop(key) for key in list(state) if key.startswith(prefix)}
        state |= {prefix + key: value for key, value in merge_paths(parts).items()}
    return state


def _multi_path_blocks(network: ResidualNetwork) -> list[tuple[str, MultiPathBottleneck]]:
    return [(f"{name}.", module) for name, module in network.named_modules() if isinstance(module, MultiPathBottleneck)]


def _layout(network: ResidualNetwork, layout: str) -> _Layout:
    if layout not in LAYOUTS:
        raise WeightsError(f"the layout of weights must be one of {', '.join(LAYOUTS)}, but got {layout!r}")
    if (family(network), layout) not in _LAYOUTS:
        raise WeightsError(f"there are {layout} weights of ResNet and ResNeXt (not facebook) and of ConvNeXt, but the network is neither")
    return _LAYOUTS[family(network), layout]


def _translate(name: str, rules: tuple[Rule, ...], layout: str) -> str:
    for pattern, target in rules:
        match = re.fullmatch(pattern, name)
        if match:
            return match.expand(target) if isinstance(target, str) else target(match)
    raise WeightsError(f"{layout} has no such network: it has no name for our {name!r}")


def _is_layer_scale(name: str) -> bool:
    return name.endswith(".scale")


def _sides(tensor: Tensor) -> list[int]:
    """The axes that say something of its shape."""
    return [side for side in tensor.shape if side != 1]
