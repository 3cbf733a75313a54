"""Scalars as a TensorBoard event file in the folder that they are of. Needs no service; read by `tensorboard --logdir`."""

import time
from collections.abc import Sequence

from tensorboardX.event_file_writer import EventsWriter  # brings torch
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.summary import text

from nas.loggers.logger import Logged, Point
from search_spaces.strict_yaml import dump_document


class EventFile:
    """The file of an earlier session is replaced and written again from the first point, so that nothing is lost or doubled by a kill."""

    logged = 0

    def __init__(self, about: Logged) -> None:
        for old in about.folder.glob("events.out.tfevents.*"):
            old.unlink()
        self._writer = EventsWriter(str(about.folder / "events"))
        settings = "".join(f"    {line}\n" for line in dump_document(about.settings).splitlines())
        self._writer.write_event(Event(wall_time=time.time(), summary=text("settings", settings)))  # indented: as it stands
        self._writer.flush()

    def log(self, points: Sequence[Point]) -> None:
        """Write the points."""
        for point in points:
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in point.scalars.items()]
            self._writer.write_event(Event(wall_time=point.time, step=point.step, summary=Summary(value=values)))
        self._writer.flush()

    def close(self) -> None:
        """Release the file."""
        self._writer.close()
