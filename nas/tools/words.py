"""Durations and sizes as a person says them, and paths as a shell takes them."""

import shlex
from collections.abc import Sequence


def quoted(place: object) -> str:
    """A path, name or URL in a command that a person may copy."""
    return shlex.quote(str(place))


def printable(text: str) -> str:
    """The text with what is no visible character, such as a line break or a byte that is no letter, written out."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii") for letter in text)


def sentence(text: str) -> str:
    """The text as a sentence of its own."""
    return f"{text[0].upper()}{text[1:]}."


def checksum_words(checksum: object) -> str:
    """The checksum of data, and what it is of: the same images have others where they are split or sized otherwise."""
    return f"checksum {checksum} of its parts as they were split and sized"


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``42 s``, ``3 min 20 s``, ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def briefly(seconds: float) -> str:
    """Seconds of something short as a person says them, and of what is longer as ``duration``: ``0.31 s``, ``1 min 50 s``."""
    return f"{seconds:.2g} s" if seconds < 9.95 else duration(seconds)


def counted(count: int, what: str, several: str = "") -> str:
    """``1 update``, ``2,000 updates``; ``several`` where that is no letter more."""
    return f"{count:,} {what if count == 1 else several or what + 's'}"


def lacking(names: Sequence[str]) -> str:
    """``onnx, which is not installed``, ``onnx, onnxruntime, which are not installed``."""
    return f"{', '.join(names)}, which {'is' if len(names) == 1 else 'are'} not installed"


TOP5_FROM = 6
"""Classes from which on a top-5 accuracy says something: of fewer the right one is always among five."""


def top5_words(share: float, classes: int) -> str:
    """A top-5 accuracy in [0, 1] on so many classes, to be added to a sentence; nothing where there are five or fewer."""
    return f", {100 * share:.2f} % top-5" if classes >= TOP5_FROM else ""


def megabytes(count: int) -> str:
    """Bytes as a person says them: ``12 MB``, ``3.4 GB``."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{max(1, round(count / 1e6))} MB"


def age(seconds: float) -> str:
    """How long ago something was, in few letters: ``42 s ago``, ``3 min ago``, ``5 h ago``, ``12 d ago``."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{max(0, int(seconds))} s ago"


def first_line(problem: BaseException) -> str:
    """What is wrong in one line: the first of the message, or the kind of error where it has none."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0]


def kind_and_line(problem: BaseException) -> str:
    """What broke in one line, for a fault that nobody foresaw: the kind of error and the first line of its message."""
    return f"{type(problem).__name__}: {problem}".splitlines()[0][:300]
