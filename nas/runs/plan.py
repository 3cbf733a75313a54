"""Says what a search will do and about how long it takes, before it starts: a few training steps are timed on noise of the data's shape."""

import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from controllers.controller import Earlier
from nas.data.settings import data_words
from nas.errors import ConfigError
from nas.evaluators.fitting import images_used
from nas.evaluators.registry import EVALUATORS
from nas.evaluators.settings import Fidelity
from nas.runs import streams
from nas.runs.config import SearchConfig, space_of, with_overrides
from nas.runs.expected import START_SECONDS, TIMED_ABOVE, TIMED_GENOTYPES, ChildTiming, same_steps, side_by_side, time_children, work_of
from nas.runs.experience import experience_of, experience_words
from nas.runs.genotypes import begun_with
from nas.runs.ladder import Ladder
from nas.runs.layout import Layout, choose_layout, open_question, with_layout
from nas.runs.search_view import view_of
from nas.runs.sizing import describe_sizing
from nas.runs.state import RunState
from nas.tools.hardware import Hardware
from nas.tools.stages import doing, loading_torch
from nas.tools.words import briefly, counted, duration, megabytes, quoted
from nas.training.fitting import Amount, Choice, amount_of, own_images
from search_spaces.networks.native.library import describe as describe_kernels
from search_spaces.space import SearchSpace, size

TOLD_LATER = "shown once the first children have ended"
"""Of how long a search takes, where nothing is known of it."""
NEAR = 1.02
"""A search may be expected to take so many times the minutes that it is sized to."""
LEAST_SEARCHING = 0.8
"""Of the share of its time that a search gives to its own children: where a shorter one would give less, its top rung goes instead."""


def describe_plan(
    config: SearchConfig, hardware: Hardware, choices: Sequence[Choice] = (), expected: "Expected | None" = None
) -> list[str]:
    """What the search will do, one line a topic, with what was chosen to suit the images; and last how long it may take."""
    lines = _about(config, hardware, choices)
    if expected is not None and expected.layout is not None:
        lines.append(f"layout: {expected.layout.words}")
    if expected is not None and expected.left_out:
        rungs = "rung" if expected.left_out == 1 else f"{expected.left_out} rungs"
        lines.append(f"short:  without the preset's top {rungs}, which would leave too few children (`nas finalists` adds one)")
    return [*lines, f"time:   {expected or TOLD_LATER}"]


def describe_rest(
    config: SearchConfig, state: RunState, hardware: Hardware, space: SearchSpace | None = None
) -> tuple[list[str], float | None]:
    """What a search that goes on will do, one line a topic, and last what is done, what is left, and how long that takes.

    The time comes from what its ledger knows of its last session's trainings: nothing is timed.

    Args:
        config: the search as it goes on: with a larger budget, say.
        state: what its ledger says; it is changed to where the session that begins will have it.
        hardware: this machine.
        space: the search's own, as its run keeps it; None: as its name says.

    Returns:
        The lines, and the seconds that are left; None where only the first children will tell.
    """
    state.budget, state.ladder.rungs, state.closed = config.budget, list(config.ladder), None
    view = view_of("", config, state)
    first, *above = view.rungs
    done = [f"{first.done} of {first.places} children", *(f"rung {one.rung}: {one.done} of {counted(one.places, 'cell')}" for one in above)]
    left = [counted(first.places - first.done, "child", "children")] * (first.places > first.done)
    left += [f"rung {one.rung}: {counted(one.places - one.done, 'cell')}" for one in above if one.places > one.done]
    lines = _about(config, hardware, space=space, begun=state.warm, earlier=state.earlier)
    lines += [f"done:   {', '.join(done)}, in {duration(view.elapsed)}", f"left:   {', '.join(left) or 'second looks and control cards'}"]
    if view.left is None:
        return [*lines, f"time:   {TOLD_LATER}"], None
    seconds = START_SECONDS[config.runner.kind] + view.left if view.left else 0.0
    return [*lines, f"time:   about {duration(seconds)} left, by what the last trainings took; Ctrl-C stops, `nas resume` goes on"], seconds


def _about(
    config: SearchConfig,
    hardware: Hardware,
    choices: Sequence[Choice] = (),
    space: SearchSpace | None = None,
    begun: Collection[str] = (),
    earlier: Sequence[Earlier] | None = None,
) -> list[str]:
    """What the search will do, one line a topic.

    ``begun``: the warm starts that are trials already; ``earlier``: what was learnt from. Their files may be gone.
    """
    space = space or space_of(config)
    amount, workers = None, expected_workers(config, hardware)
    lines = [
        f"search: {counted(config.budget, 'child', 'children')} from space {space.name} ({len(space.decisions)} decisions, "
        f"{size(space):.2e} action sequences), proposed by {config.controller.name}, seed {config.seed}",
    ]
    if any(decision.weights for decision in space.decisions):
        lines.append("draws:  choices that cost little are drawn more often (random cells, the first policy, mutations)")
    lines += [f"fitted: {choice}" for choice in choices]
    row = EVALUATORS[config.evaluator]
    if row.needs_data:
        amount = amount_of(config.data)
        trained = trained_words(config, config.fidelity, amount, f" of {data_words(config.data)}")
        lines.append(f"child:  {trained}, reward = accuracy on a validation split of the training set")
        lines += _about_images(config, amount)
    elif config.evaluator != "table":
        lines.append(f"child:  scored by {config.evaluator}" + (f": {row.about}" if row.about else ""))
    lines += describe_sizing(config, space)
    if config.table is not None and config.evaluator == "table":
        column = config.table.column
        lines.append(f"child:  looked up in {config.table.path}, reward = {column if isinstance(column, str) else ' or '.join(column)}")
    lines += [f"rung {rung}: {rung_words(rung, config, amount)}" for rung in range(1, len(config.ladder) + 1)]
    if looks := config.second_looks:
        again = "who is believed best is trained again, with another seed, until that is one looked at twice"
        lines.append(f"looks:  in the end {again} (at most {looks}, outside the budget)")
    if config.cards:
        beside = "outside the budget, seen by nobody who decides"
        where = "trained at every rung beside the search" if config.ladder else "trained as the children are"
        lines.append(f"cards:  {', '.join(config.cards)}, {where} ({beside})")
    if config.ladder and config.evaluator == "train":
        lines.append(f"winner: the best of rung {len(config.ladder)}, trained once more to keep its weights and read the test set, once")
    if config.learn_from:
        learnt = experience_of(config, space) if earlier is None else earlier
        lines.append(f"learns: from {experience_words(learnt)}, before the first child")
    if config.warm_start:
        lines += _begun(config, space, begun)
    where = (
        "this process"
        if config.runner.kind == "local"
        else f"Ray cluster {config.runner.cluster}"
        if config.runner.cluster
        else "Ray on this machine"
    )
    at_once = counted(workers, "child", "children") if workers else "as many children as fit"
    lines.append(f"runner: {where}, {at_once} at once ({hardware.describe()})")
    if config.evaluator == "train" and not hardware.gpus:
        lines.append(f"native kernels: {describe_kernels()}")
    if config.evaluator == "train" and hardware.gpus and config.runner.gpus_per_child != 0:
        lines.append(f"graphs: {describe_graphs(config)}")
    return lines


def _begun(config: SearchConfig, space: SearchSpace, begun: Collection[str]) -> list[str]:
    """What the search begins with."""
    other = [name for name in config.warm_start if name not in begun and begun_with(space, name)[1]]
    lines = [f"warm start: the first children are {', '.join(config.warm_start)}"]
    return [*lines, f"        {', '.join(other)}: its cells put out what those of the space do, not what is published"] if other else lines


def rung_words(rung: int, config: SearchConfig, amount: Amount | None = None) -> str:
    """Who goes up to a rung, and how they are trained there; ``amount`` as for ``trained_words``."""
    said, ladder = config.ladder[rung - 1], Ladder(list(config.ladder))
    below, cells = (ladder.places(at, config.budget) for at in (rung - 1, rung))
    seeds = f", {said.seeds} seeds each" if said.seeds > 1 else ""
    return f"the best {cells} of {below}{seeds}, {trained_words(config, said.fidelity(config.fidelity), amount)}"


def trained_words(config: SearchConfig, fidelity: Fidelity, amount: Amount | None = None, of: str = "") -> str:
    """How a child is trained at a fidelity of a search: its size, for how long, on which images, if its evaluator looks at any.

    Without the ``amount`` of images, as in a report whose images may be gone, the most that are trained on are said of own ones.
    """
    epochs = counted(fidelity.epochs, "epoch")
    if not EVALUATORS[config.evaluator].needs_data:
        return epochs
    width = "F matched" if config.match is not None else f"F={fidelity.filters:g}"
    wanted = fidelity.train_examples
    if amount is None and not own_images(config.data):
        amount = amount_of(config.data)
    if wanted is None or (amount is not None and wanted >= amount.train):
        images = "all"
    else:
        images = f"{wanted:,}" if amount is not None else f"at most {wanted:,}"
    side = "full resolution" if fidelity.image_size is None else f"{fidelity.image_size}×{fidelity.image_size} pixels"
    return f"N={fidelity.cells}, {width}, {epochs} on {images} images{of} at {side}"


def _about_images(config: SearchConfig, amount: Amount) -> list[str]:
    """Where images are counted before they are read; how sure one reward is, and the memory that the images take."""
    trained_on, scored, side = images_used(config, amount)
    error = 50 / math.sqrt(scored)  # per cent, at an accuracy of 50 %: the largest
    counted_so = "images: counted by their names; how they are understood, and what cannot be read, is said when the search reads them"
    return [
        *([f"{counted_so} (`nas data {quoted(config.data.root)}` looks now)"] if config.data.name == "folder" else []),
        f"reward: from {scored:,} images: standard error at most ± {error:.1f} points; chance is {100 / amount.classes:.3g} %",
        f"memory: the images take {megabytes((trained_on + scored) * side**2 * amount.channels)}, once for all workers",
    ]


def expected_workers(config: SearchConfig, hardware: Hardware) -> int | None:
    """Children at once, as far as it can be told before Ray is asked; None on a cluster."""
    runner = config.runner
    if runner.kind == "local":
        return runner.workers or 1
    if runner.workers is not None or runner.cluster is not None:
        return runner.workers
    on_cpu = max(1, hardware.cores // runner.threads)
    share = runner.gpus_per_child if runner.gpus_per_child is not None else float(bool(hardware.gpus))
    if not share or not hardware.gpus:
        return on_cpu
    on_gpu = len(hardware.gpus) * math.floor(1 / share) if share < 1 else len(hardware.gpus) // math.ceil(share)
    return max(1, min(on_cpu, on_gpu))


def describe_graphs(config: SearchConfig) -> str:
    """How children's steps are done on a GPU: as CUDA graphs, or why not."""
    import torch

    from nas.training.graphs import refusal
    from nas.training.numerics import resolve_precision

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain = refusal(config.recipe(), device, resolve_precision(config.training.precision, device))
    return f"steps run operation by operation: {plain}" if plain else "steps are replayed as CUDA graphs"


def expect_within(config: SearchConfig, hardware: Hardware, minutes: float, measure: bool = True) -> "Expected":
    """As ``expect``, for a search whose rungs are sized to a time. Raises ConfigError where that cannot be."""
    if not 0 < minutes < 1e6:
        raise ConfigError(f"--minutes must be above 0 and below a million, but got {minutes:g}")
    expected = expect(config, hardware, measure)
    if expected is None:
        raise ConfigError(
            "--minutes needs children whose training can be timed on this machine (evaluator train, no cluster); give --budget instead"
        )
    return expected.within(minutes)


def expect(config: SearchConfig, hardware: Hardware, measure: bool = True) -> "Expected | None":
    """How children will be laid out and how long the search takes; None where only the first children will tell.

    With ``measure`` the layout is measured where that is an open question and worth it (``nas.runs.layout``).
    """
    workers = expected_workers(config, hardware)
    if config.evaluator != "train" or workers is None:
        return None
    amount, started = amount_of(config.data), time.monotonic()
    with loading_torch():
        import torch  # noqa: F401 - here, where it can be said
    with doing(f"timing up to {TIMED_GENOTYPES} random children") as tell:
        timing, work = time_children(config, amount, tell=tell), work_of(config, amount)
    if not timing.children:  # all diverged on noise
        return None
    layout = None
    if measure and open_question(config, hardware):
        with doing("trying how many children at once, on how many threads each"):
            layout = choose_layout(config, amount, hardware, timing.seconds(work))
        config = with_layout(config, layout)
        if layout.threads > 1:
            timing = time_children(config, amount)
    elif measure and streams.open_question(config):
        with doing("trying how many children at once on the GPU"):
            layout = streams.measure_at_once(config, amount)
        config = with_layout(config, layout)
    workers = expected_workers(config, hardware) or 1
    slower = layout.side_by_side if layout is not None else None
    if slower is None and hardware.gpus and config.runner.gpus_per_child != 0:
        slower = max(1.0, workers / len(hardware.gpus))  # processes with a CUDA graph each take turns on a GPU (benchmarks/README.md)
    slower = slower or side_by_side(min(workers, config.budget))
    rungs = tuple(one * slower for one in seconds_above(config, amount, timing))
    return Expected(config, layout, timing.seconds(work) * slower, slower, workers, timing.children, time.monotonic() - started, rungs)


def seconds_above(config: SearchConfig, amount: Amount, timing: ChildTiming) -> list[float]:
    """Seconds of one cell at every rung of the ladder, with all its seeds, alone here; ``timing`` is of the search's children."""
    return [seconds_at(rung, config, amount, timing) for rung in range(1, len(config.ladder) + 1)]


def seconds_at(rung: int, config: SearchConfig, amount: Amount, below: ChildTiming | None = None) -> float:
    """Seconds of one cell at a rung of the ladder, with all its seeds, alone on this machine.

    Where a child of the search itself takes the same steps, its timing ``below`` serves: what differs is then the rungs' work and
    not which random cells were timed.
    """
    one = config.at_rung(rung)
    if below is not None and same_steps(config, one):
        return config.ladder[rung - 1].seeds * below.seconds(work_of(one, amount))
    with doing(f"timing {counted(TIMED_ABOVE, 'random child', 'random children')} of rung {rung}") as tell:
        timing = time_children(one, amount, TIMED_ABOVE, tell)
    return config.ladder[rung - 1].seeds * timing.seconds(work_of(one, amount)) / (below.first if below is not None else 1.0)


def describe_rung_time(config: SearchConfig, hardware: Hardware) -> str:
    """How long the last rung of a run takes by itself, in a line."""
    workers, rung = expected_workers(config, hardware), len(config.ladder)
    if config.evaluator != "train" or workers is None:
        return "time:   shown once the first trainings have ended"
    with loading_torch():
        import torch  # noqa: F401 - here, where it can be said
    cells = Ladder(list(config.ladder)).places(rung, config.budget)
    alone = seconds_at(rung, config, amount_of(config.data))
    one, winner = alone * side_by_side(workers), alone / config.ladder[-1].seeds
    whole = START_SECONDS[config.runner.kind] + max(one, (cells + len(config.cards)) * one / workers) + winner
    cards = f" and {counted(len(config.cards), 'control card')}" if config.cards else ""
    each = f"{counted(cells, 'cell')}{cards}, {briefly(one)} each, {workers} at once, and the winner"
    return f"time:   about {duration(whole)} ({each}); Ctrl-C stops, the same command goes on"


@dataclass(frozen=True)
class Expected:
    """What a search will take: ``child`` seconds each, beside the other workers' children, which makes it ``slower`` times slower.

    ``rungs`` are the seconds of one cell at every rung of the ladder, from 1, with all seeds; ``left_out`` is how many at its top a time
    did not allow.
    """

    config: SearchConfig
    layout: Layout | None
    child: float
    slower: float
    workers: int
    timed: int
    took: float
    rungs: tuple[float, ...] = ()
    left_out: int = 0

    @property
    def trainings(self) -> list[float]:
        """Seconds of one training at every rung, from 0, beside those of the other workers."""
        return [self.child, *(one / said.seeds for one, said in zip(self.rungs, self.config.ladder, strict=True))]

    @property
    def cards(self) -> float:
        """Seconds of all control cards at all rungs, on one worker."""
        return len(self.config.cards) * (self.child + sum(self.rungs)) if self.config.cards else 0.0

    @property
    def ladder(self) -> float:
        """Seconds of all cells at the rungs above the search's own, on one worker."""
        ladder = Ladder(list(self.config.ladder))
        return sum(ladder.places(rung, self.config.budget) * one for rung, one in enumerate(self.rungs, start=1))

    @property
    def winner(self) -> float:
        """Seconds of the best cell's training at the last rung once more, alone."""
        return self.trainings[-1] / self.slower if self.config.ladder else 0.0

    @property
    def fixed(self) -> float:
        """Seconds that do not grow with the search: start, cards, second look, last children, which leave workers idle, and the winner."""
        last = 0.5 * self.child * (self.workers > 1) + self.child * (self.config.second_looks > 0) + self.winner
        return START_SECONDS[self.config.runner.kind] + self.cards / self.workers + last

    @property
    def children(self) -> float:
        """Seconds in which the search's own children train, on all workers."""
        return max(1.0, self.config.budget / self.workers) * self.child

    @property
    def seconds(self) -> float:
        """Of the whole search."""
        return self.fixed + self.children + self.ladder / self.workers

    def within(self, minutes: float) -> "Expected":
        """The same search, all rungs of it made smaller or larger in proportion, so that it takes so many minutes.

        Of what does not shrink, the winner's training and the control cards, the top rung has most: where that would take the time of the
        search's own children, the ladder does without it.

        Raises:
            ConfigError: so little time allows no search, not even one without a ladder.
        """
        search, sized = self, self._sized(minutes)
        while search.config.ladder and (sized is None or sized.searching < LEAST_SEARCHING * self.searching):
            search = search._without_top_rung()
            sized = search._sized(minutes)
        if sized is None:
            least = math.ceil((search.fixed + 2 * self.child) / 60)
            cards = "no control cards (--cards none) or " if self.config.cards else ""
            raise ConfigError(
                f"--minutes must leave time for a search, here about {least} or more, but got {minutes:g}; less takes {cards}another preset"
            )
        return sized

    @property
    def searching(self) -> float:
        """The share of the time in which the search's own children train, from 0 to 1."""
        return self.children / self.seconds

    def _sized(self, minutes: float) -> "Expected | None":
        """So many times as large that it takes so many minutes; None: each rung needs a cell, and the search twice as many as come up."""
        growth = (60 * minutes - self.fixed) / (self.seconds - self.fixed)
        sized = self._grown(growth)
        while sized.seconds > NEAR * 60 * minutes and sized.config.budget > 1:  # shares and single cells are rounded up
            growth *= 0.97
            sized = self._grown(growth)
        least = 2 * Ladder(list(sized.config.ladder)).places(1, sized.config.budget) if sized.config.ladder else 1
        return None if growth <= 0 or sized.config.budget < least or sized.seconds > 1.25 * 60 * minutes else sized

    def _without_top_rung(self) -> "Expected":
        ladder = self.config.model_dump(mode="json")["ladder"][:-1]
        return replace(self, config=with_overrides(self.config, {"ladder": ladder}), rungs=self.rungs[:-1], left_out=self.left_out + 1)

    def _grown(self, growth: float) -> "Expected":
        """With so many times the children, and so many times the cells on rungs that say a number."""
        ladder = self.config.model_dump(mode="json")["ladder"]
        for rung, said in zip(ladder, self.config.ladder, strict=True):
            if said.children is not None:
                rung["children"] = max(1, round(growth * said.children))
        budget = max(1, math.floor(growth * self.config.budget))
        return replace(self, config=with_overrides(self.config, {"budget": budget, "ladder": ladder}))

    def __str__(self) -> str:
        beside = f", {self.slower:.2g} times that alone as {self.workers} train at once" if self.slower >= 1.05 else ""
        above = (self.ladder + self.cards) / self.workers
        what = " and ".join(["rungs"] * bool(self.ladder) + ["cards"] * bool(self.cards))
        ladder = f", {duration(above)} of that for {what}" if above else ""
        return (
            f"about {duration(self.seconds)}{ladder} ({briefly(self.child)} a child{beside}, from {self.timed} random children timed "
            f"in {self.took:.0f} s; {START_SECONDS[self.config.runner.kind]:.0f} s to start); Ctrl-C stops, `nas resume` goes on"
        )
