"""Reads the second stage (``finalists/``) that versions before the ladder left in a run's folder, as the first rung of a ladder."""

import json
from collections.abc import Sequence
from pathlib import Path

from controllers.controller import Proposal
from nas.errors import RunError
from nas.evaluators.settings import RungSettings
from nas.runs import records
from nas.runs.config import finalists_rung
from nas.runs.ledger import Reading
from nas.runs.records import Record
from nas.runs.state import RunState, replay
from nas.settings.reading import validated

SCHEMA = "nas.finalists/1"


def stage_rung(run: Path) -> RungSettings | None:
    """The rung that the old second stage of a run amounts to; None where there is none. Raises RunError where its file is damaged."""
    found = _lineup(run)
    return None if found is None else found[1]


def stage_records(run: Path, state: RunState) -> list[Record]:
    """What the old second stage found, as records that follow those of ``state``; none where there is none, or they are there already.

    Raises:
        RunError: its files are damaged, or name trials that the run has not completed.
    """
    found, ledger = _lineup(run), run / "finalists" / "ledger.jsonl"
    if found is None or state.ladder.rungs or not ledger.is_file():
        return []
    (trials, rung), stage = found, replay(Reading(ledger), ledger)
    if missing := [number for number in trials if number >= len(state.trials) or state.trials[number].reward is None]:
        raise RunError(f"{ledger.parent}: the lineup names trial {missing[0]}, which the run has not completed")
    began = stage.sessions[0][0] if stage.sessions else 0.0
    said = [records.opened(began, state.budget, data=state.data, yardsticks=[*state.yardsticks, *stage.yardsticks], ladder=[rung])]
    number = len(state.trials)
    for trial in stage.trials.values():
        if trial.evaluation is None:
            continue
        origin = trials[trial.number % len(trials)]
        proposal = Proposal(number, state.trials[origin].proposal.actions, rung=1)
        said.append(records.raised(proposal, origin, trial.number // len(trials)))
        said.append(records.started(number, trial.attempts, trial.started or 0.0))
        said.append(records.finished(number, trial.evaluation, trial.ended or 0.0))
        number += 1
    if state.closed is not None:
        said.append(records.closed(state.closed, stage.sessions[-1][1] if stage.sessions else 0.0))
    return said


def _lineup(run: Path) -> tuple[Sequence[int], RungSettings] | None:
    file = run / "finalists" / "lineup.json"
    if not file.is_file():
        return None
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        trials = document["trials"]
        if document["schema"] != SCHEMA or not trials or not all(type(number) is int and number >= 0 for number in trials):
            raise ValueError("it is not")
        return trials, validated(RungSettings, finalists_rung(**document["settings"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RunError(f"{file}: must be as the second stage wrote it, but {error}; move its folder away to begin anew") from None
