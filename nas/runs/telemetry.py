"""A run's rewards, incumbent and policy telemetry as a TensorBoard event file in its folder, made from the ledger alone."""

import math
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Self

from controllers.controller import Failed
from nas.runs.state import RunState

WINDOW = 50
"""Rewards in the running mean."""


class EventFile:
    """Follows a run's state: every outcome and every update of the policy is written once, in the order of the ledger.

    The file of an earlier session is replaced and written again from the ledger, so a kill neither loses nor doubles anything.
    Steps count the outcomes told to the controller. Scalars: ``reward/child``, ``reward/incumbent``, ``reward/mean`` (of the last
    50 rewards), ``children/failed`` and ``children/repeated`` (so far), and ``policy/…`` as the controller's ``tell`` returned it.
    """

    def __init__(self, folder: Path, state: RunState) -> None:
        from tensorboardX.event_file_writer import EventsWriter  # brings torch

        self._state = state
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = EventsWriter(str(folder / "events"))
        self._told = self._updates = self._failed = self._repeated = 0
        self._incumbent = -math.inf
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self.catch_up()

    def catch_up(self) -> None:
        """Write what the state has and the file has not."""
        updates = dict(self._state.updates[self._updates :])
        self._updates = len(self._state.updates)
        for number in self._state.told[self._told :]:
            self._told += 1
            trial = self._state.trials[number]
            if not trial.searched:
                if trial.reward is not None and trial.card is None:
                    name = "children/second_look" if trial.second_look else f"ladder/rung-{trial.rung}"
                    self._write({name: trial.reward}, trial.ended or 0.0)
                continue
            self._failed += trial.evaluation is not None and isinstance(trial.evaluation.outcome, Failed)
            self._repeated += trial.repeats is not None
            scalars = {"children/failed": float(self._failed), "children/repeated": float(self._repeated)}
            if trial.reward is not None:
                self._recent.append(trial.reward)
                self._incumbent = max(self._incumbent, trial.reward)
                mean = sum(self._recent) / len(self._recent)
                scalars |= {"reward/child": trial.reward, "reward/incumbent": self._incumbent, "reward/mean": mean}
            scalars |= {f"policy/{name}": value for name, value in updates.get(number, {}).items()}
            self._write(scalars, trial.ended or 0.0)
        self._writer.flush()

    def _write(self, scalars: dict[str, float], time: float) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
        self._writer.write_event(Event(wall_time=time, step=self._told, summary=Summary(value=values)))

    def close(self) -> None:
        """Release the file."""
        self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
