"""``nas.cost``, ``draw``, ``export``: what a network costs, looks like, and how it is handed over. No torch at import."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard, cast

from nas.api.run import Run
from nas.api.shown import Shown
from nas.api.training import Comparison, Training
from nas.api.wishes import Place, path_of
from nas.errors import ConfigError, UserError
from nas.networks.architecture import Architecture, choose_architecture
from nas.runs import folder as run_folder
from nas.runs.genotypes import is_genotype, resolve_genotype
from nas.tools.labels import names_of
from nas.tools.words import quoted
from nas.training.folder import TrainFolder, newest_training
from search_spaces.genotype import Genotype

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from nas.exports.formats import Format
    from nas.networks.detection import DetectorCost
    from nas.networks.latency import Latency
    from nas.runs.folder import RunFolder
    from nas.tools.pictures import Theme

Source = Place | Genotype | Run
"""A genotype, or what has one: a run, its folder or name, ``last``, a reference genotype's name, a genotype file."""


@dataclass(frozen=True, repr=False)
class NetworkCost(Shown):
    """What a network costs. ``macs`` are multiply-accumulates for one image; ``memory`` is the peak of a training step in bytes.

    ``chosen`` says how N and F were solved for, where a size was asked for.
    """

    architecture: Architecture
    parameters: int
    macs: int
    latency: "Latency | None" = None
    memory: int | None = None
    conditions: str = ""
    chosen: str = ""
    detector: "DetectorCost | None" = None

    def lines(self) -> list[str]:
        """Name, input, parameters, MACs, and what was measured."""
        network = self.architecture
        side = network.image_size
        lines = [f"chosen:     {self.chosen}"] if self.chosen else []
        lines += [
            f"{network.name} in skeleton {network.skeleton_name}",
            f"input:      {network.channels}×{side}×{side}, {network.classes} classes",
            f"parameters: {self.parameters:,} (trainable)",
            f"MACs:       {self.macs:,} (convolutions and linear layers, one image)",
        ]
        if self.detector is not None:
            lines.append(f"detector:   {self.detector}")
        if self.latency is not None:
            lines.append(f"latency:    {self.latency}")
        if self.memory is not None:
            lines.append(f"memory:     {self.memory / 2**20:,.1f} MiB at the peak of a training step with {self.conditions}")
        return lines


def cost(
    source: Source,
    *,
    rank: int = 1,
    skeleton: str | None = None,
    cells: int | None = None,
    filters: int | None = None,
    macs: str | None = None,
    params: str | None = None,
    classes: int | None = None,
    channels: int = 3,
    image_size: int | None = None,
    latency: bool = False,
    folded: bool = False,
    detection: int | None = None,
    memory: bool = False,
    batch_size: int = 1,
    device: str = "cpu",
    dtype: str = "float32",
) -> NetworkCost:
    """Count parameters and MACs of a network exactly; measure how fast it runs and how much memory its training takes.

    Example::

        nas.cost("nasnet-a", cells=6, filters=32).parameters

    Args:
        source: whose network.
        rank: which of a run's genotypes: 1 is the incumbent.
        skeleton: macro network; None: the one the genotype is known in.
        cells: N, cells a stage.
        filters: F, filters of the first stage's cells.
        macs: solve for N and F with about so many MACs, such as "564M".
        params: solve for N and F with about so many parameters, such as "5.3M".
        classes: None: as published.
        channels: of an image.
        image_size: side in pixels; None: as published.
        latency: measure latency and throughput on this machine.
        folded: measure them of the network folded for inference: convolutions and norms as one.
        detection: count Faster R-CNN on it, for so many classes.
        memory: measure the peak memory of a training step.
        batch_size: images a batch, for both.
        device: cpu, cuda or cuda:N.
        dtype: float32, bfloat16 or float16.

    Raises:
        UserError: a name or a number breaks a rule.
    """
    from nas.networks.scaling import read_target, scale_to

    target = read_target(macs, params)
    architecture = choose_architecture(genotype_of(source, rank), skeleton, cells, filters, classes, channels, image_size)
    chosen = ""
    if target is not None:
        scaled = scale_to(architecture, target, cells=cells, filters=filters)
        architecture, chosen = scaled.architecture, str(scaled)
    counted = architecture.cost()
    measured = _latency(architecture, batch_size, device, dtype, folded) if latency else None
    peak = _training_memory(architecture, batch_size, device) if memory else None
    conditions = f"{batch_size} images, on {device}"
    found = _detector(architecture, detection) if detection is not None else None
    return NetworkCost(architecture, counted.parameters, counted.macs, measured, peak, conditions, chosen, found)


def _detector(architecture: Architecture, classes: int) -> "DetectorCost":
    from nas.networks.detection import detector_cost

    return detector_cost(architecture, classes)


def _latency(architecture: Architecture, batch_size: int, device: str, dtype: str, folded: bool) -> "Latency":
    from nas.networks.latency import measure_latency

    side, channels = architecture.image_size, architecture.channels
    network = architecture.build()
    return measure_latency(
        network, image_size=side, channels=channels, batch_size=batch_size, device=device, dtype=dtype, folded=folded
    )


def _training_memory(architecture: Architecture, batch_size: int, device: str) -> int:
    from search_spaces.networks.cost import training_memory

    side, channels = architecture.image_size, architecture.channels
    return training_memory(architecture.build().to(device), batch_size=batch_size, channels=channels, image_size=side, device=device)


@dataclass(frozen=True)
class Drawing:
    """A picture: shows itself in a notebook, and ``save`` writes it. ``figure`` makes it as a figure of matplotlib's."""

    figure: "Callable[[Theme], Figure]" = field(repr=False)
    title: str = ""
    theme: "Theme" = "light"

    def save(self, path: Place) -> Path:
        """Write the picture; the name's ending (.svg, .png, .pdf) chooses the format. Raises UserError."""
        from nas.tools.pictures import check_picture, save

        file = check_picture(path, self.theme)
        save(self.figure(self.theme), file, self.theme)
        return file

    @cached_property
    def svg(self) -> str:
        """The picture as the text of an ``<svg>`` element."""
        from nas.tools.pictures import svg_element

        return svg_element(self.figure(self.theme), self.theme)

    def _repr_svg_(self) -> str:
        return self.svg


def draw(
    source: "Source | Training | Comparison",
    output: Place | None = None,
    *,
    rank: int = 1,
    network: bool = False,
    skeleton: str | None = None,
    cells: int | None = None,
    filters: int | None = None,
    classes: int | None = None,
    channels: int = 3,
    image_size: int | None = None,
    title: str = "",
    theme: "Theme" = "light",
) -> Drawing:
    """Draw the cells of a genotype, or (with ``network`` or a ``skeleton``) the whole network; the curves of a training; a comparison.

    Example::

        nas.draw("nasnet-a")              # in a notebook: the picture
        nas.draw("last", "cells.svg")     # a file, too
        nas.draw("trained/mine", "curves.svg", theme="auto")

    Args:
        source: whose cells; or a training or its folder, a comparison or its folder.
        output: file to write: .svg, .png or .pdf; None writes none.
        rank: which of a run's genotypes: 1 is the incumbent.
        network: draw the whole network instead of the cells.
        skeleton: macro network; None: the one the genotype is known in.
        cells: N, cells a stage.
        filters: F, filters of the first stage's cells.
        classes: None: as published.
        channels: of an image.
        image_size: side in pixels; None: as published.
        title: above the picture; the name of what is drawn if empty.
        theme: light, dark, or auto for an SVG that is as its reader's system is.

    Raises:
        UserError: a name or a number breaks a rule, or the file cannot be written.
    """
    from nas.tools.pictures import check_picture, palette

    palette(theme)
    if output is not None:
        check_picture(output, theme)
    figure = _figure_of_results(source, title)
    if figure is None:
        genotype = genotype_of(cast("Source", source), rank)
        sizes = (cells, filters, classes, channels, image_size)
        if network or skeleton is not None:
            figure = _figure_of_network(choose_architecture(genotype, skeleton, *sizes), title)
        else:
            figure = _figure_of_cells(genotype, title, _size_note(cast("Source", source), genotype, sizes))
    drawing = Drawing(figure, title, theme)
    if output is not None:
        drawing.save(output)
    return drawing


def _figure_of_results(source: "Source | Training | Comparison", title: str) -> "Callable[[Theme], Figure] | None":
    """How the curves of a training or the chart of a comparison are drawn; None where the source is neither."""
    from nas.comparisons.folder import TABLE_FILE
    from nas.comparisons.networks import read_front
    from nas.comparisons.pictures import front_figure
    from nas.training.curves import curves_figure, curves_of

    path = source.path if isinstance(source, Training | Comparison) else Path(source) if _is_path(source) else None
    if path is None or not os.path.isdir(path):  # noqa: PTH112 - which says no to a name that no file can have
        return None
    if (path / TABLE_FILE).is_file():
        front = read_front(path)
        return lambda theme: front_figure(replace(front, title=title or front.title), theme)
    place = TrainFolder(path)
    if not place.exists() or not place.genotype_file.is_file():
        return None
    curves = curves_of(place)
    return lambda theme: curves_figure(replace(curves, title=title or curves.title), theme)


def _figure_of_network(whole: Architecture, title: str) -> "Callable[[Theme], Figure]":
    def figure(theme: "Theme") -> "Figure":
        from nas.networks.drawing.networks import skeleton_figure

        sizes = {"classes": whole.classes, "channels": whole.channels, "image_size": whole.image_size}
        return skeleton_figure(whole.genotype, whole.skeleton, **sizes, title=title, theme=theme)

    return figure


def _figure_of_cells(genotype: Genotype, title: str, note: str) -> "Callable[[Theme], Figure]":
    def figure(theme: "Theme") -> "Figure":
        from nas.networks.drawing.cells import genotype_figure

        return genotype_figure(genotype, title, note, theme)

    return figure


def _size_note(source: Source, genotype: Genotype, sizes: tuple[int | None, int | None, int | None, int, int | None]) -> str:
    """What a network of the cells costs: the child's of a run, else that which they are known in; empty where that is not known."""
    from nas.networks.scaling import short_number

    run, origin = _run_of(source), genotype.provenance
    if run is not None and origin is not None:
        trial = run.state().trials.get(origin.trial)
        metrics = trial.evaluation.metrics if trial is not None and trial.evaluation is not None else {}
        if "params" in metrics and "macs" in metrics:
            return f"{short_number(round(metrics['params']))} parameters, {short_number(round(metrics['macs']))} MACs as trained there"
        return ""
    try:
        known = choose_architecture(genotype, None, *sizes)
        cost = known.cost()
    except UserError:  # cells that no skeleton takes are drawn all the same
        return ""
    at = f"{known.image_size}×{known.image_size} pixels"
    return f"{known.name}: {short_number(cost.parameters)} parameters, {short_number(cost.macs)} MACs at {at}"


@dataclass(frozen=True, repr=False)
class Exported(Shown):
    """What was handed over: files, or for a format that is text without a file, ``text``. ``checked`` is what reading it back found."""

    format: str
    files: tuple[Path, ...] = ()
    checked: str = ""
    network: str = ""
    text: str = ""

    def lines(self) -> list[str]:
        """The network, the files with their sizes, and the check; or the text."""
        if self.text:
            return self.text.splitlines()
        wrote = [f"wrote {path} ({path.stat().st_size:,} bytes)" for path in self.files]
        return [*filter(None, self.network.split("\n")), *wrote, self.checked]

    def __str__(self) -> str:
        return self.text or repr(self)


def export(
    source: "Source | Training",
    format: str = "yaml",
    output: Place | None = None,
    *,
    weights: Place | None = None,
    rank: int = 1,
    skeleton: str | None = None,
    cells: int | None = None,
    filters: int | None = None,
    classes: int | None = None,
    channels: int | None = None,
    image_size: int | None = None,
) -> Exported:
    """Hand over a genotype or a network for use elsewhere; each export is loaded back and compared before it counts.

    Example::

        nas.export("nasnet-a", "json").text
        nas.export("trained/mine", "onnx", "mine.onnx").files

    Args:
        source: a genotype or what has one; or a training, its folder, or its weights file. Of a run, a format that carries weights
            takes its newest training in trained/ (of that trial, where a rank is named), unless a size is asked for.
        format: one of ``nas.available("formats")``.
        output: file to write; None gives the text, where the format is text.
        weights: trained weights, or the folder of a training; None: untrained.
        rank: which of a run's genotypes: 1 is the incumbent.
        skeleton: macro network; None: the one the genotype is known in.
        cells: N, cells a stage.
        filters: F, filters of the first stage's cells.
        classes: None: those of the run's data set, else as published.
        channels: of an image; None: those of the run's data set, else 3.
        image_size: side in pixels; None: that of the run's images, else as published.

    Raises:
        UserError: a name or a value breaks a rule, a package is missing, or the network does not fit the format.
    """
    from nas.exports.formats import export_files, export_text, format_named
    from nas.exports.handover import gather

    chosen = format_named(format)
    if output is None and not chosen.text:
        raise ConfigError(f"--format {format} writes a file; name it with --output, such as {chosen.example}")
    place = source.path if isinstance(source, Training) else source
    if chosen.takes == "trials":
        return _exported_trials(place, format, chosen, output)
    sizes: dict[str, int | str | None] = {"skeleton": skeleton, "cells": cells, "filters": filters, "classes": classes}
    sizes |= {"channels": channels, "image_size": image_size}
    genotype, file, how = None, None if weights is None else Path(weights), _UNTRAINED
    if weights is None and (trained := _trained_at(place)) is not None:
        file = trained  # weights that say which network they belong to need no other name
    else:
        genotype = genotype_of(place, rank)
    if file is None and genotype is not None and chosen.takes == "network" and (run := _run_of(place)) is not None:
        given = any(value is not None for value in sizes.values())
        file = None if given else _trained_of(run, genotype, rank)
        how = f"weights of {file}, the newest training of this run" if file else f"{_UNTRAINED_RUN} `nas train {quoted(run.path)}`"
        genotype, sizes = (None, sizes) if file else (genotype, _of_the_runs_images(run, sizes))
    handover = gather(genotype, file, {**sizes, "channels": sizes["channels"] or 3})
    if output is None:
        return Exported(format, text=export_text(handover, chosen))
    files, found = export_files(handover, chosen, path_of(output, "--output"))
    said = how if handover.weights is None or how.startswith("weights") else ""
    network = ", ".join(filter(None, (handover.architecture.name, said))) if chosen.takes == "network" else ""
    if "weights" in handover.facts:
        network += f"\nfrom weights of {handover.facts['weights']}, converted"
    return Exported(format, tuple(files), found, network)


def _exported_trials(source: Source, format: str, chosen: "Format", output: Place | None) -> Exported:
    from nas.exports.formats import export_files, export_text
    from nas.exports.trials import TrialTable
    from nas.runs.trial_table import trial_rows

    run = _run_of(source)
    if run is None:
        raise ConfigError(f"--format {format} hands over the trials of a run, but got a genotype: {source}")
    table = TrialTable(trial_rows(run))
    if output is None:
        return Exported(format, text=export_text(table, chosen))
    files, found = export_files(table, chosen, path_of(output, "--output"))
    return Exported(format, tuple(files), found, f"trials of {run.path}")


_UNTRAINED = "untrained (random weights: name a training, such as trained/NAME, to hand over trained ones)"
_UNTRAINED_RUN = "untrained (random weights): what a run found is trained by"


def _trained_at(source: "Source | Training") -> Path | None:
    """The weights file or the training's folder of that path or name; None where something else is meant."""
    from nas.api.things import thing_named
    from nas.exports.handover import is_trained

    if not _is_path(source) or is_trained(Path(source)):
        return Path(source) if _is_path(source) else None
    thing = None if is_genotype(str(source)) else thing_named(str(source))
    return thing.path if thing is not None and thing.kind == "training" else None


def _run_of(source: "Source | Training") -> "RunFolder | None":
    """The folder of the run that is meant; None where a genotype is."""
    if isinstance(source, Run):
        return run_folder.find(str(source.path))
    return None if not _is_path(source) or is_genotype(str(source)) else run_folder.find(str(source))


def _trained_of(run: "RunFolder", genotype: Genotype, rank: int) -> Path | None:
    """The folder of the newest training of the run that found the genotype; from rank 2 on, of that very trial."""
    origin = genotype.provenance
    found = None if origin is None else newest_training(names_of(run.path), None if rank == 1 else origin.trial)
    return None if found is None else found.path


def _of_the_runs_images(run: "RunFolder", sizes: "dict[str, int | str | None]") -> "dict[str, int | str | None]":
    """The sizes given, the others as the run's images have them. Raises UserError where those are not there to be looked at."""
    from nas.training.fitting import amount_of

    wanted = ("classes", "channels", "image_size")
    if all(sizes[name] is not None for name in wanted):
        return sizes
    amount = amount_of(run.config().data)
    own = {"classes": amount.classes, "channels": amount.channels, "image_size": amount.side}
    return sizes | {name: own[name] for name in wanted if sizes[name] is None}


def _is_path(source: object) -> "TypeGuard[Place]":
    from search_spaces.notations import is_notation

    return isinstance(source, str | PathLike) and not is_notation(str(source))


def genotype_of(source: Source, rank: int = 1) -> Genotype:
    """The genotype that a source has. Raises UserError where it has none."""
    if isinstance(source, Run):
        return source.genotype(rank)
    return source if isinstance(source, Genotype) else resolve_genotype(str(source), rank)
