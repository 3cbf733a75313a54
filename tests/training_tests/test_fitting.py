"""What is chosen to suit the images: steps before anything else, within what the machine can do; what a person says stands."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nas.data.mirrors import judge_mirrors
from nas.data.prepared import prepare
from nas.data.settings import DataSettings
from nas.evaluators.fitting import CPU_STEPS, fit_children
from nas.networks.architecture import choose_architecture
from nas.runs import config as search_config
from nas.runs.config import PRESETS, build_config, fitted_config, preset_names
from nas.runs.plan import describe_plan, trained_words
from nas.settings.reading import flat
from nas.tools.hardware import Hardware
from nas.training import setup
from nas.training.config import preparation, skeleton_of
from nas.training.fitting import LEAST_STEPS, Amount, amount_of, fit_network, fit_recipe, fit_side, fit_sizes, fit_validation
from nas.training.plan import describe_data
from nas.training.recipe import load_recipe
from nas.training.setup import Matched, Request, configure, default_folder
from search_spaces.genotype import Provenance
from search_spaces.reference import load_reference
from search_spaces.skeletons import network_name

LAPTOP, STATION = Hardware(2, 16, ()), Hardware(16, 128, ("a GPU",))


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """30 pictures of 120×100 pixels in two classes, on a laptop."""
    monkeypatch.setattr(setup, "detect", lambda: LAPTOP)
    monkeypatch.setattr(search_config, "detect", lambda: LAPTOP)
    rng = np.random.default_rng(0)
    for name in ("bright", "dark"):
        (tmp_path / name).mkdir()
        for number in range(15):
            pixels = rng.integers(0, 120, (100, 120, 3)) + (120 if name == "bright" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize("train", [20, 160, 1_999, 2_000, 19_999, 20_000, 45_000, 1_000_000])
def test_a_training_has_hundreds_of_steps_however_few_images_there_are(train: int) -> None:
    recipe = load_recipe("fast")
    fitted = {choice.setting: choice.value for choice in fit_recipe(recipe, Amount(train, 50, 32, 10), ())}
    batch, epochs = fitted.get("batch_size", recipe.batch_size), fitted.get("epochs", recipe.epochs)
    assert epochs * math.ceil(train / batch) >= LEAST_STEPS and epochs >= recipe.epochs
    assert (fitted == {}) == (train >= 45_000)  # of CIFAR-10's size and above the recipe is as it was measured


@pytest.mark.parametrize(("side", "start"), [(8, 1.0), (20, 1.0), (24, None), (32, None)])
def test_small_images_are_not_made_smaller_to_begin_with(side: int, start: float | None) -> None:
    found = fit_sizes(load_recipe("fast"), side, ())
    assert (found.value if found is not None else None) == start
    assert fit_sizes(load_recipe("fast"), side, {"resolution.start"}) is None


def test_digits_are_trained_on_whole_and_never_flipped_and_the_plan_says_so() -> None:
    _, config, choices = configure(Request(genotype=load_reference("nasnet-a"), cells=1, filters=4, data={"data.name": "digits"}))
    assert config.recipe.resolution.start == 1 and "resolution.start" in [choice.setting for choice in choices]
    data = prepare(config.data, preparation(config))
    assert "never flipped" in describe_data(data, config.recipe)[-1]
    assert "never flipped" not in describe_data(replace(data, mirrors=True), config.recipe)[-1]


def test_what_a_person_says_of_a_recipe_stands() -> None:
    few = Amount(160, 80, 32, 3)
    assert not fit_recipe(load_recipe("fast"), few, {"epochs", "batch_size"})
    assert [choice.setting for choice in fit_recipe(load_recipe("fast"), few, {"batch_size"})] == ["epochs"]


def test_a_training_of_few_images_holds_out_fewer_than_a_search() -> None:
    data = DataSettings(name="folder", root="x")
    held_out = fit_validation(Amount(160, 80, 32, 3), data)
    assert held_out is not None and held_out.value == 30
    assert fit_validation(Amount(160, 80, 32, 3), data.model_copy(update={"validation_examples": 80})) is None
    assert fit_validation(Amount(160, 80, 32, 3, own_validation=True), data) is None
    assert fit_validation(Amount(45_000, 5_000, 32, 3), data) is None


def test_large_pictures_are_trained_on_smaller_without_a_gpu() -> None:
    recipe = load_recipe("fast")
    side = fit_side(Amount(500, 100, 500, 3), recipe, LAPTOP)
    assert side is not None and side.value == 48
    assert fit_side(Amount(500, 100, 500, 3), recipe, STATION) is None
    assert fit_side(Amount(500, 100, 32, 3), recipe, LAPTOP) is None
    assert fit_side(Amount(500, 100, 500, 3), load_recipe("nasnet-mobile"), LAPTOP) is None  # it says its own


def test_a_few_images_never_get_the_published_size() -> None:
    """Three epochs of 5 steps with 3 million parameters used to diverge."""
    whole = choose_architecture(load_reference("nasnet-a"), "nasnet-cifar", image_size=48)
    small, _ = fit_network(whole, load_recipe("fast", {"epochs": 3}), Amount(160, 80, 102, 3), STATION)
    assert small.cost().macs < 4e7


def test_the_network_follows_images_and_machine() -> None:
    recipe, whole = load_recipe("fast", {"epochs": 100}), choose_architecture(load_reference("nasnet-a"), "nasnet-cifar", image_size=32)
    small, choice = fit_network(whole, recipe, Amount(160, 80, 32, 3), LAPTOP)
    assert choice is not None and small.cost().macs < whole.cost().macs / 5
    assert fit_network(whole, recipe, Amount(40_000, 5_000, 32, 10), STATION) == (whole, None)


@pytest.mark.parametrize("train", [30, 160, 1_100, 7_000, 45_000])
@pytest.mark.parametrize("hardware", [LAPTOP, STATION], ids=["laptop", "station"])
def test_children_have_enough_steps_to_leave_chance(train: int, hardware: Hardware) -> None:
    fitted = {choice.setting: choice.value for choice in fit_children(Amount(train, 100, 40, 10), hardware, {})}
    seen = fitted["fidelity.train_examples"] or train
    assert fitted["fidelity.epochs"] * math.ceil(seen / fitted["training.batch_size"]) >= CPU_STEPS
    assert seen <= train and 8 <= fitted["fidelity.image_size"] <= 40


def test_own_images_get_settings_that_suit_them_and_flags_stand(pictures: Path) -> None:
    own = {"data.name": "folder", "data.root": str(pictures)}
    config, choices = fitted_config("cpu", ["training.learning_rate=0.02", "fidelity.filters=5"], {**own, "fidelity.epochs": 3})
    assert (config.fidelity.epochs, config.fidelity.filters, config.training.optimizer.learning_rate) == (3, 5, 0.02)
    assert config.fidelity.train_examples is None and config.fidelity.image_size == 24 and config.training.batch_size == 16
    assert not {"fidelity.epochs", "fidelity.filters", "training.optimizer.learning_rate"} & {choice.setting for choice in choices}


def test_every_setting_of_a_preset_that_own_images_change_is_named(pictures: Path) -> None:
    own = {"data.name": "folder", "data.root": str(pictures)}
    for preset in preset_names():
        whole = PRESETS[preset]
        config, choices = fitted_config(preset, (), own)
        now = flat(config.model_dump(mode="json"))
        stated = {name: value for name, value in flat(whole).items() if name in now}
        changed = {name for name, value in stated.items() if now[name] != value} - {"data.name", "data.root"}
        assert changed <= {choice.setting for choice in choices}, preset
        assert all(now[choice.setting] == choice.value for choice in choices)
    said = {str(choice) for choice in fitted_config("cpu", (), own)[1]}
    assert 'training.optimizer.name="sgd"  the preset\'s muon was chosen for its own images' in said
    assert {"match=null  the preset's macs=5M was chosen for its own images"} <= said
    with_muon = fitted_config("cpu", ["training.optimizer.name=muon", "draws=cheap", "training.weight_decay=0.0"], own)[1]
    assert not {"training.optimizer.name", "draws", "training.optimizer.weight_decay"} & {choice.setting for choice in with_muon}


def test_what_a_person_says_or_what_does_not_count_is_not_called_fitted(pictures: Path) -> None:
    own = {"data.name": "folder", "data.root": str(pictures)}
    for said in (["ladder=[]"], ["finalists=null"]):
        assert "ladder" not in {choice.setting for choice in fitted_config("cpu", said, own)[1]}, said
    matched = {choice.setting for choice in fitted_config("cpu", (), {**own, "match": "macs=1M"})[1]}
    assert not {"fidelity.filters", "match"} & matched and "fidelity.cells" in matched


def test_steps_are_counted_on_the_images_that_a_person_allows(pictures: Path) -> None:
    own = {"data.name": "folder", "data.root": str(pictures)}
    for said in ({"training.batch_size": 4}, {"training.batch_size": 4, "fidelity.train_examples": 4}):
        config = fitted_config("cpu", said, own)[0]
        seen = min(config.fidelity.train_examples or 10**9, amount_of(config.data).train)
        steps = math.ceil(seen / config.training.batch_size)
        assert (config.fidelity.epochs - 1) * steps < CPU_STEPS <= config.fidelity.epochs * steps, said


@pytest.mark.parametrize(("asked", "words"), [(100_000, "on all images"), (4, "on 4 images"), (None, "on all images")])
def test_a_plan_says_no_more_images_than_there_are(asked: int | None, words: str, pictures: Path) -> None:
    for data in ({"data.name": "folder", "data.root": str(pictures)}, {"data.name": "digits"}):
        rung = [{"children": 1, "train_examples": asked}]
        config = build_config("cpu", {"fidelity.train_examples": asked, "ladder": rung, "learn_from": [], "cards": []}, data)
        plan = describe_plan(config, LAPTOP)
        assert [words in line for line in plan if line.startswith(("child:", "rung 1:"))] == [True, True]
    if asked is not None:  # a report's images may be gone
        own = build_config("cpu", {"fidelity.train_examples": asked}, {"data.name": "folder", "data.root": str(pictures)})
        assert f"on at most {asked:,} images" in trained_words(own, own.fidelity)


def test_own_images_do_not_get_the_optimiser_that_a_preset_has_for_its_own(pictures: Path) -> None:
    """A learning rate of 0.1, which suits small sets, is five times what the preset's Muon takes."""
    own = {"data.name": "folder", "data.root": str(pictures)}
    assert build_config("cpu").training.optimizer.name == "muon"
    plain, fitted = build_config("laptop", (), own).training, build_config("cpu", (), own).training
    assert fitted == plain and (fitted.optimizer.name, fitted.optimizer.learning_rate) == ("sgd", 0.1)
    assert build_config("cpu", ["training.optimizer.name=adamw"], own).training.optimizer.name == "adamw"
    assert build_config("cpu", ["fit_images=false"], own).training == build_config("cpu").training


def test_a_presets_validation_split_is_of_its_own_data_only(pictures: Path) -> None:
    assert build_config("laptop").data.validation_examples == 400
    own = {"data.name": "folder", "data.root": str(pictures)}
    for preset in ("laptop", "paper"):  # neither asks 30 pictures for the 400, or 5,000, that it holds out of its own
        assert build_config(preset, (), own).data.validation_examples is None
    assert build_config("paper", (), own).fidelity == build_config("paper").fidelity  # as published
    assert fitted_config("laptop")[1] == ()


def test_a_training_on_own_images_says_what_it_chose(pictures: Path) -> None:
    request = Request(load_reference("nasnet-a"), data={"data.name": "folder", "data.root": str(pictures)})
    _, config, choices = configure(request)
    fitted = {"data.validation_examples", "batch_size", "epochs", "crop_mode", "image_size", "network"}
    assert {choice.setting for choice in choices} == fitted
    assert config.recipe.crop_mode == "squash"  # what is at an image's border counts
    assert config.image_size == 48 and config.recipe.epochs >= 600 and config.skeleton["cells"] == 2
    _, named, chosen = configure(Request(load_reference("nasnet-a"), data=request.data, filters=8, recipe="resnext-cifar"))
    assert (named.recipe.epochs, named.skeleton["filters"]) == (300, 8) and [choice.setting for choice in chosen] == ["image_size"]


# ---------------------------------------------------------------------------------------------------- mirror images


def judged(names: list[str], pictures: list[Image.Image], labels: list[int]) -> tuple[bool, str]:
    return judge_mirrors(names, np.array(labels), lambda index: pictures[index])


def arrows(count: int) -> tuple[list[Image.Image], list[int]]:
    """Bright on one side, with noise: the class is which."""
    rng, pictures, labels = np.random.default_rng(1), [], []
    for number in range(count):
        pixels = rng.integers(0, 100, (20, 20, 3))
        pixels[:, slice(0, 8) if number % 2 else slice(12, 20)] += 120
        pictures.append(Image.fromarray(pixels.astype(np.uint8)))
        labels.append(number % 2)
    return pictures, labels


def test_mirroring_is_off_where_it_changes_the_class() -> None:
    pictures, labels = arrows(60)
    mirrors, why = judged(["this", "that"], pictures, labels)
    assert not mirrors and "60 images" in why


def test_mirroring_is_on_where_the_class_is_elsewhere() -> None:
    pictures, _ = arrows(60)
    coloured = [Image.fromarray(np.asarray(p) // 2 + np.uint8(100 * (i % 3 == 0))) for i, p in enumerate(pictures)]
    assert judged(["pale", "dark"], coloured, [int(i % 3 == 0) for i in range(60)]) == (True, "")


@pytest.mark.parametrize("names", [["left", "right"], ["turn_left", "straight"], list("bdpq"), list("0123")])
def test_names_may_tell_that_a_side_matters(names: list[str]) -> None:
    pictures = [Image.new("RGB", (8, 8))] * len(names)
    assert not judged(names, pictures, list(range(len(names))))[0]


def test_a_training_is_named_shortly_by_what_it_is_and_as_its_network_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def named(name: str, run: str | None = None, **asked: object) -> str:
        origin = Provenance(run=run, trial=57) if run else None
        cell = replace(load_reference("nasnet-a"), name=name, provenance=origin)
        genotype, config, _ = configure(Request(genotype=cell, cells=1, data={"data.name": "digits"}, **asked))
        assert network_name(genotype, skeleton_of(config)).startswith(name)
        return default_folder(genotype, config).name

    assert named("NASNet-A", filters=8) == "NASNet-A-1@192-digits-fast"
    run = "20261126-165307-nasnet-laptop"
    assert named(f"{run}-trial-57", run, filters=8) == "20261126-165307-trial-57-1@192-digits-fast"
    assert named("wide-trial-57", "wide", filters=8, skeleton="nasnet-mobile") == "wide-trial-57-nasnet-mobile-1@192-digits-fast"
    assert len(named("x" * 200, filters=8)) <= 72


def test_the_plan_says_that_the_cost_which_a_search_matched_does_not_hold_for_other_images() -> None:
    matched = Matched("macs=300k", 1, 23.25, 8)
    request = Request(load_reference("nasnet-a"), matched=matched, data={"data.name": "synthetic"})
    _, _, choices = configure(request)
    (said,) = [str(choice) for choice in choices if choice.setting == "network"]
    assert "not of the 300k MACs that the search matched: that was for images of 8 pixels, and these have 16" in said
    assert said.endswith("--cells 1 --filters 23 keeps about the search's size")
    for kept in (replace(request, data={"data.name": "digits"}), replace(request, cells=1), replace(request, matched=None)):
        assert "matched" not in " ".join(map(str, configure(kept)[2]))
