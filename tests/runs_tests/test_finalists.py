"""The winner of a ladder: the best of its last rung, trained once more as it was trained there; the only reading of the test set."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.commands import nas

from nas.cli.views.ending import nothing_left_words
from nas.errors import ConfigError
from nas.evaluators.settings import RungSettings
from nas.runs.config import build_config, finalists_rung
from nas.runs.finalists import crown, winner_config, with_rung
from nas.runs.folder import RunFolder
from nas.runs.genotypes import resolve_genotype
from nas.runs.standings import Known, best_known, winner_test
from nas.runs.state import RunState
from nas.runs.trials import Chosen
from nas.settings.reading import validated
from nas.tools.hardware import wanted_threads
from nas.training.recipe import load_recipe
from search_spaces.genotype import read_genotype
from search_spaces.reference import load_reference
from search_spaces.space import SearchSpace


def test_the_winner_is_trained_as_the_finalists_were() -> None:
    paper = ["training.augmentation=paper", "training.cutout=4", "training.auxiliary_weight=0.4"]
    config = build_config("cpu", [*paper, "runner.threads_per_child=1"])
    trained = winner_config(load_reference("nasnet-a"), config)
    fidelity = config.fidelity
    found = (trained.skeleton["cells"], trained.skeleton["filters"], trained.image_size)
    assert trained.threads == wanted_threads(), "nothing else is trained then: the other children's cores are its own"
    assert found == (fidelity.cells, fidelity.filters, fidelity.image_size)
    recipe = trained.recipe
    assert (recipe.augmentation.crop, recipe.augmentation.cutout, recipe.regularisation.auxiliary_weight) == ("upsample", 4, 0.4)
    assert (recipe.optimizer.name, recipe.optimizer.clip_norm, recipe.batch_size) == ("muon", 5.0, config.training.batch_size)
    assert recipe.optimizer == config.training.optimizer
    assert recipe.schedule == config.training.schedule
    assert (recipe.schedule.kind, recipe.schedule.final, recipe.epochs) == ("linear", 0.0, config.fidelity.epochs)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    place = tmp_path_factory.mktemp("crowned")
    sets = ["fidelity.epochs=1", "fidelity.filters=2", "fidelity.train_examples=200", "finalists={top: 2, seeds: 2, train_examples: 300}"]
    command = ["search", "--preset", "laptop", "--runner", "local", "--controller", "random", "--budget", "3", "--run", str(place / "run")]
    with pytest.MonkeyPatch.context() as patch:
        said = nas([*command, *(word for value in sets for word in ("--set", value))], place, patch)
    (place / "said").write_text(said)
    return RunFolder(place / "run")


def test_a_real_search_ends_with_the_test_of_its_winner(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    said = " ".join((run.path.parent / "said").read_text().split())
    assert "rung 1: the best 2 of 3, 2 seeds each" in said and "1 epoch on 300 images" in said and "of 360 test images, read once" in said
    test, best = winner_test(run), resolve_genotype(str(run.path))
    assert test is not None and best.provenance is not None and test["trial"] == best.provenance.trial
    assert (run.path / "finalists/winner/best.safetensors").is_file() and read_genotype(run.best_folder / "1.yaml") == best
    shown = nas(["show", str(run.path)], run.path.parent, monkeypatch)
    assert "trained once more" in shown and "rung 1: 2 of 2 cells" in shown and " ± " in shown


def test_a_winner_is_trained_once_and_another_one_beside_it(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(Path(shutil.copytree(run.path, tmp_path / "run")))
    weights = folder.path / "finalists/winner/best.safetensors"
    before = weights.stat().st_mtime_ns
    told: list[int] = []
    assert crown(folder, begin=told.append) and weights.stat().st_mtime_ns == before and not told
    more = nas(["finalists", str(folder.path), "--top", "1", "--seeds", "1", "--train-examples", "200"], tmp_path, monkeypatch)
    assert "time:   about" in more, "as its --dry-run says"
    again = nas(["resume", str(folder.path)], tmp_path, monkeypatch)
    assert "winner:" in again and "is trained once more" not in again
    assert weights.stat().st_mtime_ns != before and (folder.path / "finalists/earlier-winner-1/best.safetensors").is_file()


def test_what_is_finished_but_for_its_winner_is_said_to_be(run: RunFolder, tmp_path: Path) -> None:
    folder = RunFolder(Path(shutil.copytree(run.path, tmp_path / "run")))
    assert nothing_left_words(folder).endswith("nothing is left to train: it was finished before")
    shutil.rmtree(folder.path / "finalists")
    assert nothing_left_words(folder).endswith("nothing is left to train but its winner")


def test_one_more_rung_is_longer_and_goes_on_when_it_is_said_again(run: RunFolder) -> None:
    config, state = run.config(), run.state()
    more = with_rung(config, state, validated(RungSettings, finalists_rung(1, 2)))
    assert [rung.fidelity(config.fidelity).epochs for rung in more.ladder] == [1, 2] and more.ladder[1].train_examples is None
    assert with_rung(more, state, validated(RungSettings, finalists_rung(1, 2))) == more
    with pytest.raises(ConfigError, match=r"rung 1, which has 1 epoch on 300 images of 8×8 pixels, but got 1 epoch on 299"):
        with_rung(config, state, validated(RungSettings, finalists_rung(1, 2, epochs=1, train_examples=299)))


def test_one_more_rung_trains_as_the_last_or_by_the_recipe_that_it_names(run: RunFolder) -> None:
    config, state = build_config("cpu"), run.state()
    as_last = with_rung(config, state, validated(RungSettings, finalists_rung(2, 2)))
    assert as_last.at_rung(3).training == config.at_rung(2).training != config.training
    by_fast = with_rung(config, state, asked := validated(RungSettings, finalists_rung(2, 2, recipe="fast")))
    whole = load_recipe("fast", {"epochs": 8})
    assert by_fast.at_rung(3).recipe().model_dump(exclude={"name"}) == whole.model_dump(exclude={"name"})
    assert with_rung(by_fast, state, asked) == by_fast, "the same command goes on"


def test_whoever_was_not_trained_at_the_last_rung_wins_nothing(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(Path(shutil.copytree(run.path, tmp_path / "run")))
    before = winner_test(folder)

    def hopeful(space: SearchSpace, state: RunState) -> Known:
        """As if the one that stayed below were expected to be the best."""
        found = best_known(space, state).standings
        ranked = sorted(found.ranked, key=lambda one: one.rung)
        assert ranked[0].rung == 0
        return Known(Chosen(state.trials, [one.trial for one in ranked]), replace(found, ranked=tuple(ranked)))

    monkeypatch.setattr("nas.runs.finalists.best_known", hopeful)
    assert crown(folder) and winner_test(folder) == before


def test_a_space_that_is_searched_through_has_its_winner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny.yaml").write_text("schema: nas.space/1\nname: tiny\noperations: [sep_conv_3x3]\nnodes: 1\ncells: [normal]\n")
    small = {"fidelity": "{epochs: 1, filters: 2, train_examples: 100}", "ladder": "[{children: 1, epochs: 1}]", "match": "null"}
    sets = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    words = ["--space", "tiny.yaml", "--runner", "local", "--controller", "random", "--budget", "50", "--cards", "none", "--run", "run"]
    said = nas(["search", "--preset", "laptop", *words, *sets], tmp_path, monkeypatch)
    folder = RunFolder(tmp_path / "run")
    assert "the search space is exhausted" in " ".join(said.split()) and winner_test(folder) is not None


def test_there_is_no_winner_without_a_ladder_or_before_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = ["--set", "evaluator=synthetic", "--runner", "local", "--controller", "random", "--budget", "3", "--run", "run"]
    nas(["search", "--preset", "laptop", *sets], tmp_path, monkeypatch)
    folder = RunFolder(tmp_path / "run")
    assert not crown(folder) and winner_test(folder) is None
