"""An HTML page as a test looks at it: its elements, its charts and the CSV files inside; and a browser, where there is one."""

import base64
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

BROWSER = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "google-chrome", "chromium-browser"))), None)


class Page(HTMLParser):
    """The elements of a page, their attributes, its text outside scripts, and the contents of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: dict[str, str] = {}
        self.words: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._inside = dict(attrs).get("id") or str(self.tags[tag]) if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[self._inside] = self.scripts.get(self._inside, "") + data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        """What a person reads."""
        return " ".join(" ".join(self.words).split())

    @property
    def charts(self) -> list[dict[str, Any]]:
        """The Vega-Lite documents."""
        return json.loads(self.scripts["charts"]) if "charts" in self.scripts else []

    @property
    def files(self) -> dict[str, str]:
        """The CSV files that can be saved from the page, by name."""
        places = [
            (name, value) for tag, name, value in self.attributes if tag == "a" and name in ("download", "href") and "#" not in value[:1]
        ]
        names = [value for name, value in places if name == "download"]
        return dict(zip(names, (decoded(value) for name, value in places if name == "href"), strict=True))

    @property
    def loaded(self) -> list[str]:
        """Addresses that the page would load or lead to, other than within itself and its own data."""
        found = [value for _, name, value in self.attributes if name in ("src", "href", "xlink:href", "action", "srcset", "poster")]
        return [value for value in found if not value.startswith(("#", "data:"))]


def decoded(address: str) -> str:
    """The text of a ``data:`` address."""
    return base64.b64decode(address.partition("base64,")[2]).decode()


def browse(path: Path, width: int = 1280) -> tuple[str, list[str]]:
    """The page as the browser has it after its scripts, and what they wrote to the console."""
    assert BROWSER is not None
    flags = ["--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=60000", f"--window-size={width},2000"]
    done = subprocess.run([BROWSER, *flags, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=300, check=True)
    return done.stdout, re.findall(r"CONSOLE.*", done.stderr)
