"""Where workers go: how many on which node of a cluster, with what resources. No ray."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from nas.errors import ConfigError
from nas.evaluators.settings import RunnerSettings
from nas.tools.words import counted


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster and what it offers in all."""

    id: str
    cpus: float
    gpus: float = 0.0


@dataclass(frozen=True, slots=True)
class Place:
    """What one worker asks for: CPU threads, a GPU or a share of one, and a certain node or any."""

    cpus: int
    gpus: float
    node: str | None = None


def plan_places(settings: RunnerSettings, nodes: Sequence[Node]) -> list[Place]:
    """The places of all workers wanted on a cluster as it is now.

    With ``workers`` unset the cluster is filled, node by node: the plan grows and shrinks with it. With ``workers`` set so many
    are asked for on any node, whether they fit or not: those that wait are what an autoscaler goes by. Nodes without a GPU are
    used by children that take GPUs only where ``cpu_nodes`` allows it, and after the GPUs.

    Raises:
        ConfigError: a share of GPUs that cannot be given out, or more than this machine has.
    """
    share = gpu_share(settings, nodes)
    room: list[Place] = []
    for node in sorted(nodes, key=lambda node: node.gpus == 0):
        if share and node.gpus == 0 and not settings.cpu_nodes:
            continue
        here = share if node.gpus else 0.0
        room += [Place(settings.threads, here, node.id)] * _workers_on(node, settings.threads, here)
    anywhere = Place(settings.threads, share)
    if settings.workers is None:
        return room or [anywhere]
    # A worker without a GPU stays on its node, or it might take the threads of one that has a GPU.
    fitting = [anywhere if place.gpus == share else place for place in room[: settings.workers]]
    return fitting + [anywhere] * (settings.workers - len(fitting))


def gpu_share(settings: RunnerSettings, nodes: Sequence[Node]) -> float:
    """GPUs for each child: as set, else one where the cluster has any.

    Raises:
        ConfigError: it is a fraction above one that is not whole, or more than this machine has.
    """
    most = max((node.gpus for node in nodes), default=0.0)
    share = settings.gpus_per_child
    if share is None:
        return 1.0 if most else 0.0
    if share > 1 and not share.is_integer():
        raise ConfigError(f"runner.gpus_per_child must be a fraction up to 1 or a whole number, but got {share:g}")
    if share > most and settings.cluster is None:
        raise ConfigError(f"runner.gpus_per_child: {share:g} GPUs are asked for each child, but this machine has {most:g}")
    return share


def check_fits(settings: RunnerSettings, cores: int) -> None:
    """Raise ConfigError where this machine is asked for far more children at once than it has cores: they would fill its memory."""
    most = max(1, 2 * cores // settings.threads)
    if settings.cluster is None and settings.workers is not None and settings.workers > most:
        raise ConfigError(
            f"runner.workers must be at most {most} on this machine ({cores} cores, {counted(settings.threads, 'thread')} a child), "
            f"but got {settings.workers}; a cluster has more (--address of `nas search` and `nas resume`)"
        )


def _workers_on(node: Node, cpus: int, share: float) -> int:
    room = node.cpus // cpus
    if share:
        room = min(room, node.gpus // share if share >= 1 else node.gpus * math.floor(1 / share + 1e-9))
    return int(room)
