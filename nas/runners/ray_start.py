"""Starts Ray on this machine, safely, or joins a cluster; and says what is wrong where a cluster refuses or does not work."""

import logging
import os
import secrets
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import ray
from ray.exceptions import AuthenticationError

from nas.errors import ConfigError
from nas.evaluators.settings import RunnerSettings
from nas.tools.interrupts import aside
from nas.tools.words import first_line

PENDING_SECONDS = 60.0
"""A worker that waits longer than this while there is room for it is worth a word."""
PROBE_SECONDS = 5.0
_log = logging.getLogger("nas")


def start_ray(settings: RunnerSettings, cores: int) -> None:
    """Start Ray on this machine, or join the cluster at ``settings.cluster``.

    What is started here is for this process alone: no dashboard, usage statistics off, token authentication as Ray has it by
    default (on), the token readable by nobody else. Ray starts in a thread: in the main one it takes SIGTERM for itself, and
    neither that nor Ctrl-C would be heard until it is up, on a busy machine for a minute.

    Raises:
        ConfigError: the cluster cannot be reached, or asks for a token that this process does not show.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    common: dict[str, Any] = {"namespace": "nas", "log_to_driver": False, "logging_level": "ERROR"}
    if settings.cluster is None:
        wanted = max(cores, (settings.workers or 1) * settings.threads)
        protect_token()
        aside(lambda: ray.init(address="local", num_cpus=wanted, include_dashboard=False, **common), stay=True)
        return
    check_reachable(settings.cluster)
    try:
        aside(lambda: ray.init(address=settings.cluster, **common))
    except (OSError, RuntimeError, ValueError, AuthenticationError) as error:
        raise no_answer(settings.cluster, error) from None


def protect_token() -> None:
    """Make sure that the token of this user's clusters exists and that nobody else can read it; Ray would write it with mode 0644."""
    token = token_file()
    try:
        if token.is_file():
            if token.stat().st_mode & 0o077:
                token.chmod(0o600)
        elif not os.environ.get("RAY_AUTH_TOKEN") and os.environ.get("RAY_AUTH_MODE") != "disabled":
            token.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(secrets.token_hex(32))
    except OSError as error:
        raise ConfigError(f"{token}: Ray's token must be readable by you alone, but: {error.strerror or error}") from None


def token_file() -> Path:
    """Where Ray looks for the token, unless it is in RAY_AUTH_TOKEN itself."""
    return Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")


def no_answer(address: str, error: Exception) -> ConfigError:
    """The message for a cluster that cannot be joined."""
    summary = first_line(error)
    return ConfigError(
        f"runner.address: no Ray cluster answers at {address!r} ({summary}); start one with `ray start --head`. "
        "If the cluster asks for a token, set RAY_AUTH_MODE=token here and have the same ~/.ray/auth_token as the cluster"
    )


def check_reachable(address: str) -> None:
    """Raise ConfigError where ``ray.init`` would wait without end, or for 20 s and then not say that it is for the token.

    ``auto`` and addresses that Ray resolves itself are left to Ray.
    """
    host, colon, port = address.rpartition(":")
    if not colon or "://" in address:
        return
    try:
        if not port.isdecimal() or not 0 < int(port) < 65536:
            raise ValueError("an address must be auto or HOST:PORT")
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except (OSError, ValueError) as error:
        raise no_answer(address, error) from None
    shows = os.environ.get("RAY_AUTH_MODE") == "token"
    if probe(address, None) == "refused":
        if not shows:
            raise ConfigError(
                f"runner.address: the cluster at {address!r} asks for a token; set RAY_AUTH_MODE=token here, with the cluster's token "
                f"in RAY_AUTH_TOKEN or in {token_file()} (mode 0600)"
            )
        if probe(address, own_token()) == "refused":
            raise ConfigError(
                f"runner.address: the cluster at {address!r} refuses this process' token; copy the cluster's token to "
                f"{token_file()} (mode 0600), or set RAY_AUTH_TOKEN"
            )
    elif shows and probe(address, None) == "welcome":
        raise ConfigError(
            f"runner.address: the cluster at {address!r} works without a token, but RAY_AUTH_MODE=token is set here: its workers could "
            "not talk to this process. Start the cluster with RAY_AUTH_MODE=token as well (better), or unset it here"
        )


def own_token() -> str:
    """The token that Ray would show; empty where there is none."""
    try:
        return os.environ.get("RAY_AUTH_TOKEN") or token_file().read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def probe(address: str, token: str | None) -> Literal["welcome", "refused", "unknown"]:
    """Ask the cluster for its number, with a token or without; takes milliseconds where Ray's own client tries for 20 s."""
    try:
        import grpc
    except ImportError:  # comes with tensorboard and with ray[default], not with ray[tune] alone
        return "unknown"
    if token is not None and not (token.isascii() and token.isprintable()):
        return "refused"  # no header can hold it
    metadata = None if token is None else (("authorization", f"Bearer {token}"),)
    try:
        with grpc.insecure_channel(address) as channel:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")(b"", timeout=PROBE_SECONDS, metadata=metadata)
    except grpc.RpcError as error:
        return "refused" if error.code() is grpc.StatusCode.UNAUTHENTICATED else "unknown"
    return "welcome"


def pending_too_long(waited: float, asked: Mapping[str, float], free: Mapping[str, float]) -> str | None:
    """What to tell a person of a worker that has waited ``waited`` seconds for ``asked`` while ``free`` is free; None for nothing.

    Waiting is right while the cluster is full (pending workers are what an autoscaler acts on). While there is room, a node may
    have joined without the cluster's token: it counts as resources and never starts a worker.
    """
    fits = all(free.get(name, 0.0) >= amount for name, amount in asked.items() if amount)
    if waited < PENDING_SECONDS or not fits:
        return None
    wanted = ", ".join(f"{amount:g} {name}" for name, amount in asked.items() if amount)
    return (
        f"a worker has waited {waited:.0f} s for {wanted}, which the cluster says is free. If a node was started with another token "
        "(or with RAY_AUTH_MODE=token where the cluster has none), it shows resources and never starts a worker: its "
        "raylet.out says 'Missing authorization header'. No single node may have all of it free, either (see `ray status`)"
    )


class PendingWatch:
    """Looks at workers that are not up now and then, and warns once for each stretch of waiting."""

    def __init__(self) -> None:
        self._looked = time.monotonic()
        self._told = False

    def look(self, requested: list[float], asked: Mapping[str, float]) -> None:
        """``requested``: when each worker that is not up was asked for (``time.monotonic``)."""
        now = time.monotonic()
        if not requested:
            self._told = False
        if self._told or not requested or now - self._looked < PENDING_SECONDS / 4 or now - min(requested) < PENDING_SECONDS:
            return
        self._looked = now
        free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
        message = pending_too_long(now - min(requested), asked, free)
        if message:
            self._told = True
            _log.warning(message)
