"""Fetches a file from its official address: resumed where it was interrupted, checked, and unpacked safely. No torch."""

import hashlib
import tarfile
import tempfile
from pathlib import Path

import requests
import urllib3
from filelock import FileLock

from nas.errors import DataError
from nas.tools.transfers import SHOWN, Tell

CHUNK = 1 << 18
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
FRUITLESS_ATTEMPTS = 3
"""How often a connection may break in a row without a new byte before the download is given up."""


def fetch(url: str, destination: Path, md5: str) -> None:
    """Download ``url`` to ``destination`` and check its MD5. Does nothing where the right file is there already.

    An interrupted download leaves ``destination`` + ``.part``, which the next call continues (HTTP Range). Proxies are
    taken from the environment. Two processes may call this at once: the second waits for the first.

    Raises:
        DataError: there is no connection, no permission to write, or the file's checksum is wrong (it is removed then).
    """
    part = destination.with_name(destination.name + ".part")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(destination.with_name(destination.name + ".lock")):
            if destination.is_file() and md5_of(destination) == md5:
                return
            leftover = part.exists()
            _download(url, part)
            if leftover and md5_of(part) != md5:  # the leftover may have been damaged: once more from the start
                part.unlink()
                _download(url, part)
            found = md5_of(part)
            if found != md5:
                part.unlink()
                raise DataError(f"what {url} sent is not the expected file (its MD5 must be {md5}, but got {found}); it was removed.")
            part.replace(destination)
    except OSError as problem:  # requests' errors are OSErrors as well: its sentence goes before the file system's
        if isinstance(problem, requests.RequestException):
            raise DataError(f"{url} could not be fetched: {_reason(problem)}.") from None
        raise DataError(f"{destination} cannot be written: {problem.strerror or problem}.") from None


def _download(url: str, part: Path) -> None:
    """Append to ``part`` until it is complete, reconnecting after interruptions as long as every connection brings something."""
    fruitless = 0
    with requests.Session() as session, SHOWN.get()(url.rsplit("/", 1)[-1]) as tell:
        while True:
            before = part.stat().st_size if part.exists() else 0
            try:
                _download_once(session, url, part, tell)
                return
            except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as problem:
                after = part.stat().st_size if part.exists() else 0
                fruitless = 0 if after > before else fruitless + 1
                if fruitless >= FRUITLESS_ATTEMPTS or (not before and not after and isinstance(problem, requests.ConnectionError)):
                    raise problem if isinstance(problem, requests.RequestException) else requests.ConnectionError(problem) from None


def _download_once(session: requests.Session, url: str, part: Path, tell: Tell) -> None:
    """One connection: asks for the bytes that ``part`` lacks and appends what comes."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.get(url, headers=headers, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable:
            return  # nothing left to send: the checksum decides
        response.raise_for_status()
        partial = response.status_code == requests.codes.partial_content
        resumed = partial and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if partial and not resumed:
            part.unlink(missing_ok=True)
            raise requests.ConnectionError("the server sent another range than the one asked for")
        have = have if resumed else 0
        length = response.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        tell(have, total)
        with part.open("ab" if resumed else "wb") as file:
            # raw.stream: the bytes as they are (iter_content would unzip what a server labels as gzip).
            for chunk in response.raw.stream(CHUNK, decode_content=False):
                file.write(chunk)
                have += len(chunk)
                tell(have, total)
        if total is not None and have < total:
            raise requests.ConnectionError(f"the connection ended after {have:,} of {total:,} bytes")


def md5_of(path: Path) -> str:
    """The MD5 of a file in hexadecimal: it finds damage; the official site publishes no stronger sum."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def unpack(archive: Path, base: Path, folder: str) -> None:
    """Unpack the tar archive's ``folder`` to ``base/folder``, which appears whole or not at all.

    Raises:
        DataError: the archive is damaged, unsafe (a member outside the folder), or lacks ``folder``; or ``base`` cannot be written.
    """
    try:
        with tempfile.TemporaryDirectory(dir=base, prefix=".unpack-") as scratch:
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, filter=_without_mode)  # noqa: S202 - it is the safe filter
            unpacked = Path(scratch) / folder
            if not unpacked.is_dir():
                raise DataError(f"{archive} holds no folder {folder}.")
            unpacked.rename(base / folder)
    except (tarfile.TarError, EOFError) as problem:
        raise DataError(f"{archive} cannot be unpacked: {problem}.") from None
    except OSError as problem:
        raise DataError(f"{archive} cannot be unpacked to {base}: {problem.strerror or problem}.") from None


def _without_mode(member: tarfile.TarInfo, place: str) -> tarfile.TarInfo:
    """A safe member; who may read it is for the user's umask to say, not for the archive."""
    return tarfile.data_filter(member, place).replace(mode=None)  # type: ignore[arg-type]  # None is documented: "will be ignored"


def _reason(problem: requests.RequestException) -> str:
    """The one line a person needs of a nested connection error."""
    if isinstance(problem, requests.HTTPError) and problem.response is not None:
        return f"the server answered {problem.response.status_code} {problem.response.reason}"
    if isinstance(problem, requests.exceptions.ProxyError):
        return "the proxy refused or cannot be reached"
    if isinstance(problem, requests.exceptions.SSLError):
        return "the server's certificate could not be verified"
    if isinstance(problem, requests.Timeout):
        return "the server did not answer in time"
    if isinstance(problem, requests.ConnectionError):
        text = str(problem)
        return "there is no connection to the server" if "Max retries" in text or len(text) > 200 else text
    return str(problem) or type(problem).__name__
