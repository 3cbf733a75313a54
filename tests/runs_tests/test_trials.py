"""Trials that have ended are packed and come back as they were; what a policy came to is in the ledger, and resume goes on from it."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.contracts import through_storage

from controllers.controller import FAILURE_REASONS, Completed, Failed, Proposal, Stopped
from controllers.deduplicated import Deduplicated
from controllers.registry import make_controller
from nas.evaluators.evaluator import Evaluation, Report
from nas.runs import controller_state as snapshot
from nas.runs import loop
from nas.runs import session as engine
from nas.runs.config import SearchConfig, config_from_document
from nas.runs.folder import RunFolder
from nas.runs.ledger import Ledger, Reading
from nas.runs.loop import QUIET
from nas.runs.trials import Chosen, Size, Trial, Trials

reward = st.floats(0, 1)
number = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.dictionaries(st.text(max_size=5), number, max_size=3)
failed = st.builds(Failed, st.sampled_from(FAILURE_REASONS), st.text())
outcomes = st.one_of(st.builds(Completed, reward), st.builds(Stopped, st.integers(0, 99), reward), failed)
log_probs = st.one_of(st.lists(st.floats(-20, 0), max_size=4), st.lists(st.floats(-20, 0, width=32), max_size=4))
ended = st.builds(
    Trial,
    st.builds(Proposal, st.just(0), st.lists(st.integers(0, 300), max_size=5).map(tuple), log_probs.map(tuple), st.integers(0, 10**9)),
    st.none() | st.text(max_size=40),
    st.integers(0, 9),
    st.dictionaries(st.sampled_from(FAILURE_REASONS), st.integers(1, 9)).map(Counter),
    st.lists(st.builds(Report, st.integers(1, 99), reward, metrics), max_size=3),
    st.none(),
    st.builds(Evaluation, outcomes, metrics),
    st.none() | st.integers(0, 10**9),
    st.none() | number,
    number,
    size=st.none() | st.builds(Size, st.none() | st.floats(1, 99), metrics),
)


@given(ended)
def test_an_ended_trial_comes_back_as_it_was(trial: Trial) -> None:
    trials = Trials()
    trials.open(trial)
    assert trials[0] is trial
    trials.end(0)
    assert trials[0] == trial and trials[0] is not trial
    assert repr(trials[0]) == repr(trial), "types too, and zeros with their sign"
    assert list(trials.values()) == [trial] and list(Chosen(trials, [0, 0])) == [trial, trial]


def policy_search(budget: int) -> SearchConfig:
    controller = {"name": "ppo", "options": {"hidden": 8, "screen_start": 6}}
    runner = {"kind": "local"}
    return config_from_document({"budget": budget, "evaluator": "synthetic", "seed": 5, "controller": controller, "runner": runner})


def restored(folder: RunFolder) -> tuple[Deduplicated, str]:
    config = folder.config()
    space = folder.space(config)
    cache = Deduplicated(make_controller(config.controller.name, space, config.seed, config.controller.options), space, config.seed)
    return cache, snapshot.restore(folder, cache, folder.state())


def test_without_a_snapshot_a_resume_goes_on_from_the_state_in_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "KEPT_EVERY", 2)
    folder = engine.start(policy_search(28), tmp_path / "run", QUIET).folder
    with_snapshot, note = restored(folder)
    assert note == "snapshot of 28 outcomes, 0 outcomes replayed"
    folder.snapshot_file.unlink()
    from_ledger, note = restored(folder)
    assert note == "state in the ledger of 20 outcomes, 8 outcomes replayed"
    lines = [record for record in Reading(folder.ledger_file) if record["event"] != "kept"]
    folder.ledger_file.unlink()
    with Ledger(folder.ledger_file) as ledger:
        ledger.append(*lines)
    from_scratch, note = restored(folder)
    assert note == "no snapshot, 28 outcomes replayed"
    states = [repr(through_storage(cache.state_dict())) for cache in (from_scratch, from_ledger, with_snapshot)]
    assert states[0] == states[1] == states[2]


def test_a_state_in_the_ledger_that_does_not_fit_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "KEPT_EVERY", 1)
    folder = engine.start(policy_search(12), tmp_path / "run", QUIET).folder
    folder.snapshot_file.unlink()
    good, _ = restored(folder)
    records = list(Reading(folder.ledger_file))
    kept = max(place for place, record in enumerate(records) if record["event"] == "kept")
    other = make_controller("ppo", folder.space(folder.config()), 5, {"hidden": 8, "screen": False}).state_dict()
    for text in ("no state", snapshot_text(other)):
        folder.ledger_file.unlink()
        with Ledger(folder.ledger_file) as ledger:
            ledger.append(*records[:kept], records[kept] | {"state": text}, *records[kept + 1 :])
        cache, note = restored(folder)
        assert note.startswith("state in the ledger ignored (") and note.endswith(", 12 outcomes replayed")
        assert repr(through_storage(cache.state_dict())) == repr(through_storage(good.state_dict()))


def snapshot_text(state: dict[str, object]) -> str:
    from nas.runs.records import kept

    return str(kept(0, snapshot.to_bytes(state, {}))["state"])
