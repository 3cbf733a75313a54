"""The search loop in this process: budget, repeats, failures, interruption at every point, and resume that proposes the same."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from controllers.controller import Completed, Failed, Proposal
from controllers.deduplicated import Deduplicated
from nas.errors import ConfigError, RunError
from nas.runs import controller_state as snapshot
from nas.runs import session as engine
from nas.runs.config import SearchConfig, config_from_document
from nas.runs.folder import RunFolder
from nas.runs.ledger import read_records
from nas.runs.loop import QUIET, Ending, Watcher
from nas.runs.standings import standings_of
from nas.runs.state import RunState
from search_spaces.registry import load_space

CONTROLLERS = ("ppo", "reinforce", "evolution", "local_search", "random")


def synthetic(budget: int, controller: str = "random", **synthetic_settings: Any) -> SearchConfig:
    return config_from_document(
        {
            "budget": budget,
            "evaluator": "synthetic",
            "seed": 3,
            "synthetic": {"noise": 0.05, **synthetic_settings},
            "fidelity": {"epochs": 2},
            "controller": {"name": controller},
            "runner": {"kind": "local"},
        }
    )


def proposals(state: RunState) -> list[tuple[tuple[int, ...], tuple[float, ...], int]]:
    return [(t.proposal.actions, t.proposal.log_probs, t.proposal.policy_version) for t in state.trials.values()]


def rewards(state: RunState) -> list[float | None]:
    return [state.trials[number].reward for number in state.told]


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_search_trains_exactly_its_budget_and_records_it(tmp_path: Path, controller: str) -> None:
    result = engine.start(synthetic(30, controller), tmp_path / "run", QUIET)
    assert result.ending is Ending.FINISHED
    assert result.state.spent == 30
    assert len({result.space.canonical(result.space.decode(t.proposal.actions)) for t in result.state.trials.values()}) == 30
    folder = RunFolder(tmp_path / "run")
    assert proposals(folder.state()) == proposals(result.state)
    assert folder.config() == result.config
    best = standings_of(folder.space(folder.config()), folder.state()).ranked[0]
    assert all(len(t.reports) == 2 and t.reports[-1].reward == t.reward for t in folder.state().ranked())
    assert f"reward: {round(best.belief.mean, 6)}" in (folder.best_folder / "1.yaml").read_text()


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_run_killed_at_any_record_resumes_to_the_sequence_of_an_uninterrupted_one(
    tmp_path: Path, controller: str, interrupt_after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = synthetic(14, controller)
    whole = engine.start(config, tmp_path / "whole", QUIET).state
    lines = len(read_records(tmp_path / "whole" / "ledger.jsonl")[0])
    for count in range(1, lines - 1, 7):  # a trial has five records: steps prime to five stop the run at each of them
        path = tmp_path / str(count)
        with monkeypatch.context():
            interrupt_after(count)
            with pytest.raises(KeyboardInterrupt):
                engine.start(config, path, QUIET)
            monkeypatch.undo()
        assert len(read_records(path / "ledger.jsonl")[0]) == count
        resumed = engine.resume(RunFolder(path), None, QUIET).state
        assert proposals(resumed) == proposals(whole)
        assert rewards(resumed) == rewards(whole)


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_snapshot_and_a_full_replay_give_the_same_controller(tmp_path: Path, controller: str) -> None:
    engine.start(synthetic(23, controller), tmp_path / "run", QUIET)
    folder = RunFolder(tmp_path / "run")
    assert folder.snapshot_file.is_file()
    longer = []
    for name, keep in (("with", True), ("without", False)):
        copy = RunFolder(tmp_path / name)
        copy.path.mkdir()
        for file in ("config.yaml", "ledger.jsonl", *(["snapshot.safetensors"] if keep else [])):
            (copy.path / file).write_bytes((folder.path / file).read_bytes())
        longer.append(proposals(engine.resume(copy, 40, QUIET).state))
    assert "snapshot of 23 outcomes, 0 outcomes replayed" in RunFolder(tmp_path / "with").log_file.read_text()
    assert "no snapshot, 23 outcomes replayed" in RunFolder(tmp_path / "without").log_file.read_text()
    assert longer[0] == longer[1]
    assert longer[0] == proposals(engine.start(synthetic(40, controller), tmp_path / "whole", QUIET).state)


def test_a_damaged_or_foreign_snapshot_is_ignored(tmp_path: Path) -> None:
    whole = engine.start(synthetic(30, "evolution"), tmp_path / "whole", QUIET).state
    for name, spoil in (("noise", lambda raw: b"\x00" * 40), ("cut", lambda raw: raw[:100]), ("empty", lambda raw: b"")):
        folder = engine.start(synthetic(20, "evolution"), tmp_path / name, QUIET).folder
        folder.snapshot_file.write_bytes(spoil(folder.snapshot_file.read_bytes()))
        assert proposals(engine.resume(folder, 30, QUIET).state) == proposals(whole)
        assert "snapshot ignored" in folder.log_file.read_text()


def test_a_run_that_goes_on_is_held_before_its_data_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = engine.start(synthetic(10), tmp_path / "run", Watcher(finish=lambda: True))
    assert stopped.ending is Ending.INTERRUPTED and not stopped.folder.running
    held: list[bool] = []
    monkeypatch.setattr(engine, "_read", lambda config, listed: held.append(stopped.folder.running))
    assert engine.resume(stopped.folder, None, QUIET).state.spent == 10
    assert held == [True] and not stopped.folder.running


def test_a_finished_run_is_extended_and_not_trained_again(tmp_path: Path) -> None:
    folder = engine.start(synthetic(10), tmp_path / "run", QUIET).folder
    before = [file.read_bytes() for file in (folder.ledger_file, folder.environment_file, folder.log_file)]
    again = engine.resume(folder, None, QUIET)
    assert again.state.spent == 10 and again.ending is Ending.FINISHED
    assert before == [file.read_bytes() for file in (folder.ledger_file, folder.environment_file, folder.log_file)], "no session"
    extended = engine.resume(folder, 16, QUIET).state
    assert extended.spent == 16 and len(extended.trials) == 16
    assert folder.config().budget == 16
    with pytest.raises(ConfigError, match="at least the 16"):
        engine.resume(folder, 5, QUIET)


def test_failed_children_are_recorded_with_their_reason_and_the_search_goes_on(tmp_path: Path) -> None:
    config = synthetic(60, failures={"exception": 0.2, "diverged": 0.2, "out_of_memory": 0.1})
    state = engine.start(config, tmp_path / "run", QUIET).state
    outcomes = [t.evaluation.outcome for t in state.trials.values() if t.evaluation]
    reasons = {o.reason for o in outcomes if isinstance(o, Failed)}
    assert reasons == {"exception", "diverged", "out_of_memory"}
    assert state.spent == 60 and sum(isinstance(o, Completed) for o in outcomes) > 15
    detail = next(o.detail for o in outcomes if isinstance(o, Failed) and o.reason == "exception")
    assert "RuntimeError: synthetic: an exception" in detail and "synthetic.py" in detail


def test_a_child_over_its_time_limit_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    config = synthetic(6, seconds=0.01, failures={"time_limit": 0.5})
    config = config.model_copy(update={"runner": config.runner.model_copy(update={"time_limit": 0.2})})
    state = engine.start(config, tmp_path / "run", QUIET).state
    failed = [t.evaluation.outcome for t in state.trials.values() if t.evaluation and isinstance(t.evaluation.outcome, Failed)]
    assert failed and {outcome.reason for outcome in failed} == {"time_limit"}
    assert state.spent == 6 and state.ranked()


def test_a_search_whose_children_all_fail_stops_and_can_be_resumed(tmp_path: Path) -> None:
    result = engine.start(synthetic(100, failures={"exception": 1.0}), tmp_path / "run", QUIET)
    assert result.ending is Ending.FAILING and result.state.spent == 20
    with pytest.raises(RunError, match=r"20 children failed one after the other, the last with: .*synthetic: an exception"):
        engine.check_failing(result)


def tiny_space(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text("schema: nas.space/1\nname: tiny\noperations: [identity, sep_conv_3x3]\nnodes: 1\ncells: [normal]\n")
    return str(path)


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_small_space_is_searched_through_and_no_cell_is_trained_twice(tmp_path: Path, controller: str) -> None:
    """One node with two inputs and two operations: 16 action sequences, 10 different cells."""
    config = synthetic(50, controller).model_copy(update={"space": tiny_space(tmp_path)})
    result = engine.start(config, tmp_path / "run", QUIET)
    assert result.ending is Ending.EXHAUSTED
    trained = [t for t in result.state.trials.values() if t.repeats is None]
    assert len(trained) == result.state.spent == 10
    keys = {result.space.canonical(result.space.decode(t.proposal.actions)) for t in trained}
    assert len(keys) == 10
    for trial in result.state.trials.values():
        if trial.repeats is not None:
            assert trial.evaluation is not None
            assert trial.evaluation.outcome == result.state.trials[trial.repeats].evaluation.outcome  # type: ignore[union-attr]


def test_a_run_in_a_declared_space_resumes_without_the_original_file(tmp_path: Path) -> None:
    path = Path(tiny_space(tmp_path))
    folder = engine.start(synthetic(3).model_copy(update={"space": str(path)}), tmp_path / "run", QUIET).folder
    path.unlink()
    assert engine.resume(folder, 6, QUIET).state.spent == 6


class _Recorder:
    """A stand-in controller that records what it is asked, to look at the loop from inside."""

    def __init__(self) -> None:
        self.pending_seen: list[int] = []

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        self.pending_seen.append(len(pending))
        return Proposal(trial, tuple((trial * 7 + i + redraw) % 2 for i in range(50)))

    def tell(self, proposal: Proposal, outcome: object) -> None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        return None


def test_restore_tells_outcomes_in_the_order_of_the_ledger(tmp_path: Path) -> None:
    class Listener(_Recorder):
        def __init__(self) -> None:
            super().__init__()
            self.told: list[int] = []

        def tell(self, proposal: Proposal, outcome: object) -> None:
            self.told.append(proposal.trial)

    state = RunState()
    for number in range(3):
        state.apply({"event": "asked", "trial": number, "actions": [0]})
    for number in (2, 0, 1):
        state.apply({"event": "finished", "trial": number, "outcome": "completed", "reward": 0.5, "time": 1.0})
    listener = Listener()
    snapshot.restore(RunFolder(tmp_path), Deduplicated(listener, load_space("nasnet"), 0, key=str), state)
    assert listener.told == [2, 0, 1]


def test_trials_are_ranked_by_reward_then_by_age() -> None:
    state = RunState()
    for number, reward in enumerate([0.5, 0.75, 0.75]):
        state.apply({"event": "asked", "trial": number, "actions": [0]})
        state.apply({"event": "finished", "trial": number, "outcome": "completed", "reward": reward, "time": 1.0})
    assert [trial.number for trial in state.ranked()] == [1, 2, 0]
