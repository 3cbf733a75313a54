"""Trains before a person's eyes, and says how it ended. Loads torch."""

from collections.abc import Sequence
from pathlib import Path

import typer

from nas.api.training import carry_out, divergence
from nas.cli.options import (
    STOPPING,
    console,
    errors,
    looked_at,
    say,
    say_lines,
    say_marked,
    say_next,
    say_next_of_dry_run,
    self_contained,
)
from nas.cli.views.training_progress import TrainProgress
from nas.runners.distributed import Group, check_group
from nas.tools.interrupts import Stopper
from nas.tools.words import counted
from nas.training.config import TrainConfig
from nas.training.fitting import Choice
from nas.training.folder import TrainFolder
from nas.training.plan import describe_result, describe_training
from nas.training.session import TrainResult, Watcher
from nas.training.trainer import Ending
from search_spaces.genotype import Genotype


def announce_and_train(
    genotype: Genotype, config: TrainConfig, folder: Path, choices: Sequence[Choice], dry_run: bool, group: Group | None = None
) -> None:
    """Say what will be trained, train it in this process or with a group of workers, and say how it ended.

    Raises:
        typer.Exit: somebody stopped it (130), or it diverged (1).
        UserError: something cannot be used as asked.
    """
    if group is not None:
        check_group(group)
    done = TrainFolder(folder).result() is not None
    say_lines(describe_training(genotype, config, folder, choices, timed=dry_run and not done))
    if done:
        say(f"\n{folder}: nothing is left to train: it was finished before")
    if dry_run:
        if not done:
            say_next_of_dry_run()
        return
    result = _train_here(genotype, config, folder) if group is None else _train_together(genotype, config, folder, group)
    say_lines(describe_result(result))
    if result.ending is Ending.INTERRUPTED:
        say_next(("go on where it was stopped", ["nas", "train", "--resume", folder]))
        raise typer.Exit(130)
    if result.ending is Ending.DIVERGED:
        say_marked("error:", "bold red", divergence(result), errors)
        raise typer.Exit(1)
    say_next(
        ("accuracy again, and by class", ["nas", "evaluate", folder]),
        looked_at(folder, config.data),
        self_contained(folder),
    )


def _train_here(genotype: Genotype, config: TrainConfig, folder: Path) -> TrainResult:
    stopper = Stopper(console.print, STOPPING)
    with stopper, TrainProgress(console, config) as progress:
        watcher = Watcher(progress.on_start, progress.on_files, progress.on_step, progress.on_epoch, stopper.asked, say)
        return carry_out(genotype, config, folder, watcher)


def _train_together(genotype: Genotype, config: TrainConfig, folder: Path, group: Group) -> TrainResult:
    each = "a GPU" if group.gpu else counted(config.threads, "CPU thread")
    console.print(f"workers: {group.workers}, {each} each; starting Ray …")
    stopper = Stopper(console.print, STOPPING)
    with stopper, TrainProgress(console, config) as progress:
        watcher = Watcher(on_epoch=progress.on_epoch, on_files=progress.on_files, stop=stopper.asked)
        return carry_out(genotype, config, folder, watcher, group)
