"""Says what a training will do, about how long it takes, and how it ended, in lines for a person."""

from collections.abc import Sequence
from pathlib import Path

from nas.data.prepared import PreparedData, prepare
from nas.networks.weights.files import read_weights
from nas.networks.weights.layouts import recognise
from nas.tools.intervals import wilson
from nas.tools.stages import doing
from nas.tools.words import counted, duration, top5_words
from nas.training.config import TrainConfig, preparation, size_words, skeleton_of, trained_skeleton
from nas.training.fitting import Choice
from nas.training.folder import TrainFolder
from nas.training.numerics import own_threads
from nas.training.recipe import Recipe
from nas.training.session import TrainResult, build_for_training, check_training, make_trainer
from nas.training.timing import Estimate, estimate
from nas.training.trainer import Trainer
from search_spaces.genotype import Genotype
from search_spaces.skeletons import network_name


def describe_training(genotype: Genotype, config: TrainConfig, folder: Path, choices: Sequence[Choice], timed: bool) -> list[str]:
    """What will be trained, how, where, what of it was chosen to suit the images; and how long it takes, where ``timed``.

    The data are loaded for that.

    Raises:
        UserError: something cannot be used as asked.
    """
    check_training(TrainFolder(folder), genotype, config)
    skeleton = trained_skeleton(skeleton_of(config), config.recipe)
    lines = [
        f"train:  {network_name(genotype, skeleton)}{size_words(config)} in skeleton {config.skeleton['name']}, seed {config.seed}",
        f"recipe: {describe_recipe(config.recipe)}",
        f"folder: {folder}",
        *(f"fitted: {choice}" for choice in choices),
    ]
    if config.weights is not None:
        lines.append(f"start:  {_starting_weights(Path(config.weights))}")
    if timed:
        lines += _timed(genotype, config)
    return lines


def describe_recipe(recipe: Recipe) -> str:
    """The recipe in a line."""
    optimizer, schedule, augmentation, other = recipe.optimizer, recipe.schedule, recipe.augmentation, recipe.regularisation
    scaled = optimizer.per_images not in (None, recipe.batch_size)
    rate = f"{optimizer.learning_rate:g}" + (f" for {optimizer.per_images} images" if scaled else "")
    parts = [f"{recipe.name}: {counted(recipe.epochs, 'epoch')}, {optimizer.name} at {rate} with batches of {recipe.batch_size}"]
    warm = f"{schedule.warmup_epochs:g} epoch{'' if schedule.warmup_epochs == 1 else 's'}" if schedule.warmup_epochs else ""
    parts.append(f"{schedule.kind} schedule" + (f" after {warm} of warm-up" if warm else ""))
    images = [
        f"{augmentation.crop} crops",
        "flips where images allow it" if augmentation.flip else "",
        f"cutout {augmentation.cutout}" if augmentation.cutout else "",
    ]
    images += [name for name, value in (("mixup", augmentation.mixup), ("CutMix", augmentation.cutmix)) if value]
    images += [augmentation.rand_augment or "", "random erasing" if augmentation.random_erasing else ""]
    parts.append(", ".join(filter(None, images)))
    extras = [f"auxiliary head {other.auxiliary_weight:g}" if other.auxiliary_weight else ""]
    extras += [f"label smoothing {other.label_smoothing:g}" if other.label_smoothing else ""]
    extras += [f"weights averaged at {recipe.ema.decay:g}" if recipe.ema else ""]
    extras += [f"images from {recipe.resolution.start:.0%} of their side" if recipe.resolution.start < 1 else ""]
    return "; ".join([*parts, *filter(None, extras)])


def _starting_weights(path: Path) -> str:
    layout = recognise(read_weights(path))
    return f"{path}" + (f" (weights of {layout.title}, converted)" if layout is not None else "")


def _timed(genotype: Genotype, config: TrainConfig) -> list[str]:
    with doing("reading the images") as tell:
        data = prepare(config.data, preparation(config), progress=tell)
    with doing("timing steps"), own_threads(config.threads):
        trainer = make_trainer(build_for_training(genotype, config, data), data, config)
        time = describe_time(trainer, config, estimate(trainer.twin()))
    return [*describe_data(data, config.recipe), *describe_steps(trainer), time]


def describe_data(data: PreparedData, recipe: Recipe) -> list[str]:
    """What was noticed of the images, and what becomes of them."""
    unflipped = "; never flipped, their mirror images show something else" if recipe.augmentation.flip and not data.mirrors else ""
    return [
        *(f"note:   {note}" for note in data.notes),
        f"data:   {data.name}: {len(data.train):,} images to train on, {len(data.validation):,} to choose the best epoch by, "
        f"{len(data.test or ()):,} to test once; {data.classes} classes, {data.image_size}×{data.image_size}×{data.channels}{unflipped}",
    ]


def describe_steps(trainer: Trainer) -> list[str]:
    """How steps are done, where there is a choice: on a GPU."""
    if trainer.device.type != "cuda":
        return []
    return [f"graphs: {f'steps run operation by operation: {trainer.plain}' if trainer.plain else 'steps are replayed as CUDA graphs'}"]


def describe_time(trainer: Trainer, config: TrainConfig, expected: Estimate) -> str:
    """How long what is left of a training takes, in a line."""
    steps = [f"{1000 * seconds:.0f}" for _, seconds in expected.timed]
    sides = f" at {' to '.join(str(side) for side, _ in expected.timed[:: len(expected.timed) - 1])} pixels" if len(steps) > 1 else ""
    compiled = "; without --compile, whose first steps take a minute or more" if config.compile else ""
    place = str(trainer.device) if trainer.device.type == "cuda" else counted(config.threads, "thread")
    return (
        f"time:   about {duration(expected.after(trainer.updates))} ({' to '.join(steps[:: max(1, len(steps) - 1)])} ms a step of "
        f"{trainer.share.batch_size} images{sides}, {trainer.steps_an_epoch} steps an epoch, {place}{compiled}); "
        "Ctrl-C stops, the same command goes on"
    )


def describe_result(result: TrainResult) -> list[str]:
    """How a training ended: accuracies, costs, time, files."""
    lines = [
        f"\n{result.ending.value} after {counted(result.epochs, 'epoch')}, {duration(result.seconds)} "
        f"({duration(result.cpu_seconds)} of CPU time)"
    ]
    if result.best_epoch:
        lines.append(f"validation: {100 * result.validation_top1:.2f} % after epoch {result.best_epoch}, whose weights are kept")
    if result.test:
        test = result.test
        low, high = wilson(test.top1, test.images)
        found = f"{100 * test.top1:.2f} % top-1{top5_words(test.top5, result.classes)}"
        accuracy = f"{found} on {test.images:,} images, read once, with these weights"
        lines.append(f"test:       {accuracy}; {100 * low:.1f} to {100 * high:.1f} % with 95 % confidence")
    lines.append(f"network:    {result.parameters:,} parameters, {result.macs:,} MACs")
    if result.best_epoch:
        lines.append(f"weights:    {result.folder.best_file}")
    return lines
