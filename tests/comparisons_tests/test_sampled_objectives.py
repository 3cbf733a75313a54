"""`benchmarks/sampled_objectives.py`: its functions are draws of the posterior they claim to be, and controllers run on them."""

import runpy
import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.gaussian_process import GaussianProcessRegressor
from support.kernels import Wrapped
from support.paths import ROOT

from search_spaces.nasnet import NASNET

SCRIPT = ROOT / "benchmarks" / "sampled_objectives.py"
ROWS = ROOT / "benchmarks" / "data" / "searched_by_cheap_draws_2.csv"
NAMES = runpy.run_path(str(SCRIPT))


def test_values_are_draws_of_scikit_learns_posterior():
    """Of two cells, one alike a trained one, over many functions: means, deviations and their correlation."""
    actions, rewards = NAMES["read_rows"]([ROWS])
    posterior = NAMES["fitted"](NASNET, actions, rewards)
    asked = [(*actions[50][:49], 1 - actions[50][49]), (1 - actions[51][0], *actions[51][1:])]
    reference = GaussianProcessRegressor(Wrapped(posterior.encoder, posterior.hyper), alpha=posterior.hyper.noise, optimizer=None)
    reference.fit(np.array(actions), (rewards - posterior.mean) / posterior.deviation)
    mean, covariance = reference.predict(np.array(asked), return_cov=True)
    drawn = np.array([[sample(one) for one in asked] for sample in (NAMES["Sample"](posterior, seed) for seed in range(1500))])
    standard = (drawn - posterior.mean) / posterior.deviation
    np.testing.assert_allclose(standard.mean(0), mean, atol=0.06)
    np.testing.assert_allclose(np.cov(standard.T), covariance, atol=0.04)


def test_a_value_stays_what_it_was():
    actions, rewards = NAMES["read_rows"]([ROWS])
    sample = NAMES["Sample"](NAMES["fitted"](NASNET, actions[:20], rewards[:20]), 0)
    first = [sample(one) for one in actions[20:40]]
    assert [sample(one) for one in actions[20:40]] == first and len(set(first)) == 20


def test_forests_know_what_they_were_fitted_to_and_differ_from_seed_to_seed():
    """They order trainings that they were not fitted to as well, and a value stays what it was."""
    actions, rewards = NAMES["read_rows"]([ROWS])
    told = NAMES["forests"](NASNET, actions[::2], rewards[::2], 0.0)
    one, other = told.sample(0), told.sample(1)
    values = np.array([one(cell) for cell in actions])
    assert spearmanr(values[::2], rewards[::2]).statistic > 0.8
    assert spearmanr(values[1::2], rewards[1::2]).statistic > 0.3
    assert values.max() <= rewards[::2].max()
    assert one(actions[0]) == values[0] and other(actions[0]) != values[0]


@pytest.mark.parametrize("by", ["process", "forest"])
def test_the_script_prints_a_row_a_controller(by):
    words = ["--by", by, "--seeds", "2", "--budget", "30", "--processes", "1"]
    words += ["--controller", "random", "--controller", "climber=local_search"]
    done = subprocess.run([sys.executable, str(SCRIPT), *words], capture_output=True, text=True, check=True)
    rows = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows == ["controller", "random", "climber"]
