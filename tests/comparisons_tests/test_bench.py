"""Comparisons on a table: accounting, simulated concurrency, and the known lines on NAS-Bench-201 where its table is at hand."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from support.paths import SHARED_DATA

import controllers.evolution
from controllers.controller import Completed
from controllers.options import ControllerError
from nas.comparisons.controllers import Arm, Terms, compare, draw_curves, on_synthetic, on_table, run_arm, summary, summary_rows
from nas.errors import DataError
from nas.evaluators.table import Columns, Table, read_table
from search_spaces.nasbench201 import NASBENCH201
from search_spaces.nasnet import NASNET
from search_spaces.space import CellSpace

SPACE = CellSpace("small", operations=("identity", "sep_conv_3x3", "zero"), nodes=2, combine=("add",), cells=("normal",))
DATA = SHARED_DATA


def full_table(trainings: int = 1) -> Table:
    """All 1,944 action sequences; the reward counts first choices and is unique to a cell up to equivalence."""
    actions = tuple(product(*(range(len(decision.choices)) for decision in SPACE.decisions)))
    cells = [SPACE.canonical(SPACE.decode(a)) for a in actions]
    merit = {cell: max(sum(x == 0 for x in a) for a, c in zip(actions, cells, strict=True) if c == cell) for cell in set(cells)}
    order = {cell: i for i, cell in enumerate(sorted(merit))}
    rewards = np.array([merit[cell] / 10 + order[cell] * 1e-6 for cell in cells])
    noise = np.random.default_rng(0).normal(0, 0.02, (len(actions), trainings)) if trainings > 1 else 0.0
    seconds = np.linspace(10, 20, len(actions))
    return Table(SPACE, actions, np.clip(rewards[:, None] + noise, 0, 1), rewards - 0.05, seconds, fidelities={2: rewards[::-1].copy()})


TABLE = full_table()
TASK = on_table(TABLE)


def test_a_run_follows_the_best_by_reward():
    run = run_arm(Arm("r", "random"), TASK, Terms(60), seed=1)
    assert run.report.shape == (60,)
    assert (np.diff(run.report) >= 0).all() and run.report[-1] > run.report[0]
    assert run.trained == run.distinct == 60 and 300 <= run.simulated_seconds <= 1800


def test_same_seed_same_run_and_seeds_differ():
    one, again, other = (run_arm(Arm("e", "evolution"), TASK, Terms(80, in_flight=4), seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one.report, again.report)
    assert not np.array_equal(one.report, other.report)


def test_repeats_are_paid_only_where_asked():
    options = {"population": 4, "sample": 4}
    kinds = ("canonical", "actions", "paid")
    terms = Terms(150, promote=1)  # a promotion keeps the run from ending where the best is found
    distinct = {kind: run_arm(Arm("e", "evolution", options, kind), TASK, terms, 0).distinct for kind in kinds}
    assert distinct["canonical"] == 150
    assert distinct["paid"] < distinct["actions"] < 150


def test_stopping_at_the_optimum_changes_no_figure():
    """A run that has found the best reward keeps its report, and stops paying."""
    run = run_arm(Arm("l", "local_search"), TASK, Terms(1500), 0)
    assert run.report[-1] == pytest.approx(TABLE.report[TABLE.mean_reward().argmax()])
    assert run.trained < 1200


def test_in_flight_children_are_pending_and_end_by_their_durations(monkeypatch):
    seen = []

    class Spy:
        def ask(self, trial, pending, redraw=0):
            seen.append(len(pending))
            return proposal_of(trial)

        def tell(self, proposal, outcome):
            assert isinstance(outcome, Completed)
            seen.append(("told", proposal.trial))

    from controllers.controller import Proposal

    def proposal_of(trial):
        return Proposal(trial, TABLE.actions[trial * 7])

    monkeypatch.setattr("nas.comparisons.controllers.make_controller", lambda *args: Spy())
    run_arm(Arm("s", "random", repeats="paid"), TASK, Terms(20, in_flight=8, promote=1), 0)
    asked = [entry for entry in seen if isinstance(entry, int)]
    told = [entry[1] for entry in seen if not isinstance(entry, int)]
    assert asked[:8] == list(range(8)) and set(asked[8:]) == {7}
    assert sorted(told) == list(range(20)) and told != sorted(told)


def test_noise_is_fixed_within_a_run_and_reports_are_not_noisy():
    table = full_table(trainings=3)
    runs = [run_arm(Arm("r", "random"), on_table(table), Terms(100, noisy=True), seed) for seed in range(5)]
    assert all(set(run.report) <= set(table.report) for run in runs)
    assert any((np.diff(run.report) < 0).any() for run in runs)


def test_promotion_takes_the_best_of_the_finalists_by_full_reward():
    """The proxy ranks in reverse; promoting everything recovers the best cell trained."""
    for promote, exact in ((1, False), (100, True)):
        run = run_arm(Arm("r", "random", repeats="paid"), TASK, Terms(100, fidelity=2, promote=promote), 0)
        plain = run_arm(Arm("r", "random", repeats="paid"), TASK, Terms(100), 0)
        assert (run.report[-1] == plain.report[-1]) == exact


def test_simulated_time_scales_with_the_fidelity_and_counts_promoted_children():
    arm = Arm("r", "random", repeats="paid")
    full, proxy, promoted = (
        run_arm(arm, on_table(TABLE, epochs=8), terms, 0) for terms in (Terms(50), Terms(50, fidelity=2), Terms(50, fidelity=2, promote=4))
    )
    assert full.trained == proxy.trained == 50
    assert proxy.simulated_seconds == pytest.approx(full.simulated_seconds / 4)
    assert 4 * TABLE.seconds.min() <= promoted.simulated_seconds - proxy.simulated_seconds <= 4 * TABLE.seconds.max()
    unknown = run_arm(arm, on_table(replace(TABLE, seconds=None)), Terms(50), 0)
    assert unknown.simulated_seconds is None


def test_a_table_of_canonical_cells_is_completed_and_one_with_gaps_is_refused():
    first = {SPACE.canonical(SPACE.decode(a)): row for row, a in reversed(list(enumerate(TABLE.actions)))}
    rows = sorted(first.values())
    assert len(rows) < len(TABLE)

    def part(rows: list[int]) -> Table:
        return Table(SPACE, tuple(TABLE.actions[row] for row in rows), TABLE.rewards[rows], TABLE.report[rows])

    whole, completed = (run_arm(Arm("l", "local_search"), on_table(table), Terms(60), 5) for table in (TABLE, part(rows)))
    np.testing.assert_array_equal(whole.report, completed.report)
    with pytest.raises(DataError, match="lists its whole space, but"):
        on_table(part(rows[:-1]))


def test_processes_give_the_same_figures_and_reports_name_all_arms(tmp_path):
    arms = [Arm("random", "random"), Arm("descent", "local_search")]
    alone = compare(arms, TASK, Terms(40), range(6))
    together = compare(arms, TASK, Terms(40), range(6), processes=2)
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one.reports(), other.reports())
    result = alone[1]
    assert result.half_width()[-1] == pytest.approx(1.96 * np.std([run.report[-1] for run in result.runs], ddof=1) / 6**0.5)
    assert result.regret()[-1] == pytest.approx(TABLE.report.max() - np.mean([run.report[-1] for run in result.runs]))
    text = summary(alone, [10, 40, 500])
    assert "| descent | 6 |" in text and "| 40 |" in text and "500" not in text.splitlines()[0]
    draw_curves(alone, tmp_path / "curves.png", "six runs")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_synthetic_task_reports_without_noise():
    """The best by noisy reward is not always the best reported, and without noise it is."""
    runs = {noisy: run_arm(Arm("r", "random"), on_synthetic(NASNET, 0.1), Terms(60, noisy=noisy), 7) for noisy in (True, False)}
    assert (np.diff(runs[False].report) >= 0).all() and (np.diff(runs[True].report) < 0).any()
    assert 0.5 < runs[False].report[-1] < 1
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(runs[False].report, run_arm(Arm("r", "random"), on_synthetic(NASNET, 0.1), Terms(60), 8).report)


def test_unknown_arms_are_refused_before_anything_runs():
    with pytest.raises(ControllerError, match="unknown controller 'magic'"):
        compare([Arm("random", "random"), Arm("m", "magic")], TASK, Terms(10**9), range(10**9))


def node_first(decisions, actions, changes, rng):
    """The mutation of the known line for evolution: first a node, then one of its edges."""
    node = rng.randrange(3)
    place = (0, 1, 3)[node] + rng.randrange(node + 1)
    other = rng.randrange(4)
    return (*actions[:place], other + (other >= actions[place]), *actions[place + 1 :])


@pytest.mark.slow
@pytest.mark.skipif(not (DATA / "nasbench201.csv.gz").exists(), reason="the benchmark's table is not beside the project")
@pytest.mark.parametrize(
    ("column", "random", "evolution", "local"),
    [("cifar10", 93.79, 94.02, (94.12, 94.29, 94.37)), ("cifar100", 71.40, 72.25, (72.57, 73.26, 73.50))],
)
def test_known_lines_on_nasbench201(monkeypatch, column, random, evolution, local):
    """Means of 500 runs against lines known from elsewhere (whose cells repeat only if their actions do), within 0.1."""
    table = read_table([DATA / "nasbench201.csv.gz"], NASBENCH201, Columns("arch", (f"{column}_valid",), f"{column}_test"))
    monkeypatch.setattr(controllers.evolution, "mutate", node_first)
    arms = [
        Arm("random", "random", repeats="paid"),
        Arm("evolution", "evolution", {"population": 10, "sample": 3}, repeats="paid"),
        Arm("local", "local_search", repeats="actions"),
    ]
    means = [100 * result.mean() for result in compare(arms, on_table(table), Terms(200), range(20_000, 20_500))]
    assert means[0][99] == pytest.approx(random, abs=0.1)
    assert means[1][99] == pytest.approx(evolution, abs=0.1)
    assert [means[2][mark - 1] for mark in (50, 100, 200)] == pytest.approx(local, abs=0.1)


class TestMishaps:
    def test_a_share_of_the_trainings_fails_and_is_paid_for(self):
        run = run_arm(Arm("r", "random"), TASK, Terms(200, failures=0.2, promote=1), seed=0)
        assert len(run.told) == 200 and 20 < run.told.count(None) < 60
        assert max(reward for reward in run.told if reward is not None) < 0.9

    def test_every_controller_lives_with_failures(self):
        for name in ("ppo", "evolution", "local_search"):
            assert run_arm(Arm(name, name), TASK, Terms(16, failures=0.3), seed=1).report[-1] > 0

    def test_a_falsely_high_reward_wins_by_reward_and_not_by_posterior(self):
        terms = Terms(80, false_highs=0.02, promote=0)
        by_reward, by_posterior = ([run_arm(arm, TASK, terms, seed) for seed in range(4)] for arm in CROWNED)
        assert sum(1.0 in run.told for run in by_reward) >= 2
        assert np.mean([run.reward[-1] for run in by_posterior]) > np.mean([run.reward[-1] for run in by_reward]) + 0.05

    def test_a_second_look_is_paid_and_the_controller_is_not_told_of_it(self, monkeypatch):
        told = []
        monkeypatch.setattr("controllers.random_search.RandomSearch.tell", lambda self, proposal, outcome: told.append(proposal.actions))
        run = run_arm(CROWNED[1], TASK, Terms(60), seed=0)
        assert run.trained == 60 and 0 < 60 - len(told) < 20 and len(set(told)) == len(told)

    def test_without_mishaps_the_default_arm_is_as_it_was(self):
        run = run_arm(Arm("r", "random"), TASK, Terms(60), seed=1)
        assert run.reward[-1] == max(run.told)


CROWNED = (Arm("reward", "random"), Arm("posterior", "random", crown="posterior"))


def test_regret_by_report_and_by_reward_at_every_checkpoint():
    (result,) = compare([Arm("r", "random")], TASK, Terms(40), range(3))
    heads, (row,) = summary_rows([result], (10, 40))
    assert [head for head in heads if head.startswith("regret")] == ["regret at 10", "regret at 40"]
    reward = 100 * (TABLE.mean_reward().max() - np.mean([run.reward[39] for run in result.runs]))
    assert row[heads.index("regret at 40")].split(" / ")[1] == f"{reward:.3f}"
    (result,) = compare([Arm("r", "random")], on_synthetic(NASNET, 0.02), Terms(5, noisy=True), range(2))
    heads, (row,) = summary_rows([result], (5,))
    assert "/" not in row[heads.index("regret at 5")]  # the best noisy reward is not known
    (result,) = compare([Arm("r", "random")], on_synthetic(NASNET, 0.02), Terms(5), range(2))
    heads, (row,) = summary_rows([result], (5,))
    report, reward = row[heads.index("regret at 5")].split(" / ")
    assert report == reward, "without noise the reward is the report, and its best is known"
