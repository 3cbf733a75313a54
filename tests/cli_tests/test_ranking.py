"""What a ranking says of its own figures: what an interval is of, and which of them were never measured."""

import pytest

from nas.cli.views.live import incumbent_words
from nas.cli.views.run import _climbed, footnotes
from nas.runs.noise import Yardstick
from nas.runs.posterior import Belief
from nas.runs.search_view import IncumbentView
from nas.runs.standings import Standing, Standings, words
from nas.runs.state import RunState

MEASURED = Standing(4, Belief(0.9, 0.88, 0.92, 0.01), 2, (0.89, 0.91), 0.5)
EXPECTED = Standing(2, Belief(0.94, 0.83, 1.0, 0.06), 0, (0.4,), 0.4)


def of(*ranked: Standing, top: int) -> tuple[Standings, RunState]:
    state = RunState()
    state.yardsticks[:] = [Yardstick(400, 0.1)] * (top + 1)
    return Standings(top, ranked, ()), state


def test_what_was_not_measured_at_the_top_rung_is_marked_and_the_mark_explained() -> None:
    found, state = of(EXPECTED, MEASURED, top=2)
    assert _climbed(EXPECTED, found, state)["belief"] == "~0.94 ± 0.11", "what is not measured is not known to three digits"
    assert _climbed(MEASURED, found, state)["belief"] == "0.900 ± 0.020"
    assert footnotes(state, found, 10)[1].startswith("~ not trained at rung 2")
    assert len(footnotes(*reversed(of(MEASURED, top=2)), 10)) == 1  # type: ignore[arg-type]
    assert len(footnotes(*reversed(of(EXPECTED, top=0)), 10)) == 1, "the search alone measures all"  # type: ignore[arg-type]
    assert incumbent_words(IncumbentView(2, 2, 0.94, 0.83, 1.0, 1, trained=0), 3) == "~0.94 ± 0.11 at rung 2 (trial 2)"
    assert incumbent_words(IncumbentView(2, 2, 0.94, 0.83, 1.0, 1, trained=2), 3) == "0.940 ± 0.110 at rung 2 (trial 2)"


def test_an_interval_says_what_it_is_of_and_how_far_other_images_may_be() -> None:
    found, state = of(MEASURED, top=2)
    (note,) = footnotes(state, found, 10)
    assert "the same 400 images" in note and note.endswith("± 0.030")  # 1.96 √(0.9 · 0.1 / 400)
    assert footnotes(RunState(), Standings(0, (MEASURED,), ()), 10) == ["± 95 %: of the mean of a cell's trainings"]


@pytest.mark.parametrize(("belief", "said"), [((0.99, 0.95, 1.0), "0.99 ± 0.04"), ((0.02, 0.0, 0.07), "0.02 ± 0.05")])
def test_an_interval_that_ends_at_0_or_1_is_not_said_to_be_narrower(belief: tuple[float, float, float], said: str) -> None:
    assert words(Belief(*belief, deviation=0.02), 2) == said
