"""Every controller keeps the shared contract, proposes the same in another process, and is made by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.contracts import CONTRACT, SMALL_SPACE, Make, as_plain, disorderly_history, reward_for
from support.paths import ROOT

from controllers.controller import Completed, Controller
from controllers.deduplicated import Deduplicated
from controllers.options import ControllerError, EvolutionOptions, PolicyGradientOptions
from controllers.registry import CONTROLLERS, check_options, make_controller
from search_spaces.space import SearchSpace

SMALL = {"ppo": {"hidden": 16}, "reinforce": {"hidden": 16}, "evolution": {"population": 6, "sample": 3}}
"""Options that let updates, tournaments and generations happen within a few dozen trials."""


def maker(name: str, wrapped: bool, **options: object) -> Make:
    def make(space: SearchSpace, seed: int) -> Controller:
        controller = make_controller(name, space, seed, {**SMALL.get(name, {}), **options})
        return Deduplicated(controller, space, seed) if wrapped else controller

    return make


@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "deduplicated"])
@pytest.mark.parametrize("name", sorted(CONTROLLERS))
def test_contract(name, wrapped, rule):
    rule(maker(name, wrapped))


@pytest.mark.parametrize(
    "options",
    [{"recurrent": False}, {"reward": "quantile"}, {"reward": "baseline", "normalise": True}, {"preset": "paper", "batch": 4}],
    ids=str,
)
@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__)
def test_contract_of_policy_variants(options, rule):
    rule(maker("ppo", True, **options))


def proposals(name: str, seed: int) -> list[dict]:
    """What a controller proposes over a disorderly search, as plain data (also run in another process)."""
    return [as_plain(proposal) for proposal in disorderly_history(maker(name, True)(SMALL_SPACE, seed), 40)[2]]


def test_same_seed_same_proposals_in_another_process():
    """One process for all of them: most of its time is its imports."""
    program = "import json, test_controllers as t; print(json.dumps({name: t.proposals(name, 3) for name in t.CONTROLLERS}))"
    paths = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{Path(__file__).parent}"}
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT, env=paths)
    elsewhere = json.loads(output.stdout)
    assert elsewhere.keys() == set(CONTROLLERS)
    for name in CONTROLLERS:
        assert elsewhere[name] == json.loads(json.dumps(proposals(name, 3))), name
        assert proposals(name, 4) != proposals(name, 3), name


@pytest.mark.parametrize("name", ["ppo", "reinforce", "evolution", "local_search"])
def test_learns(name):
    """The last 50 of 150 proposals lie well above what uniform sampling gives on average (whose standard error is 0.02)."""
    uniform = sum(1 / len(decision.choices) for decision in SMALL_SPACE.decisions) / len(SMALL_SPACE.decisions)
    for seed in range(3):
        controller = maker(name, True)(SMALL_SPACE, seed)
        rewards = []
        for trial in range(150):
            proposal = controller.ask(trial, [])
            rewards.append(reward_for(proposal.actions))
            controller.tell(proposal, Completed(rewards[-1]))
        assert sum(rewards[-50:]) / 50 > uniform + 0.15, f"seed {seed}"


def test_listing_controllers_does_not_import_torch():
    program = "import sys, controllers.registry, controllers.deduplicated; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("pso", {}, "unknown controller 'pso' (did you mean 'ppo'?); choose one of ppo, reinforce, evolution"),
        ("ppo", {"lr": 0.1}, "no option 'lr'; valid options: preset, algorithm, hidden"),
        ("ppo", {"hidden": "100"}, "'hidden' of controller 'ppo' must be an integer, but got '100'"),
        ("ppo", {"hidden": True}, "must be an integer, but got True"),
        ("ppo", {"learning_rate": float("nan")}, "must be at least 0, but got nan"),
        ("ppo", {"clip": -1}, "must be at least 0, but got -1.0"),
        ("ppo", {"entropy_floor": 2}, "must be from 0 to 1"),
        ("ppo", {"recurrent": 1}, "must be true or false, but got 1"),
        ("ppo", {"preset": "papier"}, "must be one of default, paper, but got 'papier'"),
        ("ppo", {"algorithm": "reinforce"}, "choose the controller of that name"),
        ("evolution", {"population": 0}, "must be at least 1, but got 0"),
        ("random", {"population": 3}, "no option 'population'; valid options: none"),
    ],
)
def test_bad_names_and_options_name_the_valid_ones(name, options, words):
    with pytest.raises(ControllerError) as caught:
        make_controller(name, SMALL_SPACE, 0, options)
    assert words in str(caught.value)


def test_paper_preset_has_the_papers_values_unless_overridden():
    paper = check_options("ppo", {"preset": "paper"})
    assert isinstance(paper, PolicyGradientOptions)
    assert (paper.hidden, paper.learning_rate, paper.entropy, paper.batch, paper.baseline_decay) == (100, 0.00035, 0.00001, 20, 0.95)
    assert (paper.reward, paper.init_scale, paper.head_init_scale, paper.replay) == ("baseline", 0.1, 0.1, 1)
    assert check_options("ppo", {"preset": "paper", "batch": 7}).batch == 7
    assert check_options("evolution", {"sample": 3}) == EvolutionOptions(sample=3)
