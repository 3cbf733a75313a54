"""Writes a network as a file that registers it with timm: the export format ``timm``."""

import re

from nas.exports.code import network_code
from nas.exports.handover import Handover
from nas.exports.network_code import NetworkCode
from nas.exports.standalone import class_names, header, indented, layer_sections, normalisation
from nas.networks.description import readable_name

LOADABLE_CHANNELS = (1, 3)
"""Channels for which timm may know the first convolution: for others it drops its weights when it loads them."""


def model_name(handover: Handover) -> str:
    """The name to give to ``timm.create_model``: its readable name in letters timm allows, but no name that timm has itself."""
    import timm

    plain = re.sub(r"[^a-z0-9]+", "_", readable_name(handover).lower()).strip("_")
    taken = timm.is_model(plain) and timm.model_entrypoint(plain).__module__.startswith("timm.")
    return plain if plain and not plain[0].isdigit() and not taken else f"nas_{plain}"


def timm_source(handover: Handover, hub: bool = False) -> str:
    """The text of the file; for a folder of the hub, whose weights have another name and whose class can load them, where ``hub``.

    Raises:
        UserError: the genotype does not fit the skeleton.
    """
    code, name = network_code(handover.architecture), model_name(handover)
    use = (_USE_FOLDER if hub else _USE).format(name=name)
    sections = [
        header(handover, " for timm: importing this file registers it.", use) + "\n\n" + _constants(handover, code, hub),
        *layer_sections(code),
        _INDICES,
        _network(handover, code, "nn.Module, PyTorchModelHubMixin" if hub else "nn.Module"),
        _registration(handover, code, name),
    ]
    return "\n\n\n".join(section.strip("\n") for section in sections if section) + "\n"


def _constants(handover: Handover, code: NetworkCode, hub: bool) -> str:
    weights = 'with_name("model.safetensors")' if hub else 'with_suffix(".safetensors")'
    ordered = ["from collections import OrderedDict"] if any("OrderedDict" in line for line in code.init) else []
    return "\n".join(
        [
            *ordered,
            "from pathlib import Path",
            "from typing import Any",
            "",
            "import torch",
            "import torch.nn.functional as F",
            *(["from huggingface_hub import PyTorchModelHubMixin"] if hub else []),
            "from timm.models import build_model_with_cfg, generate_default_cfgs, register_model",
            "from torch import Tensor, nn",
            "",
            normalisation(handover),
            class_names(handover),
            f"WEIGHTS = Path(__file__).{weights}",
            *([f"NORM_EPS = {code.norm_eps:g}"] if code.norm_eps is not None else []),
        ]
    )


def classifier_name(code: NetworkCode) -> str:
    """The classifier's place in the network, as timm's settings have it."""
    return "head.classifier" if "head" in code.classifier else "classifier"


def _network(handover: Handover, code: NetworkCode, bases: str) -> str:
    chosen = handover.architecture
    dropout = getattr(chosen.skeleton, "dropout", 0.0)
    pooled = ["x = F.dropout(x, self.drop_rate, self.training)" if "F.dropout" in line else line for line in code.head[1:]]
    if not dropout:
        pooled.append("x = F.dropout(x, self.drop_rate, self.training)")
    info = [
        f'dict(num_chs={part.channels}, reduction={part.stride}, module="{module}"),'
        for part, module in zip(code.info, code.modules, strict=True)
    ]
    init = [line.replace("channels", "in_chans") if "in_chans" not in line else line for line in code.init]
    head_init = [line.format(classifier=_LINEAR) for line in code.head_init]
    return f'''
class Network({bases}):
    """The network as timm knows networks; `features_only=True` gives the last map of every resolution."""

    def __init__(
        self,
        num_classes: int = {chosen.classes},
        in_chans: int = {chosen.channels},
        global_pool: str = "avg",
        drop_rate: float = {dropout:g},
    ) -> None:
        super().__init__()
        self.num_classes, self.in_chans, self.global_pool, self.drop_rate = num_classes, in_chans, global_pool, drop_rate
        self.num_features = self.head_hidden_size = {code.width}
        self.feature_info = [
{indented(tuple(info), 3)}
        ]
{indented(tuple(init), 2)}
{indented(tuple(head_init), 2)}

    def maps(self, images: Tensor) -> list[Tensor]:
        """The last map (batch, channels, height, width) of every resolution, finest first."""
{indented(code.features, 2)}
        return maps

{_INTERMEDIATES.rstrip()}

    def get_classifier(self) -> nn.Module:
        return {code.classifier}

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh classifier; 0 classes leave the features as they are."""
        self.num_classes = num_classes
        self.global_pool = self.global_pool if global_pool is None else global_pool
        {code.classifier} = {_LINEAR.replace("self.num_features", str(code.width))}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        if enable:
            raise NotImplementedError("this network has no gradient checkpointing")

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map."""
        return self.maps(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits of the last map; the map itself where the pooling is switched off (global_pool="")."""
        if not self.global_pool:
            return x
        x = x.mean((2, 3))
{indented(tuple(pooled), 2)}
        return x if pre_logits else {code.classifier}(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))
'''


_INDICES = '''
def map_indices(wanted: int | list[int] | None, count: int) -> list[int]:
    """Which maps are asked for: all, the last ones, or those listed (from the end where negative)."""
    if wanted is None:
        return list(range(count))
    return list(range(count - wanted, count)) if isinstance(wanted, int) else [index % count for index in wanted]
'''

_INTERMEDIATES = '''
    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """The maps asked for; with `intermediates_only` off, the last map before them."""
        maps = self.maps(x)
        chosen = [maps[i] for i in map_indices(indices, len(maps))]
        return chosen if intermediates_only else (maps[-1], chosen)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop the classifier of a network that only gives maps."""
        if prune_head:
            self.reset_classifier(0, "")
        return map_indices(indices, len(self.feature_info))
'''.strip("\n")

_LINEAR = "nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()"


def _registration(handover: Handover, code: NetworkCode, name: str) -> str:
    chosen = handover.architecture
    first_conv = f'"{code.first_conv}"' if chosen.channels in LOADABLE_CHANNELS else None
    return f'''
default_cfgs = generate_default_cfgs(
    {{
        "{name}": dict(
            url="",
            file=str(WEIGHTS) if WEIGHTS.is_file() else None,
            num_classes={chosen.classes},
            input_size=({chosen.channels}, IMAGE_SIZE, IMAGE_SIZE),
            pool_size=None,
            crop_pct={handover.crop_fraction:g},
            crop_mode="{handover.crop_mode}",
            interpolation="{handover.interpolation}",
            mean=MEAN,
            std=STD,
            label_names=tuple(CLASS_NAMES),
            first_conv={first_conv},
            classifier="{classifier_name(code)}",
        )
    }}
)


@register_model
def {name}(pretrained: bool = False, **kwargs: Any) -> Network:
    """See this file's beginning."""
    features = dict(feature_cls="getter", out_indices=tuple(range({len(code.info)})))
    return build_model_with_cfg(Network, "{name}", pretrained, feature_cfg=features, **kwargs)
'''


_USE_FOLDER = """
    import timm
    import FILE                                                             # this file, without .py
    timm.create_model("local-dir:FOLDER", pretrained=True)                  # FOLDER has config.json and model.safetensors
    timm.create_model("{name}", pretrained=True, features_only=True)        # the last map of every resolution
    FILE.Network.from_pretrained("FOLDER")                                  # the same by huggingface_hub alone

What only training uses (drop path, the auxiliary head) is left out.
"""

_USE = """
    import timm
    import FILE                                                             # this file, without .py
    timm.create_model("{name}", pretrained=True)                            # FILE.safetensors beside this file
    timm.create_model("{name}", checkpoint_path="weights.safetensors", num_classes=10, in_chans=3)
    timm.create_model("{name}", pretrained=True, features_only=True)        # the last map of every resolution

What only training uses (drop path, the auxiliary head) is left out.
"""
