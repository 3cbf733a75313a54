"""What proposing and learning cost a trial, for every controller, after 500 and after 20,000 trials: time and growth of memory.

One thread, the NASNet space (50 decisions), through the canonical-cell cache, with 1 and with 32 children in flight. Rewards are
those of the synthetic objective and are not timed. A controller is not driven through 20,000 trials from the start but warmed
up: it is told so many random cells with their rewards, then trials are timed in windows, and the median window counts.
"""

import argparse
import os
import resource
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from controllers.controller import Completed, Proposal, random_for
from controllers.deduplicated import Deduplicated
from controllers.registry import make_controller
from nas.comparisons.suite import parse_arm
from nas.evaluators.objective import noisy_reward
from search_spaces.nasnet import NASNET
from search_spaces.space import sample_actions

CONTROLLERS = ("ppo", "ppo:screen=false", "ppo:recurrent=false", "reinforce", "evolution", "local_search", "random")


@dataclass(frozen=True)
class Cost:
    """What a trial costs a controller."""

    label: str
    trials: int
    in_flight: int
    milliseconds: float
    """Median over windows of processor time a trial."""
    slowest: float
    """Processor milliseconds of the slowest ask or tell."""
    megabytes: float
    """Resident memory that the trials before added."""


def measure(label: str, trials: int, in_flight: int, windows: int, window: int) -> Cost:
    """Warm a controller up with ``trials`` outcomes, then time ``windows`` windows of ``window`` trials."""
    arm = parse_arm(label)
    rng = random_for(0, "speed")
    controller = Deduplicated(make_controller(arm.controller, NASNET, 0, arm.options), NASNET, 0)
    for _ in range(20):  # what is loaded or built at the first use is not what trials add
        controller.ask(0, [])
    before = _resident()
    for trial in range(trials):
        actions = sample_actions(NASNET, rng)
        controller.tell(Proposal(trial, actions), Completed(_reward(actions, trial)))
    grown = _resident() - before
    flying = [controller.ask(trials, [])]
    asked, medians, slowest = trials + 1, [], 0.0
    for _ in range(windows):
        spent = 0.0
        for _ in range(window):
            start = time.process_time()
            while len(flying) < in_flight:
                flying.append(controller.ask(asked, flying))
                asked += 1
            middle = time.process_time()
            proposal = flying.pop(rng.randrange(len(flying)))
            reward = _reward(proposal.actions, proposal.trial)
            told = time.process_time()
            controller.tell(proposal, Completed(reward))
            end = time.process_time()
            spent += middle - start + end - told
            slowest = max(slowest, middle - start, end - told)
        medians.append(1000 * spent / window)
    # the first window fills the flight and finds caches cold
    return Cost(label, trials, in_flight, statistics.median(medians[1:]), 1000 * slowest, grown)


def _reward(actions: Sequence[int], trial: int) -> float:
    return noisy_reward(NASNET.decode(tuple(actions)), 0, trial, 0.02)


def _resident() -> float:
    """Megabytes of memory in use now where the system says so, else the most there was."""
    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Measure every controller in a fresh process each and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--controllers", nargs="+", default=CONTROLLERS, metavar="NAME[:OPTION=VALUE,…]")
    parser.add_argument("--trials", nargs="+", type=int, default=(500, 20_000))
    parser.add_argument("--in-flight", nargs="+", type=int, default=(1, 32))
    parser.add_argument("--windows", type=int, default=11)
    parser.add_argument("--window", type=int, default=20, help="trials a window")
    given = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # for the processes that measure
    for label in given.controllers:
        parse_arm(label)
    print("| controller | trials before | in flight | ms a trial (median) | slowest step, ms | memory added by the trials before, MB |")
    print("|---|---|---|---|---|---|", flush=True)
    for label in given.controllers:
        for trials in given.trials:
            for in_flight in given.in_flight:
                with get_context("spawn").Pool(1) as pool:  # a process of its own, so that memory is its own
                    cost = pool.apply(measure, (label, trials, in_flight, given.windows, given.window))
                cells = (f"{cost.milliseconds:.1f}", f"{cost.slowest:.0f}", f"{cost.megabytes:.0f}")
                print(f"| {cost.label} | {cost.trials:,} | {cost.in_flight} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
