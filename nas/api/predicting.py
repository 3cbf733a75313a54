"""``nas.load_network`` and ``nas.predict``: trained networks put to use. Torch is loaded when they are called."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from nas.api.shown import html_table
from nas.api.training import Training
from nas.api.wishes import Place
from nas.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image
    from torch import nn

    from nas.networks.description import NetworkDescription

LIKELIEST = 5
"""Classes that a prediction names."""


@dataclass(frozen=True)
class Prediction:
    """What a network sees in one image: the likeliest class, its probability, and the likeliest classes with theirs."""

    label: str
    probability: float
    likeliest: tuple[tuple[str, float], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Predictions(Sequence[Prediction]):
    """What a network sees in several images, in their order. ``probabilities`` is (images, classes), each row adding up to 1."""

    class_names: tuple[str, ...]
    probabilities: "npt.NDArray[np.float32]" = field(repr=False)

    @property
    def labels(self) -> list[str]:
        """The likeliest class of every image."""
        return [self.class_names[i] for i in self.probabilities.argmax(axis=1)]

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - a number gives a Prediction, a slice a list of them
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        row = self.probabilities[index]
        likeliest = tuple((self.class_names[i], float(row[i])) for i in row.argsort()[::-1][:LIKELIEST])
        return Prediction(*likeliest[0], likeliest)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Predictions({', '.join(f'{p.label} {p.probability:.1%}' for p in self[:10])}{', …' if len(self) > 10 else ''})"

    def _repr_html_(self) -> str:
        rows = [(i, *(f"{name} {share:.1%}" for name, share in one.likeliest)) for i, one in enumerate(self)]
        return html_table(("image", *("" for _ in range(min(LIKELIEST, len(self.class_names))))), rows) if rows else html.escape(repr(self))


def load_network(source: "Place | Training", *, which: str = "best") -> "nn.Module":
    """A trained network in evaluation mode, on the CPU, with its weights; ``network.description`` says what it takes and knows.

    Example::

        network = nas.load_network("trained/mine")
        network.description.class_names

    Args:
        source: a training, its folder, or a ``.safetensors`` file that says which network it is of.
        which: best or last weights of a folder.

    Returns:
        The network: images (batch, channels, side, side), normalised with the description's mean and std, to logits.

    Raises:
        UserError: there are no such weights, or they do not say which network they belong to.
    """
    from nas.networks.weights.described import load_described

    network, description = load_described(weights_file(source, which))
    cast(Any, network).description = description  # a plain attribute beside parameters and modules
    return network


def weights_file(source: "Place | Training", which: str = "best") -> Path:
    """The file of weights that a training, its folder or a path means. Raises UserError where there is none."""
    from nas.networks.weights.files import WeightsError
    from nas.training.folder import TrainFolder

    path = source.path if isinstance(source, Training) else Path(source)
    if which not in ("best", "last"):
        raise ConfigError(f"which must be one of best, last, but got {which!r}")
    if path.is_dir():
        place = TrainFolder(path)
        place.config()  # a message of its own where this is no such folder
        path = place.best_file if which == "best" else place.last_file
    if not path.is_file():
        raise WeightsError(f"{path}: there are no such weights; name a training's folder or a file of weights")
    return path


def predict(
    source: "Place | Training | nn.Module",
    images: Any,  # noqa: ANN401 - one or many of: path, PIL image, array
    *,
    batch_size: int = 64,
    device: str = "auto",
) -> Predictions:
    """What a trained network sees in images: class names and probabilities. Images are prepared as scoring prepares them.

    Example::

        nas.predict("trained/mine", ["cat.jpg", "dog.jpg"]).labels

    Args:
        source: a training, its folder, a file of weights, or what ``load_network`` returned.
        images: one image or several: paths, PIL images, or uint8 arrays (height, width) or (height, width, channels).
        batch_size: images of one pass.
        device: auto, cpu, cuda or cuda:N; the network of a ``load_network`` stays where it is.

    Raises:
        UserError: the weights or an image cannot be used.
    """
    import numpy as np
    import torch

    from nas.data.augmentation import normalise
    from nas.training.session import choose_device
    from search_spaces.networks.cost import evaluation_mode

    network = source if isinstance(source, torch.nn.Module) else load_network(source).to(choose_device(device))
    place = next(network.parameters()).device
    description: NetworkDescription | None = getattr(network, "description", None)
    if description is None:
        raise ConfigError("this network does not say what it takes and knows: predict needs one of nas.load_network")
    names = description.class_names or tuple(map(str, range(description.architecture.classes)))
    mean, std = torch.tensor(description.mean), torch.tensor(description.std)
    probabilities = [np.zeros((0, len(names)), dtype=np.float32)]
    found = as_images(images)
    with evaluation_mode(network), torch.inference_mode():
        for start in range(0, len(found), batch_size):
            pixels = np.stack([prepared(image, description) for image in found[start : start + batch_size]])
            logits = network(normalise(torch.from_numpy(pixels), mean, std).to(place))
            probabilities.append(logits.float().softmax(dim=1).cpu().numpy())
    return Predictions(names, np.concatenate(probabilities))


def as_images(images: Any) -> "list[Image]":  # noqa: ANN401 - see ``predict``
    """The images that a person gave in one of several ways. Raises DataError for one that is none."""
    import numpy as np
    from PIL import Image

    single = isinstance(images, str | PathLike | Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 2)
    single = single or (isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[-1] in (1, 3, 4))
    return [_as_image(image) for image in ([images] if single else images)]


def _as_image(image: Any) -> "Image":  # noqa: ANN401 - see ``predict``
    import numpy as np
    from PIL import Image

    from nas.data.pixels import READING_ERRORS, from_array, read_image

    if isinstance(image, Image.Image):
        return image
    try:
        if isinstance(image, str | PathLike):
            return read_image(Path(image))
        array = np.asarray(image)
        if array.dtype != np.uint8:
            raise TypeError(f"an array of pixels must be uint8, 0..255, but got {array.dtype}")
        return from_array(array) if array.ndim == 3 else Image.fromarray(array)
    except (*READING_ERRORS, TypeError) as problem:
        what = str(image) if isinstance(image, str | PathLike) else type(image).__name__
        raise DataError(f"{what[:200]}: cannot be used as an image: {problem}") from None


def prepared(image: "Image", description: "NetworkDescription") -> "npt.NDArray[np.uint8]":
    """(side, side, channels): the pixels that scoring would show the network, before they are normalised."""
    from nas.data.pixels import fit

    expected = description.architecture
    return fit(image, expected.channels, expected.image_size, description.crop_fraction, description.interpolation)
