"""Scalars to Weights & Biases, by its own client: what its variables say (WANDB_MODE, WANDB_PROJECT, WANDB_API_KEY, …) holds."""

import os
from collections.abc import Sequence

import wandb

from nas.loggers.logger import Logged, Point

NAME = "wandb"


class WandbRun:
    """A run there for a folder here: every session goes on with it, and every point is one row, by its number.

    The service leaves out rows whose number it has; files of offline sessions add up when they are synced, in their order.
    """

    def __init__(self, about: Logged) -> None:
        self._about = about
        kept = about.kept(NAME)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "nas"),
            name=about.name,
            id=str(kept["run"]) if "run" in kept else None,
            resume="allow",
            dir=about.folder,
            config=dict(about.settings),
            job_type=about.kind,
            settings=wandb.Settings(console="off", reinit="create_new"),  # it captures no output, and disturbs no other run of this process
        )
        self._run.define_metric("*", step_metric=about.steps)
        rows = kept.get("points")
        self.logged = max(rows if isinstance(rows, int) else 0, self._run.starting_step)

    def log(self, points: Sequence[Point]) -> None:
        """Log the points, and keep how many there are: offline nobody else knows."""
        for point in points:
            self._run.log({**point.scalars, self._about.steps: point.step}, step=self.logged, commit=True)
            self.logged += 1
        self._about.keep(NAME, {"run": self._run.id, "points": self.logged})

    def close(self) -> None:
        """Wait until everything is sent, or in the files of an offline run."""
        self._run.finish()
