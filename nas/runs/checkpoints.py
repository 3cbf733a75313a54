"""The states of children that are being trained: one file each in the run folder, written by the driver alone. No torch, no ray.

A child's state comes to the driver with its report, whatever machine the worker is on, so there is one way for a laptop and
for a cluster without a shared file system, no orphaned worker can overwrite anything, and a mirror of the folder is complete.
The ledger's report names the checksum: a file that does not have it is not used.
"""

import zlib
from pathlib import Path

from nas.runs.trials import Trial
from nas.tools.files import write_atomically


class Checkpoints:
    """The checkpoints in a folder, which is made when there is a first one. Nobody else writes there, so it is listed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, set[Path]] = {}
        for file in folder.glob("*") if folder.is_dir() else ():
            self._files.setdefault(file.name.partition("-")[0], set()).add(file)

    def write(self, trial: int, epoch: int, state: bytes) -> str:
        """Keep a child's state after an epoch; returns the checksum to record. Only then may older states be dropped."""
        self.folder.mkdir(exist_ok=True)
        file = self._file(trial, epoch)
        write_atomically(file, state)
        self._files.setdefault(str(trial), set()).add(file)
        return _checksum(state)

    def find(self, trial: Trial) -> Path | None:
        """The file with the state that the ledger names, where it is there and whole."""
        if trial.checkpoint is None:
            return None
        epoch, checksum = trial.checkpoint
        file = self._file(trial.number, epoch)
        try:
            return file if _checksum(file.read_bytes()) == checksum else None
        except OSError:
            return None

    def drop(self, trial: int, keep: int | None = None) -> None:
        """Remove a trial's states, except the one after epoch ``keep``."""
        kept = set() if keep is None else {self._file(trial, keep)}
        self._drop(str(trial), kept)

    def drop_others(self, trials: set[int]) -> None:
        """Remove what belongs to none of these trials: a kill between a trial's end and the removal leaves it behind."""
        for name in set(self._files) - {str(number) for number in trials}:
            self._drop(name, set())

    def _drop(self, name: str, kept: set[Path]) -> None:
        """Remove the files of a trial, named by its number, but those kept."""
        files = self._files.pop(name, set())
        for file in files - kept:
            file.unlink(missing_ok=True)
        if files & kept:
            self._files[name] = files & kept

    def _file(self, trial: int, epoch: int) -> Path:
        return self.folder / f"{trial}-{epoch}.state"


def _checksum(state: bytes) -> str:
    return f"{zlib.crc32(state):08x}"
