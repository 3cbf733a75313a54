"""The folder of a comparison of networks: its table, who takes part, its trainings. No torch."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import Timeout

from nas.errors import RunError
from nas.tools.environment import add_session, write_environment
from nas.tools.files import remove_own, write_atomically
from nas.tools.labels import LABEL_FILE
from nas.tools.locks import folder_lock, is_held
from nas.tools.shelves import COMPARISON_FILE
from nas.training.folder import TrainFolder
from search_spaces.genotype import Genotype, read_genotype, to_yaml

SCHEMA = "nas.compare/1"
TABLE_FILE = COMPARISON_FILE
OWN = (TABLE_FILE, "compare.md", "compare.png", "compare.lock", "environment.json", "members/*.yaml", "members", ".compare.*", LABEL_FILE)
"""What a comparison writes into its folder, beside its trainings: all of it goes with the comparison, and nothing else."""
UNFINISHED = "unfinished"
"""The reason in the row of a member whose trainings are not done."""


def is_unfinished(reason: object) -> bool:
    """Whether that is the reason in the row of such a member, also in the word of an earlier version."""
    return reason in (UNFINISHED, "interrupted")


@dataclass(frozen=True)
class CompareFolder:
    """Paths inside a comparison's folder, and what is written to them."""

    path: Path

    @property
    def table_file(self) -> Path:
        """Terms and figures as data; compare.md and compare.png are made from it."""
        return self.path / TABLE_FILE

    @property
    def environment_file(self) -> Path:
        """Versions, hardware, data and command line."""
        return self.path / "environment.json"

    @property
    def lock_file(self) -> Path:
        """Held while a process works on the comparison."""
        return self.path / "compare.lock"

    def member_file(self, label: str) -> Path:
        """The genotype of one who takes part."""
        return self.path / "members" / f"{label}.yaml"

    def document(self) -> dict[str, Any]:
        """The table as it was written. Raises RunError where there is none, or a damaged one."""
        try:
            document = json.loads(self.table_file.read_text(encoding="utf-8"))
            if not isinstance(document, dict) or document.get("schema") != SCHEMA:
                raise ValueError(f"it has not the schema {SCHEMA!r}")
            if not isinstance(document["rows"], list) or not isinstance(document["training"], dict):
                raise ValueError("it has no rows or no training")
        except FileNotFoundError:
            raise RunError(f"{self.path}: must be the folder of a comparison, but there is no {TABLE_FILE} in it") from None
        except (OSError, ValueError, KeyError, RecursionError) as problem:
            raise RunError(f"{self.table_file}: must be as `nas compare` wrote it, but {problem}") from None
        return document

    def members(self) -> dict[str, Genotype]:
        """Who takes part, by name and in order. Raises RunError where an earlier version did not keep them, GenotypeError."""
        if not self.document().get("members"):
            raise RunError(f"{self.path}: an earlier version made this comparison, and did not keep who took part")
        return {label: read_genotype(self.member_file(label)) for label in self.labels()}

    def labels(self) -> list[str]:
        """The names of all who take part; of an earlier version's comparison, of those in its table. Raises RunError.

        Files are looked for by them: one that is no plain name was never written here.
        """
        document = self.document()
        labels = document.get("members") or [row.get("label") for row in document["rows"] if isinstance(row, dict)]
        for label in labels:
            if not isinstance(label, str) or not label.strip(".") or not all(letter.isalnum() or letter in "-._" for letter in label):
                raise RunError(f"{self.table_file}: a member's name must be of letters, digits, '-', '.' and '_', but is {label!r}")
        return labels

    @property
    def running(self) -> bool:
        """Whether a process works on the comparison now."""
        return is_held(self.lock_file)

    def condition(self) -> str:
        """How the comparison stands, in a word: running, finished or unfinished. Raises RunError where it is damaged."""
        if self.running:
            return "running"
        rows = self.document()["rows"]
        left = any(is_unfinished(row.get("reason")) for row in rows)
        return UNFINISHED if left or len(rows) < len(self.labels()) else "finished"

    def trainings(self) -> list[TrainFolder]:
        """The trainings of all members, with every seed."""
        found = (TrainFolder(path) for label in self.labels() for path in sorted(self.path.glob(f"{label}-seed*")))
        return [place for place in found if place.exists()]

    def remove(self) -> list[Path]:
        """Remove the comparison with its trainings, and its folder unless something else is in it. Returns what is left there."""
        for place in self.trainings():
            place.remove()
        return remove_own(self.path, OWN)

    @contextmanager
    def held(self, members: Mapping[str, Genotype], terms: Mapping[str, Any]) -> Iterator[None]:
        """Make the folder, keep who takes part and on what terms, and keep other processes out of it.

        Raises:
            RunError: another process works on it, or it cannot be made.
        """
        try:
            (self.path / "members").mkdir(parents=True, exist_ok=True)
            with folder_lock(self.lock_file):
                new = not self.table_file.is_file()
                for label, genotype in members.items():
                    write_atomically(self.member_file(label), to_yaml(genotype))
                (write_environment if new or not self.environment_file.is_file() else add_session)(self.environment_file)
                document = {"rows": []} if new else self.document()
                self.write(terms, document["rows"], list(members))
                yield
        except Timeout:
            raise RunError(f"{self.path}: another process works on this comparison; stop it first, or name another folder") from None

    def write(self, terms: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], members: Sequence[str] | None = None) -> None:
        """Write the table as data. Without ``members``, who takes part stays as it was said before."""
        if members is None:
            members = self.labels() if self.table_file.is_file() else [str(row["label"]) for row in rows]
        document = {"schema": SCHEMA, **terms, "members": list(members), "rows": list(rows)}
        write_atomically(self.table_file, json.dumps(document, indent=2, allow_nan=False) + "\n")
