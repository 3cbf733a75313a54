"""Charts of comparisons: names stay apart, axes begin where values can be, chance is drawn where it is near."""

import itertools
import math
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import nas
from nas.comparisons.networks import Plan, Row, front_of, ranked, read_front, write_table
from nas.comparisons.pictures import Front, Line, Point, anytime_figure, draw_front, front_figure
from nas.data.settings import DataSettings
from nas.errors import RunError
from nas.networks.scaling import Target
from nas.training.config import TrainConfig
from nas.training.recipe import load_recipe

CLOSE = [Point(f"a network of many letters {i}", (0.54 + i / 1000,), 6.5 + i / 50, 29_000.0 + 100 * i, i == 7) for i in range(8)]


def names(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def assert_apart(figure: Figure) -> None:
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    for axes in figure.axes:
        boxes = [(text, text.get_window_extent(renderer)) for text in axes.texts]
        for (one, box), (other, other_box) in itertools.combinations(boxes, 2):
            assert not box.overlaps(other_box), f"{one} {other}"
        points = [axes.transData.transform(line.get_xydata()[0]) for line in axes.lines if line.get_marker() == "o"]
        for text, box in boxes:
            assert not any(box.contains(*point) for point in points), text
            assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 and box.y1 <= figure.bbox.height


@pytest.mark.parametrize("seed", range(4))
def test_names_of_networks_that_are_close_stay_apart(seed: int) -> None:
    draw = random.Random(seed)
    scattered = [Point(f"random-{i}", (draw.uniform(0.5, 0.53),), draw.uniform(5, 7), draw.uniform(2e4, 3e4)) for i in range(9)]
    assert_apart(front_figure(Front(CLOSE if seed == 0 else scattered, "parameters", "title")))


def test_costs_begin_at_nothing_or_are_logarithmic() -> None:
    left, right = front_figure(Front([Point("a", (0.5,), 2.0, 1e4), Point("b", (0.6,), 4.0, 1e6)], "parameters", "title")).axes
    assert (left.get_xscale(), left.get_xlim()[0]) == ("linear", 0)
    assert (right.get_xscale(), right.get_xlim()[0] > 0) == ("log", True)


def test_chance_is_drawn_where_it_is_near_and_said_where_it_is_not() -> None:
    near = front_figure(Front([Point("a", (0.2,), 1.0, 1.0), Point("b", (0.4,), 2.0, 2.0)], "MACs", "title", "", 10))
    assert all("chance 10 %" in names(axes) and axes.get_ylim()[0] < 10 for axes in near.axes)
    far = front_figure(Front([Point("a", (0.94,), 1.0, 1.0), Point("b", (0.96, 1.0), 2.0, 2.0)], "MACs", "title", "", 10))
    assert far.axes[0].get_ylim()[0] > 80 and far.axes[0].get_ylim()[1] <= 101
    assert [text.get_text() for text in far.texts][1] == "bars: ± one standard deviation over 2 seeds · chance: 10 %"


def test_a_comparison_without_accuracies_or_latencies_is_drawn(tmp_path: Path) -> None:
    draw_front(Front([], "parameters", "nobody"), tmp_path / "nobody.png")
    draw_front(Front([Point("<a> & $b$", (0.5,), math.nan, 1e6)], "parameters", "one"), tmp_path / "one.svg", "auto")
    root = ElementTree.parse(tmp_path / "one.svg").getroot()
    assert [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")].count("<a> & $b$") == 1
    assert "<a> & $b$: 50.00 %" in [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]


def test_the_folder_of_a_comparison_is_drawn_again(tmp_path: Path) -> None:
    base = TrainConfig(skeleton={}, data=DataSettings(name="digits"), recipe=load_recipe("fast", {"epochs": 3}))
    plan = Plan(Target("macs", 300_000), base, 1, tmp_path, classes=10)
    write_table([Row("mine", "Mine (1 @ 8)", 1000, 300_000, 0.0, (0.5,), (0.4,), 2.0), Row("broken", "", reason="no")], plan)
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    assert read_front(tmp_path) == front_of(ranked([Row("mine", "Mine (1 @ 8)", 1000, 300_000, 0.0, (0.5,), (0.4,), 2.0)]), plan)
    text = nas.draw(tmp_path).svg
    assert "digits: networks of about 300k MACs" in text and "recipe fast, 3 epochs" in text and "mine: 50.00 %" in text
    for damaged in ("{}", "[1]", '{"schema": "nas.compare/1", "rows": 3}', "{"):
        (tmp_path / "compare.json").write_text(damaged)
        with pytest.raises(RunError, match="must be as `nas compare` wrote it"):
            nas.draw(tmp_path)


def test_controllers_are_told_apart_and_stand_in_their_order() -> None:
    lines = [Line(f"controller {i}", np.linspace(0.9, 0.93 + i / 1000, 200), np.full(200, 0.001), 5) for i in range(11)]
    figure = anytime_figure(lines, 0.95, "a table")
    (axes,) = figure.axes
    curves = [line for line in axes.lines if line.get_label().startswith("controller")]
    assert len({(line.get_color(), str(line._dash_pattern)) for line in curves}) == 11
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [line.label for line in reversed(lines)]
    assert axes.get_ylim()[1] <= 100 and axes.get_xlim() == (5, 200)
    figure.draw(FigureCanvasAgg(figure).get_renderer())
    ticks = [text.get_text() for text in axes.get_xticklabels() if text.get_text()]
    assert {"10", "20", "50", "100", "200"} <= set(ticks) and not any("$" in tick for tick in ticks)
