"""The live view: what it says at any width, in lines and in JSON, and that ``nas watch`` sees the same from the folder alone."""

import io
import json
import random
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.commands import nas

from controllers.controller import Completed, Failed, Proposal
from nas.cli.shell.screen import Screen
from nas.cli.views import live
from nas.cli.views.live import JsonLines, Lines, document, drawn
from nas.cli.views.run import print_ladder, print_run
from nas.cli.views.search_progress import SearchProgress
from nas.cli.views.watching import look_until_end
from nas.evaluators.evaluator import Evaluation, Report
from nas.runs import folder as run_folder
from nas.runs import records
from nas.runs import session as engine
from nas.runs.config import SearchConfig, config_from_document
from nas.runs.expected import START_SECONDS
from nas.runs.folder import RunFolder
from nas.runs.following import Follower
from nas.runs.ledger import Ledger
from nas.runs.noise import Yardstick
from nas.runs.plan import describe_rest
from nas.runs.search_view import SearchView, pace_of, view_of
from nas.runs.standings import best_known, incumbent_beside, standings_of
from nas.tools.hardware import Hardware
from search_spaces.reference import load_reference
from search_spaces.space import sample_actions
from search_spaces.vocabulary import OPERATIONS

LADDER = [{"children": 4, "epochs": 4, "seeds": 2}]
BEGAN = 1_000_000.0


def config_of(budget: int = 12, **settings: Any) -> SearchConfig:
    given = {"budget": budget, "evaluator": "synthetic", "runner": {"kind": "local"}, "controller": {"name": "random"}, "ladder": LADDER}
    return config_from_document({**given, "cards": ["nasnet-a"], "fidelity": {"epochs": 2}, **settings})


@pytest.fixture
def written(tmp_path: Path) -> RunFolder:
    """A run that somebody is in the middle of, by the records of its ledger."""
    config = config_of()
    folder = run_folder.create(tmp_path / "run", config)
    space = folder.space(config)
    draw = random.Random(0)
    cells = [sample_actions(space, draw) for _ in range(8)]
    with Ledger(folder.ledger_file) as ledger:
        measured = [Yardstick(400, 0.1)] * 2
        ledger.append(records.opened(BEGAN, 12, data="d", yardsticks=measured, ladder=config.ladder, expected=[5.0, 40.0]))
        for number in range(6):
            start = BEGAN + 10 * number
            ledger.append(records.asked(Proposal(number, cells[number])), records.started(number, 1, start, workers=2))
            ledger.append(records.reported(number, 1, Report(1, 0.3 + number / 20)))
            outcome = Failed("diverged", "the loss is nan") if number == 3 else Completed(0.5 + number / 20)
            ledger.append(records.finished(number, Evaluation(outcome, {"train_seconds": 10.0}), start + 10))
            ledger.append(records.updated(number, {"entropy_share": 0.9 - number / 20}))
        ledger.append(records.asked(Proposal(6, cells[0])), records.finished(6, Evaluation(Completed(0.5)), BEGAN + 60, repeats=0))
        ledger.append(records.dealt(7, 0, 0, "nasnet-a", load_reference("nasnet-a")), records.started(7, 1, BEGAN + 60))
        ledger.append(records.finished(7, Evaluation(Completed(0.61), {"train_seconds": 10.0}), BEGAN + 70))
        ledger.append(records.asked(Proposal(8, cells[6])), records.started(8, 1, BEGAN + 61))
        ledger.append(records.reported(8, 1, Report(1, 0.4444)))
        ledger.append(records.lost(8, 1, "gone"), records.started(8, 2, BEGAN + 66))
        ledger.append(records.raised(Proposal(9, cells[5], rung=1), 5, 0), records.started(9, 1, BEGAN + 65))
        ledger.append(records.reported(9, 1, Report(1, 0.5555)))
    return folder


def seen(folder: RunFolder) -> SearchView:
    return Follower(folder).look()[0]


def text_of(view: SearchView, width: int, height: int = 40) -> str:
    console = Console(width=width, height=height, record=True, file=io.StringIO(), force_terminal=True)
    console.print(drawn(view, BEGAN + 75, height))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 120])
def test_the_view_says_all_at_any_width(written: RunFolder, width: int) -> None:
    text = text_of(replace(seen(written), running=True), width)
    assert max(map(len, text.splitlines())) <= width
    for words in (
        "6/12",
        "0/4 × 2 seeds",
        "trial 5)",
        "nasnet-a 0.61",
        "2 of 2 busy",
        "1 repeat answered free",
        "1 diverged",
        "1 worker_lost",
        "entropy 65%",
        "trial 9 (cells of 5, rung 1)",
        "1/4",
        "0.56 ",
        "failed, diverged: the loss is nan",
    ):
        assert words in text, (words, text)


def test_a_low_terminal_loses_children_and_events_but_no_facts(written: RunFolder) -> None:
    text = text_of(replace(seen(written), running=True), 80, 18)
    assert len(text.splitlines()) <= 22
    assert "incumbent" in text and "failures" in text and "2 of 2 busy" in text


def test_time_left_comes_from_what_trainings_took_and_for_rungs_to_come_from_the_plan(written: RunFolder) -> None:
    view, state = seen(written), written.state()
    pace = pace_of(state, written.config())
    one = (7 * 10 + 4 * 5) / 11  # seven outcomes, and the plan as four more
    assert pace.seconds[0] == pytest.approx(one)
    assert pace.seconds[1] == pytest.approx(40.0 * one / 5), "the plan, as wrong as it was below"
    assert view.rungs[0].left == pytest.approx((6 * one - 4) / pace.at_once), "six children, one since 4 s; the card is trained"
    assert view.rungs[1].left == pytest.approx(((4 * 2 + 2) * 8 * one - 5) / pace.at_once), "two trainings of the card among them"
    assert view.left == pytest.approx(sum(rung.left or 0.0 for rung in view.rungs))


def test_before_anything_has_ended_the_time_left_is_that_of_the_plan_and_goes_down_with_the_clock(tmp_path: Path) -> None:
    config = config_of(evaluator="train", cards=[])
    folder = run_folder.create(tmp_path / "run", config)
    planned = 12 * 5 / 2 + 4 * 2 * 40 / 2 + 40  # the winner last, and alone
    with Ledger(folder.ledger_file) as ledger:
        ledger.append(records.opened(BEGAN, 12, ladder=config.ladder, expected=[5.0, 40.0], workers=2))
        assert live.left_now(seen(folder), BEGAN) == pytest.approx(planned)
        assert live.left_now(seen(folder), BEGAN + 24) == pytest.approx(planned - 24)
        cell = sample_actions(folder.space(config), random.Random(0))
        for number, began in enumerate((BEGAN + 1, BEGAN + 4)):
            ledger.append(records.asked(Proposal(number, cell)), records.started(number, 1, began, workers=2))
        assert live.left_now(seen(folder), BEGAN + 4) == pytest.approx(planned - 3 / 2), "one of two workers has been at work for 3 s"


def test_the_times_left_of_rungs_and_whole_count_down_together(written: RunFolder) -> None:
    view = seen(written)
    assert [child.rung for child in view.children] == [0, 1]

    def lefts(now: float) -> list[float]:
        return [live.rung_left_now(view, rung, now) or 0.0 for rung in view.rungs]

    assert lefts(view.last) == [rung.left for rung in view.rungs] and sum(lefts(view.last)) == pytest.approx(view.left)
    assert [before - after for before, after in zip(lefts(view.last), lefts(view.last + 10), strict=True)] == pytest.approx([5, 5])
    assert sum(lefts(view.last + 10)) == pytest.approx(live.left_now(view, view.last + 10))


def test_nothing_is_said_to_be_left_of_a_search_that_nobody_goes_on_with(written: RunFolder) -> None:
    with Ledger(written.ledger_file) as ledger:
        ledger.append(records.closed("interrupted", BEGAN + 75))
    view = seen(written)
    text = text_of(view, 80)
    assert [rung.left for rung in view.rungs] == [None, None] and view.left is None
    assert "left" not in text and "interrupted after" in text


def test_a_ladder_that_nobody_has_climbed_has_no_line_and_cards_stand_beside_the_incumbent(written: RunFolder) -> None:
    state, config = written.state(), written.config()
    space = written.space(config)

    def said() -> str:
        console = Console(width=200, file=io.StringIO())
        print_ladder(console, state, standings_of(space, state), space)
        return console.file.getvalue()  # type: ignore[attr-defined]

    assert "rung 1: 0 of 1 cell that went up is trained" in said() and "(the incumbent, trial 5: 0." in said()
    belief = incumbent_beside(space, state, standings_of(space, state))[0]
    assert belief is not None and belief.mean < 0.75, "one reward, the best of six, was lucky"
    assert f"(the incumbent, trial 5: {belief.mean:.2f} ± {belief.high - belief.mean:.2f}): nasnet-a 0.6100, level" in said()
    for reward, side in ((belief.low - 0.01, "behind"), (belief.mean, "level"), (belief.high + 0.01, "ahead")):
        state.ladder.cards[0]["nasnet-a"].rewards[:] = [reward]
        assert f"nasnet-a {reward:.4f}, {side}" in said()
        assert ("note: nasnet-a is ahead of the incumbent" in said()) == (side == "ahead")
    state.ladder.climbers.pop(1)
    assert "rung 1" not in said()
    state.ladder.cards[1] = state.ladder.cards[0]
    assert "control cards at rung 1 (the incumbent, trial 5, has not been trained there yet): nasnet-a" in said()


def test_a_search_that_goes_on_says_what_it_will_do_what_is_left_and_how_long_by_its_own_trainings(written: RunFolder) -> None:
    view = seen(written)
    lines, seconds = describe_rest(written.config(), written.state(), Hardware(2, 8.0, ()))
    assert lines[0].startswith("search: 12 children from space nasnet")
    assert any(line.startswith("rung 1: the best 4 of 12") for line in lines)
    assert lines[-3].startswith("done:   6 of 12 children, rung 1: 0 of 4 cells")
    assert lines[-2] == "left:   6 children, rung 1: 4 cells"
    state = written.state()
    state.spent = 12
    fewer = written.config().model_copy(update={"ladder": [written.config().ladder[0].model_copy(update={"children": 1})]})
    assert describe_rest(fewer, state, Hardware(2, 8.0, ()))[0][-2] == "left:   rung 1: 1 cell"
    assert view.left is not None and seconds == pytest.approx(view.left + START_SECONDS["local"]) and "left, by what" in lines[-1]


def test_resume_prints_its_plan_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_shown(Lines(Console(file=io.StringIO())), tmp_path / "run")
    dry = nas(["search", "--budget", "14", "--resume", "run", "--dry-run"], tmp_path, monkeypatch)
    assert "left:   2 children" in dry and "14/14" not in dry
    text = nas(["search", "--budget", "14", "--resume", "run"], tmp_path, monkeypatch)
    plan, _, after = text.partition("14/14 children")
    said = ("search: 14 children", "done:   12 of 14 children", "left:   2 children", "time:   about")
    assert all(words in plan for words in said) and after
    ledger = (tmp_path / "run" / "ledger.jsonl").read_bytes()
    for words in (["resume", "run"], ["finalists", "run", "--top", "4", "--seeds", "2", "--epochs", "4"]):
        again = nas(words, tmp_path, monkeypatch)
        assert again.startswith("run: nothing is left to train: it was finished before\n") and "time:" not in again
    assert "nothing is left to train" in nas(["resume", "run", "--dry-run"], tmp_path, monkeypatch)
    assert (tmp_path / "run" / "ledger.jsonl").read_bytes() == ledger, "no session was begun"


def test_without_a_plan_the_rungs_to_come_take_as_much_longer_as_there_is_more_to_compute(written: RunFolder) -> None:
    state = written.state()
    state.expected = ()
    assert pace_of(state, written.config()).seconds == pytest.approx({0: 10.0, 1: 10.0 * 4 / 2})


def test_the_first_slow_outcome_of_a_session_does_not_outweigh_the_sessions_before(written: RunFolder) -> None:
    with Ledger(written.ledger_file) as ledger:
        ledger.append(records.opened(BEGAN + 500, 12, data="d", expected=[5.0, 40.0]), records.asked(Proposal(10, (0,) * 50)))
        slow = Evaluation(Completed(0.5), {"train_seconds": 30.0})
        ledger.append(records.started(10, 1, BEGAN + 510), records.finished(10, slow, BEGAN + 540))
    assert pace_of(written.state(), written.config()).seconds[0] == pytest.approx((30 + 4 * 10) / 5)


def test_the_attempt_that_goes_on_is_shown_and_its_reports_alone(written: RunFolder) -> None:
    child = next(child for child in seen(written).children if child.trial == 8)
    assert (child.attempt, child.epoch, child.reward, child.began) == (2, 0, None, BEGAN + 66)


def test_json_is_stable_and_holds_what_the_view_has(written: RunFolder) -> None:
    found = json.loads(json.dumps(document(seen(written)), allow_nan=False))
    assert set(found) == {
        *("run", "time", "last", "elapsed", "budget", "spent", "rungs", "left", "incumbent", "cards", "children", "workers", "repeats"),
        *("redrawn", "failures", "setbacks", "updates", "entropy", "notes", "ending", "running"),
    }
    assert set(found["rungs"][0]) == {"rung", "done", "places", "seeds", "left"}
    assert set(found["children"][0]) == {"trial", "rung", "origin", "card", "attempt", "epoch", "epochs", "reward", "began"}
    assert set(found["incumbent"]) == {"trial", "rung", "mean", "low", "high", "ties", "trained"}
    assert found["cards"] == [{"name": "nasnet-a", "rung": 0, "rewards": [0.61]}]


def run_shown(shown: live.Shown, folder: Path, **settings: Any) -> engine.SearchResult:
    return engine.start(config_of(**settings), folder, SearchProgress(shown).watcher())


def test_a_child_that_has_begun_is_shown_before_anything_is_heard_of_it(tmp_path: Path) -> None:
    class Seen(live.Silence):
        every, busy = 0.0, ""

        def show(self, view: SearchView, ended: object) -> None:
            self.busy = live._workers(view)

    shown, config = Seen(Console(), Console()), config_of(cards=[])
    watcher, folder = SearchProgress(shown).watcher(), run_folder.create(tmp_path / "run", config)
    with Ledger(folder.ledger_file) as ledger:
        ledger.append(records.opened(BEGAN, 12, ladder=config.ladder, workers=2))
        watcher.on_begin(folder.path, config)
        with watcher.during(ledger.state, 12):
            assert shown.busy == "0 of 2 busy"
            cell = sample_actions(folder.space(config), random.Random(0))
            ledger.append(records.asked(Proposal(0, cell)), records.started(0, 1, BEGAN + 1))
            assert not watcher.stop() and shown.busy == "1 of 2 busy"


def test_lines_name_every_training_once_and_end_with_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "MOST_LINES", 1000)  # a formula's children end by the hundred a second
    output = io.StringIO()
    result = run_shown(Lines(Screen(file=output, width=80)), tmp_path / "run")
    lines = output.getvalue().splitlines()
    trained = [trial for trial in result.state.trials.values() if trial.repeats is None]
    for trial in trained:
        name = trial.card or f"trial {trial.number}"
        assert any(f"  {name}{mark}" in line for line in lines for mark in (":", " (")), name
    assert "12/12 children" in lines[-1] and "rung 1 4/4" in lines[-1]


def test_json_lines_of_a_search_are_those_of_its_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = io.StringIO()
    result = run_shown(JsonLines(Console(file=output)), tmp_path / "run")
    found = [json.loads(line) for line in output.getvalue().splitlines()]
    assert all(line["schema"] == live.SCHEMA for line in found)
    assert [line["trial"] for line in found if line["event"] == "trial"] == list(result.state.told)
    assert any(line["event"] == "incumbent" for line in found)
    assert found[-1]["event"] == "progress" and found[-1]["ending"] == "finished" and found[-1]["left"] == 0


def test_a_follower_reads_on_while_the_ledger_grows_and_sees_what_a_whole_reading_sees(tmp_path: Path, written: RunFolder) -> None:
    content = written.ledger_file.read_bytes()
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "config.yaml").write_bytes(written.config_file.read_bytes())
    growing = copy / "ledger.jsonl"
    growing.write_bytes(b"")
    follower, ended = Follower(RunFolder(copy)), []
    for end in range(0, len(content), 301):  # cuts fall anywhere in a line
        growing.write_bytes(content[:end])
        ended += [trial.trial for trial in follower.look()[1]]
    growing.write_bytes(content)
    last = follower.look()[1]
    assert [*ended, *(trial.trial for trial in last)] == written.state().told
    config, state = written.config(), written.state()
    assert view_of("x", config, follower.state, now=1.0) == view_of("x", config, state, now=1.0)


def test_watching_ends_with_the_search_and_says_where_nobody_works(written: RunFolder) -> None:
    output, pauses = io.StringIO(), []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        with Ledger(written.ledger_file) as ledger:
            ledger.append(records.closed("interrupted", BEGAN + 80))

    look_until_end(Follower(written), Lines(Screen(file=output, width=200)), sleep)
    said = output.getvalue()
    assert len(pauses) == 1 and "no process on this machine is at work" in said and "`nas resume" in said


def test_a_look_at_a_killed_run_says_that_nobody_works_and_how_it_is_gone_on_with(
    written: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = " ".join(nas(["watch", str(written.path), "--once"], tmp_path, monkeypatch).split())
    assert "no process on this machine is at work" in said and "`nas resume" in said
    view = replace(seen(written), running=False)
    text = Console(width=100, file=io.StringIO(), record=True)
    text.print(drawn(view, view.last + 100))
    assert "none at work here" in (frame := text.export_text()) and "busy" not in frame


def test_the_list_believes_of_a_killed_run_what_its_table_does(written: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    state, config = written.state(), written.config()
    believed = best_known(written.space(config), state).head(1)[0][1]
    shown = nas(["list", "runs", str(written.path)], written.path.parent, monkeypatch)
    assert f"{believed:.2f}" in shown and "killed" in shown


def test_a_run_that_a_process_has_taken_up_again_is_watched_on_though_its_ledger_still_says_how_it_ended(written: RunFolder) -> None:
    with Ledger(written.ledger_file) as ledger:
        ledger.append(records.closed("interrupted", BEGAN + 80))
    output, resumed = io.StringIO(), Ledger(written.ledger_file)  # as ``nas resume`` has it, before a session is recorded

    def sleep(seconds: float) -> None:
        assert "a process is at work in it" in text_of(seen(written), 80)
        resumed.append(records.opened(BEGAN + 90, 12), records.closed("finished", BEGAN + 95))
        resumed.close()

    look_until_end(Follower(written), Lines(Screen(file=output, width=200)), sleep)
    assert output.getvalue().splitlines()[-1].endswith("finished after 1 min 25 s")


def test_watch_shows_a_run_that_has_ended_once_with_its_ending_and_its_own_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_shown(Lines(Screen(file=io.StringIO())), tmp_path / "runs" / "one")
    later = time.time() + 5000
    with monkeypatch.context() as clock:
        clock.setattr("nas.runs.search_view.time.time", lambda: later)
        text = nas(["watch"], tmp_path, clock)
    assert "12/12 children" in text and "no process" not in text
    assert "is the incumbent" in text and live.clock(later) not in text
    assert "finished after" in text.splitlines()[-1]
    (line,) = nas(["watch", "one", "--json"], tmp_path, monkeypatch).splitlines()[-1:]
    assert json.loads(line)["ending"] == "finished"


def test_quiet_and_json_print_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["search", "--preset", "laptop", "--evaluator", "synthetic", "--runner", "local", "--budget", "3", "--seed", "1"]
    assert nas([*words, "--run", "runs/q", "--quiet"], tmp_path, monkeypatch).strip() == "runs/q"
    found = [json.loads(line) for line in nas([*words, "--run", "runs/j", "--json"], tmp_path, monkeypatch).splitlines()]
    assert found[0]["event"] == "plan" and found[-1] == {**found[-1], "event": "end", "ending": "finished", "run": "runs/j", "winner": None}


def test_the_ranking_keeps_the_names_of_operations_whole_at_80_columns(tmp_path: Path) -> None:
    result = run_shown(Lines(Screen(file=io.StringIO())), tmp_path / "run", match="params=30k")
    console = Screen(width=80, file=io.StringIO())
    print_run(console, result.folder, result.config, result.state, result.space)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [line for line in text.splitlines() if line.startswith("│")]
    assert len(rows) == 10 and "trained at" in text and "MACs" in text
    for row in rows:
        assert row.split("│")[-2].split()[1].rstrip(",") in OPERATIONS, row


def test_what_a_terminal_writes_at_the_cursor_cannot_break_the_view_and_no_empty_line_is_left(written: RunFolder) -> None:
    """``^C`` beside the right lower corner would go on in the next line."""
    console = Screen(width=80, height=40, file=io.StringIO(), force_terminal=True, color_system=None)

    def lines() -> list[str]:
        return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]|\r", "", console.file.getvalue()).split("\n")  # type: ignore[attr-defined]

    with live.Screen(console) as screen:
        screen.show(seen(written), ())
        border, below = lines()[-2:]
        assert border.startswith("╰") and len(border) == 80 and below == ""
    border, below = lines()[-2:]
    assert border.startswith("╰") and below == ""
