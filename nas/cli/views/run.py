"""Tables about runs for a person: the ranking, the failures, what to do next. Reads ledgers only. No torch, no ray."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from controllers.controller import Failed, Stopped
from nas.cli.options import say_marked
from nas.cli.views.live import EXPECTED_DIGITS, NOT_MEASURED
from nas.data.settings import data_words
from nas.networks.matching import Objective, read_objective
from nas.networks.scaling import milliseconds
from nas.runs.config import SearchConfig
from nas.runs.experience import experience_words
from nas.runs.folder import RunFolder
from nas.runs.noise import Yardstick
from nas.runs.objective import Point, cost_of, front, hypervolume
from nas.runs.state import RunState, redrawn_words
from nas.runs.trials import Trial
from nas.tools.intervals import TWO_SIDED
from nas.tools.words import counted, duration
from nas.training.folder import WINNER
from search_spaces.genotype import CellGenotype
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.runs.standings import Known, Standing, Standings


LEAST_CELL = 20
"""Columns of a terminal that the ranking leaves a cell's operations at least, if it must leave something else out for that."""


def ranking(state: RunState, space: SearchSpace, known: "Known", top: int = 10, width: int = 120) -> Table:
    """The best known trials, with what is believed of them at the highest rung, their rewards, and costs, on a terminal that wide."""
    found, rung = known.standings, known.standings.top
    own = "reward: accuracy of the proxy task" if state.yardstick else "reward of the search"
    where = f"accuracy at rung {rung}, ± 95 %" if rung and state.yardstick else f"reward at rung {rung}, ± 95 %" if rung else own
    sized = any(trial.size is not None and trial.size.filters is not None for trial in known.trials[:top])
    columns: dict[str, list[str]] = {}
    cells = []
    for rank, (trial, one) in enumerate(zip(known.trials[:top], found.ranked, strict=False), start=1):
        for name, text in _ranked(rank, trial, one, found, state, sized).items():
            columns.setdefault(name, []).append(text)
        cells.append(space.decode(trial.proposal.actions).normal)
    for unneeded in ("F", "params", *(("reward",) if rung else ())):
        if width - _taken(columns) < LEAST_CELL:
            columns.pop(unneeded, None)
    room = width - _taken(columns)
    table = Table(title=f"Best {min(top, len(known.trials))} of {counted(state.spent, 'trained child', 'trained children')} ({where})")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("normal cell, most used" if room >= 2 * LEAST_CELL else "most used", overflow="ellipsis", no_wrap=True)
    for cell, *row in zip(cells, *columns.values(), strict=True):
        table.add_row(*row, operations_summary(cell, 2 if room >= 2 * LEAST_CELL else 1))
    return table


def _taken(columns: Mapping[str, Sequence[str]]) -> int:
    """Columns of the terminal that a table of these takes with its lines, those around one more column among them."""
    return sum(max(map(cell_len, (name, *texts))) + 3 for name, texts in columns.items()) + 4


def _ranked(rank: int, trial: Trial, one: "Standing", found: "Standings", state: RunState, sized: bool) -> dict[str, str]:
    """A row of the ranking without the cell itself; ``sized``: some cell has a width of its own."""
    metrics = {**(trial.evaluation.metrics if trial.evaluation else {}), **(trial.size.costs if trial.size is not None else {})}
    row = {"rank": str(rank), "trial": str(trial.number), **_climbed(one, found, state)}
    row["reward"] = shown_accuracy(trial.reward, state.yardstick)
    if sized:
        row["F"] = f"{trial.size.filters:g}" if trial.size is not None and trial.size.filters is not None else "–"
    if not found.top:
        row["params"] = short_count(metrics.get("params"))
    row["MACs"] = short_count(metrics.get("macs"))
    return row | ({"latency": _cost("latency", metrics["latency"])} if "latency" in metrics else {})


def _climbed(one: "Standing", found: "Standings", state: RunState) -> dict[str, str]:
    """What is believed of a cell, and, where there is a ladder, the rung that it has come to and its mean reward there."""
    from nas.runs.standings import words

    yardstick = yardstick_at(state, found.top)
    if one.rung < found.top:
        belief = NOT_MEASURED + words(one.belief, EXPECTED_DIGITS)
    else:
        belief = words(one.belief, yardstick.digits(one.belief.mean) if yardstick else 4)
    if not found.top:
        return {"belief": belief}
    seeds = f" ×{len(one.rewards)}" if len(one.rewards) > 1 else ""
    there = f"{one.rung}: {shown_accuracy(fmean(one.rewards), yardstick_at(state, one.rung))}{seeds}"
    return {"belief": belief, "trained at": there if one.rung else "–"}


def footnotes(state: RunState, found: "Standings", top: int) -> list[str]:
    """What the intervals of a ranking are of, and what the mark before some of its beliefs means."""
    yardstick, mean = yardstick_at(state, found.top), found.ranked[0].belief.mean
    notes = ["± 95 %: of the mean of a cell's trainings"]
    if yardstick is not None:
        wider = f"{TWO_SIDED * yardstick.error(mean):.{yardstick.digits(mean)}f}"
        notes[0] += f", all scored on the same {yardstick.images:,} images; on other images all may be off together, by ± {wider}"
    if any(one.rung < found.top for one in found.ranked[:top]):
        expected = "what is expected of them there, from the rungs below"
        notes.append(f"{NOT_MEASURED} not trained at rung {found.top}, so below those that are: {expected}")
    return notes


def yardstick_at(state: RunState, rung: int) -> Yardstick | None:
    """What rewards are measured on at a rung, where that is known."""
    return state.yardsticks[rung] if rung < len(state.yardsticks) else None


def print_ladder(console: Console, state: RunState, standings: "Standings", space: SearchSpace) -> None:
    """How far the ladder has come, how well each rung had ordered the cells of the next, the control cards."""
    from nas.runs.standings import agreement

    for rung, rule in enumerate(state.ladder.rungs, start=1):
        stands = state.ladder.at(rung).values()
        if not stands:
            continue
        seeds = f", {rule.seeds} seeds each" if rule.seeds > 1 else ""
        failed = sum(stand.ended - len(stand.rewards) for stand in stands)
        went, are = counted(len(stands), "cell"), "is" if len(stands) == 1 else "are"
        text = f"rung {rung}: {sum(stand.ended >= rule.seeds for stand in stands)} of {went} that went up {are} trained{seeds}"
        if begun := sum(stand.ended for stand in stands if stand.ended < rule.seeds):
            text += f" (and {counted(begun, 'training')} of those that are not)"
        if failed:
            text += f", {counted(failed, 'training')} failed"
        if found := agreement(state, rung):
            text += f"; {'the search' if rung == 1 else 'the rung below'} {found}"
        console.print(text, highlight=False)
    _print_cards(console, state, standings, space)


def _print_cards(console: Console, state: RunState, standings: "Standings", space: SearchSpace) -> None:
    """The control cards at every rung, beside what is believed of the incumbent there: a reward that made it the incumbent was lucky."""
    from nas.runs.standings import incumbent_beside, words

    first = next(iter(standings.ranked), None)
    ahead: list[str] = []
    for rung, belief in incumbent_beside(space, state, standings).items():
        cards = standings.cards_at(rung)
        if belief is None or first is None:
            beside = "" if first is None else f" (the incumbent, trial {first.trial}, has not been trained there yet)"
            said = ", ".join(map(str, cards))
        else:
            yardstick = yardstick_at(state, rung)
            beside = f" (the incumbent, trial {first.trial}: {words(belief, yardstick.digits(belief.mean) if yardstick else 4)})"
            said = ", ".join(f"{card}, {card.beside(belief)}" for card in cards)
            ahead = [card.name for card in cards if card.beside(belief) == "ahead"]
        console.print(f"control cards at rung {rung}{beside}: {said}", highlight=False)
    if ahead:
        text = f"{', '.join(ahead)} {'is' if len(ahead) == 1 else 'are'} ahead of the incumbent at the highest rung of both"
        say_marked("note:", "bold yellow", text, console)


def print_winner(console: Console, folder: RunFolder) -> None:
    """The test of the winner, where it has been trained."""
    from nas.runs.standings import winner_test

    if test := winner_test(folder):
        accuracy, images, where = 100 * float(test["top1"]), int(test["images"]), folder.path / WINNER / "best.safetensors"
        text = f"winner: trial {test['trial']}, trained once more: {accuracy:.2f} % of {images:,} test images, read once; {where}"
        console.print(text, highlight=False)


def shown_accuracy(value: float | None, yardstick: Yardstick | None) -> str:
    """An accuracy, with the decimals that say something on so many images."""
    return "–" if value is None else f"{value:.{yardstick.digits(value) if yardstick else 4}f}"


def operations_summary(cell: CellGenotype, most: int = 2) -> str:
    """The cell's most frequent operations: ``3 sep_conv_5x5, 2 identity, …``."""
    counts = Counter(edge.operation for node in cell.nodes for edge in node.edges)
    parts = [f"{count} {name}" for name, count in counts.most_common(most)]
    return ", ".join(parts) + (", …" if len(counts) > most else "")


def rungs(state: RunState) -> str:
    """What early stopping did: who reached each rung, and who went on."""
    parts = [f"epoch {epoch}: {rung.survivors} of {len(rung.rewards)}" for epoch, rung in state.halving.rungs.items()]
    return "went on at rung " + ", ".join(parts)


def summary(state: RunState) -> str:
    """One line on what happened. The time is that of all sessions: of the trainings on rungs as well."""
    climbed = f"and {counted(trained, 'training')} on rungs" if (trained := state.ladder.trained()) else "trained"
    parts = [f"{state.spent} of {counted(state.budget, 'child', 'children')} {climbed} in {duration(state.elapsed())}"]
    failed = state.failures
    if failed:
        parts.append("failed: " + ", ".join(f"{count} {reason}" for reason, count in failed.most_common()))
    if stopped := sum(isinstance(trial.evaluation.outcome, Stopped) for trial in state.trials.values() if trial.evaluation is not None):
        parts.append(f"{stopped} stopped early")
    if state.repeats:
        parts.append(f"{counted(state.repeats, 'repeat')} answered from the ledger")
    if state.setbacks:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(state.setbacks.items()))
        parts.append(f"tried again: {counts}")
    if looked := len(state.ladder.at(0)):
        parts.append(f"{looked} of the best looked at twice")
    if state.cards:
        parts.append(counted(len(state.cards), "control card"))
    if state.redrawn:
        parts.append(f"cells redrawn, free: {redrawn_words(state.redrawn)}")
    if len(state.sessions) > 1:
        parts.append(counted(len(state.sessions), "session"))
    return " · ".join(parts)


POLICY_WORDS = {
    "entropy_share": "entropy {:.0%} of the greatest",
    "approximate_kl": "KL {:.3f}",
    "clip_fraction": "{:.0%} clipped",
    "advantage_scale": "advantages ± {:.2f}",
    "version_lag": "outcomes {:.1f} updates old",
    "distinct_rate": "{:.0%} of its samples distinct",
    "gradient_norm": "gradient norm {:.2g}",
}
"""How the telemetry of an update is said to a person; see the controller's ``tell``."""


def policy_line(state: RunState) -> str | None:
    """The telemetry of the last update of the policy in a line; None where there was none."""
    if not state.updates:
        return None
    trial, telemetry = state.updates[-1]
    parts = [words.format(telemetry[name]) for name, words in POLICY_WORDS.items() if name in telemetry]
    return f"policy after update {len(state.updates)} (trial {trial}): " + ", ".join(parts)


def _source(config: SearchConfig) -> str:
    if config.evaluator == "synthetic":
        return "rewards by a formula"
    return f"table {config.table.path}" if config.table is not None and config.evaluator == "table" else f"data {data_words(config.data)}"


def print_run(console: Console, folder: RunFolder, config: SearchConfig, state: RunState, space: SearchSpace, top: int = 10) -> None:
    """The ranking of a run, its summary, and the reasons of failures with an example each."""
    from nas.runs.standings import best_known, doubt

    known = best_known(space, state)
    if known.trials:
        console.print(ranking(state, space, known, top, console.width))
        for note in footnotes(state, known.standings, top):
            console.print(note, style="dim")
    if found := doubt(state, known.standings):
        say_marked("note:", "bold yellow", found, console)
    print_ladder(console, state, known.standings, space)
    if config.objective is not None:
        print_front(console, state, known, read_objective(config.objective))
    console.print(f"{folder.path}: {config.controller.name} on {config.space}, {_source(config)}, preset {config.preset}", highlight=False)
    console.print(summary(state), highlight=False)
    if state.warm:
        begun = ", ".join(f"{name} (trial {trial})" for name, trial in state.warm.items())
        console.print(f"warm start: the search was begun with {begun}; what it found is no discovery from nothing", highlight=False)
    if state.earlier:
        console.print(f"learnt before the first child: from {experience_words(state.earlier)}", highlight=False)
    if state.halving.rungs:
        console.print(f"  early stopping: {rungs(state)}", highlight=False)
    policy = policy_line(state)
    if policy is not None:
        console.print(policy, highlight=False)
    if losses := state.losses():
        say_marked("warning:", "bold yellow", losses, console)
    shown: set[str] = set()
    for trial in state.trials.values():
        outcome = trial.evaluation.outcome if trial.evaluation else None
        if isinstance(outcome, Failed) and outcome.reason not in shown:
            shown.add(outcome.reason)
            console.print(f"  {outcome.reason}, for example trial {trial.number}: {outcome.detail}", markup=False, highlight=False)


def print_front(console: Console, state: RunState, known: "Known", objective: Objective) -> None:
    """The Pareto front of accuracy and a cost, the cheapest first, and its hypervolume."""
    points = []
    for trial, accuracy in known.head(len(known.trials)):
        cost = cost_of(state, trial, objective.quantity)
        if cost is not None:
            points.append(Point(trial.number, accuracy, cost))
    if not points:
        return
    best = front(points)
    console.print(f"Pareto front: accuracy against {objective.quantity}, {len(best)} of {len(points)} trials", highlight=False)
    table = Table()
    for name in ("trial", "accuracy", objective.quantity):
        table.add_column(name, justify="right", no_wrap=True)
    for point in best:
        table.add_row(str(point.trial), shown_accuracy(point.accuracy, state.yardstick), _cost(objective.quantity, point.cost))
    console.print(table)
    share = hypervolume(best, max(point.cost for point in points))
    console.print(f"hypervolume {share:.3f} (of costs up to the greatest here and accuracies up to 1)", highlight=False)


def next_commands(
    path: Path, state: RunState, known: "Known", left: bool, winner: int | None = None
) -> list[tuple[str, list[object]]]:
    """What a person may want to type next: what it is for, and the words of the command.

    They hand on the very cell that was told as the winner, a trial, where there is one, else the incumbent. While anything is ``left``
    to do (``nas.runs.session.at_its_end``) the search is gone on with; a rung more, or a longer training, is for one at its end.
    """
    commands: list[tuple[str, list[object]]] = [("this table again, and the incumbent's cells", ["nas", "show", path])]
    if left:
        commands.insert(0, ("go on with the search to its end", ["nas", "resume", path]))
    if not known.trials:
        return commands
    place = next((number for number, one in enumerate(known.standings.ranked) if one.trial == winner), None)
    trial = known.standings.ranked[place or 0].trial
    who = f"the {'incumbent' if place is None else 'winner'}, trial {trial},"
    rank = ["--rank", str(place + 1)] if place else []
    commands.append(("a page of all that is known, to keep or to send", ["nas", "report", path]))
    handed = ["nas", "export", path, *rank, "--format", "json", "-o", f"trial-{trial}.json"]
    commands.append((f"{who} for use elsewhere (yaml, json, dot)", handed))
    if not left:
        there = len(state.ladder.at(len(state.ladder.rungs))) if state.ladder.rungs else len(known.trials)  # who can go up
        again = min(5, there if not state.ladder.rungs else max(2, there // 2))  # one more rung is for fewer of them
        last = state.ladder.rungs[-1] if state.ladder.rungs else None
        if there > 1 and (last is None or (last.children, last.seeds) != (again, 2)):  # else the very command that has just ended
            what = "train the best again, for longer, to know which is best" if not state.ladder.rungs else "the best at one more rung"
            commands.append((what, ["nas", "finalists", path, "--top", str(again), "--seeds", "2"]))
        if place is not None:
            commands.append((f"{who} as it was trained: accuracy by class", ["nas", "evaluate", path / WINNER]))
        commands.append((f"train {who} to convergence", ["nas", "train", path, *rank]))
        if state.closed != "exhausted":
            commands.append(("go on searching", ["nas", "search", "--budget", state.budget * 2, "--resume", path]))
    return commands


def _cost(name: str, value: float | None) -> str:
    """What a network costs, in the unit of that cost."""
    if value is None or name in ("params", "macs"):
        return short_count(value)
    return milliseconds(value) if name == "latency" else f"{value:.4g}"


def short_count(value: float | None) -> str:
    """A number of parameters or MACs in few letters: ``3.21M``."""
    if value is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"

