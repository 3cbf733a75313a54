"""Tables about runs for a person: the ranking, the failures, what to do next. Reads ledgers only. No torch, no ray."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from controllers.controller import Failed, Stopped
from nas.data.settings import data_words
from nas.runs.config import SearchConfig
from nas.runs.folder import RunFolder
from nas.runs.noise import Yardstick, verdict
from nas.runs.state import RunState, redrawn_words
from nas.tools.words import duration
from search_spaces.genotype import CellGenotype
from search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from nas.runs.standings import Known, Standing, Standings


def ranking(state: RunState, space: SearchSpace, known: "Known", top: int = 10, standings: "Standings | None" = None) -> Table:
    """The best trials with their rewards and costs; and, apart, what those came to that were trained again."""
    again = {standing.trial: standing for standing in standings.ranked} if standings is not None else {}
    table = Table(
        title=f"Best {min(top, len(state.ranked()))} of {state.spent} trained children (reward: validation accuracy of the proxy task)"
    )
    sized = any(trial.size is not None and trial.size.filters is not None for trial in known.trials[:top])
    for name in ("rank", "trial", "reward", *(("retrained",) if again else ()), *(("F",) if sized else ()), "params", "MACs", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("normal cell, most used")
    for rank, trial in enumerate(known.trials[:top], start=1):
        metrics = {**(trial.evaluation.metrics if trial.evaluation else {}), **(trial.size.costs if trial.size is not None else {})}
        table.add_row(
            str(rank),
            str(trial.number),
            shown_accuracy(trial.reward, state.yardstick),
            *((_retrained(again.get(trial.number), standings),) if again else ()),
            *((f"{trial.size.filters:g}" if trial.size is not None and trial.size.filters else "–",) if sized else ()),
            _count(metrics.get("params")),
            _count(metrics.get("macs")),
            _seconds(metrics.get("train_seconds")),
            operations_summary(space.decode(trial.proposal.actions).normal),
        )
    return table


def print_standings(console: Console, standings: "Standings", top: int = 10) -> None:
    """The second stage: the finalists by their retrained accuracy, how well the proxy task had ranked them, the test of the winner."""
    from nas.runs.finalists import stage_words

    table = Table(title=f"Second stage: {stage_words(standings)}")
    for name in ("rank", "trial", "retrained", "seeds", "proxy rank", "proxy reward"):
        table.add_column(name, justify="right", no_wrap=True)
    for rank, standing in enumerate(standings.ranked[:top], start=1):
        seeds, proxy = str(len(standing.rewards)), shown_accuracy(standing.proxy, standings.yardstick)
        table.add_row(str(rank), str(standing.trial), _retrained(standing, standings), seeds, str(standing.proxy_rank), proxy)
    console.print(table)
    if found := standings.verdict():
        console.print(f"[bold yellow]note:[/] {found}", highlight=False, soft_wrap=True)
    if standings.tau is not None:
        tau, p = standings.tau
        console.print(
            f"proxy rank against final rank: Kendall's tau {tau:.3f} (p = {p:.3f}, {len(standings.ranked)} cells)", highlight=False
        )
    if standings.test is not None:
        accuracy, images = 100 * float(standings.test["top1"]), int(standings.test["images"])
        where = standings.folder / "winner" / "best.safetensors"
        text = (
            f"winner: trial {standings.ranked[0].trial}, trained once more: {accuracy:.2f} % of {images:,} test images, read once; {where}"
        )
        console.print(text, highlight=False, soft_wrap=True)


def _retrained(standing: "Standing | None", standings: "Standings | None") -> str:
    if standing is None or standings is None or not standing.rewards:
        return "–"
    spread = f" ± {shown_accuracy(standing.deviation, standings.yardstick)}" if standing.deviation is not None else ""
    return shown_accuracy(standing.mean, standings.yardstick) + spread


def shown_accuracy(value: float | None, yardstick: Yardstick | None) -> str:
    """An accuracy, with the decimals that say something on so many images."""
    return "–" if value is None else f"{value:.{yardstick.digits(value) if yardstick else 4}f}"


def operations_summary(cell: CellGenotype, most: int = 2) -> str:
    """The cell's most frequent operations: ``3 sep_conv_5x5, 2 identity, …``."""
    counts = Counter(edge.operation for node in cell.nodes for edge in node.edges)
    parts = [f"{count} {name}" for name, count in counts.most_common(most)]
    return ", ".join(parts) + (", …" if len(counts) > most else "")


def setbacks(state: RunState) -> Counter[str]:
    """How many attempts came to nothing and were followed by another, by reason."""
    return sum((trial.setbacks for trial in state.trials.values()), Counter[str]())


def rungs(state: RunState) -> str:
    """What early stopping did: who reached each rung, and who went on."""
    parts = [f"epoch {epoch}: {rung.survivors} of {len(rung.rewards)}" for epoch, rung in state.halving.rungs.items()]
    return "went on at rung " + ", ".join(parts)


def summary(state: RunState) -> str:
    """One line on what happened."""
    repeats = sum(trial.repeats is not None for trial in state.trials.values())
    parts = [f"{state.spent} of {state.budget} children trained in {duration(state.elapsed())}"]
    failed = state.failures
    if failed:
        parts.append("failed: " + ", ".join(f"{count} {reason}" for reason, count in failed.most_common()))
    if stopped := sum(isinstance(trial.evaluation.outcome, Stopped) for trial in state.trials.values() if trial.evaluation is not None):
        parts.append(f"{stopped} stopped early")
    if repeats:
        parts.append(f"{repeats} repeats answered from the ledger")
    if again := setbacks(state):
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(again.items()))
        parts.append(f"tried again: {counts}")
    if state.redrawn:
        parts.append(f"cells redrawn, free: {redrawn_words(state.redrawn)}")
    if len(state.sessions) > 1:
        parts.append(f"{len(state.sessions)} sessions")
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
    return f"table {config.table.path}" if config.table is not None and config.evaluator == "table" else f"data {data_words(config.data)}"


def print_run(console: Console, folder: RunFolder, config: SearchConfig, state: RunState, space: SearchSpace, top: int = 10) -> None:
    """The ranking of a run, its summary, and the reasons of failures with an example each."""
    from nas.runs.standings import best_known, read_standings

    standings, known = read_standings(folder), best_known(folder, state)
    if known.trials:
        console.print(ranking(state, space, known, top, standings))
    if known.elected:
        console.print(f"ranks 1 to {known.elected} were elected by the finalists stage, the others are by reward", highlight=False)
    if known.trials and state.yardstick and (found := verdict([trial.reward or 0.0 for trial in state.ranked()], state.yardstick)):
        console.print(f"[bold yellow]note:[/] {found}", highlight=False, soft_wrap=True)
    if standings is not None:
        print_standings(console, standings, top)
    console.print(f"{folder.path}: {config.controller.name} on {config.space}, {_source(config)}, preset {config.preset}", highlight=False)
    console.print(summary(state), highlight=False)
    if state.halving.rungs:
        console.print(f"  early stopping: {rungs(state)}", highlight=False)
    policy = policy_line(state)
    if policy is not None:
        console.print(policy, highlight=False)
    if losses := state.losses():
        console.print(f"[bold yellow]warning:[/] {losses}", highlight=False, soft_wrap=True)
    shown: set[str] = set()
    for trial in state.trials.values():
        outcome = trial.evaluation.outcome if trial.evaluation else None
        if isinstance(outcome, Failed) and outcome.reason not in shown:
            shown.add(outcome.reason)
            console.print(f"  {outcome.reason}, for example trial {trial.number}: {outcome.detail}", markup=False, highlight=False)


def next_commands(folder: Path, state: RunState) -> list[tuple[str, list[object]]]:
    """What a person may want to type next: what it is for, and the words of the command."""
    commands: list[tuple[str, list[object]]] = [("this table again, and the incumbent's cells", ["nas", "show", folder])]
    if state.ranked():
        words: list[object] = ["nas", "export", folder, "--format", "json", "-o", "cell.json"]
        commands.append(("the best genotype for use elsewhere (yaml, json, dot)", words))
    if state.spent >= state.budget:
        again: list[object] = ["nas", "finalists", folder, "--top", "5", "--seeds", "2"]
        commands.append(("train the best again, on all images, to know which is best", again))
        commands.append(("train the incumbent to convergence", ["nas", "train", folder]))
        commands.append(("go on searching", ["nas", "search", "--budget", state.budget * 2, "--resume", folder]))
    else:
        commands.insert(0, ("train the rest of the budget", ["nas", "resume", folder]))
    return commands


def _count(value: float | None) -> str:
    if value is None:
        return "–"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.0f}"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
