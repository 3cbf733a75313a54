"""``nas.train``, ``transfer``, ``evaluate``, ``compare``: networks trained to the end, and how good they are. No torch at import."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.api.run import Run
from nas.api.shown import Shown, html_table
from nas.api.wishes import Assignments, Place, check_names, data_settings, own_data, path_of, training_wish, transfer_wish
from nas.errors import ConfigError, RunError
from search_spaces.genotype import Genotype

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from nas.comparisons.networks import Member, Plan, Row
    from nas.networks.scaling import Target
    from nas.runners.distributed import Group
    from nas.training.config import TrainConfig
    from nas.training.measured import ClassAccuracy, Measured
    from nas.training.session import TrainResult, Watcher


@dataclass(frozen=True, repr=False)
class Training(Shown):
    """A training in its folder. Accuracies are in [0, 1]; ``test_top1`` is the one reading of the test set, None unless finished.

    ``ending`` is finished or interrupted; ``history`` has a record for every epoch.
    """

    path: Path
    ending: str
    epochs: int
    best_epoch: int
    validation_top1: float
    test_top1: float | None
    parameters: int
    macs: int
    seconds: float
    history: tuple[Mapping[str, float], ...] = field(default=())
    said: tuple[str, ...] = ()

    @property
    def weights(self) -> Path:
        """The file with the best epoch's weights, which says by itself which network it is of."""
        from nas.training.folder import TrainFolder

        return TrainFolder(self.path).best_file

    def lines(self) -> list[str]:
        """How it ended, as ``nas train`` says it."""
        return list(self.said)


def train(
    source: "Place | Genotype | Run | None" = None,
    *,
    rank: int = 1,
    skeleton: str | None = None,
    cells: int | None = None,
    filters: int | None = None,
    data: Place | None = None,
    data_dir: Place | None = None,
    recipe: str = "fast",
    epochs: int | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    image_size: int | None = None,
    precision: str | None = None,
    weights: Place | None = None,
    seed: int | None = None,
    device: str | None = None,
    threads: int | None = None,
    compile: bool | None = None,
    loader_workers: int | None = None,
    log: Sequence[str] | None = None,
    settings: Assignments | None = None,
    output: Place | None = None,
    resume: Place | None = None,
    again: Place | None = None,
    watcher: "Watcher | None" = None,
) -> Training:
    """Train a network to convergence by a recipe; the same call again, or ``resume``, goes on where it was stopped or killed.

    Example::

        nas.train("nasnet-a", data="digits", cells=1, filters=8, epochs=3).test_top1

    Args:
        source: a run, a reference genotype's name, a genotype file, or a genotype; None where ``resume`` or ``again`` is given.
        rank: which of a run's genotypes: 1 is the incumbent.
        skeleton: macro network; None: the one that suits the genotype and the images.
        cells: N, cells a stage.
        filters: F, filters of the first stage's cells.
        data: cifar10, cifar100, digits, synthetic, or a folder of images; None: the run's, else cifar10.
        data_dir: folder that holds the named data set.
        recipe: a recipe's name, or a YAML file.
        epochs: passes over the training images.
        batch_size: images of one step.
        micro_batch: images of one pass, where a whole step does not fit in memory.
        image_size: side in pixels.
        precision: auto, float32, bfloat16 or float16.
        weights: file to start from.
        seed: of everything random.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads.
        compile: whether training's forward pass goes through ``torch.compile``: a minute or more first, then faster steps.
        loader_workers: processes that read and augment images.
        log: where scalars go: ``["tensorboard"]`` (the default), ``wandb``, ``mlflow``; an empty list: nowhere.
        settings: any setting of the recipe by its dotted name, such as ``{"optimizer.learning_rate": 0.05}``; or ``data.…``.
        output: folder of this training; None: one under trained/.
        resume: go on with the training in this folder.
        again: train what was trained in this folder once more, by its settings, in another one.
        watcher: told what happens, and asked whether to stop (``nas.training.session.Watcher``).

    Raises:
        UserError: something cannot be used as asked; or the training diverged.
    """
    genotype, config, folder, _ = training_wish(None if source is None else named(source), locals())  # the arguments, by their names
    return _training(carry_out(genotype, config, folder, watcher))


def transfer(
    source: "Place | Genotype | Run",
    to: Place = "imagenet",
    *,
    data_dir: Place | None = None,
    skeleton: str | None = None,
    rank: int = 1,
    cells: int | None = None,
    filters: int | None = None,
    macs: str | None = None,
    params: str | None = None,
    recipe: str | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    image_size: int | None = None,
    precision: str | None = None,
    weights: Place | None = None,
    seed: int | None = None,
    workers: int | None = None,
    least_workers: int | None = None,
    address: str | None = None,
    checkpoint_steps: int | None = 500,
    device: str | None = None,
    threads: int | None = None,
    loader_workers: int | None = None,
    log: Sequence[str] | None = None,
    settings: Assignments | None = None,
    output: Place | None = None,
    watcher: "Watcher | None" = None,
) -> Training:
    """Stack found cells to a size and train them on ImageNet or any data set; the same call again goes on.

    Example::

        nas.transfer("last", "photos/", params="5M", epochs=20)

    Args:
        source: a run, a reference genotype's name, a genotype file, or a genotype.
        to: imagenet (with ``data_dir``), a folder of images, cifar10, cifar100, digits or synthetic.
        data_dir: folder of the named data set.
        skeleton: macro network; None: the one that suits the genotype and the images.
        rank: which of a run's genotypes: 1 is the incumbent.
        cells: N, cells a stage.
        filters: F, filters of the first stage's cells.
        macs: solve for N and F with about so many MACs, such as "564M".
        params: solve for N and F with about so many parameters, such as "5.3M".
        recipe: a recipe's name, or a YAML file; None: the skeleton's published one.
        epochs: passes over the training images.
        batch_size: images of one step, over all workers.
        micro_batch: images of one pass, where a whole step does not fit in memory.
        image_size: side in pixels.
        precision: auto, float32, bfloat16 or float16.
        weights: file to start from.
        seed: of everything random.
        workers: processes that train together; None: one a GPU, else one.
        least_workers: go on with as few as this while nodes are missing.
        address: Ray cluster to join.
        checkpoint_steps: steps between two checkpoints in the middle of an epoch.
        device: auto, cpu, cuda or cuda:N.
        threads: CPU threads of a process.
        loader_workers: processes that read and augment images.
        log: where scalars go: ``["tensorboard"]`` (the default), ``wandb``, ``mlflow``; an empty list: nowhere.
        settings: any setting of the recipe by its dotted name.
        output: folder of this training; None: one under trained/.
        watcher: told what happens (``nas.training.session.Watcher``).

    Raises:
        UserError: something cannot be used as asked; or the training diverged.
    """
    genotype, config, folder, *_, group = transfer_wish(named(source), locals())  # the arguments, by their names
    return _training(carry_out(genotype, config, folder, watcher, group))


def carry_out(
    genotype: Genotype, config: "TrainConfig", folder: Path, watcher: "Watcher | None" = None, group: "Group | None" = None
) -> "TrainResult":
    """Train in this process, or with a group of workers. Raises UserError where something cannot be used as asked."""
    from nas.training.session import Watcher, train_network

    if group is None:
        return train_network(genotype, config, folder, watcher)
    from nas.runners.distributed import train_distributed

    told = watcher or Watcher()
    return train_distributed(genotype, config, folder, group, told.on_epoch, told.on_files, told.stop)


def divergence(result: "TrainResult") -> str:
    """What to say, and to do, where a training diverged."""
    place = result.folder
    there = {"the checkpoint": place.checkpoint_file, "the best weights": place.best_file}
    kept = " and ".join(name for name, file in there.items() if file.is_file())
    found = f"{kept} of before are kept in {place.path}" if kept else f"it was in its first epoch, so there are no weights in {place.path}"
    return f"the training diverged: {result.detail}; {found}. Try a smaller learning rate (optimizer.learning_rate) in another folder"


def _training(result: "TrainResult") -> Training:
    from nas.training.plan import describe_result
    from nas.training.trainer import Ending

    if result.ending is Ending.DIVERGED:
        raise RunError(divergence(result))
    return Training(
        path=result.folder.path,
        ending=result.ending.value,
        epochs=result.epochs,
        best_epoch=result.best_epoch,
        validation_top1=result.validation_top1,
        test_top1=None if result.test is None else result.test.top1,
        parameters=result.parameters,
        macs=result.macs,
        seconds=result.seconds,
        history=tuple(vars(record) for record in result.history),
        said=tuple(describe_result(result)),
    )


# ---------------------------------------------------------------------------------------------------- how good


@dataclass(frozen=True, repr=False)
class Accuracy(Shown):
    """How good weights are on some images. ``top1`` and ``top5`` are in [0, 1]; ``loss`` is the mean cross-entropy.

    ``interval`` is the one in which the top-1 accuracy on further images of the kind lies with 95 % confidence (Wilson); ``top5``
    is None where there are five classes or fewer; ``classes`` has the accuracy of every class, the worst first.
    """

    name: str
    weights: Path
    data: str
    part: str
    top1: float
    interval: tuple[float, float]
    top5: float | None
    loss: float
    images: int
    images_per_second: float
    classes: "tuple[ClassAccuracy, ...]"
    measured: "Measured"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The network's classes: of the rows and columns of ``confusion``."""
        return self.measured.answers.names

    @property
    def confusion(self) -> "npt.NDArray[np.int64]":
        """(classes, classes): how many images of the row's class were taken for the column's."""
        return self.measured.answers.confusion()

    def save_confusion(self, path: Place) -> None:
        """Write the confusion matrix as a picture (.png) or as numbers (.csv). Raises ConfigError for another name."""
        from nas.training.confusion import save_confusion

        save_confusion(self.measured.answers, Path(path))

    def lines(self) -> list[str]:
        """As ``nas evaluate`` says it."""
        return self.measured.lines()


def evaluate(
    source: "Place | Training",
    *,
    which: str = "best",
    part: str | None = None,
    data: Place | None = None,
    data_dir: Place | None = None,
    genotype: str | None = None,
    skeleton: str | None = None,
    cells: int | None = None,
    filters: int | None = None,
    image_size: int | None = None,
    flip: bool = False,
    folded: bool = False,
    device: str = "auto",
    threads: int | None = None,
    loader_workers: int = 0,
) -> Accuracy:
    """Measure how good trained weights are on images they have not learned from: in all, by class, and the throughput.

    Example::

        nas.evaluate("trained/mine").top1
        nas.evaluate("trained/mine", data="photos/").save_confusion("confusion.png")

    Args:
        source: a training, its folder, ``last``, or a file of weights.
        which: best or last weights of a folder.
        part: test, validation, train or all; None: the test part where the data have one or were trained on, else the whole folder.
        data: cifar10, cifar100, digits, synthetic, or a folder of images; a training's folder knows its own.
        data_dir: folder that holds the named data set.
        genotype: of weights that do not say it: a reference genotype, file or run.
        skeleton: see ``genotype``.
        cells: see ``genotype``.
        filters: see ``genotype``.
        image_size: side in pixels.
        flip: whether every answer is the mean of the image's and its mirror image's.
        folded: fold the network for inference first: the same answers within rounding, faster.
        device: auto, cpu, cuda or cuda:N.
        threads: on a CPU; None takes all cores.
        loader_workers: processes that read images from files.

    Raises:
        UserError: something cannot be used as asked, or the network does not know the data's classes.
    """
    from nas.data.scored import check_part
    from nas.runs.genotypes import resolve_genotype
    from nas.training.folder import find_weights

    path = source.path if isinstance(source, Training) else Path(source)
    named_things = {"device": device, "data": data, "data_dir": data_dir, "skeleton": skeleton}
    check_names(named_things, *(() if genotype is None else (genotype,)))  # before torch is loaded
    check_part(part)
    find_weights(path, which)
    from nas.training.measure import evaluate_weights
    from nas.training.numerics import own_threads

    with own_threads():
        found = evaluate_weights(
            path,
            which=which,
            part=part,
            data=data_settings(data, data_dir),
            genotype=None if genotype is None else resolve_genotype(genotype),
            skeleton=skeleton,
            cells=cells,
            filters=filters,
            image_size=image_size,
            flip=flip,
            folded=folded,
            device=device,
            threads=threads,
            loader_workers=loader_workers,
        )
    return _accuracy(found)


def _accuracy(found: "Measured") -> Accuracy:
    scores = found.scores
    return Accuracy(
        name=found.name,
        weights=found.weights,
        data=found.data,
        part=found.part,
        top1=scores.top1,
        interval=found.interval,
        top5=found.top5,
        loss=scores.loss,
        images=scores.images,
        images_per_second=scores.images_per_second,
        classes=found.answers.by_class(),
        measured=found,
    )


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """Networks trained under one recipe at one size, best first. ``whole`` is False where somebody stopped it."""

    path: Path
    rows: "tuple[Row, ...]"
    whole: bool

    def lines(self) -> list[str]:
        """A line for every member: accuracy, latency, network; or why there is none. Then, how sure that is."""
        from nas.comparisons.networks import told_apart

        sure = told_apart(self.rows)
        return [
            f"{row.mean:7.2%}  {row.label:24} {row.latency_ms:6.2f} ms  {row.network}" + (f" ({row.reason})" if row.reason else "")
            if row.test
            else f"{'–' if row.unfinished else 'failed':>7}  {row.label:24} {row.reason}"
            for row in self.rows
        ] + ([sure] if sure else [])

    def _repr_html_(self) -> str:
        heads = ("", "network", "test accuracy %", "parameters", "MACs", "latency ms", "")
        rows = []
        for row in self.rows:
            costs = (f"{row.parameters:,}", f"{row.macs:,}", f"{row.latency_ms:.2f}")
            rows.append((row.label, row.network, f"{100 * row.mean:.2f}" if row.test else "", *costs, row.reason))
        return html_table(heads, rows)


def compare(
    sources: "Sequence[Place | Genotype | Run]" = (),
    *,
    random: int = 0,
    space: str = "nasnet",
    macs: str | None = None,
    params: str | None = None,
    latency: str | None = None,
    latency_on: str | None = None,
    cells: int | None = None,
    recipe: str = "fast",
    data: Place | None = None,
    data_dir: Place | None = None,
    epochs: int | None = None,
    seeds: int = 1,
    workers: int | None = None,
    threads: int = 1,
    device: str = "auto",
    settings: Assignments | None = None,
    output: Place = "compared",
    again: Place | None = None,
    tell: Callable[[str], None] = lambda line: None,
    stop: Callable[[], bool] = lambda: False,
) -> Comparison:
    """Train genotypes under one recipe at matched MACs, parameters or latency, and table them; the same call again goes on.

    Example::

        nas.compare(["nasnet-a", "amoebanet-a"], random=2, params="100k", data="digits", epochs=5)

    Args:
        sources: who takes part: runs (their winners), reference genotypes, files, genotypes.
        random: so many cells drawn uniformly from ``space``.
        space: search space of the random cells.
        macs: everybody's MACs, such as "10M"; this, ``params`` or ``latency``; all None: what the runs among the sources were matched to.
        params: everybody's parameters, such as "270k".
        latency: everybody's latency of one image, such as "8ms": measured, the width solved for it.
        latency_on: where latency is measured: cpu (one thread), cuda, cuda:N, onnx; None: as in the matched runs, else cpu.
        cells: everybody's N, networks of blocks excepted; None: solved for, 1 with ``latency``.
        recipe: everybody's recipe: a name, or a YAML file.
        data: cifar10, cifar100, digits, synthetic, or a folder of images; None: that of the runs among the sources, else cifar10.
        data_dir: folder that holds the named data set.
        epochs: passes over the training images.
        seeds: trainings of everybody.
        workers: trainings at once, each in a process of its own; None: one a core, or a GPU.
        threads: CPU threads of each.
        device: auto, cpu, cuda or cuda:N.
        settings: any setting of the recipe by its dotted name.
        output: folder of the comparison.
        again: compare who was compared in this folder once more, on its terms; only ``output`` and ``workers`` go with it.
        tell: takes a line for a person now and then.
        stop: asked after every step; True ends the comparison after a checkpoint.

    Raises:
        UserError: something cannot be used as asked.
    """
    from nas.comparisons.networks import run_comparison

    if again is not None:
        size = {"macs": macs, "params": params, "latency": latency, "latency_on": latency_on, "cells": cells}
        terms = {**size, "data": data, "data_dir": data_dir, "epochs": epochs}
        others = {"sources": list(sources), "random": random, "recipe": recipe != "fast", "seeds": seeds != 1, "settings": settings}
        said = [name for name, value in {**terms, **others, "threads": threads != 1, "device": device != "auto"}.items() if value]
        return _compare_again(Path(again), path_of(output, "--output"), said, workers, tell, stop)
    members, plan = comparison_wish([named(source) for source in sources], locals())  # the arguments, by their names
    rows, whole = run_comparison(members, plan, tell, stop)
    return Comparison(plan.folder, tuple(rows), whole)


def comparison_wish(sources: Sequence[str | Genotype], given: Mapping[str, Any]) -> "tuple[list[Member], Plan]":
    """Who is compared, and how. ``given`` has the arguments of ``compare`` by their names. Raises UserError."""
    check_names(given, *sources)
    from nas.comparisons.networks import Plan, choose_members
    from nas.networks.matching import check_place, chosen_place
    from nas.networks.scaling import read_target
    from nas.tools.hardware import detect
    from nas.training.config import TrainConfig
    from nas.training.setup import Request, fit_request

    target, cells, place = read_target(given["macs"], given["params"], given["latency"]), given["cells"], None
    if target is None:
        target, depth, place = _matched_target(sources)
        cells = depth if cells is None else cells
    place = chosen_place(check_place(given["latency_on"] or place or "cpu"), given["device"] != "cpu" and bool(detect().gpus))
    members = choose_members(sources, given["random"], given["space"], seed=0)
    fitted = fit_request(
        Request(
            own_data=own_data(given, *sources),
            data=data_settings(given["data"], given["data_dir"]),
            recipe=given["recipe"],
            recipe_flags={"epochs": given["epochs"]},
            assignments=given["settings"] or (),
        )
    )
    on = {"threads": given["threads"], "device": given["device"]}
    base = TrainConfig(skeleton={}, data=fitted.data, recipe=fitted.recipe, image_size=fitted.image_size, **on)
    return members, Plan(target, base, given["seeds"], path_of(given["output"], "--output"), cells, given["workers"], place=place)


def _compare_again(
    before: Path, folder: Path, said: Sequence[str], workers: int | None, tell: Callable[[str], None], stop: Callable[[], bool]
) -> Comparison:
    from nas.comparisons.folder import CompareFolder
    from nas.comparisons.networks import Member, read_plan, run_comparison

    if said or folder.resolve() == before.resolve():
        raise ConfigError(
            f"--again compares who is in its folder, on its terms: only --output and --workers go with it, but got {', '.join(said)}"
            if said
            else f"--again needs another folder than {before}: name it with --output"
        )
    place = CompareFolder(before)
    members = [Member(label, genotype) for label, genotype in place.members().items()]
    rows, whole = run_comparison(members, read_plan(place, folder, workers), tell, stop)
    return Comparison(folder, tuple(rows), whole)


def _matched_target(sources: Sequence[str | Genotype]) -> "tuple[Target, int, str | None]":
    """The cost that the runs among the sources have matched their networks to, their N, and where a latency was measured.

    Raises:
        ConfigError: there is no one such cost.
    """
    from nas.networks.matching import read_match
    from nas.runs.genotypes import matched_of

    found = {(matched.match, matched.cells, matched.place) for source in sources if (matched := matched_of(source)) is not None}
    if len(found) == 1:
        match, cells, place = found.pop()
        return read_match(match).target, cells, place
    rule = "a comparison needs everybody's size: give --macs, --params or --latency, such as --macs 10M"
    raise ConfigError(rule if not found else f"{rule}; the runs matched different ones: {', '.join(sorted(str(one) for one in found))}")


def named(source: "Place | Genotype | Run") -> str | Genotype:
    """A source as the layers below take it: a genotype, or a name that they look up."""
    if isinstance(source, Genotype):
        return source
    return str(source.path) if isinstance(source, Run) else str(source)
