"""Reads the fenced blocks of a document, with the mark that says what is done with each when the tests run."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"(?:^<!--(?P<mark>(?:(?!-->).)*)-->\n+)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, its language (``""`` for commands), its text, and its mark.

    The mark is the HTML comment right before it: ``run: RULE; RULE``, ``not run: WHY``, ``file: NAME``, or for set-up its name.
    A rule is ``A => B`` (replace a text of the block) or ``COMMAND FLAGS`` (added to every such command, where the last of a flag wins).
    """

    document: str
    line: int
    language: str
    text: str
    mark: str

    @property
    def kind(self) -> str:
        """What the mark begins with: run, not run, file, or "" where there is none."""
        return self.mark.partition(":")[0].strip()

    @property
    def told(self) -> str:
        """What the mark goes on with: rules, the reason, the file's name."""
        return self.mark.partition(":")[2].strip()

    def commands(self) -> list[list[str]]:
        """The words of every command as shown. A line that ends in a backslash goes on; a comment ends with its line."""
        return [words for line in self.text.replace("\\\n", " ").splitlines() if (words := shlex.split(line, comments=True))]

    def scaled(self) -> "Block":
        """The block with the replacements of its mark."""
        text = self.text
        for shown, instead in (rule.split("=>") for rule in self._rules() if "=>" in rule):
            assert shown.strip() in text, f"{self.document}:{self.line}: nothing to replace: {shown}"
            text = text.replace(shown.strip(), instead.strip())
        return Block(self.document, self.line, self.language, text, self.mark)

    def added(self, command: str) -> list[str]:
        """The flags that the mark adds to a command."""
        rules = [shlex.split(rule) for rule in self._rules() if "=>" not in rule]
        return [word for rule in rules if rule[0] == command for word in rule[1:]]

    def _rules(self) -> list[str]:
        return [rule for rule in re.split(r"[;\n]", self.told) if rule.strip()]


def blocks(path: Path, root: Path) -> list[Block]:
    """The fenced blocks of a document, in order."""
    text = path.read_text(encoding="utf-8")
    name = str(path.relative_to(root))
    return [
        Block(name, text.count("\n", 0, found.start("text")), found["language"], found["text"], (found["mark"] or "").strip())
        for found in _BLOCK.finditer(text)
    ]
