"""What a terminal shows: lines broken between words, tables that are straight in any encoding, nothing drawn over. Nothing heavy."""

import codecs
import errno
import re
from collections.abc import Iterable
from typing import Any, ClassVar

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.text import Text

PLAIN = str.maketrans(
    {"×": "x", "–": "-", "−": "-", "…": "...", "±": "+/-", "→": "->", "²": "^2", "µ": "u", "·": "-", "≤": "<=", "≥": ">=", "√": "sqrt "}
)
"""Signs of ours for terminals that do not have them, in a line."""
EVEN = str.maketrans("×–−…±→²µ·≤≥√", "x-->~>^u-<>v")
"""The same in a table, where each must be as wide as what it stands for."""
HEAD = re.compile(r"(?P<blank> *)(?P<mark># |→ |- )?(?P<word>\w[\w -]*: +)?")
LONGEST_HEAD = 16
"""Columns of a head such as ``time:   `` up to which what follows it is kept beside it."""


def say_plainly(problem: UnicodeError) -> tuple[str | bytes, int]:
    """What a terminal cannot show: signs of ours in ASCII, other letters by their numbers. An error handler of ``codecs``."""
    if not isinstance(problem, UnicodeEncodeError):
        raise problem
    signs = problem.object[problem.start : problem.end].translate(PLAIN)
    return signs.encode("ascii", "backslashreplace").decode("ascii"), problem.end


codecs.register_error("nas.plainly", say_plainly)


def even(text: str, encoding: str | None) -> str:
    """The text in letters of an encoding, as many columns wide as before: a table stays straight. Unknown letters become ``?``."""
    if encoding is None or encoding.lower().startswith("utf") or text.isascii():
        return text
    if not _has(" ± ", encoding):
        text = text.replace(" ± ", "+/-")
    return "".join(letter if _has(letter, encoding) else _even(letter) for letter in text)


def _even(letter: str) -> str:
    sign = letter.translate(EVEN)
    return sign if sign != letter else "?" * cell_len(letter)


def _has(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def written(text: Text, encoding: str) -> Text:
    """The text in letters of an encoding, however many columns that takes."""
    if encoding.startswith("utf") or text.plain.isascii():
        return text
    lacking = [place for place, letter in enumerate(text.plain) if not _has(letter, encoding)]
    parts = text.divide(sorted({end for place in lacking for end in (place, place + 1)}))
    return Text().join(part if _has(part.plain, encoding) else Text(_in_letters_of(encoding, part.plain)) for part in parts)


def _in_letters_of(encoding: str, text: str) -> str:
    return text.encode(encoding, "nas.plainly").decode(encoding)


def broken(text: Text, width: int) -> Text:
    """Every line of a text broken between words at so many columns; what goes on stands below what its first line begins with.

    A word that is longer, such as a path, stays whole: the terminal breaks it, and whoever copies it gets it in one piece.
    """
    return Text("\n").join(part for line in text.split("\n", allow_blank=True) for part in _parts(line, width))


def _parts(line: Text, width: int) -> list[Text]:
    if cell_len(line.plain) <= width:
        return [line]
    found = HEAD.match(line.plain)
    blank, mark, word = found.group("blank", "mark", "word") if found else ("", None, None)
    word = word if word and len(word) <= LONGEST_HEAD else ""
    head = len(blank) + len(mark or "") + len(word)
    before = blank + ("# " if mark == "# " else " " * len(mark or "")) + " " * len(word) + ("" if mark or word else "  ")
    first, *rest = _rows(line[head:], width - len(before))
    return [line[:head] + first, *(Text(before, line.style) + part for part in rest)]


def _rows(text: Text, width: int) -> list[Text]:
    starts = [0]
    for word in re.finditer(r"\S+", text.plain):
        if text.plain[starts[-1] : word.start()].strip() and cell_len(text.plain[starts[-1] : word.end()]) > width:
            starts += [word.start()]
    rows = list(text.divide(starts[1:]))
    for row in rows:
        row.rstrip()
    return rows


class Screen(Console):
    """A console that prints texts as they are, in tables too: brackets and colons in a name are no styles and no emoji.

    On a terminal a text is broken between words; what must stay whole, such as a command to copy, is printed with ``soft_wrap``.
    Elsewhere no text is broken. What another screen draws again and again on the same terminal is not drawn over.

    A closed pipe is left to whoever ends the command: rich itself would end it, with the code of a divergence.
    """

    _drawing: ClassVar[list[Console]] = []

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - rich's
        super().__init__(**{"markup": False, "emoji": False, "highlight": False, **options})

    def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - rich's
        """Print a text, or whatever rich can draw."""
        drawing = [one for one in self._drawing if not one.quiet]
        if drawing and self not in drawing and self.is_terminal and not self.quiet:
            drawing[0].print(*objects, **options)
            return
        if len(objects) == 1 and isinstance(objects[0], str | Text) and not options.get("markup"):
            text = written(Text(objects[0]) if isinstance(objects[0], str) else objects[0], self.encoding)
            if self.is_terminal and not options.get("soft_wrap"):
                text = broken(text, self.width)
            objects, options = (text,), {**options, "soft_wrap": True}
        super().print(*objects, **options)

    def render(self, *arguments: Any, **options: Any) -> Iterable[Segment]:  # noqa: ANN401 - rich's
        """Draw something in letters that the terminal has."""
        found = super().render(*arguments, **options)
        if self.encoding.startswith("utf"):
            return found
        return (one if one.control else Segment(even(one.text, self.encoding), one.style) for one in found)

    def set_live(self, live: Any) -> bool:  # noqa: ANN401 - rich's
        """Something is drawn here again and again."""
        Screen._drawing.append(self)
        return super().set_live(live)

    def clear_live(self) -> None:
        """It is drawn no longer."""
        Screen._drawing.remove(self)
        super().clear_live()

    def forget(self) -> None:
        """Drop what could not be written: the next print would begin with it."""
        self._buffer.clear()

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError."""
        raise BrokenPipeError(errno.EPIPE, "nobody reads what is printed")
