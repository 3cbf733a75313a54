"""Measures trained weights on a data set: from a training's folder, a weight file that says its network, or weights and genotype apart."""

import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.data.batches import Resident, scoring_batches
from nas.data.dataset import ArrayPart, Dataset, Labels, Part
from nas.data.prepared import PreparedData, prepare, prepare_part
from nas.data.scored import Learned, check_part, choose_scored, in_classes_of, learned, load_scored
from nas.data.settings import DataSettings, Preparation
from nas.errors import ConfigError
from nas.networks.architecture import choose_architecture
from nas.networks.description import METADATA_KEY, NetworkDescription
from nas.networks.weights.described import load_described, load_into
from nas.networks.weights.files import CHECKPOINT_SUFFIXES, read_metadata, read_weights
from nas.networks.weights.layouts import describe_weights, recognise
from nas.settings.reading import validated
from nas.tools.hardware import wanted_threads
from nas.training.folder import TrainFolder, find_weights
from nas.training.measured import Answers, Measured
from nas.training.numerics import flushed_denormals
from nas.training.recipe import Recipe
from nas.training.scoring import Mirrored, Scores, score
from nas.training.session import choose_device
from search_spaces.genotype import Genotype
from search_spaces.networks.folding import fold
from search_spaces.networks.network import Network


def evaluate_weights(
    source: str | Path,
    *,
    which: str = "best",
    part: str | None = None,
    data: dict[str, Any] | None = None,
    genotype: Genotype | None = None,
    skeleton: str | None = None,
    cells: int | None = None,
    filters: int | None = None,
    image_size: int | None = None,
    flip: bool = False,
    folded: bool = False,
    device: str = "auto",
    threads: int | None = None,
    loader_workers: int = 0,
) -> Measured:
    """Score weights on images that they have not learned from.

    Args:
        source: a training's folder, its name under trained/, ``last``, or a file of weights.
        which: the folder's ``best`` or ``last`` weights.
        part: ``test``, ``validation``, ``train`` or ``all``; None: the test part where the data have one or were trained on, else the
            whole folder.
        data: settings of the data set by dotted name; a folder knows its own.
        genotype: for weights that do not say their network; with ``skeleton``, ``cells`` and ``filters``.
        skeleton: see ``genotype``.
        cells: see ``genotype``.
        filters: see ``genotype``.
        image_size: side in pixels; None takes the one trained with, else the data's.
        flip: whether every answer is the mean of an image's and its mirror image's.
        folded: whether the network is folded for inference first: the same function within rounding, faster.
        device: auto, cpu, cuda or cuda:N.
        threads: on a CPU; None takes OMP_NUM_THREADS, else all cores.
        loader_workers: processes that read images from files.

    Raises:
        UserError: something cannot be used as asked, or the network does not know the data's classes.
    """
    check_part(part)
    _check_sizes(genotype, skeleton, cells, filters)
    file, place = find_weights(source, which)
    settings, index_file = _data(Path(source), place, data)
    place_device = choose_device(device)
    count = threads or wanted_threads()
    torch.set_num_threads(count)
    if genotype is None:
        network, description = load_described(file)
    else:
        network, description = _from_parts(file, genotype, skeleton, cells, filters, image_size, settings)
    dataset = load_scored(settings, index_file)
    chosen = choose_scored(dataset, settings, part, _learned(description, place))
    _check_channels(dataset, description)
    labelled, classes = _in_classes(chosen.part, dataset, description)
    loaded = _prepared(dataset, labelled, description, image_size)
    started = time.perf_counter()
    network = network.to(device=place_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    network = fold(network) if folded else network
    scores, seen = _scored(Mirrored(network) if flip else network, loaded, place_device, loader_workers)
    return Measured(
        name=description.architecture.name,
        weights=file,
        data=loaded.name,
        part=chosen.name,
        said=chosen.said,
        notes=(*dataset.notes, *chosen.notes),
        classes_said=classes,
        side=loaded.image_size,
        flip=flip,
        folded=folded,
        device=str(place_device),
        threads=count,
        scores=scores,
        with_reading=time.perf_counter() - started,
        answers=Answers(description.class_names or dataset.class_names, *seen),
        converted=_converted(description),
    )


def _scored(network: nn.Module, data: PreparedData, device: torch.device, loader_workers: int) -> tuple[Scores, tuple[Labels, Labels]]:
    """The scores of the test part; and of every image its label and the one predicted."""
    seen: list[tuple[Tensor, Tensor]] = []
    assert data.test is not None
    batches = scoring_batches(data, data.test, Resident(device), loader_workers)
    with flushed_denormals(device):
        scores = score(network, batches, on_logits=lambda logits, labels: seen.append((labels.cpu(), logits.argmax(dim=1).cpu())))
    labels, predicted = (torch.cat(parts).numpy() for parts in zip(*seen, strict=True))
    return scores, (labels, predicted)


def _check_sizes(genotype: Genotype | None, *sizes: str | int | None) -> None:
    if genotype is None and any(sizes):
        raise ConfigError(
            "--skeleton, --cells and --filters go with --genotype; a training's weights say by themselves what they belong to"
        )


def _converted(description: NetworkDescription) -> str:
    layout = description.facts.get("weights")
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (description.mean, description.std))
    shorter = "both sides" if description.crop_mode == "squash" else "the shorter side"
    seen = f"{description.crop_fraction:.1%} of {shorter}, {description.interpolation}"
    return f"weights of {layout}; images prepared by mean {mean}, deviation {std}, {seen}" if layout else ""


def _data(source: Path, place: TrainFolder | None, data: dict[str, Any] | None) -> tuple[DataSettings, Path | None]:
    """Which images; and, where they are the training's own, its list of them. Raises ConfigError where nothing says which."""
    given = {name.removeprefix("data."): value for name, value in (data or {}).items() if value is not None}
    own = None if place is None or source.is_file() else place.config().data
    if "name" in given:
        return validated(DataSettings, given), None
    if own is None:
        raise ConfigError(
            "--data-dir says where a named data set lies: name it with --data"
            if given
            else "a file of weights needs the data to evaluate it on: --data"
        )
    assert place is not None
    return (validated(DataSettings, {**own.model_dump(), **given}), None) if given else (own, place.images_file)


def _learned(description: NetworkDescription, place: TrainFolder | None) -> Learned:
    name, images, held_out = (str(description.facts.get(fact, "")) for fact in ("data", "images", "held_out"))
    return learned(name, images, held_out, place.images_file if place is not None else None)


def _in_classes(part: Part, dataset: Dataset, description: NetworkDescription) -> tuple[Part, str]:
    """The part with the network's labels. Without names of classes only their number can be compared. Raises ConfigError."""
    if description.class_names:
        return in_classes_of(part, dataset.class_names, description.class_names, dataset.name)
    if description.architecture.classes != dataset.classes:
        raise ConfigError(f"the network knows {description.architecture.classes} classes, but {dataset.name} has {dataset.classes}")
    return part, ""


def _check_channels(dataset: Dataset, description: NetworkDescription) -> None:
    """Raise ConfigError where images in memory have other channels than the network takes; files are converted."""
    expected = description.architecture.channels
    if isinstance(dataset.train, ArrayPart) and dataset.channels != expected:
        raise ConfigError(f"the network takes images of {expected} channels, but those of {dataset.name} have {dataset.channels}")


def _prepared(dataset: Dataset, part: Part, description: NetworkDescription, image_size: int | None) -> PreparedData:
    """The images as the network was trained to see them."""
    expected = description.architecture
    wanted = Preparation(
        image_size=image_size or expected.image_size,
        crop_fraction=description.crop_fraction,
        crop_mode=description.crop_mode,
        interpolation=description.interpolation,
    )
    return prepare_part(dataset, part, wanted, expected.channels, (description.mean, description.std))


def _from_parts(
    file: Path,
    genotype: Genotype,
    skeleton: str | None,
    cells: int | None,
    filters: int | None,
    image_size: int | None,
    settings: DataSettings,
) -> tuple[Network, NetworkDescription]:
    """Weights, genotype and data named apart: images as published weights want them, else normalised as measured in training."""
    if file.suffix.lower() not in CHECKPOINT_SUFFIXES and METADATA_KEY in read_metadata(file):
        raise ConfigError(f"{file} says by itself which network it belongs to; leave --genotype out")
    weights = read_weights(file)
    sizes = {"skeleton": skeleton, "cells": cells, "filters": filters}
    if recognise(weights) is not None:
        description = describe_weights(weights, genotype, {**sizes, "image_size": image_size})
    else:
        loaded = prepare(settings, Recipe().preparation(image_size=image_size))
        sizes |= {"classes": loaded.classes, "channels": loaded.channels, "image_size": loaded.image_size}
        chosen = choose_architecture(genotype, **sizes)  # type: ignore[arg-type]
        description = NetworkDescription(chosen, loaded.mean, loaded.std, loaded.class_names)
    network = description.architecture.build()
    load_into(network, weights, file)
    return network.eval(), description
