"""Measures trained weights on a data set: from a training's folder, a weight file that says its network, or weights and genotype apart."""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from nas.data.batches import Resident, scoring_batches
from nas.data.prepared import PreparedData, prepare
from nas.data.settings import DataSettings, Preparation
from nas.errors import ConfigError
from nas.networks.architecture import choose_architecture
from nas.networks.description import METADATA_KEY, NetworkDescription
from nas.networks.weights.described import load_described, load_into
from nas.networks.weights.files import CHECKPOINT_SUFFIXES, WeightsError, read_metadata, read_weights
from nas.networks.weights.layouts import describe_weights, recognise
from nas.settings.reading import validated
from nas.tools.hardware import detect
from nas.training.folder import TrainFolder
from nas.training.numerics import flushed_denormals
from nas.training.recipe import Recipe
from nas.training.scoring import Scores, score
from nas.training.session import choose_device
from search_spaces.genotype import Genotype
from search_spaces.networks.network import Network

PARTS = ("test", "validation", "train")
WHICH = ("best", "last")


@dataclass(frozen=True)
class Measured:
    """What ``nas evaluate`` found."""

    name: str
    weights: Path
    data: str
    part: str
    side: int
    device: str
    threads: int
    scores: Scores
    with_reading: float
    converted: str = ""
    """Which published layout the weights had, and how such a network's images were prepared; empty for our own."""

    def lines(self) -> list[str]:
        """For a person."""
        found = self.scores
        return [
            f"{self.name}, weights {self.weights}",
            *([f"converted:  {self.converted}"] if self.converted else []),
            f"data:       {self.data}, {self.part} part, {found.images:,} images at {self.side}×{self.side}",
            f"accuracy:   {100 * found.top1:.2f} % top-1, {100 * found.top5:.2f} % top-5, loss {found.loss:.4f}",
            f"throughput: {found.images_per_second:,.0f} images/s by the network alone, "
            f"{found.images / self.with_reading:,.0f} with reading them ({self.device}, {self.threads} threads)",
        ]


def evaluate_weights(
    source: str | Path,
    *,
    which: str = "best",
    part: str = "test",
    data: dict[str, Any] | None = None,
    genotype: Genotype | None = None,
    skeleton: str | None = None,
    cells: int | None = None,
    filters: int | None = None,
    image_size: int | None = None,
    device: str = "auto",
    threads: int | None = None,
    loader_workers: int = 0,
) -> Measured:
    """Score weights on a part of a data set.

    Args:
        source: folder of a training, or a file of weights.
        which: the folder's ``best`` or ``last`` weights.
        part: ``test``, ``validation`` or ``train``.
        data: settings of the data set by dotted name; a folder knows its own.
        genotype: for weights that do not say their network; with ``skeleton``, ``cells`` and ``filters``.
        skeleton: see ``genotype``.
        cells: see ``genotype``.
        filters: see ``genotype``.
        image_size: side in pixels; None takes the one trained with, else the data's.
        device: auto, cpu, cuda or cuda:N.
        threads: on a CPU; None takes all cores.
        loader_workers: processes that read images from files.

    Raises:
        UserError: something cannot be used as asked, or network and data have not the same classes.
    """
    source = Path(source)
    _check_choice("--part", part, PARTS)
    _check_choice("--which", which, WHICH)
    settings, index_file, file = _data_settings(source, data), None, source
    if source.is_dir():
        place = TrainFolder(source)
        config = place.config()
        file = place.best_file if which == "best" else place.last_file
        if not file.is_file():
            raise WeightsError(f"{source}: there are no {which} weights yet; train on with `nas train --resume {source}`")
        if settings is None:
            settings = config.data
            index_file = place.images_file if place.images_file.is_file() else None
    elif not source.is_file():
        raise WeightsError(f"{source}: there is no such folder or file; name a training's folder or a file of weights")
    if settings is None:
        raise ConfigError("a file of weights needs the data to evaluate it on: --data")
    if genotype is None and (skeleton or cells or filters):
        raise ConfigError(
            "--skeleton, --cells and --filters go with --genotype; a training's weights say by themselves what they belong to"
        )
    place_device = choose_device(device)
    count = threads or detect().cores
    torch.set_num_threads(count)
    if genotype is None:
        network, description = load_described(file)
        loaded = _prepared(settings, description, image_size, index_file)
    else:
        network, description, loaded = _from_parts(file, genotype, skeleton, cells, filters, image_size, settings)
    _check_classes(description, loaded)
    started = time.perf_counter()
    network = network.to(device=place_device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batches = scoring_batches(loaded, getattr(loaded, part), Resident(place_device), loader_workers)
    with flushed_denormals(place_device):
        scores = score(network, batches)
    seconds = time.perf_counter() - started
    name, converted = description.architecture.name, _converted(description)
    return Measured(name, file, loaded.name, part, loaded.image_size, str(place_device), count, scores, seconds, converted)


def _converted(description: NetworkDescription) -> str:
    layout = description.facts.get("weights")
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (description.mean, description.std))
    seen = f"{description.crop_fraction:.1%} of the shorter side, {description.interpolation}"
    return f"weights of {layout}; images prepared by mean {mean}, deviation {std}, {seen}" if layout else ""


def _check_choice(flag: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"{flag} must be one of {', '.join(choices)}, but got {value!r}")


def _data_settings(source: Path, data: dict[str, Any] | None) -> DataSettings | None:
    given = {name.removeprefix("data."): value for name, value in (data or {}).items() if value is not None}
    if "name" in given:
        return validated(DataSettings, given)
    if given and source.is_dir():
        return validated(DataSettings, {**TrainFolder(source).config().data.model_dump(), **given})
    if given:
        raise ConfigError("--data-dir says where a named data set lies: name it with --data")
    return None


def _prepared(settings: DataSettings, description: NetworkDescription, image_size: int | None, index_file: Path | None) -> PreparedData:
    """The data as the network was trained to see them."""
    expected = description.architecture
    wanted = Preparation(
        image_size=image_size or expected.image_size, crop_fraction=description.crop_fraction, interpolation=description.interpolation
    )
    loaded = prepare(settings, wanted, index_file=index_file)
    if loaded.channels != expected.channels:
        raise ConfigError(f"the network takes images of {expected.channels} channels, but those of {loaded.name} have {loaded.channels}")
    return replace(loaded, mean=description.mean, std=description.std)


def _check_classes(description: NetworkDescription, data: PreparedData) -> None:
    if description.architecture.classes != data.classes:
        raise ConfigError(f"the network knows {description.architecture.classes} classes, but {data.name} has {data.classes}")
    for known, found in zip(description.class_names, data.class_names, strict=False):
        if known != found:
            raise ConfigError(
                f"the network's classes must be the data's in the same order, but it has {known!r} where {data.name} has {found!r}"
            )


def _from_parts(
    file: Path,
    genotype: Genotype,
    skeleton: str | None,
    cells: int | None,
    filters: int | None,
    image_size: int | None,
    settings: DataSettings,
) -> tuple[Network, NetworkDescription, PreparedData]:
    """Weights, genotype and data named apart: images as published weights want them, else normalised as measured in training."""
    if file.suffix.lower() not in CHECKPOINT_SUFFIXES and METADATA_KEY in read_metadata(file):
        raise ConfigError(f"{file} says by itself which network it belongs to; leave --genotype out")
    weights = read_weights(file)
    sizes = {"skeleton": skeleton, "cells": cells, "filters": filters}
    if recognise(weights) is not None:
        description = describe_weights(weights, genotype, {**sizes, "image_size": image_size})
        loaded = _prepared(settings, description, image_size, None)
    else:
        loaded = prepare(settings, Recipe().preparation(image_size=image_size))
        sizes |= {"classes": loaded.classes, "channels": loaded.channels, "image_size": loaded.image_size}
        chosen = choose_architecture(genotype, **sizes)  # type: ignore[arg-type]
        description = NetworkDescription(chosen, loaded.mean, loaded.std, loaded.class_names)
    network = description.architecture.build()
    load_into(network, weights, file)
    return network.eval(), description, loaded
