"""Latency as a cost: pieces add up to a model, which says what is worth measuring, and the width of a latency takes few measurements."""

import pytest
from support.stopwatch import CountedStopwatch, of_piece

from nas.errors import ConfigError
from nas.networks.architecture import Architecture, choose_architecture
from nas.networks.latency import measure_onnx_latency
from nas.networks.matching import check_place, read_limits, read_match, read_objective
from nas.networks.scaling import Target, read_target
from nas.networks.stopwatch import FEWEST, ROUNDS, Stopwatch, corners, match_latency, stopwatch_at
from search_spaces.networks.cell import Piece
from search_spaces.reference import load_reference
from search_spaces.skeletons import NASNET_CONVENTIONS


def network(name: str = "nasnet-a", cells: int | None = 1, filters: int | None = 8) -> Architecture:
    return choose_architecture(load_reference(name), cells=cells, filters=filters, classes=10, image_size=32)


def test_a_width_of_a_latency_is_found_with_few_measurements() -> None:
    stopwatch = CountedStopwatch()
    for name, most in (("nasnet-a", 3), ("amoebanet-a", 3)):
        before = stopwatch.measured
        found = match_latency(network(name), Target("latency", 0.01), stopwatch, cells=1, tolerance=0.1)
        assert abs(found.off) <= 0.05 and found.latency == stopwatch.seconds(found.architecture)
        assert stopwatch.measured - before <= most
        assert "10 ms an image asked for" in str(found)


def test_blocks_have_no_pieces_and_are_matched_by_their_measurements() -> None:
    stopwatch = CountedStopwatch()
    found = match_latency(network("resnext-2x64d", None, None), Target("latency", 0.02), stopwatch, cells=None, tolerance=0.1)
    assert abs(found.off) <= 0.1 and stopwatch.measured <= ROUNDS and stopwatch.pieces == []


@pytest.mark.parametrize("target", [1e-5, 5000.0])
def test_what_the_model_rules_out_is_not_measured(target: float) -> None:
    stopwatch = CountedStopwatch()
    found = match_latency(network(), Target("latency", target), stopwatch, cells=1, tolerance=0.1)
    assert abs(found.off) > 0.5 and stopwatch.measured == 0


def test_a_piece_is_measured_once_and_at_round_widths() -> None:
    stopwatch = CountedStopwatch()
    exact = CountedStopwatch().time_network(network(filters=13), 1)
    assert stopwatch.sum_of_pieces(network(filters=13)) == pytest.approx((exact - 0.0005) / 1.3, rel=0.2)
    pieces = list(stopwatch.pieces)
    assert len(pieces) == len(set(pieces))
    assert {width.bit_count() for piece, _ in pieces for width in (piece.channels_in, piece.channels_out)} == {1}
    stopwatch.sum_of_pieces(network(filters=13))
    assert stopwatch.pieces == pieces


def test_between_round_widths_the_shares_make_the_width() -> None:
    same, other = Piece("project", 24, 24), Piece("project", 96, 20)
    assert [(piece.channels_in, piece.channels_out, share) for piece, share in corners(same)] == [(16, 16, 0.5), (32, 32, 0.5)]
    assert sum(share for _, share in corners(other)) == 1
    assert sum(piece.channels_in * share for piece, share in corners(other)) == 96
    assert sum(piece.channels_out * share for piece, share in corners(other)) == 20


def test_a_wide_piece_is_not_measured_but_follows_its_macs() -> None:
    stopwatch = CountedStopwatch()
    wide = network(filters=512)
    exact = (stopwatch.time_network(wide, 1) - 0.0005) / 1.3
    assert stopwatch.sum_of_pieces(wide) == pytest.approx(exact, rel=0.5)
    assert max(piece.channels_in for piece, _ in stopwatch.pieces) <= 256
    assert of_piece(stopwatch.pieces[0][0], 32, NASNET_CONVENTIONS) > 0


def test_the_model_learns_what_the_pieces_leave_out_and_slow_networks_are_run_less_often() -> None:
    stopwatch = CountedStopwatch()
    stopwatch.seconds(network(filters=8))
    assert stopwatch.factor(network()) > 1.3 and stopwatch.factor(network("resnext-2x64d", None, None)) == 1
    assert stopwatch.predicted(network(filters=8)) == pytest.approx(stopwatch.seconds(network(filters=8)))
    stopwatch.seconds(network(filters=512))
    assert [runs for _, runs in stopwatch.networks] == [50, FEWEST]


def test_a_network_is_measured_once_on_this_machine() -> None:
    stopwatch, chosen = Stopwatch("cpu"), network(filters=2)
    first = stopwatch.seconds(chosen)
    assert first > 0 and stopwatch.seconds(chosen) == first and stopwatch.measured == 1
    assert stopwatch_at("cpu") is stopwatch_at("cpu")


def test_onnxruntime_is_timed_as_well() -> None:
    pytest.importorskip("onnxscript")
    from torch import nn

    latency = measure_onnx_latency(nn.Conv2d(1, 2, 3), image_size=8, channels=1, runs=3, warmup=1)
    assert latency.median > 0 and latency.runs == 3 and "onnxruntime" in str(latency)


def test_a_latency_is_said_with_its_unit() -> None:
    assert read_match("latency=8ms") == read_match("latency = 0.008s") == read_match("latency=8000us")
    assert str(read_match("latency=8ms@32")) == "8 ms an image" and read_match("latency=8ms@32").side == 32
    assert [str(limit) for limit in read_limits("latency<=10ms,params<=3M")] == ["at most 10 ms an image", "at most 3M parameters"]
    assert read_objective("accuracy,latency@8ms").target == 0.008
    assert read_target(None, None, "12.5ms") == Target("latency", 0.0125)


@pytest.mark.parametrize(
    ("read", "text", "told"),
    [
        (read_match, "latency=8", "match: latency must be a time with its unit.*8ms or 0.008s, but got '8'"),
        (read_match, "latency=0ms", "must be a time with its unit.*got '0ms'"),
        (read_match, "latency=5M", "must be a time with its unit.*got '5M'"),
        (read_limits, "latency<=8sec", "limit: latency must be a time.*got '8sec'"),
        (read_objective, "accuracy,latency@8", "objective: latency must be a time.*got '8'"),
        (check_place, "tpu", "latency_on must be auto, cpu, cuda, cuda:N or onnx, but got 'tpu'"),
    ],
)
def test_what_is_no_latency_or_place_gets_one_message(read, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read(text)


def test_two_sizes_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="--macs and --latency exclude each other, but got 5M and 8ms"):
        read_target("5M", None, "8ms")
