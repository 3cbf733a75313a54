"""The second stage: the best trained again with several seeds, resumed after a kill, compared with the proxy's ranking."""

import json
import logging
from pathlib import Path

import pytest

from controllers.controller import Completed
from nas.errors import LossesError, RunError
from nas.runs import finalists
from nas.runs import session as engine
from nas.runs.config import FinalistSettings, SearchConfig, build_config
from nas.runs.finalists import run_finalists, stage_config, winner_config
from nas.runs.folder import RunFolder
from nas.runs.genotypes import resolve_genotype
from nas.runs.loop import QUIET
from nas.runs.standings import Lineup, Standing, Standings, best_known, read_standings
from search_spaces.genotype import read_genotype
from search_spaces.reference import load_reference

SYNTHETIC = ["evaluator=synthetic", "synthetic.noise=0.02", "runner.kind=local", "controller.name=random", "controller.options={}"]


def searched(path: Path, settings: list[str] = SYNTHETIC, budget: int = 12) -> RunFolder:
    return engine.start(build_config("laptop", [*settings, f"budget={budget}"]), path, QUIET).folder


def test_every_finalist_is_trained_with_every_seed_and_ranked_by_its_mean(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run")
    found = run_finalists(folder, FinalistSettings(top=4, seeds=3), QUIET)
    proxy = folder.state().ranked()
    assert {standing.trial for standing in found.ranked} == {trial.number for trial in proxy[:4]}
    assert found.spent == 12 and all(len(standing.rewards) == 3 for standing in found.ranked)
    assert [standing.mean for standing in found.ranked] == sorted((standing.mean for standing in found.ranked), reverse=True)
    assert all(proxy[standing.proxy_rank - 1].number == standing.trial for standing in found.ranked)
    assert all(len(set(standing.rewards)) == 3 for standing in found.ranked), "other seeds, other noise"
    again = run_finalists(folder, FinalistSettings(top=4, seeds=3), QUIET)
    assert again.ranked == found.ranked, "a finished stage is not repeated"


def test_what_a_run_hands_on_is_its_best_known_cell(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "nas.runs.genotypes")
    noisy = [*SYNTHETIC[:1], "synthetic.noise=0.3", *SYNTHETIC[2:]]
    folder, settings = searched(tmp_path / "run", noisy), FinalistSettings(top=5, seeds=3)
    by_reward = [trial.number for trial in folder.state().ranked()]
    elected = [standing.trial for standing in run_finalists(folder, settings, QUIET).ranked]
    order = [*elected, *(number for number in by_reward if number not in elected)]
    assert elected != by_reward[:5], "the noise is large enough for the stage to disagree"
    for rank, number in enumerate(order, start=1):
        chosen = resolve_genotype(str(folder.path), rank)
        assert chosen.provenance is not None and chosen.provenance.trial == number
        if rank <= 10:
            assert read_genotype(folder.best_folder / f"{rank}.yaml") == chosen
    assert ["elected by the finalists stage" in line for line in caplog.messages] == [True] * 5 + [False] * (len(order) - 5)
    longer = engine.resume(folder, 30, QUIET)
    assert [trial.number for trial in best_known(folder, longer.state).trials[:5]] == elected
    assert read_genotype(folder.best_folder / "1.yaml") == resolve_genotype(str(folder.path))


def test_a_stage_that_is_not_complete_elects_nobody(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run")
    run_finalists(folder, FinalistSettings(top=4, seeds=2), QUIET)
    ledger = folder.path / "finalists/ledger.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:-3]))
    known = best_known(folder, folder.state())
    assert known.elected == 0 and known.trials == folder.state().ranked()


def test_a_stage_cut_off_anywhere_ends_the_same(tmp_path: Path) -> None:
    folder, settings = searched(tmp_path / "run"), FinalistSettings(top=3, seeds=2)
    whole = run_finalists(folder, settings, QUIET).ranked
    ledger = folder.path / "finalists/ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    for kept in (1, 4, len(lines) // 2, len(lines) - 2):
        ledger.write_bytes(b"".join(lines[:kept]) + b'{"torn')
        assert run_finalists(folder, settings, QUIET).ranked == whole


def test_a_stage_whose_trainings_all_fail_gives_up_and_elects_nobody(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run")
    failing = folder.config().synthetic.model_copy(update={"failures": {"exception": 1.0}})
    folder.write_config(folder.config().model_copy(update={"synthetic": failing}))
    with pytest.raises(LossesError, match=r"20 children failed one after the other.*go on with the same command"):
        run_finalists(folder, FinalistSettings(top=5, seeds=6), QUIET)


def test_kendalls_tau_is_that_of_the_pairs() -> None:
    """Proxy 0.3, 0.2, 0.1 against 0.5, 0.7, 0.4: two of three pairs agree, so tau is (2 − 1) / 3."""
    ranked = (Standing(1, 0.2, 2, (0.6, 0.8)), Standing(0, 0.3, 1, (0.5,)), Standing(2, 0.1, 3, (0.4,)))
    standings = Standings(Path(), FinalistSettings(), ranked, 4, None)
    assert standings.tau is not None and standings.tau[0] == pytest.approx(1 / 3)
    assert ranked[0].mean == pytest.approx(0.7) and ranked[0].deviation == pytest.approx(0.02**0.5) and ranked[1].deviation is None
    assert Standings(Path(), FinalistSettings(), ranked[:2], 2, None).tau is None


def test_first_everybody_gets_one_seed() -> None:
    lineup = Lineup((7, 3), 2)
    assert [lineup.entry(number) for number in range(4)] == [(7, 0), (3, 0), (7, 1), (3, 1)]


def test_other_settings_or_damage_are_refused(tmp_path: Path) -> None:
    folder = searched(tmp_path / "run")
    run_finalists(folder, FinalistSettings(top=2, seeds=1), QUIET)
    with pytest.raises(RunError, match="begun with top 2, seeds 1"):
        run_finalists(folder, FinalistSettings(top=3, seeds=1), QUIET)
    file = folder.path / "finalists/lineup.json"
    document = json.loads(file.read_text())
    for change in ({"schema": "x"}, {"trials": []}, {"trials": [99]}, {"settings": {"top": 0}}):
        file.write_text(json.dumps(document | change))
        with pytest.raises(Exception, match=r"second stage|lineup|top"):
            read_standings(folder)
    assert read_standings(RunFolder(tmp_path)) is None


def test_the_higher_fidelity_uses_all_images_and_keeps_what_is_not_named() -> None:
    config = build_config("cpu", ["halving={reduction: 3}", "fidelity.epochs=9"])
    raised = stage_config(config, FinalistSettings(epochs=20, filters=16))
    assert (raised.fidelity.epochs, raised.fidelity.filters, raised.fidelity.cells) == (20, 16, config.fidelity.cells)
    assert raised.fidelity.train_examples is None and raised.fidelity.validation_examples is None and raised.halving is None
    assert raised.fidelity.image_size == config.fidelity.image_size and raised.training == config.training


def test_the_winner_is_trained_as_the_finalists_were() -> None:
    config = build_config("cpu", ["training.augmentation=paper", "training.cutout=4", "training.auxiliary_weight=0.4"])
    trained = winner_config(load_reference("nasnet-a"), config)
    fidelity = config.fidelity
    found = (trained.skeleton["cells"], trained.skeleton["filters"], trained.image_size)
    assert found == (fidelity.cells, fidelity.filters, fidelity.image_size)
    recipe = trained.recipe
    assert (recipe.augmentation.crop, recipe.augmentation.cutout, recipe.regularisation.auxiliary_weight) == ("upsample", 4, 0.4)
    assert (recipe.optimizer.learning_rate, recipe.optimizer.clip_norm, recipe.batch_size) == (
        config.training.optimizer.learning_rate,
        5.0,
        config.training.batch_size,
    )
    assert (recipe.schedule.kind, recipe.schedule.final, recipe.epochs) == ("cosine", 0.0, config.fidelity.epochs)


def test_a_real_search_ends_with_the_test_of_its_winner_and_a_table_that_tells_both_apart(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from nas.cli.main import app

    sets = ["fidelity.epochs=1", "fidelity.filters=2", "fidelity.train_examples=200", "finalists={top: 2, seeds: 2, train_examples: 300}"]
    command = [
        "search",
        "--preset",
        "laptop",
        "--runner",
        "local",
        "--controller",
        "random",
        "--budget",
        "3",
        "--run",
        str(tmp_path / "run"),
    ]
    runner = CliRunner()
    done = runner.invoke(app, [*command, *(word for value in sets for word in ("--set", value))], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    assert "second stage: the best 2 cells, 2 seeds each" in done.output and "of 360 test images, read once" in done.output
    standings = read_standings(RunFolder(tmp_path / "run"))
    assert standings is not None and standings.test is not None and standings.spent == 4
    assert (tmp_path / "run/finalists/winner/best.safetensors").is_file()
    shown = runner.invoke(app, ["show", str(tmp_path / "run")], env={"COLUMNS": "200"})
    assert "reward" in shown.output and "retrained" in shown.output and " ± " in shown.output


def test_failed_children_leave_a_finalist_without_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = searched(tmp_path / "run")
    original = finalists.stage_config

    def failing(config: SearchConfig, settings: FinalistSettings) -> SearchConfig:
        changed = original(config, settings)
        return changed.model_copy(update={"synthetic": changed.synthetic.model_copy(update={"failures": {"exception": 1.0}})})

    monkeypatch.setattr(finalists, "stage_config", failing)
    found = run_finalists(folder, FinalistSettings(top=2, seeds=1), QUIET)
    assert all(standing.rewards == () and standing.mean == -1 for standing in found.ranked) and found.tau is None
    assert isinstance(folder.state().ranked()[0].evaluation.outcome, Completed)
