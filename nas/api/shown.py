"""How results show themselves: as lines at a prompt, as tables in a notebook. No torch."""

import html
from collections.abc import Sequence


class Shown:
    """A result that is a few lines for a person, at a prompt and in a notebook."""

    def lines(self) -> list[str]:
        """What there is to say, a line a fact."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return "\n".join(self.lines()).strip()

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def html_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table; every text is escaped."""

    def line(tag: str, cells: Sequence[object]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line("td", row) for row in rows)
    return f"<table><thead>{line('th', heads)}</thead><tbody>{body}</tbody></table>"
