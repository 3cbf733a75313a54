"""What a person sees of a search now: plain data made of the state that its ledger adds up to, for whoever shows it. No torch, no ray."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from statistics import fmean

from controllers.controller import Completed, Failed, Stopped
from nas.runs.config import SearchConfig
from nas.runs.standings import CardStanding, Standings
from nas.runs.state import RunState
from nas.runs.trials import Trial

RECENT = 200
"""Outcomes that the pace is taken from, the latest ones: a search changes as it goes on."""
WEIGHT = 4
"""As so many outcomes counts what was known of the pace before a session."""
SHOWN_EVENTS = 8
LOOKED_BACK = 100
"""Outcomes among which the last events are looked for: most may be repeats."""
SHOWN_UPDATES = 16


@dataclass(frozen=True)
class RungView:
    """How far a rung has come; 0 is the search's own.

    Attributes:
        done: cells that have been trained with all ``seeds`` of the rung.
        places: cells that will be.
        left: seconds until the rung's trainings are done, control cards among them, if the workers did nothing else; None: unknown,
            or nobody goes on with them.
    """

    rung: int
    done: int
    places: int
    seeds: int
    left: float | None


@dataclass(frozen=True)
class ChildView:
    """A training that goes on: of a trial of the search, of the cells of the trial ``origin`` at a higher rung, or of a control card.

    ``epoch`` and ``reward`` are those of its last report, 0 and None before; ``began`` is when this attempt was handed out.
    """

    trial: int
    rung: int
    origin: int | None
    card: str | None
    attempt: int
    epoch: int
    epochs: int
    reward: float | None
    began: float


@dataclass(frozen=True)
class TrialView:
    """A training that has ended: ``outcome`` is completed, stopped or failed; ``repeats`` is the trial that answered it, untrained."""

    time: float
    trial: int
    rung: int
    origin: int | None
    card: str | None
    outcome: str
    reward: float | None
    reason: str | None
    detail: str | None
    repeats: int | None


@dataclass(frozen=True)
class IncumbentView:
    """The best known cell: its trial, what is believed of its reward at ``rung`` with its 95 % interval, and who is tied with it.

    ``trained`` is the highest rung that it has been trained at: what is believed at one above that is expected and not measured.
    """

    trial: int
    rung: int
    mean: float
    low: float
    high: float
    ties: int
    trained: int


@dataclass(frozen=True)
class SearchView:
    """One look at a search.

    Attributes:
        run: its folder.
        time: when this was seen; all times are seconds since 1970.
        last: of the last thing in the ledger.
        elapsed: seconds of work in all sessions.
        rungs: from 0.
        left: seconds from ``last`` on until all is done, as those of the rungs; a second look and the winner's training are part of it;
            None: unknown.
        cards: the control cards at the incumbent's rung.
        workers: children that are trained at once if there are enough; 0: unknown.
        repeats: proposals answered without training, ``redrawn`` those that may not be trained.
        entropy: the policy's, after each of its last updates, as a share of the greatest.
        trials: the last ones that ended, latest last, repeats left out.
        notes: what was said on the way, with its time.
        digits: decimals of an accuracy that say something.
        ending: why the search is over; None while it goes on, or was killed.
        running: whether a process holds the run's folder, as far as can be told from here: also of one that has ended, where a process
            begins to go on with it.
    """

    run: str
    time: float
    last: float
    elapsed: float
    budget: int
    spent: int
    rungs: tuple[RungView, ...]
    left: float | None
    incumbent: IncumbentView | None
    cards: tuple[CardStanding, ...]
    children: tuple[ChildView, ...]
    workers: int
    repeats: int
    redrawn: int
    failures: Mapping[str, int]
    setbacks: Mapping[str, int]
    updates: int
    entropy: tuple[float, ...]
    trials: tuple[TrialView, ...]
    notes: tuple[tuple[float, str], ...] = ()
    digits: int = 4
    ending: str | None = None
    running: bool = True

    @property
    def over(self) -> bool:
        """Whether the search has ended and no process goes on with it."""
        return self.ending is not None and not self.running


def view_of(
    run: str,
    config: SearchConfig,
    state: RunState,
    standings: Standings | None = None,
    notes: Sequence[tuple[float, str]] = (),
    now: float | None = None,
) -> SearchView:
    """What there is to see of a run.

    Args:
        run: its folder.
        config: its configuration.
        state: what its ledger says. Reading it costs the same however many trials there are.
        standings: the order of its cells, which takes longer, as it was last known.
        notes: what the process that runs it has said, where this is that one.
        now: the time; None looks.
    """
    pace, top = pace_of(state, config), standings.top if standings is not None else 0
    rungs = tuple(_rung(rung, config, state, pace) for rung in range(len(state.ladder.rungs) + 1))
    lefts = [rung.left for rung in rungs]
    yardstick = state.yardsticks[top] if top < len(state.yardsticks) else None
    incumbent = _incumbent(standings)
    return SearchView(
        run=run,
        time=time.time() if now is None else now,
        last=state.sessions[-1][1] if state.sessions else 0.0,
        elapsed=state.elapsed(),
        budget=state.budget,
        spent=state.spent,
        rungs=rungs,
        left=None if None in lefts else sum(left or 0.0 for left in lefts) + _at_the_end(config, state, pace),
        incumbent=incumbent,
        cards=standings.cards_at(top) if standings is not None else (),
        children=tuple(_child(trial, config) for trial in list(state.pending.values()) if trial.attempts),
        workers=state.workers,
        repeats=state.repeats,
        redrawn=state.redrawn.total(),
        failures=dict(state.failures),
        setbacks=dict(state.setbacks),
        updates=len(state.updates),
        entropy=tuple(said["entropy_share"] for _, said in state.updates[-SHOWN_UPDATES:] if "entropy_share" in said),
        trials=_last_trials(state),
        notes=tuple(notes),
        digits=yardstick.digits(incumbent.mean) if yardstick is not None and incumbent is not None else 4,
        ending=state.closed,
        running=state.closed is None,
    )


def _incumbent(standings: Standings | None) -> IncumbentView | None:
    if standings is None or not standings.ranked:
        return None
    first = standings.ranked[0]
    belief = first.belief
    return IncumbentView(first.trial, standings.top, belief.mean, belief.low, belief.high, standings.ties, first.rung)


def _child(trial: Trial, config: SearchConfig) -> ChildView:
    report = trial.reports[-1] if trial.reports else None
    fidelity = config.at_rung(trial.rung).fidelity if trial.rung else config.fidelity
    return ChildView(
        trial=trial.number,
        rung=trial.rung,
        origin=trial.origin,
        card=trial.card,
        attempt=trial.attempts,
        epoch=report.epoch if report is not None else 0,
        epochs=fidelity.epochs,
        reward=report.reward if report is not None else None,
        began=trial.started or 0.0,
    )


def trial_view(trial: Trial) -> TrialView:
    """A trial that has ended, as it is shown."""
    assert trial.evaluation is not None
    outcome, name, reward, reason, detail = trial.evaluation.outcome, "completed", None, None, None
    match outcome:
        case Completed(found):
            reward = found
        case Stopped(rung, found):
            name, reward, detail = "stopped", found, f"after epoch {rung}"
        case Failed(why, what):
            name, reason, detail = "failed", why, what
    return TrialView(
        trial.ended or 0.0, trial.number, trial.rung, trial.origin, trial.card, name, reward, reason, detail, trial.repeats
    )


def _last_trials(state: RunState) -> tuple[TrialView, ...]:
    recent = (state.trials[number] for number in islice(reversed(state.told), LOOKED_BACK))
    return tuple(trial_view(trial) for trial in islice((trial for trial in recent if trial.repeats is None), SHOWN_EVENTS))[::-1]


# ---------------------------------------------------------------------------------------------------- time left


@dataclass(frozen=True)
class Pace:
    """How fast a search goes: the seconds of a training by rung, and how many were done beside one another."""

    seconds: Mapping[int, float] = field(default_factory=dict)
    at_once: float = 0.0

    def left(self, rung: int, trainings: int, under_way: Sequence[float]) -> float | None:
        """Seconds of so many trainings at a rung, some of which are ``under_way`` for so long, if workers did nothing else."""
        if not trainings:
            return 0.0
        if rung not in self.seconds or not self.at_once:
            return None
        one = self.seconds[rung]
        return max(0.0, trainings * one - sum(min(since, one) for since in under_way)) / self.at_once


def pace_of(state: RunState, config: SearchConfig) -> Pace:
    """The pace of the last outcomes; of rungs that nobody has been trained at yet, what the plan expects, as wrong as it was below.

    Where no plan has timed them (on a cluster), it is by how much more there is to compute. The first outcomes of a session say little,
    as its workers warm up: beside them stands what earlier sessions took, or the plan, as so many outcomes more.
    """
    now, before = _trained(state)
    expected, earlier = dict(enumerate(state.expected)), _by_rung(before)
    known = {rung: fmean(values) for rung, values in earlier.items()}
    for rung, values in _by_rung(now).items():
        assumed = known.get(rung, expected.get(rung))
        known[rung] = fmean([*values, *([] if assumed is None else [assumed] * WEIGHT)])
    planned = expected or _by_work(config)
    if known.get(0) and planned.get(0):
        planned = {rung: value * known[0] / planned[0] for rung, value in planned.items()}
    elif not state.expected:
        planned = {}  # in proportion to nothing yet
    return Pace(planned | known, _at_once(state, now, known.get(0, planned.get(0, 0.0))))


def _by_rung(trials: Sequence[Trial]) -> dict[int, list[float]]:
    """How long each training took, by its rung."""
    found: dict[int, list[float]] = {}
    for trial in trials:
        found.setdefault(trial.rung, []).append(seconds_of(trial))
    return found


def _by_work(config: SearchConfig) -> dict[int, float]:
    """How much is computed in a training at every rung, in proportion; without those of which that cannot be told from the settings."""
    first, found = config.fidelity, {0: 1.0}
    for rung in range(1, len(config.ladder) + 1):
        at = config.at_rung(rung).fidelity
        factors = [
            (at.epochs, first.epochs, 1),
            (at.cells, first.cells, 1),
            (at.filters, first.filters, 2),
            (at.image_size, first.image_size, 2),
            (at.train_examples, first.train_examples, 1),
        ]
        if all((more is None) == (less is None) for more, less, _ in factors):
            found[rung] = math.prod((more / less) ** power for more, less, power in factors if more and less)
    return found


def _at_once(state: RunState, ended: Sequence[Trial], one: float) -> float:
    """How many trainings are done beside one another: work that was done, by those still at it too, over the time that it took.

    Beside it stand ``WEIGHT`` trainings of ``one`` second each by all workers: at first they come one after the other.
    """
    most = max(state.workers, state.planned_workers)
    first = min((trial.started or 0.0 for trial in ended), default=0.0)
    span = state.sessions[-1][1] - first if state.sessions and ended else 0.0
    if span <= 0:
        return float(max(most, 1))
    going = (trial.started for trial in list(state.pending.values()) if trial.started is not None)
    busy = sum(map(seconds_of, ended)) + sum(max(0.0, state.sessions[-1][1] - max(start, first)) for start in going)
    if most:
        busy, span = busy + WEIGHT * one, span + WEIGHT * one / most
    return max(0.5, min(busy / span, float(most or math.inf)))


def _trained(state: RunState) -> tuple[list[Trial], list[Trial]]:
    """The last trials that were trained: in the session that is or was last, and before it."""
    began = state.sessions[-1][0] if state.sessions else 0.0
    last = (state.trials[number] for number in islice(reversed(state.told), RECENT))
    trained = [trial for trial in last if trial.repeats is None and trial.started is not None and trial.ended is not None]
    now = [trial for trial in trained if (trial.started or 0.0) >= began]
    return now, [trial for trial in trained if (trial.ended or 0.0) < began]


def seconds_of(trial: Trial) -> float:
    """How long a trial's training took: as it says itself, else from being handed out to its end."""
    measured = trial.evaluation.metrics.get("train_seconds") if trial.evaluation is not None else None
    return measured if measured is not None else max(0.0, (trial.ended or 0.0) - (trial.started or 0.0))


def _rung(rung: int, config: SearchConfig, state: RunState, pace: Pace) -> RungView:
    ladder = state.ladder
    places, seeds = ladder.places(rung, state.budget), ladder.seeds(rung)
    stands = ladder.at(rung).values()
    done = state.spent if rung == 0 else sum(stand.ended >= seeds for stand in stands)
    trained = state.spent if rung == 0 else sum(stand.ended for stand in stands)
    dealt = sum(stand.ended for stand in ladder.cards.get(rung, {}).values())
    more = max(0, places * seeds - trained) + max(0, len(config.cards) * seeds - dealt)
    left = pace.left(rung, more, _under_way(rung, state)) if state.closed is None else (None if more else 0.0)  # nobody goes on with it
    return RungView(rung, done, places, seeds, left)


def _under_way(rung: int, state: RunState) -> list[float]:
    """For how long the trainings of a rung that go on had done so when the ledger's last word came."""
    began, last = state.sessions[-1] if state.sessions else (0.0, 0.0)
    going = (trial.started for trial in list(state.pending.values()) if trial.rung == rung and not trial.second_look)
    return [last - started for started in going if started is not None and began <= started]


def _at_the_end(config: SearchConfig, state: RunState, pace: Pace) -> float:
    """Seconds of what comes one after the other when all else is done: a second look, and the training of the winner."""
    if state.closed is not None:
        return 0.0
    looked = any(stand.ended for stand in state.ladder.at(0).values())
    winner = config.ladder and config.evaluator == "train"
    rungs = [0] * (config.second_looks > 0 and not looked) + [len(config.ladder)] * bool(winner)
    return sum(pace.seconds.get(rung, 0.0) for rung in rungs)
