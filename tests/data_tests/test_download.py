"""Downloads, against a real HTTP server on this machine: resumed, checked, unpacked safely, and refused in one sentence."""

import dataclasses
import hashlib
import io
import tarfile
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from nas.data import cifar
from nas.data.cifar import CIFAR10, load_cifar
from nas.data.download import fetch, unpack
from nas.data.registry import load_dataset
from nas.data.settings import DataSettings
from nas.errors import DataError

CONTENT = bytes(np.random.default_rng(0).integers(256, size=700_000, dtype=np.uint8))
MD5 = hashlib.md5(CONTENT).hexdigest()


class Site:
    """What the server offers, how it behaves, and what it was asked for."""

    def __init__(self) -> None:
        self.content = CONTENT
        self.break_after: list[int] = []  # bytes to send before breaking off, one entry for each of the next requests
        self.ranges = True
        self.wrong_range = False
        self.status = 200
        self.asked: list[str | None] = []
        self.address = ""


class Handler(BaseHTTPRequestHandler):
    """Serves one file, with ranges."""

    def __init__(self, site: Site, *args) -> None:
        self.site = site
        super().__init__(*args)

    def do_GET(self) -> None:
        site, wanted = self.site, self.headers.get("Range")
        site.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and site.ranges else 0
        if site.status != 200:
            self.send_error(site.status)
            return
        if start >= len(site.content):
            self.send_error(416)
            return
        body = site.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start + site.wrong_range}-{len(site.content) - 1}/{len(site.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if site.break_after:
            self.wfile.write(body[: site.break_after.pop(0)])
            self.close_connection = True
            return
        self.wfile.write(body)

    def log_message(self, *_) -> None:
        """Nothing: the tests look at ``Site.asked``."""


@pytest.fixture
def site():
    offered = Site()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, offered))
    offered.address = f"http://127.0.0.1:{server.server_port}/data.tar.gz"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield offered
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def test_fetch_writes_the_file_and_does_not_fetch_twice(site, tmp_path):
    target = tmp_path / "new" / "data.tar.gz"
    fetch(site.address, target, MD5)
    fetch(site.address, target, MD5)
    assert target.read_bytes() == CONTENT and site.asked == [None]
    assert not target.with_name("data.tar.gz.part").exists()


def test_broken_connection_is_resumed_where_it_ended(site, tmp_path):
    site.break_after = [300_000, 200_000]
    fetch(site.address, tmp_path / "data", MD5)
    assert (tmp_path / "data").read_bytes() == CONTENT
    assert site.asked == [None, "bytes=300000-", "bytes=500000-"]


def test_next_call_resumes_what_an_interrupted_one_left(site, tmp_path):
    (tmp_path / "data.part").write_bytes(CONTENT[:123_456])
    fetch(site.address, tmp_path / "data", MD5)
    assert (tmp_path / "data").read_bytes() == CONTENT and site.asked == ["bytes=123456-"]


def test_complete_leftover_is_taken_as_it_is(site, tmp_path):
    (tmp_path / "data.part").write_bytes(CONTENT)
    fetch(site.address, tmp_path / "data", MD5)
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_damaged_leftover_is_fetched_anew(site, tmp_path):
    (tmp_path / "data.part").write_bytes(b"other bytes" * 1000)
    fetch(site.address, tmp_path / "data", MD5)
    assert (tmp_path / "data").read_bytes() == CONTENT and site.asked == ["bytes=11000-", None]


def test_server_without_ranges_is_read_from_the_start(site, tmp_path):
    site.ranges = False
    (tmp_path / "data.part").write_bytes(CONTENT[:1000])
    fetch(site.address, tmp_path / "data", MD5)
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_another_range_than_asked_for_is_not_appended(site, tmp_path):
    site.wrong_range = True
    (tmp_path / "data.part").write_bytes(CONTENT[:1000])
    fetch(site.address, tmp_path / "data", MD5)
    assert (tmp_path / "data").read_bytes() == CONTENT and site.asked == ["bytes=1000-", None]


def test_wrong_checksum_is_an_error_and_leaves_nothing(site, tmp_path):
    site.content = CONTENT[:-1] + b"?"
    with pytest.raises(DataError, match=f"MD5 must be {MD5}"):
        fetch(site.address, tmp_path / "data", MD5)
    assert not (tmp_path / "data").exists() and not (tmp_path / "data.part").exists()


def test_file_with_a_wrong_checksum_is_replaced(site, tmp_path):
    (tmp_path / "data").write_bytes(b"old")
    fetch(site.address, tmp_path / "data", MD5)
    assert (tmp_path / "data").read_bytes() == CONTENT


def test_connection_that_brings_nothing_is_given_up(site, tmp_path):
    site.break_after = [1000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(DataError, match="could not be fetched"):
        fetch(site.address, tmp_path / "data", MD5)
    assert (tmp_path / "data.part").read_bytes() == CONTENT[:1000], "what came is kept for the next call"
    assert len(site.asked) == 4


def test_server_error_is_reported(site, tmp_path):
    site.status = 404
    with pytest.raises(DataError, match="the server answered 404"):
        fetch(site.address, tmp_path / "data", MD5)


def test_unwritable_folder_is_reported(site, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="cannot be written"):
        fetch(site.address, tmp_path / "file" / "data", MD5)


def test_two_at_once_fetch_once(site, tmp_path):
    threads = [threading.Thread(target=fetch, args=(site.address, tmp_path / "data", MD5)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (tmp_path / "data").read_bytes() == CONTENT and site.asked == [None]


# ---------------------------------------------------------------------------------------------------- archives


def archive(members: dict[str, bytes], link: tuple[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link[0])
            info.type, info.linkname = tarfile.SYMTYPE, link[1]
            tar.addfile(info)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        archive({"folder/a": b"1", "../outside": b"2"}),
        archive({"folder/a": b"1"}, link=("folder/link", "/etc/passwd")),
        archive({"elsewhere/a": b"1"}),
        archive({"folder/a": b"1" * 100_000})[:-30],
        b"no archive",
    ],
    ids=["outside", "link", "no_folder", "truncated", "noise"],
)
def test_unsafe_or_damaged_archive_leaves_nothing(content, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "data.tar.gz").write_bytes(content)
    with pytest.raises(DataError):
        unpack(base / "data.tar.gz", base, "folder")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["base", "data.tar.gz"]


def test_archive_is_unpacked_whole(tmp_path):
    (tmp_path / "data.tar.gz").write_bytes(archive({"folder/a": b"1", "folder/b": b"2"}))
    unpack(tmp_path / "data.tar.gz", tmp_path, "folder")
    assert {p.name: p.read_bytes() for p in (tmp_path / "folder").iterdir()} == {"a": b"1", "b": b"2"}


# ---------------------------------------------------------------------------------------------------- CIFAR


def test_missing_cifar_is_fetched_unpacked_and_read(site, tmp_path):
    spec = dataclasses.replace(
        CIFAR10, binary_train=tuple((name, 4) for name, _ in CIFAR10.binary_train), binary_test=("test_batch.bin", 4)
    )
    files = [name for name, _ in (*spec.binary_train, spec.binary_test)]
    site.content = archive({f"cifar-10-batches-bin/{name}": bytes([3]) * 4 * 3073 for name in files})
    site.break_after = [200]
    spec = dataclasses.replace(spec, url=site.address, md5=hashlib.md5(site.content).hexdigest())
    data = load_cifar(spec, str(tmp_path), download=True)
    assert data.train.images.shape == (20, 32, 32, 3) and set(data.train.labels.tolist()) == {3}
    assert not list(Path(tmp_path).glob("*.tar.gz")), "the archive is removed"
    load_cifar(spec, str(tmp_path), download=True)
    assert site.asked == [None, "bytes=200-"], "the second call finds the files"


def test_no_network_is_one_message_with_two_ways_out(tmp_path, monkeypatch):
    nobody = "http://127.0.0.1:9/cifar-10-binary.tar.gz"  # nothing listens at the discard port
    monkeypatch.setitem(cifar.SPECS, "cifar10", dataclasses.replace(CIFAR10, url=nobody))
    with pytest.raises(DataError) as caught:
        load_dataset(DataSettings(root=str(tmp_path)))
    message = str(caught.value)
    assert "there is no connection to the server" in message
    assert str(tmp_path / "cifar-10-batches-bin") in message and nobody in message and "`nas search --data digits`" in message
    assert "--data-dir" in message and "--set" not in message, "only what the commands that read data all have"
    assert "\n" not in message and len(message) < 600


def test_unreachable_proxy_is_named(tmp_path, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name)
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with pytest.raises(DataError, match="proxy"):
        fetch("http://data.invalid/file", tmp_path / "data", MD5)
