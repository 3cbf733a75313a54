"""Scalars to MLflow, by its own client: what its variables say (MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME, …) holds."""

import os
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from nas.loggers.logger import Logged, Point

NAME = "mlflow"
POINTS = "nas.points"
"""Tag of a run with the number of its points: it goes to the store together with them."""
POINTS_AT_ONCE = 50
"""MLflow takes 1,000 metrics in a request; a point has a dozen."""
PARAMS_AT_ONCE = 100
VALUE_LETTERS = 500
"""What the oldest stores take of a parameter's value."""


class MlflowRun:
    """A run there for a folder here: every session goes on with it, where the store still has it.

    Points that are told again, after a kill before their number was kept, have the same step, time and value: a database takes them once.
    """

    def __init__(self, about: Logged) -> None:
        self._client = MlflowClient()
        run = self._find(str(about.kept(NAME).get("run") or "")) or self._create(about)
        self._run = run.info.run_id
        self.logged = int(run.data.tags.get(POINTS, 0))

    def _find(self, run: str) -> Run | None:
        """The run of earlier sessions; None where the store has it no more, or is another one."""
        if not run:
            return None
        try:
            found = self._client.get_run(run)
        except MlflowException as problem:
            if problem.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        self._client.update_run(run, status="RUNNING")
        return found

    def _create(self, about: Logged) -> Run:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "nas")
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment is not None else self._client.create_experiment(name)
        run = self._client.create_run(number, run_name=about.name, tags={"nas.kind": about.kind})
        about.keep(NAME, {"run": run.info.run_id})
        settings = [Param(name, str(value)[:VALUE_LETTERS]) for name, value in about.flat().items()]
        for some in range(0, len(settings), PARAMS_AT_ONCE):
            self._client.log_batch(run.info.run_id, params=settings[some : some + PARAMS_AT_ONCE])
        return run

    def log(self, points: Sequence[Point]) -> None:
        """Log the points, and with them how many there are."""
        for some in range(0, len(points), POINTS_AT_ONCE):
            part = points[some : some + POINTS_AT_ONCE]
            metrics = [Metric(name, value, int(point.time * 1000), point.step) for point in part for name, value in point.scalars.items()]
            self.logged += len(part)
            self._client.log_batch(self._run, metrics=metrics, tags=[RunTag(POINTS, str(self.logged))])

    def close(self) -> None:
        """Say that the session has ended."""
        self._client.set_terminated(self._run)
