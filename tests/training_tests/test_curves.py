"""Curves of trainings: axes begin where values can be, chance and the test are marked, what is far off is cut and says so."""

import itertools
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import nas
from nas.data.settings import DataSettings
from nas.errors import RunError
from nas.networks.description import skeleton_document
from nas.training.config import TrainConfig
from nas.training.curves import Curves, curves_figure, curves_of, draw_curves
from nas.training.folder import TrainFolder
from nas.training.recipe import load_recipe
from search_spaces.reference import load_reference
from search_spaces.skeletons import load_skeleton


def record(epoch: int, top1: float, loss: float = 1.0) -> dict[str, float]:
    return {"epoch": epoch, "train_loss": 1.1, "validation_loss": loss, "validation_top1": top1, "learning_rate": 0.1 / epoch}


CURVES = Curves([record(1, 0.3, 14.0), *(record(i, 0.5 + i / 100) for i in range(2, 41))], 4, 38, 0.86, "A title", "a note")


def texts(figure: Figure) -> list[str]:
    return [
        text.get_text() for axes in figure.axes for text in (*axes.texts, *(axes.get_legend().get_texts() if axes.get_legend() else ()))
    ]


def test_axes_begin_where_values_can_be() -> None:
    losses, rates, accuracies = curves_figure(CURVES).axes
    assert losses.get_ylim()[0] == rates.get_ylim()[0] == 0
    low, high = accuracies.get_ylim()
    assert 0 <= low < 25 < 88 < high <= 101
    assert {axes.get_xlim()[0] for axes in (losses, rates, accuracies)} == {1}


def test_a_loss_far_above_the_others_is_cut_off_and_marked() -> None:
    losses = curves_figure(CURVES).axes[0]
    assert losses.get_ylim()[1] < 3
    marked = [line.get_xdata().tolist() for line in losses.lines if line.get_marker() == "^"]
    assert sorted(marked) == [[], [1]]


def test_chance_the_best_epoch_and_the_test_are_marked() -> None:
    figure = curves_figure(CURVES)
    said = texts(figure)
    assert "chance 25 %" in said
    assert "kept: 88.00 % (epoch 38)" in said and "test: 86.00 % (those weights)" in said
    heights = [list(line.get_ydata()) for line in figure.axes[2].lines]
    assert [25.0, 25.0] in heights and [88.0] in heights and [86.0] in heights
    plain = texts(curves_figure(Curves(CURVES.history)))
    assert not [text for text in plain if "chance" in text or "test" in text]


@pytest.mark.parametrize("curves", [CURVES, Curves([record(1, 0.1)], 10, 1, 0.1), Curves([record(i, 0.1) for i in (1, 2, 3)], 10, 2, 0.99)])
def test_labels_stay_apart(curves: Curves) -> None:
    figure = curves_figure(curves)
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw(renderer)
    found = [text for axes in figure.axes for text in (*axes.texts, axes.xaxis.label, axes.yaxis.label, *figure.texts)]
    boxes = {text: text.get_window_extent(renderer) for text in found if text.get_text()}
    boxes |= {axes.get_legend(): axes.get_legend().get_window_extent(renderer) for axes in figure.axes if axes.get_legend()}
    for (one, box), (other, other_box) in itertools.combinations(boxes.items(), 2):
        assert not box.overlaps(other_box), f"{one} {other}"
        assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0


def test_a_trainings_folder_is_drawn_in_any_theme(tmp_path: Path) -> None:
    """``nas draw FOLDER``: from what the folder says, finished or not."""
    place = TrainFolder(tmp_path / "mine")
    skeleton = skeleton_document(load_skeleton("nasnet-cifar"), "nasnet-cifar")
    config = TrainConfig(skeleton=skeleton, data=DataSettings(name="digits"), recipe=load_recipe("fast", {"epochs": 40}))
    place.write_new(load_reference("nasnet-a"), config)
    with pytest.raises(RunError, match="no epoch of this training has ended yet"):
        nas.draw(place.path)
    place.write_metrics(list(CURVES.history))
    assert "chance" not in nas.draw(place.path).svg
    known = {"classes": 10, "best_epoch": 2, "parameters": 1_234_567, "macs": 0, "test": {"top1": 0.5}}
    curves = curves_of(place, known)
    assert (curves.title, curves.note) == ("NASNet-A", "digits, recipe fast, skeleton nasnet-cifar · 1.235M parameters")
    draw_curves(curves, tmp_path / "curves.svg", "auto")
    text = (tmp_path / "curves.svg").read_text()
    assert "test: 50.00 %" in text and "chance 10 %" in text and "prefers-color-scheme" in text
    place.write_metrics([{"epoch": 1}])
    with pytest.raises(RunError, match="lacks learning_rate, train_loss"):
        nas.draw(place.path)
