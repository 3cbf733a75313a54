"""Inside Ray Tune: the searcher's outcomes, its exact restore, limits on concurrency, and the example program from start to end."""

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ray import tune
from ray.tune.search import ConcurrencyLimiter, Searcher
from support.paths import ROOT

from controllers.controller import Completed, Failed, Outcome, Stopped, random_for
from controllers.options import ControllerError
from controllers.registry import CONTROLLERS
from nas import ray_tune
from nas.data.prepared import prepare
from nas.errors import GenotypeError, RunError
from nas.evaluators.objective import synthetic_reward
from nas.ray_tune import ControllerSearcher, genotype_of
from nas.runs.config import build_config
from search_spaces.genotype import read_genotype
from search_spaces.nasnet import NASNET
from search_spaces.space import CellSpace

TINY = CellSpace("tiny", operations=("identity", "conv_3x3"), nodes=1, combine=("add",), cells=("normal",))


def told(searcher: ControllerSearcher, trial_id: str, *calls: Any) -> Outcome:
    """What the controller is told when Tune makes these calls about a new trial."""
    heard: list[Outcome] = []
    searcher.controller.tell = lambda proposal, outcome: heard.append(outcome)  # type: ignore[method-assign, assignment, return-value]
    searcher.suggest(trial_id)
    for call in calls:
        call(searcher)
    (outcome,) = heard
    return outcome


def result(**values: Any) -> Callable[[ControllerSearcher], None]:
    return lambda searcher: searcher.on_trial_result("t", values)


def end(values: dict[str, Any] | None, error: bool = False) -> Callable[[ControllerSearcher], None]:
    return lambda searcher: searcher.on_trial_complete("t", values, error)


@pytest.mark.parametrize(
    ("calls", "outcome"),
    [
        ([end({"reward": 0.5, "epoch": 9, "epochs": 9, "training_iteration": 9})], Completed(0.5)),
        ([end({"reward": 0.5, "epoch": 3, "epochs": 9, "training_iteration": 3})], Stopped(3, 0.5)),
        # a trainable that does not say how long it is: what Tune let go on after its last result has ended by itself
        ([result(reward=0.4, training_iteration=2), end({"reward": 0.4, "training_iteration": 2, "done": True})], Completed(0.4)),
        ([result(reward=0.4, training_iteration=1), end({"reward": 0.3, "training_iteration": 2, "done": True})], Stopped(2, 0.3)),
        ([end({"reward": np.float32(0.5), "training_iteration": 1})], Stopped(1, 0.5)),
        ([end({"reward": torch.tensor(0.25), "training_iteration": 1})], Stopped(1, 0.25)),
        ([end(None, error=True)], Failed("exception", "the trial ended with an error; its error.txt says more")),
        ([end(None)], Failed("worker_lost", "the trial was removed before it had a result")),
        ([end({"loss": 0.1, "training_iteration": 1})], Failed("exception", "the last result has no 'reward'")),
        ([end({"reward": math.nan})], Failed("diverged", "reward is nan")),
        ([end({"reward": math.inf})], Failed("diverged", "reward is inf")),
        ([end({"reward": "high"})], Failed("diverged", "reward is 'high'")),
        ([end({"reward": None})], Failed("diverged", "reward is None")),
        ([end({"reward": math.nan, "failure": "out_of_memory", "failure_detail": "host"})], Failed("out_of_memory", "host")),
    ],
)
def test_every_end_of_a_trial_is_an_outcome(calls: list[Any], outcome: Outcome) -> None:
    assert told(ControllerSearcher("nasnet", "random"), "t", *calls) == outcome


def test_losses_are_minimised_and_percentages_refused() -> None:
    ends = [told(ControllerSearcher(NASNET, "random", metric="loss", mode="min"), "t", end({"loss": v})) for v in (-1.0, 0.0, 2.5, 1e9)]
    rewards = [outcome.reward for outcome in ends if isinstance(outcome, Stopped | Completed)]
    assert rewards == sorted(rewards, reverse=True) and all(0 <= reward <= 1 for reward in rewards) and len(set(rewards)) == 4
    with pytest.raises(ControllerError, match=r"reward must be a share in \[0, 1\] to be a reward, but a trial reported 73.5"):
        told(ControllerSearcher(NASNET, "random"), "t", end({"reward": 73.5}))


def test_unknown_and_ended_trials_are_ignored() -> None:
    searcher = ControllerSearcher(NASNET, "random")
    searcher.on_trial_result("stranger", {"training_iteration": 1})
    searcher.on_trial_complete("stranger", {"reward": 0.5})
    searcher.suggest("a")
    searcher.on_trial_complete("a", {"reward": 0.5})
    before = json.dumps(searcher.controller.state_dict())
    searcher.on_trial_complete("a", {"reward": 0.9})
    assert json.dumps(searcher.controller.state_dict()) == before and not searcher.pending


def play(searcher: ControllerSearcher, moves: range, log: list[Any], live: list[str]) -> None:
    """Ask and tell in an order that the numbers decide: three at once, one in seven fails, one in five is stopped."""
    for move in moves:
        config = searcher.suggest(f"t{move}")
        assert config is not None
        log.append(config)
        live.append(f"t{move}")
        if len(live) == 3:
            trial_id = live.pop(random_for(7, move).randrange(3))
            reward = synthetic_reward(genotype_of(next(c for i, c in enumerate(log) if f"t{i}" == trial_id)))
            searcher.on_trial_result(trial_id, {"reward": reward / 2, "training_iteration": 1})
            last = {"reward": reward, "training_iteration": 2 if move % 5 == 0 else 1}
            searcher.on_trial_complete(trial_id, None if move % 7 == 0 else last, error=move % 7 == 0)


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_a_restored_searcher_goes_on_exactly(controller: str, tmp_path: Path) -> None:
    whole: list[Any] = []
    play(ControllerSearcher(NASNET, controller, seed=3), range(27), whole, [])
    searcher, log, live = ControllerSearcher(NASNET, controller, seed=3), [], []  # type: ignore[var-annotated]
    for start in range(0, 27, 9):
        play(searcher, range(start, start + 9), log, live)
        searcher.save_to_dir(str(tmp_path))
        searcher = ControllerSearcher(NASNET, controller, seed=3)
        searcher.restore_from_dir(str(tmp_path))
    assert log == whole
    assert len({config["genotype"] for config in log}) == 27


def test_tune_may_pickle_a_searcher_before_it_starts() -> None:
    one = ControllerSearcher(NASNET, "ppo", seed=3)
    log: list[Any] = []
    live: list[str] = []
    play(one, range(20), log, live)
    other = pickle.loads(pickle.dumps(one))
    play(one, range(20, 30), log, list(live))
    again = log[:20]
    play(other, range(20, 30), again, list(live))
    assert again == log


def test_the_state_of_another_searcher_and_no_state_at_all_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "state"
    searcher = ControllerSearcher(NASNET, "random", seed=3)
    searcher.save(str(path))
    for space, controller, seed in ((TINY, "random", 3), (NASNET, "ppo", 3), (NASNET, "random", 0)):
        other = ControllerSearcher(space, controller, seed=seed)
        with pytest.raises(RunError, match=r"not the state of this searcher: its (space|controller|seed) is"):
            other.restore(str(path))
    raw = path.read_bytes()
    for damaged in (b"", raw[:40], pickle.dumps({"asked": 1}), raw.replace(b"pending", b"pendinG")):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match="not the state of this searcher"):
            searcher.restore(str(path))


def test_the_limiter_holds_and_an_exhausted_space_ends_the_experiment() -> None:
    searcher = ControllerSearcher(TINY, "random")
    limited = ConcurrencyLimiter(searcher, max_concurrent=2)
    seen: list[str] = []
    live: list[str] = []
    for number in range(1000):
        config = limited.suggest(f"t{number}")
        if config == Searcher.FINISHED:
            break
        if isinstance(config, dict):
            seen.append(TINY.canonical(genotype_of(config)))
            live.append(f"t{number}")
            assert len(live) <= 2
        else:
            assert live, "nothing to wait for"
            limited.on_trial_complete(live.pop(0), {"reward": 0.5, "training_iteration": 1})
    else:
        pytest.fail("the search of a space with few cells does not end")
    every = {TINY.canonical(TINY.decode((a, b, c, d))) for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1)}
    assert sorted(seen) == sorted(every)


def test_a_trials_config_is_the_genotype_and_back() -> None:
    config = ControllerSearcher(NASNET, "random").suggest("t")
    assert isinstance(config, dict) and json.loads(json.dumps(config)) == config
    assert NASNET.decode(NASNET.encode(genotype_of(config))) == genotype_of(config)
    for wrong in ({}, {"genotype": 3}, {"genotype": "{"}, {"genotype": "{}"}):
        with pytest.raises(GenotypeError):
            genotype_of(wrong)


def test_trials_of_another_experiment_can_be_learnt_from() -> None:
    config = ControllerSearcher(TINY, "random", seed=1).suggest("t")
    searcher = ControllerSearcher(TINY, "random")
    assert isinstance(config, dict)
    searcher.add_evaluated_point(config, 0.5)
    assert list(searcher.controller.trained.values()) == [(0, Completed(0.5))]
    proposed = [searcher.suggest(f"t{i}") for i in range(5)]
    cells = {TINY.canonical(genotype_of(c)) for c in proposed if isinstance(c, dict)}
    assert TINY.canonical(genotype_of(config)) not in cells


def test_settings_that_contradict_each_other_are_refused() -> None:
    searcher = ControllerSearcher(NASNET, "random")
    assert searcher.set_search_properties("reward", "max", {"epochs": 3}) is False
    with pytest.raises(ControllerError, match="must agree with the searcher, which has metric='reward'"):
        searcher.set_search_properties("loss", "max", {})
    with pytest.raises(ControllerError, match="mode must be max or min"):
        ControllerSearcher(NASNET, "random", mode="best")
    with pytest.raises(ControllerError, match="options belong to a controller that is given by name"):
        ControllerSearcher(NASNET, searcher.controller.controller, options={"batch": 3})


@pytest.mark.parametrize("failures", [{}, {"diverged": 1.0}, {"exception": 1.0}])
def test_the_trainable_reports_every_epoch_and_how_it_ended(failures: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    reports: list[dict[str, Any]] = []
    monkeypatch.setattr(tune, "report", lambda metrics, **more: reports.append(metrics))
    monkeypatch.setattr(tune, "get_checkpoint", lambda: None)
    config = build_config("laptop", ["evaluator=synthetic", "fidelity.epochs=3", f"synthetic.failures={failures}"])
    suggestion = ControllerSearcher(NASNET, "random").suggest("t")
    assert isinstance(suggestion, dict)
    ray_tune.child(suggestion, config, None, checkpoint_every=0)
    if failures:
        assert math.isnan(reports[-1]["reward"]) and [reports[-1]["failure"]] == list(failures)
    else:
        assert [report["epoch"] for report in reports] == [1, 2, 3]
        assert reports[-1]["reward"] == pytest.approx(synthetic_reward(genotype_of(suggestion)))
        assert "train_seconds" in reports[-1]


def test_an_interrupted_child_goes_on_from_its_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reports: list[dict[str, Any]] = []
    kept: dict[int, bytes] = {}

    def report(metrics: dict[str, Any], checkpoint: tune.Checkpoint | None = None) -> None:
        reports.append({key: value for key, value in metrics.items() if "second" not in key})
        if checkpoint is not None:
            with checkpoint.as_directory() as folder:
                kept[metrics["epoch"]] = Path(folder, ray_tune.CHECKPOINT).read_bytes()

    monkeypatch.setattr(tune, "report", report)
    monkeypatch.setattr(tune, "get_checkpoint", lambda: None)
    config = build_config("laptop", ["fidelity.train_examples=64", "data.validation_examples=64", "fidelity.epochs=4"])
    suggestion = ControllerSearcher(NASNET, "random").suggest("t")
    assert isinstance(suggestion, dict)
    data = prepare(config.data, config.preparation())
    ray_tune.child(suggestion, config, data, checkpoint_every=2)
    whole, reports[:] = list(reports), []
    assert [line["epoch"] for line in whole] == [1, 2, 3, 4] and list(kept) == [2]
    (tmp_path / ray_tune.CHECKPOINT).write_bytes(kept[2])
    monkeypatch.setattr(tune, "get_checkpoint", lambda: tune.Checkpoint.from_directory(tmp_path))
    ray_tune.child(suggestion, config, data, checkpoint_every=2)
    assert reports == whole[2:]


def example(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "examples" / "ray_tune_search.py"), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: subprocess.Popen[str]) -> str:
    """What the example printed; it is ended where it does not end by itself."""
    try:
        output, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, output
    return output


@pytest.mark.slow
def test_the_example_searches_the_digits(tmp_path: Path) -> None:
    small = ["--set", "fidelity.train_examples=100", "--set", "fidelity.epochs=2", "--set", "data.validation_examples=100"]
    output = finish(example("--children", "3", "--controller", "evolution", "--out", "tuned", *small, cwd=tmp_path))
    assert "3 children, " in output, output
    best = read_genotype(tmp_path / "tuned" / "best.yaml")
    rewards = [json.loads(path.read_text().splitlines()[-1]) for path in (tmp_path / "tuned").glob("*/result.json")]
    assert len(rewards) == 3
    assert max(line["reward"] for line in rewards) in [line["reward"] for line in rewards if genotype_of(line["config"]) == best]


@pytest.mark.slow
def test_the_example_goes_on_after_a_kill(tmp_path: Path) -> None:
    settings = ["--set", "evaluator=synthetic", "--set", "synthetic.seconds=1.5"]
    process = example("--children", "30", "--out", "tuned", *settings, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while len(list((tmp_path / "tuned").glob("searcher-state-*"))) == 0 or len(list((tmp_path / "tuned").glob("*/result.json"))) < 12:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    output = finish(example("--children", "30", "--out", "tuned", "--resume", *settings, cwd=tmp_path))
    assert "30 children, " in output, output
