"""Writes a network as one standalone PyTorch file that needs no other code of ours: the export format ``python``."""

import inspect
import textwrap
from typing import Any

from nas.data import pixels
from nas.exports.code import network_code
from nas.exports.handover import Handover
from nas.exports.network_code import NetworkCode
from nas.exports.source import definitions


def python_source(handover: Handover) -> str:
    """The text of the file: what the network is, its layers, the network, how to load weights and classify images.

    Raises:
        UserError: the genotype does not fit the skeleton.
    """
    code = network_code(handover.architecture)
    sections = [
        header(handover, " as one file: PyTorch alone, and safetensors to read its weights.", _USE) + "\n\n" + _constants(handover, code),
        *layer_sections(code),
        _network(code),
        _FUNCTIONS.replace("PIXELS\n", indented(definition_lines(), 1) + "\n"),
    ]
    return "\n\n\n".join(section.strip("\n") for section in sections if section) + "\n"


COPIED: tuple[Any, ...] = (
    *(pixels.ImageError, pixels.decode, pixels.decode_once, pixels.refuse_cut, pixels.image_formats, pixels.reasons),
    *(
        pixels.without_metadata,
        pixels.to_rgb,
        pixels.to_eight_bits,
        pixels.contrast,
        pixels.on_white,
        pixels.to_channels,
        pixels.cut_to_ratio,
        pixels.middle,
    ),
)
CONSTANTS = ("MOST_PIXELS", "NO_PICTURES", "FULL_SCALES", "VISIBLE_LEVELS", "LONGEST")


def definition_lines() -> tuple[str, ...]:
    """What brings a file to the network, as ``nas.data.pixels`` has it: what is handed over sees the same pixels."""
    values = {name: getattr(pixels, name) for name in CONSTANTS}
    constants = [f"{name} = {sorted(value) if isinstance(value, frozenset) else value!r}" for name, value in values.items()]
    resampling = ", ".join(f'"{name}": Image.Resampling.{method.name}' for name, method in pixels.RESAMPLING.items())
    definitions = "\n".join(inspect.getsource(copied) for copied in COPIED)
    return tuple("\n".join([*constants, f"RESAMPLING = {{{resampling}}}\n", definitions]).splitlines())


def header(handover: Handover, title: str, use: str) -> str:
    """The docstring and the imports."""
    chosen = handover.architecture
    cost = chosen.cost()
    image = f"{chosen.channels}×{chosen.image_size}×{chosen.image_size}"
    lines = [
        f'"""{literal_text(chosen.name)}{title}',
        "",
        f"{cost.parameters:,} parameters; {cost.macs:,} multiply-accumulates for an image of {image}.",
    ]
    origin = chosen.genotype.provenance
    if origin is not None:
        reward = "" if origin.reward is None else f", believed to have the reward {origin.reward:g}"
        lines.append(f"Found by the search {literal_text(origin.run)}, trial {origin.trial}{reward}.")
    lines += [f"{literal_text(key)}: {literal_text(str(value))}" for key, value in handover.facts.items()]
    return "\n".join([*lines, "", use.strip("\n"), '"""'])


def literal_text(text: str) -> str:
    """A stranger's text for a docstring: nothing in it can end the string or escape."""
    return text.replace("\\", "/").replace('"', "'")


def layer_sections(code: NetworkCode) -> list[str]:
    """The definitions from the parts, and the network's own classes."""
    return [definitions(set(code.parts), code.padding), *code.classes]


def indented(lines: tuple[str, ...], levels: int) -> str:
    """Lines of code, indented."""
    return textwrap.indent("\n".join(lines), "    " * levels)


def normalisation(handover: Handover) -> str:
    """The constants about the input and the classes that every form of file states."""
    chosen = handover.architecture
    lines = [
        f"IMAGE_SIZE = {chosen.image_size}",
        f"MEAN = {_numbers(handover.mean)}  # of pixels scaled to [0, 1], one a channel",
        f"STD = {_numbers(handover.std)}",
    ]
    return "\n".join(lines)


def class_names(handover: Handover) -> str:
    """The constant ``CLASS_NAMES``."""
    chosen = handover.architecture
    if not handover.class_names:
        return f"CLASS_NAMES = [str(i) for i in range({chosen.classes})]"
    one_line = f"CLASS_NAMES = {_texts(handover.class_names)}"
    if len(one_line) <= 120:
        return one_line
    return "\n".join(["CLASS_NAMES = [", *(f"    {_text(name)}," for name in handover.class_names), "]"])


def _numbers(values: tuple[float, ...]) -> str:
    return "(" + ", ".join(f"{value:.8g}" for value in values) + ("," if len(values) == 1 else "") + ")"


def _texts(values: tuple[str, ...]) -> str:
    return "[" + ", ".join(map(_text, values)) + "]"


def _text(value: str) -> str:
    escaped = ascii(value) if not value.isprintable() else repr(value)
    return f'"{escaped[1:-1]}"' if '"' not in escaped and "\\" not in escaped else escaped


def _constants(handover: Handover, code: NetworkCode) -> str:
    imports = ["import sys", "from collections import OrderedDict"]
    body = [
        *(line for line in imports if "OrderedDict" not in line or any("OrderedDict" in init for init in code.init)),
        "",
        "import torch",
        "import torch.nn.functional as F",
        "from torch import Tensor, nn",
        "",
        f"CLASSES = {handover.architecture.classes}",
        f"CHANNELS = {handover.architecture.channels}",
        normalisation(handover),
        f"CROP_FRACTION = {handover.crop_fraction:g}  # share of the shorter side that is looked at",
        f'CROP_MODE = "{handover.crop_mode}"  # center: the middle of an image; squash: the whole of it, scaled to a square',
        f'INTERPOLATION = "{handover.interpolation.upper()}"',
        class_names(handover),
        *([f"NORM_EPS = {code.norm_eps:g}"] if code.norm_eps is not None else []),
    ]
    return "\n".join(body)


def _network(code: NetworkCode) -> str:
    strides = ", ".join(str(info.stride) for info in code.info)
    widths = ", ".join(str(info.channels) for info in code.info)
    classifier = f"nn.Linear({code.width}, classes)"
    return f'''
class Network(nn.Module):
    """Maps normalised images (batch, channels, height, width) to logits (batch, classes)."""

    def __init__(self, classes: int = CLASSES, channels: int = CHANNELS) -> None:
        super().__init__()
{indented(code.init, 2)}
{indented(tuple(line.format(classifier=classifier) for line in code.head_init), 2)}

    def features(self, images: Tensor) -> list[Tensor]:
        """The last map of every resolution, finest first: strides {strides}; channels {widths}."""
{indented(code.features, 2)}
        return maps

    def forward(self, images: Tensor) -> Tensor:
        x = self.features(images)[-1]
{indented(code.head, 2)}
        return {code.classifier}(x)
'''


_USE = """
    python FILE.py weights.safetensors               # loads the weights and runs the network once
    python FILE.py weights.safetensors cat.jpg ...   # classifies images (needs Pillow and numpy)

In code: `network = load("weights.safetensors")`, then `network(normalise(pixels))`. What only training uses (drop path,
the auxiliary head) is left out.
"""

_FUNCTIONS = '''
def load(path: str) -> Network:
    """The network with the weights of a safetensors file, ready to classify."""
    from safetensors.torch import load_file

    weights = load_file(path)
    network = Network()
    network.load_state_dict({name: weights[name] for name in weights if not name.startswith(("progress", "auxiliary."))})
    return network.eval()


def normalise(pixels: Tensor) -> Tensor:
    """Pixels (batch, channels, height, width) from 0 to 255 as the network takes them."""
    mean, std = torch.tensor(MEAN).view(-1, 1, 1), torch.tensor(STD).view(-1, 1, 1)
    return (pixels.float() / 255 - mean) / std


def read_image(path: str) -> Tensor:
    """An image file as pixels (1, channels, IMAGE_SIZE, IMAGE_SIZE) from 0 to 255, prepared as for training's tests."""
    import math
    from collections.abc import Iterator
    from contextlib import contextmanager, suppress
    from io import BytesIO
    from pathlib import Path
    from typing import Literal

    import numpy as np
    from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

PIXELS
    image = to_channels(decode(Path(path).read_bytes()), CHANNELS)
    image = middle(image, IMAGE_SIZE, CROP_FRACTION, INTERPOLATION.lower(), CROP_MODE)
    return torch.from_numpy(np.array(image)).view(1, IMAGE_SIZE, IMAGE_SIZE, CHANNELS).permute(0, 3, 1, 2)


def main() -> None:
    """Load the weights given and classify the images given, or noise."""
    from pathlib import Path

    if len(sys.argv) < 2 or not sys.argv[1].endswith(".safetensors"):
        sys.exit(f"usage: python {sys.argv[0]} weights.safetensors [image ...]")
    for path in sys.argv[1:]:
        if not Path(path).is_file():
            sys.exit(f"{path}: there is no such file")
    network = load(sys.argv[1])
    images = {path: read_image(path) for path in sys.argv[2:]}
    noise = torch.randint(256, (1, CHANNELS, IMAGE_SIZE, IMAGE_SIZE), generator=torch.Generator().manual_seed(0))
    for name, pixels in (images or {"noise": noise}).items():
        with torch.inference_mode():
            chances, classes = network(normalise(pixels))[0].softmax(0).topk(min(5, CLASSES))
        print(f"{name}: " + ", ".join(f"{CLASS_NAMES[c]} {p:.1%}" for p, c in zip(chances, classes, strict=True)))


if __name__ == "__main__":
    main()
'''
