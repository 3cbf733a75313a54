"""Ray is started safely, and a cluster that cannot be joined or does not work is explained: tokens, waiting workers."""

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nas.errors import ConfigError
from nas.runners import ray_start
from nas.runners.ray_start import PendingWatch, check_reachable, pending_too_long, probe, protect_token

grpc = pytest.importorskip("grpc")
TOKEN = "5ecret" * 8


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any token of Ray's."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture(params=[TOKEN, None], ids=["asks for a token", "open"])
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """What answers the question for the cluster's number, as Ray's control store does; its address."""

    def answer(asked: bytes, context: "grpc.ServicerContext") -> bytes:
        shown = dict(context.invocation_metadata()).get("authorization")
        if request.param is not None and shown != f"Bearer {request.param}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "InvalidAuthToken: Authentication token is missing or incorrect")
        return b"number"

    server = grpc.server(ThreadPoolExecutor(1))
    handlers = {"GetClusterId": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("ray.rpc.NodeInfoGcsService", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


@pytest.mark.parametrize("cluster", [TOKEN], indirect=True)
def test_a_cluster_that_asks_for_a_token_is_explained_at_once(cluster: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"asks for a token; set RAY_AUTH_MODE=token here, .*\.ray/auth_token \(mode 0600\)"):
        check_reachable(cluster)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ConfigError, match="refuses this process' token"):
        check_reachable(cluster)
    for wrong in ("another", "two\nlines"):
        monkeypatch.setenv("RAY_AUTH_TOKEN", wrong)
        with pytest.raises(ConfigError, match="refuses this process' token"):
            check_reachable(cluster)
    monkeypatch.delenv("RAY_AUTH_TOKEN")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text(TOKEN + "\n")
    check_reachable(cluster)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    check_reachable(cluster)


@pytest.mark.parametrize("cluster", [None], indirect=True)
def test_a_token_shown_to_an_open_cluster_is_refused(cluster: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_reachable(cluster)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ConfigError, match=r"works without a token, but RAY_AUTH_MODE=token is set here"):
        check_reachable(cluster)


def test_what_is_no_cluster_is_left_to_ray_or_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("auto", "ray://host:10001", "local"):
        check_reachable(address)
    monkeypatch.setattr(ray_start, "PROBE_SECONDS", 0.5)
    assert probe("127.0.0.1:1", None) == "unknown"
    for address in ("127.0.0.1:1", "127.0.0.1:port", "127.0.0.1:99999"):
        with pytest.raises(ConfigError, match="no Ray cluster answers"):
            check_reachable(address)


def test_the_token_is_private_from_the_start(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    protect_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600 and len(token.read_text()) == 64
    before = token.read_text()
    token.chmod(0o644)  # as Ray writes it
    protect_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600 and token.read_text() == before


@pytest.mark.parametrize("setting", [("RAY_AUTH_TOKEN", "mine"), ("RAY_AUTH_MODE", "disabled")])
def test_no_token_is_written_where_none_is_needed(home: Path, monkeypatch: pytest.MonkeyPatch, setting: tuple[str, str]) -> None:
    monkeypatch.setenv(*setting)
    protect_token()
    assert not (home / ".ray").exists()


@pytest.mark.parametrize(
    ("waited", "free", "said"),
    [
        (61.0, {"CPU": 4.0, "GPU": 1.0}, True),
        (59.0, {"CPU": 4.0, "GPU": 1.0}, False),
        (3600.0, {"CPU": 0.0, "GPU": 1.0}, False),  # full: that is what waiting is for
        (3600.0, {"CPU": 4.0}, False),
    ],
)
def test_a_worker_that_waits_while_there_is_room_is_worth_a_word(waited: float, free: dict[str, float], said: bool) -> None:
    message = pending_too_long(waited, {"CPU": 2.0, "GPU": 0.5}, free)
    assert (message is not None) == said
    if message:
        assert "2 CPU, 0.5 GPU" in message and "another token" in message


def test_the_word_is_said_once_for_each_stretch(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    clock = 1000.0
    monkeypatch.setattr(ray_start.time, "monotonic", lambda: clock)
    monkeypatch.setattr(ray_start.ray, "available_resources", lambda: {"CPU": 8.0})
    watch = PendingWatch()
    said = []
    for _ in range(20):  # 200 s of waiting, then none, then 200 s again
        clock += 10
        watch.look([1000.0], {"CPU": 1.0})
        said.append(len(caplog.records))
    assert said[4] == 0 and said[7] == said[-1] == 1
    watch.look([], {"CPU": 1.0})
    clock += 100
    watch.look([clock - 90], {"CPU": 1.0})
    assert len(caplog.records) == 2
