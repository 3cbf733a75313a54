"""Second looks: where there is no ladder, whoever is believed best is trained again before it is handed on; the same after a kill."""

import json
import shutil
from collections.abc import Generator
from pathlib import Path

import pytest
from support.commands import nas as run_nas

from controllers.controller import Completed, Failed, Proposal, random_for
from controllers.random_search import RandomSearch
from nas.evaluators.evaluator import FRESH, Attempt, Evaluation, Report
from nas.evaluators.objective import noisy_reward
from nas.evaluators.settings import RungSettings
from nas.runs import session as engine
from nas.runs.config import SearchConfig, build_config
from nas.runs.finalists import with_rung
from nas.runs.folder import RunFolder
from nas.runs.ladder import Best, Ladder, Task
from nas.runs.loop import QUIET
from nas.runs.session import Parts, SearchResult
from nas.runs.standings import standings_of
from nas.runs.trials import Trial
from search_spaces.genotype import Genotype, read_genotype
from search_spaces.registry import load_space

BUDGET = 100
FALSE = 37
"""The child whose first training claims too much."""
BOLD = 0.75
SETTINGS = ["evaluator=given", "controller={name: given, options: {}}", "runner.kind=local", "data.name=digits", f"budget={BUDGET}"]


class Cheated:
    """A noisy objective, but one training, that of a seed, claims ``claim``. Keeps the seeds that it was asked for."""

    def __init__(self, claim: float) -> None:
        self.claim = claim
        self.seeds: list[int] = []

    def evaluate(
        self, genotype: Genotype, seed: int, time_limit: float | None, attempt: Attempt = FRESH
    ) -> Generator[Report, None, Evaluation]:
        """One epoch."""
        self.seeds.append(seed)
        reward = self.claim if seed == random_for(0, "child", FALSE).getrandbits(31) else noisy_reward(genotype, 0, seed, 0.01)
        yield Report(1, reward)
        return Evaluation(Completed(reward))


def search(path: Path, claim: float, *settings: str, controller: RandomSearch | None = None) -> SearchResult:
    parts = Parts(evaluator=Cheated(claim), controller=controller or RandomSearch(load_space("nasnet"), 0))
    return engine.start(build_config("laptop", [*SETTINGS, *settings]), path, QUIET, parts)


def looked_at(result: SearchResult) -> list[int | None]:
    return [trial.origin for trial in result.folder.state().trials.values() if trial.second_look]


@pytest.fixture(scope="module")
def bold(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A false reward that is only just credible."""
    return search(tmp_path_factory.mktemp("bold") / "run", BOLD)


def test_a_credible_false_reward_is_looked_at_again_and_is_not_the_incumbent(bold: SearchResult) -> None:
    state, found = bold.folder.state(), standings_of(bold.space, bold.state)
    looks = [trial for trial in state.trials.values() if trial.second_look]
    assert looks[0].origin == FALSE and looks[0].reward is not None and looks[0].reward < BOLD - 0.1
    assert looks[0].proposal.actions == state.trials[FALSE].proposal.actions and looks[0].rung == 0
    assert found.ranked[0].trial == looks[-1].origin != FALSE and len(found.ranked[0].rewards) == 2, "looked at twice"
    assert found.top == 0 and "looked at twice" in found.how(1)
    best = read_genotype(bold.folder.path / "best/1.yaml")
    assert best.provenance is not None and best.provenance.trial == found.ranked[0].trial


@pytest.mark.parametrize("claim", [0.8, 1.0])
def test_an_incredible_reward_is_not_the_incumbent(claim: float, tmp_path: Path) -> None:
    result = search(tmp_path / "run", claim)
    first = standings_of(result.space, result.state).ranked[0]
    assert first.trial != FALSE and first.trial in looked_at(result) and len(first.rewards) == 2


def test_looks_are_outside_the_budget_and_no_more_than_the_plan_says(bold: SearchResult) -> None:
    state = bold.state
    assert state.spent == BUDGET and 1 <= len(looked_at(bold)) <= bold.config.second_looks == 2
    assert len(state.trials) == BUDGET + len(looked_at(bold)) and bold.ending.value == "finished"
    evaluator = Cheated(BOLD)
    engine.resume(bold.folder, None, parts=Parts(evaluator=evaluator, controller=RandomSearch(load_space("nasnet"), 0)))
    assert not evaluator.seeds, "nothing is left"


def test_a_search_killed_before_or_in_a_look_ends_the_same(bold: SearchResult, tmp_path: Path) -> None:
    lines = bold.folder.ledger_file.read_bytes().splitlines(keepends=True)
    asked = [place for place, line in enumerate(lines) if b'"of"' in line and json.loads(line)["event"] == "asked"]
    outcomes = [(trial.number, trial.origin, trial.reward) for trial in bold.folder.state().trials.values()]
    for cut in (asked[0], asked[0] + 1, asked[0] + 2, asked[-1] + 1):
        path = tmp_path / str(cut)
        path.mkdir()
        (path / "config.yaml").write_bytes(bold.folder.config_file.read_bytes())
        (path / "ledger.jsonl").write_bytes(b"".join(lines[:cut]) + b'{"torn')
        parts = Parts(evaluator=Cheated(BOLD), controller=RandomSearch(load_space("nasnet"), 0))
        result = engine.resume(RunFolder(path), None, parts=parts)
        assert [(trial.number, trial.origin, trial.reward) for trial in result.folder.state().trials.values()] == outcomes
        assert standings_of(result.space, result.state) == standings_of(bold.space, bold.state)


def test_controllers_are_not_told(tmp_path: Path) -> None:
    controller = RandomSearch(load_space("nasnet"), 0)
    heard: list[Proposal] = []
    controller.tell = lambda proposal, outcome: heard.append(proposal)  # type: ignore[method-assign,assignment,return-value]
    result = search(tmp_path / "run", 0.0, controller=controller)
    assert len(heard) == BUDGET and looked_at(result)


def test_who_says_a_ladder_or_none_has_no_looks() -> None:
    assert build_config("laptop", ["budget=400", "ladder=[]"]).second_looks == 0
    assert build_config("laptop").second_looks == 0, "it has a ladder of its own"
    assert build_config("laptop", ["evaluator=synthetic", "budget=400"]).second_looks == 8
    assert build_config("laptop", ["evaluator=synthetic", "budget=49"]).second_looks == 0
    assert build_config("laptop", ["looks=0.5", "budget=4"]).second_looks == 2
    assert SearchConfig(budget=400).second_looks == 0, "runs of earlier versions"


def best_of(*order: int) -> Best:
    return lambda rung, among: next(number for number in order if number in among)


def test_one_look_after_the_other_until_the_best_has_two() -> None:
    ladder = Ladder(finished=[0, 1, 2, 3])
    assert ladder.next(4, 4, False, [], best_of(2), looks=3) is None, "children are in training"
    assert ladder.next(4, 4, True, [], best_of(2)) is None
    assert ladder.next(4, 4, True, [], best_of(2), looks=3) == Task(0, 0, 2)
    ladder.asked(look := Trial(Proposal(9, (0,)), origin=2))
    assert ladder.next(4, 4, True, [], best_of(2), looks=3) is None, "whom the next is at depends on this one"
    look.evaluation = Evaluation(Failed("diverged"))
    ladder.ended(look)
    assert ladder.next(4, 4, True, [], best_of(2, 1), looks=3) == Task(0, 0, 1), "what cannot be trained again is out"
    assert ladder.next(4, 4, True, [], best_of(2, 1), looks=1) is None
    ladder.asked(look := Trial(Proposal(10, (0,)), origin=1))
    look.evaluation = Evaluation(Completed(0.5))
    ladder.ended(look)
    assert ladder.next(4, 4, True, [], best_of(1), looks=3) is None, "the best has been looked at twice"


def test_finalists_choose_from_all_cells(bold: SearchResult, tmp_path: Path) -> None:
    path = tmp_path / "run"
    shutil.copytree(bold.folder.path, path)
    rung = RungSettings(children=5, epochs=2)
    folder = RunFolder(path)
    folder.write_config(with_rung(folder.config(), folder.state(), rung))
    parts = Parts(evaluator=Cheated(BOLD), controller=RandomSearch(load_space("nasnet"), 0))
    assert len(engine.resume(folder, None, parts=parts).state.ladder.at(1)) == 5


def test_the_plan_and_the_summary_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["search", "--preset", "laptop", "--set", "evaluator=synthetic", "--set", "synthetic.noise=0.02", "--controller", "random"]
    shown = run_nas([*words, "--runner", "local", "--budget", "50", "--run", "run"], tmp_path, monkeypatch)
    assert "at most 1, outside the budget" in shown.replace("\n", " ")
    assert "1 of the best looked at twice" in run_nas(["show", "run"], tmp_path, monkeypatch)
