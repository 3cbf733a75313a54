"""Where and how many children are trained at once. No torch, no ray."""

import os
from typing import Literal

from pydantic import Field

from nas.settings.base import Float, Settings


class RunnerSettings(Settings):
    """Where and how many children are trained at once."""

    kind: Literal["ray", "local"] = Field("ray", description="local trains one child at a time inside this process")
    address: str | None = Field(None, description="Ray cluster to join (auto or HOST:PORT); null starts Ray on this machine")
    workers: int | None = Field(None, ge=1, description="children at once; null fills the machine")
    gpus_per_child: Float | None = Field(None, ge=0, description="whole or fractional GPUs; null gives one where there is a GPU, else none")
    threads_per_child: int = Field(1, ge=1, description="CPU threads of a child's training")
    cpu_nodes: bool = Field(False, description="where children take GPUs: train some on nodes without one, too")
    time_limit: Float | None = Field(None, gt=0, description="seconds a child may take; null sets none")
    heartbeat: Float | None = Field(300.0, gt=0, description="seconds without a batch after which a child hangs; null waits for ever")
    checkpoint_seconds: Float = Field(60.0, ge=0, description="least time between two checkpoints of a child; rungs always make one")
    max_attempts: int = Field(3, ge=1, description="times a child is started when its worker is lost")
    sync: str | None = Field(None, description="URL that the run folder is mirrored to as it grows (s3://, gs://, file://, …)")
    sync_seconds: Float = Field(5.0, gt=0, description="seconds between two syncs")
    failures_in_a_row: int = Field(20, ge=1, description="failed children one after the other that end the search (resumable)")

    @property
    def cluster(self) -> str | None:
        """The cluster to join: as set, else the one that this process is a job of (Ray sets RAY_ADDRESS); None starts Ray here."""
        given = os.environ.get("RAY_ADDRESS", "")
        return self.address or (given if given and not given.startswith("http") else None)
