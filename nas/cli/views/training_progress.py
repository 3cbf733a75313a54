"""Shows a training to a person: a live bar on a terminal, a plain line now and then elsewhere, and a line for every epoch."""

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, TaskID, TextColumn

from nas.cli.views.bars import Bars
from nas.cli.views.doing import PLAIN_LINE_EVERY
from nas.data.prepared import PreparedData
from nas.tools.words import duration, top5_words
from nas.training.config import TrainConfig
from nas.training.plan import describe_data, describe_steps, describe_time
from nas.training.timing import Estimate, estimate
from nas.training.trainer import EpochRecord, Position, Trainer


class TrainProgress:
    """Use as a context manager around the training; its methods are what ``nas.training.session.Watcher`` takes."""

    def __init__(self, console: Console, config: TrainConfig) -> None:
        self._console, self._config, self._epochs = console, config, config.recipe.epochs
        self._expected: Estimate | None = None
        self._bar: Bars | None = None
        self._task: TaskID | None = None
        self._line = time.monotonic()
        self._began: float | None = None
        self._steps_before = 0
        self._steps = 1
        self._best = 0.0
        self._sum_seen = 0.0
        self._loss = ""
        self._classes = 0

    def __enter__(self) -> "TrainProgress":
        if self._console.is_terminal:
            text = TextColumn("{task.fields[text]}", markup=False)
            self._bar = Bars(TextColumn("{task.description}"), BarColumn(), text, console=self._console)
            self._task = self._bar.add_task("preparing", total=None, text="")
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def on_files(self, done: int, total: int) -> None:
        """Some files of a folder were checked."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, description="checking images", completed=done, total=total, text=f"{done:,}/{total:,}")
        elif time.monotonic() - self._line >= PLAIN_LINE_EVERY:
            self._say(f"checking images: {done:,} of {total:,}")

    def on_start(self, trainer: Trainer, data: PreparedData) -> None:
        """The data are there and the network is built."""
        for line in describe_data(data, self._config.recipe):
            self._console.print(line, highlight=False, markup=False)
        self._classes = data.classes
        share, position = trainer.share, trainer.position
        passes = f" in {share.passes} passes" if share.passes > 1 else ""
        workers = f" on {share.world} workers" if share.world > 1 else ""
        self._console.print(
            f"steps:  {trainer.steps_an_epoch} an epoch of {share.batch_size} images{passes}{workers}, "
            f"learning rate up to {max(group['initial_lr'] for group in trainer.optimizer.param_groups):.4g}",
            highlight=False,
        )
        if trainer.updates:
            self._best = max(0.0, position.best)
            self._see_loss(position)
            where = f"epoch {position.epoch}" + (f", step {position.step}" if position.step else "")
            self._console.print(f"going on at {where}", highlight=False)
        self._steps = trainer.steps_an_epoch
        if trainer.updates < trainer.steps:
            self._expected = estimate(trainer.twin())
            for line in (*describe_steps(trainer), describe_time(trainer, self._config, self._expected)):
                self._console.print(line, highlight=False, markup=False)

    def on_step(self, position: Position, steps: int) -> None:
        """A step of the optimiser was done."""
        self._see_loss(position)
        done = (position.epoch - 1) * steps + position.step
        left = self._left(done)
        if self._bar is not None and self._task is not None:
            self._bar.update(
                self._task,
                description=f"epoch {position.epoch}/{self._epochs}",
                completed=position.step,
                total=steps,
                text=" · ".join(filter(None, [self._loss, self._kept(), left])),
            )
        elif time.monotonic() - self._line >= PLAIN_LINE_EVERY:
            where = f"epoch {position.epoch}/{self._epochs} · step {position.step}/{steps}"
            self._say(" · ".join(filter(None, [where, self._loss, left])))

    def _see_loss(self, position: Position) -> None:
        """Keep the mean loss of the epoch as it was when last read: on a GPU that is not after every step; "" before the first time."""
        if position.loss_sum != self._sum_seen:
            self._sum_seen = position.loss_sum
            self._loss = f"loss {position.loss_sum / position.step:.4f}" if position.loss_sum else ""

    def on_epoch(self, record: EpochRecord, is_best: bool) -> None:
        """An epoch ended."""
        self._best = record.validation_top1 if is_best else self._best
        text = (
            f"epoch {record.epoch}/{self._epochs}: loss {record.train_loss:.4f} · validation {100 * record.validation_top1:.2f} %"
            f"{' (kept)' if is_best else ''}{top5_words(record.validation_top5, self._classes)} · {duration(record.seconds)}"
        )
        speed = f", {record.images_per_second:,.0f} images/s"
        fits = not self._console.is_terminal or len(text + speed) <= self._console.width
        self._say(text + speed if fits else text)

    def _kept(self) -> str:
        """The accuracy of the epoch whose weights are kept; "" before the first one's end."""
        return f"kept {100 * self._best:.2f} %" if self._best else ""

    def _left(self, done: int) -> str:
        """From the steps of this session after its first one, in which a GPU's kernels are loaded; those to come may cost more."""
        if self._began is None:
            self._began, self._steps_before = time.monotonic(), done
            return ""
        passed = time.monotonic() - self._began
        if self._expected is None:
            return f"{duration(passed / (done - self._steps_before) * (self._epochs * self._steps - done))} left"
        expected = self._expected.until(done) - self._expected.until(self._steps_before)
        return f"{duration(passed / expected * self._expected.after(done))} left"

    def _say(self, text: str) -> None:
        self._line = time.monotonic()
        self._console.print(text, highlight=False, markup=False)
