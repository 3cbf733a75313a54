"""``nas.load_network`` and ``nas.predict``: trained networks put to use. Torch is loaded when they are called."""

import html
from collections.abc import Iterable, Iterator, Sequence
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
    from torch import nn

    from nas.training.prediction import Picture, Predictor

LIKELIEST = 5
"""Classes that a prediction names."""


@dataclass(frozen=True)
class Prediction:
    """What a network sees in one image: the likeliest class, its probability, and the likeliest classes with theirs.

    ``file`` is where the image was read; empty where it was given as pixels.
    """

    label: str
    probability: float
    likeliest: tuple[tuple[str, float], ...] = field(default=(), repr=False)
    file: str = ""


@dataclass(frozen=True)
class Predictions(Sequence[Prediction]):
    """What a network sees in several images, in their order. ``probabilities`` is (images, classes), each row adding up to 1.

    ``files`` says where each image was read; an empty text where it was given as pixels.
    """

    class_names: tuple[str, ...]
    probabilities: "npt.NDArray[np.float32]" = field(repr=False)
    files: tuple[str, ...] = field(repr=False)

    @property
    def labels(self) -> list[str]:
        """The likeliest class of every image."""
        return [self.class_names[i] for i in self.probabilities.argmax(axis=1)]

    def __len__(self) -> int:
        return len(self.probabilities)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - a number gives a Prediction, a slice a list of them
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        ranked = likeliest(self.class_names, self.probabilities[index], LIKELIEST)
        return Prediction(*ranked[0], ranked, self.files[index])

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return f"Predictions({', '.join(f'{p.label} {p.probability:.1%}' for p in self[:10])}{', …' if len(self) > 10 else ''})"

    def _repr_html_(self) -> str:
        rows = [(one.file or i, *(f"{name} {share:.1%}" for name, share in one.likeliest)) for i, one in enumerate(self)]
        return html_table(("image", *("" for _ in range(min(LIKELIEST, len(self.class_names))))), rows) if rows else html.escape(repr(self))


def likeliest(class_names: Sequence[str], probabilities: "npt.NDArray[np.float32]", count: int) -> tuple[tuple[str, float], ...]:
    """The likeliest classes with their probabilities, the first one first."""
    return tuple((class_names[i], float(probabilities[i])) for i in (-probabilities).argsort(kind="stable")[:count])


def load_network(source: "Place | Training", *, which: str = "best") -> "nn.Module":
    """A trained network in evaluation mode, on the CPU, with its weights; ``network.description`` says what it takes and knows.

    Example::

        network = nas.load_network("trained/mine")
        network.description.class_names

    Args:
        source: a training, its folder, ``last``, or a ``.safetensors`` file that says which network it is of.
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
    from nas.training.folder import find_weights

    return find_weights(source.path if isinstance(source, Training) else Path(source), which)[0]


def predict(
    source: "Place | Training | nn.Module",
    images: Any,  # noqa: ANN401 - one or many of: path, PIL image, array
    *,
    which: str = "best",
    flip: bool = False,
    folded: bool = False,
    batch_size: int = 64,
    device: str = "auto",
) -> Predictions:
    """What a trained network sees in images: class names and probabilities. Images are prepared as scoring prepares them.

    Example::

        nas.predict("trained/mine", ["cat.jpg", "dog.jpg"]).labels
        nas.predict("last", "photos/").files

    Args:
        source: a training, its folder, ``last``, a file of weights, or what ``load_network`` returned.
        images: one image or several (a list, or anything that yields them): files, folders (gone through at every depth) and globs,
            PIL images, or uint8 arrays (height, width) or (height, width, channels).
        which: best or last weights of a folder.
        flip: whether every answer is the mean of the image's and its mirror image's.
        folded: fold the network for inference first: the same answers within rounding, faster.
        batch_size: images of one pass.
        device: auto, cpu, cuda or cuda:N; the network of a ``load_network`` stays where it is.

    Raises:
        UserError: the weights or an image cannot be used.
    """
    import numpy as np

    from nas.data.inputs import check_named

    several = images if isinstance(images, list | tuple) else [images]  # whatever else yields images is looked at as it comes
    check_named(name for name in several if isinstance(name, str | PathLike))
    looking = predictor(source, which=which, flip=flip, folded=folded, device=device)
    files: list[str] = []
    rows: list[npt.NDArray[np.float32]] = []
    for seen in looking.see(pictures(images), checked_batch_size(batch_size)):
        if seen.probabilities is None:
            raise DataError(f"{seen.name[-200:] or f'image {len(rows)}'}: cannot be used as an image: {seen.problem}")
        files.append(seen.name)
        rows.append(seen.probabilities)
    found = np.stack(rows) if rows else np.zeros((0, len(looking.class_names)), dtype=np.float32)
    return Predictions(looking.class_names, found, tuple(files))


def checked_batch_size(count: int) -> int:
    """The number of images of one pass. Raises ConfigError where it is none."""
    if count < 1:
        raise ConfigError(f"batch_size must be at least 1, but got {count}")
    return count


def predictor(
    source: "Place | Training | nn.Module", *, which: str = "best", flip: bool = False, folded: bool = False, device: str = "auto"
) -> "Predictor":
    """What looks at images with a trained network, as many as one likes; ``predict`` and ``nas predict`` are made of it.

    Raises:
        UserError: there is no such network or device, or it has no classes.
    """
    from nas.tools.hardware import check_device
    from nas.training.folder import find_weights

    check_device(device)  # before torch is loaded
    if isinstance(source, str | PathLike):
        find_weights(Path(source), which)
    import torch

    from nas.training.prediction import Predictor
    from nas.training.session import choose_device
    from search_spaces.networks.folding import fold

    if isinstance(source, torch.nn.Module):
        network = source
    else:
        network = load_network(source, which=which)
        network = network.to(device=choose_device(device), memory_format=torch.channels_last)  # type: ignore[call-overload]
    description = getattr(network, "description", None)
    if description is None:
        raise ConfigError("this network does not say what it takes and knows: predict needs one of nas.load_network")
    return Predictor(fold(network) if folded else network, description, flip=flip)


def pictures(images: Any) -> "Iterator[Picture]":  # noqa: ANN401 - see ``predict``
    """The pictures that a person gave in one of several ways, one after the other."""
    import numpy as np
    from PIL import Image

    from nas.data.inputs import named_images

    single = isinstance(images, str | PathLike | Image.Image) or (isinstance(images, np.ndarray) and images.ndim == 2)
    single = single or (isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[-1] in (1, 3, 4))
    if not single and not isinstance(images, Iterable):
        raise DataError(f"images must be files, folders, PIL images or arrays, one or several, but got {type(images).__name__}")
    for image in [images] if single else images:
        if isinstance(image, str | PathLike):
            yield from named_images([image])
        else:
            yield image
