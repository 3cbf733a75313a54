"""The ladder of fidelities: who goes up and when, the same after a kill anywhere, ranked by belief; control cards beside it, hidden."""

import itertools
import json
import re
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.commands import nas as run_nas
from support.processes import launch, wait_until

import nas
from controllers.controller import Completed, Failed, Outcome, Proposal, random_for
from controllers.random_search import RandomSearch
from nas.errors import ConfigError, RunError, UserError
from nas.evaluators.evaluator import Evaluation
from nas.evaluators.settings import RungSettings
from nas.runs import session as engine
from nas.runs.config import SearchConfig, build_config, config_yaml
from nas.runs.finalists import add_rung
from nas.runs.folder import RunFolder
from nas.runs.ladder import Ladder, Task
from nas.runs.ledger import read_records
from nas.runs.loop import Watcher
from nas.runs.session import Parts, SearchResult
from nas.runs.standings import Knowledge, Standings, agreement, doubt, standings_of
from nas.runs.trials import Trial
from nas.training.recipe import load_recipe, recipe_yaml
from search_spaces.genotype import to_yaml
from search_spaces.reference import load_reference
from search_spaces.registry import load_space
from search_spaces.space import sample_actions
from search_spaces.strict_yaml import parse_document

LADDER = "ladder=[{children: 4, epochs: 5}, {share: 0.5, seeds: 2, epochs: 6}, {children: 1, seeds: 3}]"
RANDOM = "controller={name: random, options: {}}"
SETTINGS = ["evaluator=synthetic", "synthetic.noise=0.05", "runner.kind=local", RANDOM, "budget=12", LADDER]


def search(path: Path, *settings: str, watcher: Watcher | None = None, parts: Parts = engine.BUILT) -> SearchResult:
    return engine.start(build_config("laptop", [*SETTINGS, *settings]), path, watcher or Watcher(), parts)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    return search(tmp_path_factory.mktemp("whole") / "run", "cards=[nasnet-a]")


def test_the_last_order_that_a_watcher_hears_is_that_of_the_run(tmp_path: Path) -> None:
    told: list[Standings] = []
    result = search(tmp_path / "run", watcher=Watcher(on_standings=told.append))
    assert told[-1] == standings_of(result.space, result.state)


# ------------------------------------------------------------------------------------------------ settings


def test_a_rung_says_what_differs_and_null_says_all_images() -> None:
    config = build_config("cpu", ["ladder=[{children: 3, epochs: 9, train_examples: null}, {share: 0.1, training: {learning_rate: 0.3}}]"])
    first, second = config.at_rung(1), config.at_rung(2)
    assert (first.fidelity.epochs, first.fidelity.train_examples) == (9, None)
    assert (first.fidelity.validation_examples, first.fidelity.filters) == (config.fidelity.validation_examples, config.fidelity.filters)
    assert first.training == config.training and second.fidelity == config.fidelity
    assert second.training.optimizer.learning_rate == 0.3 and second.training.batch_size == config.training.batch_size
    again = build_config("cpu", {"ladder": SearchConfig.model_validate(config.model_dump(mode="json")).model_dump(mode="json")["ladder"]})
    assert again.ladder == config.ladder and "image_size" not in config_yaml(config).split("ladder:")[1].split("runner")[0]


def test_a_rung_trains_by_the_recipe_that_it_names_and_the_run_keeps_it_when_the_file_goes(tmp_path: Path) -> None:
    (file := tmp_path / "mine.yaml").write_text(recipe_yaml(load_recipe("fast", {"optimizer.learning_rate": 0.07, "batch_size": 32})))
    named = f"{{children: 3, epochs: 6, recipe: {file}, training: {{flip: false}}}}"
    config = build_config("cpu", [f"ladder=[{named}, {{children: 1, recipe: fast}}]"])
    mine, fast = config.at_rung(1), config.at_rung(2)
    changed = {"epochs": 6, "optimizer.learning_rate": 0.07, "batch_size": 32, "augmentation.flip": False}
    assert mine.recipe().model_dump(exclude={"name"}) == load_recipe("fast", changed).model_dump(exclude={"name"})
    assert fast.recipe().model_dump(exclude={"name"}) == load_recipe("fast", {"epochs": 1}).model_dump(exclude={"name"})
    file.unlink()
    assert SearchConfig.model_validate(parse_document(config_yaml(config), ConfigError, "config.yaml")) == config


@pytest.mark.parametrize(
    ("rung", "message"),
    [
        ("{children: 2, recipe: fats}", "did you mean 'fast'"),
        ("{children: 2, recipe: gone.yaml}", "gone.yaml: cannot be read"),
        ("{epochs: 3}", "either `children`"),
        ("{children: 2, share: 0.5}", "either `children`"),
        ("{children: 2, epoch: 3}", "did you mean 'epochs'"),
        ("{children: 2, training: {batch_sise: 3}}", "did you mean 'batch_size'"),
        ("{children: 0}", "greater than or equal to 1"),
    ],
)
def test_a_wrong_rung_is_refused_with_the_rule(rung: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_config("laptop", [f"ladder=[{rung}]"])


def test_settings_of_finalists_are_one_rung() -> None:
    config = build_config("laptop", ["finalists={top: 7, seeds: 2, epochs: 9, cells: null}"])
    assert config.ladder == [RungSettings(children=7, seeds=2, epochs=9, train_examples=None, validation_examples=None)]
    assert config.at_rung(1).fidelity.cells == config.fidelity.cells
    assert build_config("gpu", ["finalists=null"]).ladder == []


# ------------------------------------------------------------------------------------------------ who goes up


def trial(number: int, rung: int = 0, origin: int | None = None, replicate: int = 0, reward: float | None = 0.5) -> Trial:
    found = Trial(Proposal(number, (0,), rung=rung), origin=origin, replicate=replicate)
    found.evaluation = Evaluation(Failed("diverged") if reward is None else Completed(reward))
    return found


def trained(ladder: Ladder, task: Task, reward: float | None = 0.5) -> None:
    ladder.asked(one := trial(99, task.rung, task.origin, task.replicate, reward))
    ladder.ended(one)


def lowest(rung: int, waiting: Sequence[int]) -> int:
    return min(waiting)


def test_places_open_as_the_rung_below_fills_and_the_highest_rung_comes_first() -> None:
    ladder = Ladder([RungSettings(children=4), RungSettings(children=2, seeds=2)])
    order, spent = [], 0
    while spent < 8:
        while task := ladder.next(spent, 8, False, [], lowest):
            order.append((spent, task.rung, task.origin, task.replicate))
            trained(ladder, task)
        ladder.ended(trial(spent))
        spent += 1
    while task := ladder.next(8, 8, True, [], lowest):
        order.append((spent, task.rung, task.origin, task.replicate))
        trained(ladder, task)
    assert order == [
        (2, 1, 0, 0), (4, 1, 1, 0), (4, 2, 0, 0), (4, 2, 0, 1), (6, 1, 2, 0), (8, 1, 3, 0), (8, 2, 1, 0), (8, 2, 1, 1)
    ]  # fmt: skip


def test_a_dear_place_waits_for_those_in_training_below() -> None:
    """The budget is spent, one of four is trained at rung 1: of the two places above one may be taken only when two have been."""
    ladder = Ladder([RungSettings(children=4), RungSettings(children=2)])
    for number in range(8):
        ladder.ended(trial(number))
    tasks = []
    for _ in range(4):
        tasks.append(task := ladder.next(8, 8, True, [], lowest))
        assert task is not None
        ladder.asked(trial(90, 1, task.origin))
    assert ladder.next(8, 8, True, [], lowest) is None
    ladder.ended(trial(90, 1, 0))
    assert ladder.next(8, 8, True, [], lowest) is None
    ladder.ended(trial(91, 1, 1))
    assert ladder.next(8, 8, True, [], lowest) == Task(2, 0, 0)


def test_a_cell_whose_every_training_fails_is_out_and_another_takes_no_place_of_its() -> None:
    ladder = Ladder([RungSettings(children=2, seeds=2), RungSettings(children=2)])
    for number in range(3):
        ladder.ended(trial(number))
    for rewards in ((None, None), (None, 0.4)):
        for reward in rewards:
            task = ladder.next(3, 3, True, [], lowest)
            assert task is not None and task.rung == 1
            trained(ladder, task, reward)
    assert ladder.out(0) and not ladder.out(1) and ladder.done(1) == [1]
    assert ladder.next(3, 3, True, [], lowest) == Task(2, 0, 1), "who counts with the seed that worked"
    trained(ladder, Task(2, 0, 1))
    assert ladder.next(3, 3, True, [], lowest) is None, "nobody else is left to go up"


def test_who_is_believed_best_goes_up(whole: SearchResult) -> None:
    """Every promotion is of the best by belief among those who could: seen again from the ledger alone."""
    records = read_records(whole.folder.ledger_file)[0]
    space, state = whole.space, engine.RunState()
    seen = 0
    for record in records:
        if record["event"] == "asked" and record.get("rung") and "of" in record and record["replicate"] == 0:
            rung = record["rung"]
            believed = Knowledge(space, state).believed(rung)
            waiting = [number for number in state.ladder.done(rung - 1) if number not in state.ladder.at(rung)]
            assert record["of"] == max(waiting, key=lambda number: believed[number].mean)
            seen += 1
        state.apply(record)
    assert seen == 4 + 2 + 1


def test_who_is_nearly_the_same_as_a_cell_that_has_gone_up_goes_after_all_others() -> None:
    space = load_space("nasnet")
    first = sample_actions(space, random_for(0, "first"))

    def changed(count: int) -> tuple[int, ...]:
        return tuple(1 - min(action, 1) if i < count else action for i, action in enumerate(first))

    state = engine.RunState()
    state.ladder.rungs = [RungSettings(children=3)]
    cells = [first, changed(1), changed(5), changed(6), sample_actions(space, random_for(0, "other"))]
    for number, (actions, reward) in enumerate(zip(cells, (0.9, 0.8, 0.7, 0.6, 0.5), strict=True)):
        state.apply({"event": "asked", "trial": number, "actions": list(actions)})
        state.apply({"event": "finished", "trial": number, "outcome": "completed", "reward": reward, "time": 1.0})
    knowledge, order = Knowledge(space, state), []
    while waiting := [number for number in range(5) if number not in state.ladder.at(1)]:
        order.append(knowledge.best(1, waiting))
        trial_of = len(state.trials)
        state.apply({"event": "asked", "trial": trial_of, "actions": list(cells[order[-1]]), "rung": 1, "of": order[-1], "replicate": 0})
    assert order == [0, 3, 4, 1, 2], "up to five of fifty decisions are nearly none"
    assert knowledge.best(0, range(5)) == 0, "a second look is at whoever is best"


@pytest.mark.parametrize(
    ("above", "said"),
    [
        (range(8), "had ordered 8 of its cells with Kendall's tau 1.00 (p < 0.001)"),
        ((0, 1, 3, 2), "had ordered 4 of its cells with Kendall's tau 0.67 (p = 0.333)"),
        ((1, 0), None),
    ],
)
def test_how_well_a_rung_had_ordered_the_next_one_is_said_with_no_chance_of_nothing(above: Sequence[int], said: str | None) -> None:
    state = engine.RunState()
    state.ladder.rungs = [RungSettings(children=8)]
    for number in range(len(above)):
        state.apply({"event": "asked", "trial": number, "actions": [number]})
        state.apply({"event": "finished", "trial": number, "outcome": "completed", "reward": number / 10, "time": 1.0})
    for number, place in enumerate(above):
        climbed = len(above) + number
        state.apply({"event": "asked", "trial": climbed, "actions": [number], "rung": 1, "of": number, "replicate": 0})
        state.apply({"event": "finished", "trial": climbed, "outcome": "completed", "reward": place / 10, "time": 1.0})
    assert agreement(state, 1) == said


def test_the_budget_counts_the_searchs_own_children(whole: SearchResult) -> None:
    state = whole.state
    assert (state.spent, state.ladder.trained(), len(state.pending)) == (12, 4 + 2 * 2 + 1 * 3, 0)
    assert [len(state.ladder.at(rung)) for rung in (1, 2, 3)] == [4, 2, 1]
    assert whole.ending.value == "finished"
    seeds = [t.reward for t in state.trials.values() if t.rung == 3 and t.card is None]
    assert len(set(seeds)) == 3, "every training has a seed of its own"


# ------------------------------------------------------------------------------------------------ the same after a kill


def ranking(result: SearchResult) -> list[tuple[int, float, int]]:
    found = standings_of(result.space, result.folder.state())
    return [(one.trial, one.belief.mean, one.rung) for one in found.ranked]


def cuts(ledger: Path) -> Iterator[list[bytes]]:
    """The ledger cut off in the middle of every rung, a control card, and between what belongs together."""
    lines = ledger.read_bytes().splitlines(keepends=True)
    records = [json.loads(line) for line in lines]
    asked = [(i, record.get("rung", 0), "card" in record) for i, record in enumerate(records) if record["event"] == "asked"]
    for kind in sorted({one[1:] for one in asked}):
        places = [place for place, *one in asked if tuple(one) == kind]
        yield lines[: places[len(places) // 2]]
        yield lines[: places[-1] + 1 + kind[0]]  # between the question and its start, and then one report further


def test_a_search_killed_at_any_rung_ends_the_same(whole: SearchResult, tmp_path: Path) -> None:
    wanted, content = ranking(whole), sorted_outcomes(whole.folder)
    ledger = whole.folder.ledger_file
    for number, kept in enumerate(cuts(ledger)):
        path = tmp_path / str(number)
        path.mkdir()
        (path / "config.yaml").write_bytes(whole.folder.config_file.read_bytes())
        (path / "ledger.jsonl").write_bytes(b"".join(kept) + b'{"torn')
        result = engine.resume(RunFolder(path), None)
        assert ranking(result) == wanted and sorted_outcomes(result.folder) == content, f"cut after {len(kept)} records"
        assert (path / "best/1.yaml").is_file()


def sorted_outcomes(folder: RunFolder) -> list[tuple[Any, ...]]:
    return [(t.number, t.rung, t.origin, t.replicate, t.card, t.proposal.actions, t.reward) for t in folder.state().trials.values()]


def test_a_real_kill_9_on_the_ladder(whole: SearchResult, tmp_path: Path) -> None:
    settings = [word for value in (*SETTINGS, "cards=[nasnet-a]", "synthetic.seconds=0.03") for word in ("--set", value)]
    process = launch(["search", "--preset", "laptop", *settings, "--run", str(tmp_path / "run")], tmp_path)
    ledger = tmp_path / "run/ledger.jsonl"
    wait_until(lambda: ledger.is_file() and b'"rung":2' in ledger.read_bytes(), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    result = engine.resume(RunFolder(tmp_path / "run"), None)
    assert ranking(result) == ranking(whole)


def test_a_finished_run_with_a_ladder_has_nothing_left(whole: SearchResult) -> None:
    before = whole.folder.state()
    again = engine.resume(whole.folder, None)
    assert again.ending.value == "finished" and len(again.state.trials) == len(before.trials)


def test_a_longer_budget_keeps_who_is_up_and_makes_room_for_newcomers_on_every_rung(tmp_path: Path) -> None:
    first = search(tmp_path / "run")
    up = list(first.state.ladder.at(1))
    told: list[str] = []
    longer = engine.resume(first.folder, 20, Watcher(on_warning=told.append))
    assert longer.state.spent == 20 and list(longer.state.ladder.at(1))[:4] == up
    assert [len(longer.state.ladder.at(rung)) for rung in (1, 2, 3)] == [7, 4, 2], "4 of 12, a half of those, 1 of 12"
    assert any(number > max(up) for number in longer.state.ladder.at(1)), "newcomers"
    assert told == [
        "rung 1 grows with the budget: the best 7 of 20, 5 epochs",
        "rung 3 grows with the budget: the best 2 of 4, 3 seeds each, 3 epochs",
    ]
    assert [rung.children for rung in engine.resume(first.folder, 24).config.ladder] == [8, None, 2], "of what was said at first"
    assert engine.resume(first.folder, None).config.ladder == first.folder.config().ladder


# ------------------------------------------------------------------------------------------------ control cards, warm start


class Listening(RandomSearch):
    """Keeps what it is told."""

    learns_from_rungs = False

    def __init__(self, budget: int = 12) -> None:
        super().__init__(load_space("nasnet"), 0)
        self.heard: list[tuple[Proposal, Outcome]] = []
        self.pending: list[int] = []

    def ask(self, trial: int, pending: Sequence[Proposal], redraw: int = 0) -> Proposal:
        self.pending += [proposal.rung for proposal in pending] + [len(proposal.actions) for proposal in pending if not proposal.actions]
        return super().ask(trial, pending, redraw)

    def tell(self, proposal: Proposal, outcome: Outcome) -> Mapping[str, float] | None:
        self.heard.append((proposal, outcome))
        return super().tell(proposal, outcome)


@pytest.mark.parametrize("learns", [False, True])
def test_cards_and_rungs_are_hidden_from_a_controller_that_does_not_ask_for_them(learns: bool, tmp_path: Path) -> None:
    controller = Listening()
    controller.learns_from_rungs = learns
    given = "controller={name: given, options: {}}"
    result = search(tmp_path / "run", given, "cards=[nasnet-a, darts-v2]", parts=Parts(controller=controller))
    assert len([proposal for proposal, _ in controller.heard if not proposal.rung]) == 12
    assert len([proposal for proposal, _ in controller.heard if proposal.rung]) == (4 + 4 + 3 if learns else 0)
    assert all(proposal.actions for proposal, _ in controller.heard) and set(controller.pending) <= {0}
    result.folder.snapshot_file.unlink()
    fresh = Listening()
    fresh.learns_from_rungs = learns
    engine.resume(result.folder, 13, parts=Parts(controller=fresh))
    assert fresh.heard[: len(controller.heard)] == controller.heard, "replayed as it was told"


def test_cards_are_trained_at_every_rung_with_its_seeds_and_are_no_part_of_the_result(whole: SearchResult) -> None:
    state, found = whole.state, standings_of(whole.space, whole.state)
    assert [(card.name, card.rung, len(card.rewards)) for card in found.cards] == [
        ("nasnet-a", 0, 1), ("nasnet-a", 1, 1), ("nasnet-a", 2, 2), ("nasnet-a", 3, 3)
    ]  # fmt: skip
    assert str(found.cards_at(3)[0]).startswith("nasnet-a 0.") and str(found.cards_at(3)[0]).endswith("(3 seeds)")
    cards = {t.number for t in state.trials.values() if t.card is not None}
    assert min(cards) == 0 and not cards & {one.trial for one in found.ranked} and len(found.ranked) == 12
    assert state.cards["nasnet-a"] == load_reference("nasnet-a")


def test_unknown_cards_are_refused() -> None:
    with pytest.raises(ConfigError, match="cards must be reference genotypes"):
        build_config("laptop", ["cards=[nasnet]"])


def test_a_warm_start_is_trained_first_within_the_budget_and_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = load_space("nasnet")
    mine = space.decode(sample_actions(space, random_for(7)))
    (tmp_path / "mine.yaml").write_text(to_yaml(mine))
    words = [word for value in SETTINGS for word in ("--set", value)]
    begun = ["--warm-start", "mine.yaml", "--cards", "none", "--run", "run"]
    shown = run_nas(["search", "--preset", "laptop", *words, *begun], tmp_path, monkeypatch)
    state = RunFolder(tmp_path / "run").state()
    assert state.warm == {"mine.yaml": 0} and state.trials[0].warm == "mine.yaml" and state.spent == 12
    assert space.decode(state.trials[0].proposal.actions) == mine
    assert "warm start: the search was begun with mine.yaml (trial 0)" in shown
    (tmp_path / "mine.yaml").unlink()  # it is a trial by now
    going_on = run_nas(["search", "--budget", "14", "--resume", "run", "--dry-run"], tmp_path, monkeypatch)
    assert "warm start: the first children are mine.yaml" in going_on
    with pytest.raises(ConfigError, match="pnasnet-5 must lie in the space nasnet"):  # it has one cell
        search(tmp_path / "no", "warm_start=[pnasnet-5]")


def test_a_search_begins_with_the_best_of_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = [word for value in SETTINGS for word in ("--set", value)]
    begun = ["search", "--preset", "laptop", *words, "--cards", "none"]
    run_nas([*begun, "--run", "first"], tmp_path, monkeypatch)
    first = RunFolder(tmp_path / "first")
    best = standings_of(load_space("nasnet"), first.state()).ranked[:6]
    run_nas([*begun, "--warm-start", "first", "--run", "second", "--seed", "3"], tmp_path, monkeypatch)
    state = RunFolder(tmp_path / "second").state()
    assert list(state.warm) == [f"first:{rank}" for rank in range(1, 7)]
    taken = [state.trials[number].proposal.actions for number in state.warm.values()]
    assert taken == [first.state().trials[one.trial].proposal.actions for one in best]
    assert RunFolder(tmp_path / "second").config().warm_start == list(state.warm)  # by name: `last` is another run by now
    with pytest.raises(UserError, match="is no run, genotype file or reference genotype"):
        nas.search(preset="laptop", warm_start=["frist"], run=tmp_path / "third")


@pytest.mark.parametrize("name", ["nasnet-a", "amoebanet-a"])
def test_a_published_cell_begins_with_the_outputs_of_the_space_and_the_plan_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    published = load_reference(name)
    words = [word for value in SETTINGS for word in ("--set", value)]
    shown = run_nas(["search", "--preset", "laptop", *words, "--warm-start", name, "--run", "run"], tmp_path, monkeypatch)
    state = RunFolder(tmp_path / "run").state()
    begun = load_space("nasnet").decode(state.trials[state.warm[name]].proposal.actions)
    assert begun.normal.nodes == published.normal.nodes and begun.reduction is not None and published.reduction is not None
    assert begun.reduction.nodes == published.reduction.nodes
    assert begun.normal.outputs == published.normal.loose_ends() != published.normal.outputs
    assert f"{name}: its cells put out what those of the space do, not what is published" in " ".join(shown.split())


# ------------------------------------------------------------------------------------------------ ranking and words


def test_cells_whose_intervals_hold_the_best_are_tied(tmp_path: Path) -> None:
    far = search(tmp_path / "far", "synthetic.noise=0.0", "ladder=[{children: 6, seeds: 3}]")
    near = search(tmp_path / "near", "synthetic.noise=0.4", "ladder=[{children: 6, seeds: 3}]")
    ties = [standings_of(one.space, one.state).ties for one in (far, near)]
    assert ties[0] < ties[1] <= 6


@pytest.mark.parametrize("ladder", ["[]", "[{children: 6, seeds: 3}]"])
def test_who_is_tied_goes_by_the_intervals_that_are_shown(ladder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = search(tmp_path / "run", "synthetic.noise=0.3", f"ladder={ladder}")
    found = standings_of(one.space, one.state)
    there = [standing.belief for standing in found.ranked if standing.rung == found.top]
    hold = sum(belief.low <= there[0].mean <= belief.high for belief in there)
    assert hold > 1
    where = " of rung 1" if found.top else ""
    text = " ".join(run_nas(["show", str(one.folder.path)], tmp_path, monkeypatch).split())
    assert f"note: {hold} of {len(there)} cells{where} are tied, and cannot be told apart" in text
    assert f"{hold} of {len(there)} cells{where} are tied" in str(doubt(one.state, found))
    assert text.count("are tied") == 1


def test_cells_that_were_trained_at_the_highest_rung_come_before_those_of_whom_it_is_only_expected(tmp_path: Path) -> None:
    for seed in range(4):
        one = search(tmp_path / str(seed), "synthetic.noise=0.3", "ladder=[{children: 3}]", f"seed={seed}")
        found = standings_of(one.space, one.state)
        assert [standing.rung for standing in found.ranked] == [1] * 3 + [0] * 9
        for part in (found.ranked[:3], found.ranked[3:]):
            assert [one.belief.mean for one in part] == sorted((one.belief.mean for one in part), reverse=True)


def test_a_rung_with_a_cell_of_which_some_seeds_are_trained_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Trial] = []
    watcher = Watcher(on_end=ended.append, finish=lambda: len(ended) >= 13)
    halfway = search(tmp_path / "run", "ladder=[{children: 1, seeds: 3}]", watcher=watcher)
    assert sum(stand.ended for stand in halfway.state.ladder.at(1).values()) in (1, 2)
    text = " ".join(run_nas(["show", str(halfway.folder.path)], tmp_path, monkeypatch).split())
    assert re.search(r"rung 1: 0 of 1 cell that went up is trained, 3 seeds each \(and [12] trainings? of those that are not\)", text)


def test_what_is_shown(whole: SearchResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = run_nas(["show", str(whole.folder.path)], tmp_path, monkeypatch)
    text = " ".join(shown.split())
    assert "12 of 12 children and 11 trainings on rungs in" in text
    assert "rung 2: 2 of 2 cells that went up are trained, 2 seeds each" in text
    assert "control cards at rung 3" in text and "nasnet-a 0." in text and "(3 seeds)" in text
    best = standings_of(whole.space, whole.state).ranked[0]
    assert f"reward: {round(best.belief.mean, 6)}" in shown, "what a run hands on is what is believed, not its luckiest reward"


def test_the_plan_lists_rungs_and_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rung = "ladder=[{children: 4, seeds: 2, epochs: 2, train_examples: null}]"
    small = ["--preset", "laptop", "--set", rung, "--cards", "nasnet-a", "--budget", "6", "--epochs", "1", "--runner", "local", "--dry-run"]
    said = " ".join(run_nas(["search", *small], tmp_path, monkeypatch).split())
    assert "rung 1: the best 4 of 6, 2 seeds each, N=1, F matched, 2 epochs on all images" in said and "cards: nasnet-a" in said
    assert "of that for rungs and cards" in said


# ------------------------------------------------------------------------------------------------ nas finalists


def test_finalists_adds_a_rung_to_a_finished_run_and_goes_on(tmp_path: Path) -> None:
    folder = search(tmp_path / "run", "ladder=[]").folder
    rung = RungSettings(children=3, seeds=2)
    result = add_rung(folder, rung)
    assert result.config.ladder == [rung] and result.state.ladder.trained() == 6
    first = ranking(result)
    assert [one for _, _, one in first].count(1) == 3
    assert len(add_rung(folder, rung).state.trials) == len(result.state.trials), "the same again is done already"
    more = add_rung(folder, RungSettings(children=1, epochs=7))
    assert len(more.config.ladder) == 2 and len(more.state.ladder.at(2)) == 1


def test_finalists_of_an_unfinished_run_are_refused(tmp_path: Path) -> None:
    calls = itertools.count()
    result = search(tmp_path / "run", "ladder=[]", watcher=Watcher(stop=lambda: next(calls) > 30))
    assert result.ending.value == "interrupted"
    with pytest.raises(RunError, match="children; finish it with"):
        add_rung(result.folder, RungSettings(children=3))


# ------------------------------------------------------------------------------------------------ images of rungs


def test_rungs_have_images_of_their_own_of_one_split_each_prepared_once() -> None:
    import numpy as np

    from nas.evaluators.registry import prepare_data

    rungs = "ladder=[{children: 3, image_size: 16}, {children: 2, image_size: 16}, {children: 1, train_examples: null}]"
    config = build_config("laptop", ["fidelity.train_examples=200", "fidelity.validation_examples=100", rungs])
    data = prepare_data(config)
    assert data is not None
    assert [data.at_rung(rung).image_size for rung in range(4)] == [8, 16, 16, 8] and data.more[0] is data.more[1]
    assert [len(data.at_rung(rung).train) for rung in range(4)] == [200, 200, 200, 1037]
    seen = {bytes(image) for image in np.asarray(data.more[2].train.images)}  # type: ignore[union-attr]
    scored = [bytes(image) for image in np.asarray(data.validation.images)]  # type: ignore[union-attr]
    assert len(scored) == 100 and sum(image in seen for image in scored) == 0


def test_a_real_search_on_ray_with_two_image_sizes_has_a_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = [
        "fidelity={epochs: 1, cells: 1, filters: 2, train_examples: 100, validation_examples: 50}",
        "ladder=[{children: 2, seeds: 2, image_size: 16, epochs: 1}]",
        "cards=[nasnet-a]",
    ]
    words = [word for value in sets for word in ("--set", value)]
    command = ["search", "--preset", "laptop", "--workers", "2", "--controller", "random", "--budget", "3", "--run", "run", *words]
    said = run_nas(command, tmp_path, monkeypatch)
    folder = RunFolder(tmp_path / "run")
    state = folder.state()
    assert state.ladder.trained() == 4 and [y.images for y in state.yardsticks] == [50, 50]
    assert {t.card for t in state.trials.values()} == {None, "nasnet-a"} and all(t.reward is not None for t in state.trials.values())
    macs = {t.rung: t.evaluation.metrics["macs"] for t in state.trials.values() if t.card and t.evaluation}
    assert macs[1] > 3 * macs[0], "larger images"
    assert "of 360 test images, read once" in " ".join(said.split())
    assert (tmp_path / "run/finalists/winner/best.safetensors").is_file()


