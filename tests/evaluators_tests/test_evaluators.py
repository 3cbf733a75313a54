"""The evaluators keep their contract: reports, outcomes, costs; the synthetic one lasts and fails as it is told."""

import math
import random
import subprocess
import sys
import time
from collections import Counter

import pytest
from support.children import finish

from controllers.controller import FAILURE_REASONS, Completed, Failed
from nas.data import PreparedData, prepare
from nas.data.settings import DataSettings
from nas.errors import ConfigError
from nas.evaluators.child import smaller_batch
from nas.evaluators.objective import synthetic_optimum, synthetic_reward
from nas.evaluators.registry import build_evaluator
from nas.evaluators.settings import FailureReason, Fidelity, SyntheticSettings, child_training
from nas.evaluators.synthetic import SyntheticEvaluator, choose_failure
from nas.runners.runner import Job, run_child
from nas.runs.config import SearchConfig
from nas.training.recipe import Recipe, RegularisationSettings, TrainingSettings
from search_spaces.genotype import Genotype
from search_spaces.registry import load_space
from search_spaces.space import sample_actions

NASNET = load_space("nasnet")


def genotype(seed: int, space=NASNET) -> Genotype:
    return space.decode(sample_actions(space, random.Random(seed)))


# ---------------------------------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def config() -> SearchConfig:
    return SearchConfig(
        data=DataSettings(name="digits", validation_examples=100),
        fidelity=Fidelity(epochs=2, cells=1, filters=4, train_examples=200),
        training=TrainingSettings.model_validate(child_training({"batch_size": 50, "augmentation": "none"})),
    )


def of_search(config: SearchConfig) -> PreparedData:
    return prepare(config.data, config.preparation())


@pytest.fixture(scope="module")
def evaluator(config):
    return build_evaluator(config, of_search(config))


def test_a_genotype_is_trained_and_its_costs_are_measured(evaluator):
    reports, evaluation = finish(evaluator.evaluate(genotype(0), 0, None))
    assert len(reports) == 2 and evaluation.outcome == Completed(reports[-1].reward)
    assert evaluation.metrics["params"] > 1000 and evaluation.metrics["macs"] > 10_000
    assert evaluation.metrics["train_seconds"] > 0 and evaluation.metrics["images_per_second"] > 0


def test_equal_seeds_give_equal_networks_and_rewards(evaluator):
    def losses(seed: int) -> list[float]:
        return [report.metrics["train_loss"] for report in finish(evaluator.evaluate(genotype(1), seed, None))[0]]

    first = losses(5)
    losses(6)
    assert losses(5) == first != losses(6)


def test_a_child_that_is_too_slow_fails_with_its_costs(evaluator):
    reports, evaluation = finish(evaluator.evaluate(genotype(0), 0, 1e-9))
    assert reports == [] and isinstance(evaluation.outcome, Failed) and evaluation.outcome.reason == "time_limit"
    assert evaluation.metrics["params"] > 1000


def test_auxiliary_head_and_drop_path_are_built_when_the_settings_ask(config):
    both = RegularisationSettings(auxiliary_weight=0.4, drop_path_keep=0.5)
    with_both = config.model_copy(update={"training": config.training.model_copy(update={"regularisation": both})})
    data = of_search(config)
    plain = finish(build_evaluator(config, data).evaluate(genotype(2), 0, None))[1]
    full = finish(build_evaluator(with_both, data).evaluate(genotype(2), 0, None))[1]
    assert full.metrics["params"] > plain.metrics["params"] and isinstance(full.outcome, Completed)


def test_cells_with_one_input_are_trained_in_the_nasbench201_network(evaluator):
    _, evaluation = finish(evaluator.evaluate(genotype(0, load_space("nasbench201")), 0, None))
    assert isinstance(evaluation.outcome, Completed)


def test_a_network_too_large_for_the_memory_fails_as_out_of_memory(config, monkeypatch):
    import nas.evaluators.child

    def too_large(*_, **__):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    built = build_evaluator(config, of_search(config))
    monkeypatch.setattr(nas.evaluators.child, "seeded_network", too_large)
    assert finish(built.evaluate(genotype(0), 0, None))[1].outcome == Failed(
        "out_of_memory", "DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes"
    )


def test_a_smaller_batch_keeps_two_images_and_shrinks_the_learning_rate():
    recipe = Recipe(batch_size=32)
    quarter = smaller_batch(recipe, 4)
    assert (quarter.batch_size, quarter.optimizer.learning_rate) == (8, recipe.optimizer.learning_rate / 4)
    assert smaller_batch(recipe.model_copy(update={"batch_size": 3}), 4).batch_size == 2 and smaller_batch(recipe, 1) is recipe


def test_training_needs_data(config):
    with pytest.raises(ConfigError, match="needs a data set"):
        build_evaluator(config, None)


# ---------------------------------------------------------------------------------------------------- synthetic


def synthetic(epochs: int = 3, **settings) -> SyntheticEvaluator:
    return SyntheticEvaluator(SyntheticSettings(**settings), epochs)


def test_synthetic_rewards_depend_on_genotype_and_seed_alone():
    noisy = synthetic(noise=0.05)
    first = finish(noisy.evaluate(genotype(0), 1, None))
    assert first == finish(noisy.evaluate(genotype(0), 1, None))
    assert first[1].outcome != finish(noisy.evaluate(genotype(0), 2, None))[1].outcome
    quiet = synthetic()
    assert finish(quiet.evaluate(genotype(0), 1, None))[1] == finish(quiet.evaluate(genotype(0), 2, None))[1]


def test_synthetic_reports_rise_to_the_reward():
    reports, evaluation = finish(synthetic(epochs=4).evaluate(genotype(3), 0, None))
    rewards = [report.reward for report in reports]
    assert rewards == sorted(rewards) and len(rewards) == 4
    assert evaluation.outcome == Completed(rewards[-1]) == Completed(synthetic_reward(genotype(3)))


def test_synthetic_optimum_is_known():
    for objective in (0, 3):
        best = finish(synthetic(objective=objective).evaluate(synthetic_optimum(objective), 0, None))[1].outcome
        assert isinstance(best, Completed) and best.reward == pytest.approx(1.0)
    assert finish(synthetic(objective=1).evaluate(genotype(0), 0, None)) != finish(synthetic().evaluate(genotype(0), 0, None))


def test_the_synthetic_evaluator_serves_every_space(tmp_path):
    declared = tmp_path / "small.yaml"
    declared.write_text("schema: nas.space/1\nname: small\noperations: [identity, sep_conv_3x3, zero]\nnodes: 2\ncells: [normal]\n")
    for space in (*(load_space(name) for name in ("nasnet", "nasnet-paper", "nasbench201")), load_space(str(declared))):
        rewards = [finish(synthetic().evaluate(genotype(seed, space), 0, None))[1].outcome.reward for seed in range(30)]
        assert all(0 < reward < 1 for reward in rewards) and len(set(rewards)) > 20, space.name


def test_synthetic_children_last_as_long_as_told_and_keep_the_limit():
    started = time.monotonic()
    _, evaluation = finish(synthetic(seconds=0.3).evaluate(genotype(0), 0, None))
    assert time.monotonic() - started >= 0.3 and evaluation.metrics["train_seconds"] == pytest.approx(0.3)
    _, evaluation = finish(synthetic(seconds=60).evaluate(genotype(0), 0, 0.2))
    assert isinstance(evaluation.outcome, Failed) and evaluation.outcome.reason == "time_limit"


@pytest.mark.parametrize(("reason", "limit"), [("exception", None), ("diverged", None), ("out_of_memory", None), ("time_limit", 0.1)])
def test_synthetic_failures_come_out_as_they_would_in_a_search(reason, limit):
    child = run_child(synthetic(failures={reason: 1.0}), Job(0, 1, genotype(0), 7), limit)
    _, evaluation = finish(child)
    assert isinstance(evaluation.outcome, Failed) and evaluation.outcome.reason == reason


def test_a_synthetic_worker_dies_where_it_is_told_to():
    code = (
        "import random; from nas.evaluators.settings import SyntheticSettings; from nas.evaluators.synthetic import SyntheticEvaluator;"
        "from search_spaces.nasnet import NASNET; from search_spaces.space import sample_actions;"
        "g = NASNET.decode(sample_actions(NASNET, random.Random(0)));"
        "list(SyntheticEvaluator(SyntheticSettings(failures={'worker_lost': 1.0}), 2).evaluate(g, 0, None)); print('alive')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1 and "alive" not in ended.stdout and not ended.stderr


def test_failure_rates_are_kept():
    rates: dict[FailureReason, float] = {"exception": 0.1, "hung": 0.3}
    rng = random.Random(0)
    counts = Counter(choose_failure(rates, rng.random()) for _ in range(10_000))
    for reason, share in (("exception", 0.1), ("hung", 0.3), (None, 0.6)):
        assert abs(counts[reason] / 10_000 - share) < 5 * math.sqrt(share * (1 - share) / 10_000)


def test_every_failure_reason_can_be_tried():
    assert set(FAILURE_REASONS) == set(FailureReason.__args__)  # type: ignore[attr-defined]


def test_the_synthetic_evaluator_does_not_need_torch():
    code = (
        "import sys, nas.evaluators.registry as e; from nas.runs.config import SearchConfig as C;"
        "e.build_evaluator(C(evaluator='synthetic'), None); print('torch' in sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.stdout.strip() == "False", ended.stderr
