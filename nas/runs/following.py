"""Follows a run that another process may be writing, here or on another machine: by its folder's files alone. No torch, no ray."""

import time
from collections.abc import Sequence
from dataclasses import replace

from nas.errors import RunError
from nas.runs.config import SearchConfig
from nas.runs.folder import RunFolder
from nas.runs.ledger import Reading
from nas.runs.old_stage import stage_records
from nas.runs.search_view import SearchView, TrialView, trial_view, view_of
from nas.runs.standings import Knowledge, Standings, standings_of
from nas.runs.state import RunState, replay
from nas.tools.locks import is_held

PATIENCE = 10.0
"""How many times longer than it took to put the cells in order they are left as they are: so a watcher mostly waits."""


class Follower:
    """What a run's folder says, read on from where it was last read.

    Nothing is written, and nobody is kept from writing. ``look`` has the view, and the trials that have ended since the last look.

    Raises:
        RunError: the folder is no run's, or its ledger is damaged.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._begin()

    def _begin(self) -> None:
        folder = self._folder
        self.config: SearchConfig = folder.config()
        self.state: RunState = RunState()
        self._space = folder.space(self.config)
        self._size = self._count = self._told = 0
        self._staged = False
        self._knowledge = Knowledge(self._space, self.state)
        self._standings: Standings | None = None
        self._seen, self._due = -1, 0.0

    def look(self) -> tuple[SearchView, Sequence[TrialView]]:
        """Read what was added, and say what there is to see now. Raises RunError where the ledger is damaged."""
        self._read()
        state = self.state
        ended = [trial_view(state.trials[number]) for number in state.told[self._told :]]
        self._told = len(state.told)
        self._order()
        view = view_of(str(self._folder.path), self.config, state, self._standings)
        return replace(view, running=is_held(self._folder.lock_file)), ended

    def _read(self) -> None:
        path = self._folder.ledger_file
        try:
            size = path.stat().st_size
        except OSError as error:
            raise RunError(f"{path}: the ledger cannot be read: {error.strerror or error}") from None
        if size < self._size or (self._staged and size > self._size):  # fetched anew; or an old run that goes on takes its stage in
            self._begin()
        reading, sessions = Reading(path, self._size, self._count), len(self.state.sessions)
        replay(reading, path, self.state, self._count)
        self._size, self._count = reading.size, reading.count
        if not sessions:
            for record in stage_records(self._folder.path, self.state):
                self._staged = True
                self.state.apply(record)
        if sessions != len(self.state.sessions):
            self.config = self._folder.config()  # a session may have a larger budget, or one more rung

    def _order(self) -> None:
        """Put the cells in order, where any has come and it is not too soon."""
        if self._seen == len(self.state.told) or (time.monotonic() < self._due and self.state.closed is None):
            return
        began = time.monotonic()
        self._standings = standings_of(self._space, self.state, self._knowledge)
        self._seen = len(self.state.told)
        self._due = time.monotonic() + PATIENCE * (time.monotonic() - began)
