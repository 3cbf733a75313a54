"""The report of a search: its sections, read from the run's folder, all that happened from its ledger. No torch."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from statistics import fmean

from controllers.controller import Earlier
from controllers.options import PolicyGradientOptions
from controllers.registry import CONTROLLERS, check_options
from nas.data.settings import data_words
from nas.evaluators.registry import EVALUATORS
from nas.reports.children import COSTS, Child, children_of, where_words
from nas.reports.clock import time_figures
from nas.reports.decisions import operation_figures, policy_figures
from nas.reports.folders import environment_facts
from nas.reports.parts import Figure, Listing, Picture, Report, Section, Table, Value
from nas.reports.progress import Level, Reference, card_levels, progress_figures
from nas.runs.config import SearchConfig, config_yaml
from nas.runs.experience import experience_words
from nas.runs.folder import RunFolder, found_genotype
from nas.runs.objective import Point, front
from nas.runs.plan import rung_words, trained_words
from nas.runs.standings import Known, Standings, agreement, best_known, doubt, incumbent_beside, winner_test, words
from nas.runs.state import RunState, redrawn_words
from nas.tools.intervals import wilson
from nas.tools.words import checksum_words, counted, duration, sentence
from search_spaces.space import SearchSpace

DRAWN = 3
"""Best cells whose pictures are in a report."""
LISTED = 25
"""Best cells in its table."""


def search_report(folder: RunFolder, against: RunFolder | None = None) -> Report:
    """All that there is to show of a run; ``against`` is one whose children say what random search finds.

    Raises:
        UserError: a folder is no run, or damaged.
    """
    config, state = folder.config(), folder.state()
    space = folder.space(config)
    known, children = best_known(space, state), children_of(state)
    by_number = {child.trial: child for child in children}
    ended = [by_number[number] for number in state.told]
    reference = _other_reference(against) if against is not None else _own_reference(config, state, ended)
    notes = _reference_note(reference, state.earlier)
    sections = (
        _asked(folder, config, state, space),
        Section("The incumbent", notes=notes, figures=progress_figures(ended, reference, _levels(state, children))),
        _best(folder, config, state, space, known, by_number),
        _rungs(state, children, known, space),
        _costs(config, children, known),
        Section("The controller", figures=tuple(one for one in policy_figures(state, space) if one.table.rows), notes=_policy_notes(state)),
        Section("Operations", figures=operation_figures([space.decode(t.proposal.actions) for t in known.trials[: _share(known)]], space)),
        _failures(state, children),
        Section("Time", facts=_time_facts(state, children), figures=time_figures(children)),
        Section("All trials", listings=(Listing("Every trial, in the order of asking", _trials(children), folded=True),)),
    )
    return Report(
        f"Search {folder.path.name}", "Report of a neural architecture search", _heads(folder, state, known), tuple(map(_said, sections))
    )


def _said(section: Section) -> Section:
    """The section, with a word where it has nothing."""
    empty = not any((section.notes, section.facts, section.pictures, section.texts, any(f.table.rows for f in section.figures)))
    if empty and not any(listing.table.rows for listing in section.listings):
        return Section(section.title, notes=("The ledger says nothing of this.",))
    return section


def _heads(folder: RunFolder, state: RunState, known: Known) -> tuple[tuple[str, str], ...]:
    first = next(iter(known.standings.ranked), None)
    rung = f" at rung {known.standings.top}" if known.standings.top else ""
    facts = [(f"incumbent, believed{rung}", "none yet" if first is None else f"{words(first.belief)} (trial {first.trial})")]
    if test := winner_test(folder):
        low, high = wilson(float(test["top1"]), int(test["images"]))
        facts.append(("winner on the test images", f"{float(test['top1']):.2%} ({low:.1%} to {high:.1%})"))
    facts.append(("children trained", f"{state.spent:,} of {state.budget:,}"))
    facts.append(("time of work", duration(state.elapsed())))
    return (*facts, ("how it ended", state.closed or "not ended"))


# ------------------------------------------------------------------------------------------------ what was asked


def _asked(folder: RunFolder, config: SearchConfig, state: RunState, space: SearchSpace) -> Section:
    """What was asked and on what: settings, data, machine, versions, dates."""
    options = ", ".join(f"{name}={value}" for name, value in config.controller.options.items())
    facts = [
        ("space", f"{space.name}: {len(space.decisions)} decisions"),
        ("controller", config.controller.name + (f" ({options})" if options else "")),
        ("budget", f"{counted(config.budget, 'child', 'children')}, seed {config.seed}, preset {config.preset}"),
        *_child_facts(config, state),
        *((f"rung {rung}", rung_words(rung, config)) for rung in range(1, len(config.ladder) + 1)),
        ("control cards", ", ".join(config.cards) or "none"),
        *((name, said) for name, said in (("match", config.match), ("limit", config.limit), ("objective", config.objective)) if said),
        *((("warm start", ", ".join(f"{name} (trial {trial})" for name, trial in state.warm.items())),) if state.warm else ()),
        *((("learnt from", experience_words(state.earlier)),) if state.earlier else ()),
        *((("redrawn, free", redrawn_words(state.redrawn)),) if state.redrawn else ()),
        *((("sessions", "; ".join(f"{_date(start)} to {_date(end)}" for start, end in state.sessions)),) if state.sessions else ()),
        *environment_facts(folder.path / "environment.json"),
    ]
    return Section("What was asked, and on what", facts=tuple(facts), texts=(("config.yaml: every setting", config_yaml(config)),))


def _child_facts(config: SearchConfig, state: RunState) -> Iterable[tuple[str, str]]:
    if not EVALUATORS[config.evaluator].needs_data:
        yield "evaluator", config.evaluator
        return
    yield "data", data_words(config.data) + (f", {checksum_words(state.data)}" if state.data else "")
    yield "child", trained_words(config, config.fidelity)
    if state.yardstick is not None:
        guessed = f"guessing the commonest class gives {100 * state.yardstick.chance:.3g} %"
        yield "reward", f"accuracy on {state.yardstick.images:,} validation images; {guessed}"


def _date(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M %Z")


# ------------------------------------------------------------------------------------------------ the incumbent


def _levels(state: RunState, children: Sequence[Child]) -> list[Level]:
    chance = [Level("chance", state.yardstick.chance)] if state.yardstick is not None else []
    return [*card_levels(children), *chance]


def _own_reference(config: SearchConfig, state: RunState, ended: Sequence[Child]) -> Reference | None:
    """The run's own children that were drawn at random, and nothing else; None for fewer than two of them.

    A ledger does not say of a proposal how it came about; but what the controller had been told by then it does.
    """
    spending = [child for child in ended if child.spends and child.warm is None]
    match config.controller.name:
        case "random":
            drawn, said = spending, "this search itself"
        case "evolution":
            population = check_options("evolution", config.controller.options).population
            drawn, said = [child for child in spending if child.trial < population], "its first population"
        case _:
            last = _last_without_surrogate(config, state, ended)
            early = [child for child in spending if child.trial <= last]
            drawn = [child for child in early if (p := state.trials[child.trial].proposal).log_probs and p.policy_version == 0]
            said = "its children before the policy's first update"
    return Reference(f"{said} ({len(drawn)})", tuple(child.reward or 0.0 for child in drawn)) if len(drawn) > 1 else None


def _last_without_surrogate(config: SearchConfig, state: RunState, ended: Sequence[Child]) -> int:
    """The last trial that no surrogate chose for certain: it learns of earlier searches, or of the first outcomes told, warm starts too.

    Of the trials whose outcomes these are the last was asked before all of them were told.
    """
    if state.earlier:
        return -1
    if config.controller.name not in CONTROLLERS.built_in:
        return len(state.trials)
    options = check_options(config.controller.name, config.controller.options)
    if not isinstance(options, PolicyGradientOptions) or not options.screen:
        return len(state.trials)
    taught = [child.trial for child in ended if child.card is None and child.reason != "worker_lost"]
    return max(taught[: options.screen_start], default=-1)


def _other_reference(against: RunFolder) -> Reference:
    state = against.state()
    rewards = tuple(child.reward or 0.0 for child in children_of(state) if child.spends and child.warm is None)
    name = against.config().controller.name
    said = f"{against.path.name} ({name}, {len(rewards)} children)"
    of = Reference.of if name == "random" else f"children of {against.path.name}"
    return Reference(said, rewards or (0.0,), of)


def _reference_note(reference: Reference | None, earlier: Sequence[Earlier]) -> tuple[str, ...]:
    if reference is not None and reference.of != Reference.of:
        return (f"Reference: {reference.said}, which were not all drawn at random as those of --controller random are.",)
    if reference is not None:
        return (f"Random reference: {reference.said}; a longer one is another search with --controller random, given by --against RUN.",)
    why = f": the search learnt from {experience_words(earlier)} before its first one" if earlier else ""
    return (f"No child of this search was drawn at random{why}. --against RUN, a search with --controller random, gives a reference.",)


# ------------------------------------------------------------------------------------------------ the best cells


def _share(known: Known) -> int:
    """How many of the ranked count as the best: a tenth, from 5 to 25."""
    return min(25, max(5, len(known.trials) // 10))


def _best(
    folder: RunFolder, config: SearchConfig, state: RunState, space: SearchSpace, known: Known, by_number: Mapping[int, Child]
) -> Section:
    """The table of the best, and the first of them drawn."""
    pictures = []
    for rank, (trial, believed) in enumerate(known.head(DRAWN), start=1):
        genotype = found_genotype(space, trial, folder.path.name, config.controller.name, believed)
        pictures.append(Picture(f"Rank {rank}: trial {trial.number}, {known.how(rank)}", genotype))
    notes = [
        "An interval is of the mean of a cell's trainings, all scored on the same images: other images may be harder or easier for all "
        "cells together. What is believed of a cell at a rung above the one that it was trained at is expected, not measured."
    ]
    if losses := state.losses():
        notes.append(f"Warning: {losses}.")
    if doubted := doubt(state, known.standings):
        notes.append(sentence(doubted))
    rows = []
    for rank, (trial, one) in enumerate(zip(known.trials[:LISTED], known.standings.ranked, strict=False), start=1):
        costs = by_number[trial.number].costs
        filters = trial.size.filters if trial.size is not None else None
        rows.append(
            (rank, one.trial, one.belief.mean, one.belief.low, one.belief.high, one.rung, fmean(one.rewards), one.proxy, filters, *costs)
        )
    columns = ("rank", "trial", "believed", "low", "high", "rung", "reward there", "reward in the search", "F")
    table = _without_empty(Table.of((*columns, *COSTS.values()), rows))
    return Section(
        "The best cells", notes=tuple(notes), listings=(Listing("Best known, with 95 % intervals", table),), pictures=tuple(pictures)
    )


def _without_empty(table: Table) -> Table:
    """The table without the columns that have no value at all."""
    kept = [i for i in range(len(table.columns)) if any(row[i] is not None for row in table.rows)]
    return Table.of([table.columns[i] for i in kept], [[row[i] for i in kept] for row in table.rows])


# ------------------------------------------------------------------------------------------------ rungs, cards


def _rungs(state: RunState, children: Sequence[Child], known: Known, space: SearchSpace) -> Section:
    """Rewards by rung, control cards, and how well a rung had ordered the cells of the next."""
    scored = [child for child in children if child.reward is not None and child.repeats is None]
    rewards = [(where_words(c.rung, False), c.reward, "cells" if c.card is None else f"card {c.card}", c.trial, c.origin) for c in scored]
    rungs = sorted(rewards, key=lambda row: row[0] != "search")
    figures = [
        Figure(
            "Rewards by rung",
            "strips",
            Table.of(("rung", "reward", "series", "trial", "origin"), rungs),
            options={"format": "~%", "x": ""},
        )
    ]
    notes = []
    for rung in range(1, known.standings.top + 1):
        figures.append(_proxy_figure(state, rung))
        if found := agreement(state, rung):
            below = "the search" if rung == 1 else f"rung {rung - 1}"
            notes.append(f"Rung {rung}: {below} {found}.")
    return Section("Rungs and control cards", notes=tuple(notes), figures=tuple(figures), listings=(_cards(state, known.standings, space),))


def _proxy_figure(state: RunState, rung: int) -> Figure:
    """Of every cell of a rung, its mean reward there against that at the rung below."""
    here, below = state.ladder.at(rung), state.ladder.at(rung - 1) if rung > 1 else {}
    rows = []
    for origin, stand in here.items():
        before = fmean(below[origin].rewards) if rung > 1 else state.trials[origin].reward
        if stand.rewards:
            rows.append((before, fmean(stand.rewards), "cells", origin, len(stand.rewards)))
    lower = "in the search" if rung == 1 else f"at rung {rung - 1}"
    table = Table.of((f"reward {lower}", f"reward at rung {rung}", "series", "trial", "seeds"), rows)
    return Figure(f"Proxy against rung {rung}", "scatter", table, f"The cells of rung {rung}.", options={"format": "~%", "x format": "~%"})


def _cards(state: RunState, found: Standings, space: SearchSpace) -> Listing:
    """The control cards at every rung, beside what is believed of the incumbent there."""
    beliefs = incumbent_beside(space, state, found)
    rows: list[tuple[Value, ...]] = []
    for card in found.cards:
        belief = beliefs[card.rung]
        own = (None, None, None, None) if belief is None else (belief.mean, belief.low, belief.high, card.beside(belief))
        rows.append((where_words(card.rung, False), card.name, fmean(card.rewards), len(card.rewards), *own))
    columns = ("rung", "card", "reward", "seeds", "incumbent, believed there", "low", "high", "the card is")
    return Listing("Control cards", Table.of(columns, rows))


# ------------------------------------------------------------------------------------------------ costs


def _costs(config: SearchConfig, children: Sequence[Child], known: Known) -> Section:
    """What is believed of every cell against each cost that the ledger has, with the front."""
    costs = {child.trial: child.costs for child in children}
    figures = []
    for place, name in enumerate(COSTS.values()):
        points = [
            (Point(one.trial, one.belief.mean, cost), one)
            for one in known.standings.ranked
            if (cost := costs[one.trial][place]) is not None
        ]
        on = {point.trial for point in front(point for point, _ in points)}
        rows = [
            (
                point.cost,
                point.accuracy,
                where_words(one.rung, False),
                point.trial,
                point.trial in on,
            )
            for point, one in sorted(points, key=lambda pair: (pair[1].rung, pair[0].cost))
        ]
        table = Table.of((name, "accuracy", "series", "trial", "front"), rows)
        said = "By the highest rung that a cell was trained at. Dashed: the front, which nobody beats in both."
        options = {"x": name, "x format": ".4~g" if name.endswith("ms") else "~s", "y": "believed accuracy", "format": "~%"}
        figures.append(Figure(f"Accuracy against {name}", "scatter", table, said, options=options))
    aim = (
        ()
        if config.objective is None
        else (f"The aim was {config.objective}: what the controller was told of a child is less than its accuracy where it costs much.",)
    )
    matched = () if config.match is None else (f"Every network was given the width at which it costs {config.match}.",)
    return Section("Accuracy and cost", notes=(*aim, *matched), figures=tuple(figure for figure in figures if figure.table.rows))


# ------------------------------------------------------------------------------------------------ the rest


def _policy_notes(state: RunState) -> tuple[str, ...]:
    return () if state.updates else ("No update of a policy is in the ledger: the controller has none, or has not learned yet.",)


def _failures(state: RunState, children: Sequence[Child]) -> Section:
    """Failures and attempts that were followed by another, by reason, with an example each."""
    failed = [child for child in children if child.outcome == "failed" and child.repeats is None]
    again: Counter[str] = sum((Counter(dict(child.setbacks)) for child in children), Counter())
    rows = [(reason, count, "failed") for reason, count in Counter(child.reason for child in failed).most_common()]
    rows += [(reason, count, "tried again") for reason, count in again.most_common()]
    examples = {child.reason: (child.reason, child.trial, child.detail) for child in reversed(failed)}
    figure = Figure("Failures by reason", "bars", Table.of(("reason", "count", "series"), rows), options={"y": "trainings"})
    repeats, stopped = sum(child.repeats is not None for child in children), sum(child.outcome == "stopped" for child in children)
    facts = [
        ("failed", f"{len(failed):,} of {sum(child.outcome != 'pending' for child in children):,} trainings"),
        ("tried again", f"{again.total():,}"),
    ]
    facts += [("stopped early", f"{stopped:,}"), ("repeats, answered free", f"{repeats:,}")]
    listing = Listing("The first failure for each reason", Table.of(("reason", "trial", "what it said"), examples.values()))
    return Section("Failures", facts=tuple(facts), figures=(figure,), listings=(listing,))


def _time_facts(state: RunState, children: Sequence[Child]) -> tuple[tuple[str, str], ...]:
    trained = sum(child.seconds or 0.0 for child in children if child.repeats is None)
    elapsed = state.elapsed()
    facts = [("time of work", duration(elapsed)), ("training, all workers", duration(trained))]
    if elapsed:
        facts.append(("trained at once", f"{trained / elapsed:.2f} on average"))
    return tuple(facts)


def _trials(children: Sequence[Child]) -> Table:
    columns = ("trial", "where", "origin", "seed", "card", "warm", "outcome", "reward", "reason", "repeats", "attempts", "epochs")
    rows = [
        (
            *(c.trial, c.where, c.origin, c.replicate, c.card, c.warm, c.outcome, c.reward, c.reason or None, c.repeats, c.attempts),
            *(c.epochs, c.started, c.ended, c.seconds, *c.costs),
        )
        for c in children
    ]
    return _without_empty(Table.of((*columns, "started, s", "ended, s", "training, s", *COSTS.values()), rows))
