"""Networks stacked to a wanted cost: published sizes come back, the rule holds, and nonsense is refused."""

import json
import random
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from nas.cli.main import app
from nas.errors import ConfigError
from nas.networks import description
from nas.networks.architecture import choose_architecture
from nas.networks.scaling import TOLERANCE, Scaled, Target, parse_number, read_target, scale_to, short_number
from search_spaces.errors import SkeletonError
from search_spaces.nasnet import NASNET
from search_spaces.networks.pieces import network_cost
from search_spaces.reference import load_reference
from search_spaces.registry import load_space
from search_spaces.skeletons import NASBench201Skeleton, NASNetSkeleton, load_skeleton, plan_cells
from search_spaces.space import sample_actions


def scaled(genotype: str, skeleton: str, target: Target, **options: int) -> Scaled:
    return scale_to(choose_architecture(load_reference(genotype), skeleton), target, **options)


@pytest.mark.parametrize(
    ("genotype", "skeleton", "macs"),
    [
        ("nasnet-a", "nasnet-mobile", "564M"),  # NASNet-A (4 @ 1056), table 4 of arXiv 1707.07012
        pytest.param("darts-v2", "darts-imagenet", "530M", marks=pytest.mark.slow),
        ("resnext-32x4d", "resnet-50", "4.23G"),
        ("convnext", "convnext-t", "4.46G"),
    ],
)
def test_the_published_cost_gives_the_published_network(genotype: str, skeleton: str, macs: str) -> None:
    found = scaled(genotype, skeleton, Target("macs", parse_number(macs, "--macs")))
    assert found.architecture.skeleton == load_skeleton(skeleton)
    assert abs(found.off) < 0.01


def test_parameters_are_a_target_too() -> None:
    found = scaled("nasnet-a", "nasnet-mobile", Target("parameters", 5_300_000))
    assert found.architecture.name == "NASNet-A (4 @ 1056)"
    assert "N=4 cells a stage, F=44 filters in the first stage (1056 in the penultimate layer)" in str(found)
    assert found.parameters == 5_289_978


def test_a_fraction_of_a_filter_comes_near_where_whole_ones_are_too_coarse() -> None:
    """Cells cut to 5M MACs have four to six filters, a third of the cost apart from one whole number to the next."""
    rng = random.Random(5)
    for genotype in [load_reference("nasnet-a"), *(NASNET.decode(sample_actions(NASNET, rng)) for _ in range(4))]:
        found = scale_to(choose_architecture(genotype, "nasnet-cifar"), Target("macs", 5_000_000), cells=1)
        skeleton = found.architecture.skeleton
        assert isinstance(skeleton, NASNetSkeleton)
        assert abs(found.off) < 0.04
        described = description.to_document(description.describe_untrained(found.architecture))
        assert description.from_document(json.loads(json.dumps(described)), "it").architecture == found.architecture
    assert replace(skeleton, filters=5.375).filters == 5.375
    assert [plan.filters for plan in plan_cells(NASNetSkeleton(1, 5.375))] == [5, 11, 11, 22, 22]
    assert plan_cells(NASNetSkeleton(1, 5.0)) == plan_cells(NASNetSkeleton(1, 5))
    assert repr(NASNetSkeleton(1, 5.0)) == repr(NASNetSkeleton(1, 5))
    with pytest.raises(SkeletonError, match=r"`filters` must be a whole number with the imagenet stem, but got 44\.5"):
        replace(load_skeleton("nasnet-mobile"), filters=44.5)


@pytest.mark.parametrize(
    ("genotype", "skeleton", "target"),
    [
        pytest.param("enas-micro", "nasnet-cifar", 20_000_000, marks=pytest.mark.slow),
        ("convnext", "convnext-cifar", 20_000_000),
        ("resnext-8x64d", "resnet-29-cifar", 20_000_000),
    ],
)
def test_small_networks_come_near_and_say_the_truth(genotype: str, skeleton: str, target: int) -> None:
    found = scaled(genotype, skeleton, Target("macs", target))
    cost = network_cost(found.architecture.genotype, found.architecture.skeleton, classes=10, image_size=32)
    assert (found.parameters, found.macs) == (cost.parameters, cost.macs)
    assert found.off == pytest.approx(cost.macs / target - 1)
    assert abs(found.off) < 0.06


def test_the_width_found_is_the_closest_of_its_depth() -> None:
    genotype = load_space("nasbench201").decode([1, 1, 0, 2, 1, 3])
    found = scale_to(choose_architecture(genotype), Target("macs", 30_000_000), cells=1)
    skeleton = found.architecture.skeleton
    assert isinstance(skeleton, NASBench201Skeleton)
    assert skeleton.cells == 1
    for filters in (skeleton.filters - 1, skeleton.filters + 1):
        other = network_cost(genotype, replace(skeleton, filters=filters), classes=10, image_size=32)
        assert abs(other.macs - 30_000_000) >= abs(found.macs - 30_000_000)


def test_depth_alone_is_solved_for_a_given_width() -> None:
    genotype = load_space("nasbench201").decode([1, 1, 0, 2, 1, 3])
    whole = network_cost(genotype, NASBench201Skeleton(3, 8), classes=10, image_size=32)
    found = scale_to(choose_architecture(genotype), Target("macs", whole.macs), filters=8)
    assert found.architecture.skeleton == NASBench201Skeleton(3, 8)
    assert found.off == 0
    assert "exactly the" in str(found)


def test_a_space_of_its_own_is_scaled_in_its_skeleton() -> None:
    genotype = load_space("nasbench201").decode([1, 1, 0, 2, 1, 3])
    found = scale_to(choose_architecture(genotype), Target("macs", 40_000_000))
    assert abs(found.off) <= TOLERANCE


def test_a_target_out_of_reach_is_refused_with_the_closest() -> None:
    with pytest.raises(ConfigError, match=r"no network of this skeleton has about 10 MACs; the closest is .* with \+"):
        scaled("convnext", "convnext-cifar", Target("macs", 10))


@pytest.mark.parametrize("text", ["", "564 M", "564m", "-3M", "1e6", "5,3M", "0", "0.0001k", "M", "nan", "9" * 16, "1.2T", "٣M"])
def test_numbers_are_read_strictly(text: str) -> None:
    with pytest.raises(ConfigError, match="--macs must be a number with or without k, M or G"):
        parse_number(text, "--macs")


def test_numbers_read_back() -> None:
    texts = ("564M", "5.3M", "1.2G", "270k", "12345")
    assert [parse_number(text, "--macs") for text in texts] == [564_000_000, 5_300_000, 1_200_000_000, 270_000, 12345]
    assert [short_number(n) for n in (564_000_000, 563_638_816, 999, 1500)] == ["564M", "563.6M", "999", "1.5k"]


def test_both_targets_at_once_and_no_target() -> None:
    assert read_target(None, None) is None
    with pytest.raises(ConfigError, match="exclude each other"):
        read_target("1M", "1M")
    with pytest.raises(ConfigError, match="solve for N or F"):
        scaled("nasnet-a", "nasnet-cifar", Target("macs", 10**7), cells=2, filters=8)


def test_the_command_line_says_what_it_chose() -> None:
    shown = CliRunner().invoke(app, ["cost", "nasnet-a", "--skeleton", "nasnet-mobile", "--macs", "564M"], env={"COLUMNS": "300"})
    assert shown.exit_code == 0, shown.output
    assert "NASNet-A (4 @ 1056)" in shown.output
    assert "0.06% below the 564M MACs asked for" in " ".join(shown.output.split())
