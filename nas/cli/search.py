"""``nas search`` and ``nas resume``."""

from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.options import (
    AddressOption,
    DataDirOption,
    DataOption,
    DryRunOption,
    JsonLinesOption,
    LatencyOnOption,
    LogOption,
    QuietOption,
    SeedOption,
    SyncOption,
    WorkersOption,
    console,
    say,
    say_lines,
    say_marked,
    say_next_of_dry_run,
    silenced,
)
from nas.errors import ConfigError
from nas.tools.stages import doing


def search(
    space: Annotated[str | None, typer.Option(help="Search space: nasnet, nasnet-paper, …, or a YAML file that declares one.")] = None,
    budget: Annotated[int | None, typer.Option(help="Children to train.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="In place of --budget: children and rungs are made as many as fit into so many minutes.")
    ] = None,
    preset: Annotated[str, typer.Option(help="auto, laptop, cpu, gpu, paper, or a YAML file of settings.")] = "auto",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    controller: Annotated[str | None, typer.Option(help="ppo, reinforce, evolution, local_search, random.")] = None,
    evaluator: Annotated[str | None, typer.Option(help="What scores the children: train, synthetic, …; see `nas list evaluators`.")] = None,
    seed: SeedOption = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs a child is trained for.")] = None,
    cells: Annotated[int | None, typer.Option(help="N, normal cells a stage.")] = None,
    filters: Annotated[int | None, typer.Option(help="F, filters of the first stage.")] = None,
    match: Annotated[
        str | None, typer.Option(metavar="COST", help="What every network shall cost, its width solved for it: macs=5M, latency=8ms, …")
    ] = None,
    limit: Annotated[
        str | None, typer.Option(metavar="COSTS", help="Networks that cost more are drawn again, free: 'params<=3M,latency<=8ms'.")
    ] = None,
    objective: Annotated[
        str | None, typer.Option(metavar="AIMS", help="Cheap as well as accurate: accuracy,macs; with a target accuracy,latency@8ms.")
    ] = None,
    latency_on: LatencyOnOption = None,
    workers: WorkersOption = None,
    gpus_per_child: Annotated[float | None, typer.Option(help="Whole or fractional GPUs for each child.")] = None,
    address: AddressOption = None,
    sync: SyncOption = None,
    runner: Annotated[str | None, typer.Option(help="ray, or local for this process: one child at a time, on a GPU several.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds a child may take.")] = None,
    cards: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Control cards: published cells to compare with, nasnet-a,darts-v2 say; none.")
    ] = None,
    learn_from: Annotated[
        str | None, typer.Option(metavar="NAMES", help="Trainings to learn from first: runs, CSV tables of trials; none for nothing.")
    ] = None,
    warm_start: Annotated[str | None, typer.Option(metavar="NAMES", help="First children: genotypes, or the best of a run.")] = None,
    log: LogOption = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting, such as training.learning_rate=0.05.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Folder for this run; default runs/<time>-<space>-<preset>.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this run, up to the given --budget.")] = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    json: JsonLinesOption = False,
) -> None:
    """Search for cells: propose, train, learn, and keep everything in a run folder."""
    given = dict(locals())
    with silenced(quiet, json):
        if resume is not None:
            _check_resume(given)
            _resume(resume, budget, {}, moved={"data": data, "data_dir": data_dir}, quiet=quiet, json=json, dry_run=dry_run)
            return
        _search(given)


def _search(given: dict[str, Any]) -> None:
    quiet, json, dry_run = given["quiet"], given["json"], given["dry_run"]
    with doing("reading the settings"):
        from nas.api.wishes import choose_preset, search_wish
        from nas.cli.views.search_progress import SearchProgress, shown_on
        from nas.runs.checks import check_search
        from nas.runs.config import space_of
        from nas.tools.hardware import detect

        name, why = choose_preset(given["preset"])
        config, choices = search_wish(name, given["assign"] or (), given)
        hardware = detect()
    if why is not None:
        say_marked(f"preset {name}", "bold", f"({why}); choose another with --preset")
    from nas.runs import session as engine
    from nas.runs.plan import describe_plan, expect, expect_within

    engine.beside_of(config, space_of(config))  # names first: they cost nothing
    notes = check_search(config, given["run"], hardware, fetching=not dry_run)
    minutes = given["minutes"]
    if minutes is None:
        expected = expect(config, hardware, measure=not dry_run)
    else:
        expected = expect_within(config, hardware, minutes, measure=not dry_run)
    config = config if expected is None else expected.config
    lines = [*describe_plan(config, hardware, choices, expected), *notes]
    say_lines(lines)
    shown = shown_on(console, quiet, json)
    shown.plan(lines, None if expected is None else expected.seconds)
    if dry_run:
        say_next_of_dry_run()
        return
    from nas.cli.views.ending import conclude

    planned = engine.NO_PLAN if expected is None else engine.Planned(expected.trainings, expected.workers)
    conclude(engine.start(config, given["run"], SearchProgress(shown).watcher(), planned=planned, checked=True), shown)


def _check_resume(given: dict[str, Any]) -> None:
    """Raise ConfigError where more is given with --resume than --budget and where the images are now."""
    from nas.api.wishes import SEARCH_SETTINGS

    flags = {SEARCH_SETTINGS[name]: given[name] for name in SEARCH_SETTINGS if name in given and name != "budget"}
    names = [name for name, value in flags.items() if value is not None]
    if names or given["assign"] or given["run"] or given["minutes"] is not None or given["preset"] != "auto":
        raise ConfigError(
            "--resume goes on with the run's own settings: only --budget and where its images are now (--data, --data-dir) may be given "
            f"with it, but got {', '.join(names) or 'others'}"
        )


def resume(
    run: Annotated[str, typer.Argument(metavar="RUN|URL", help="Run folder, its name under runs/, `last`, or the URL of a mirror.")],
    into: Annotated[Path | None, typer.Option("--run", help="Folder that a mirror is fetched into; default runs/<its name>.")] = None,
    address: AddressOption = None,
    workers: WorkersOption = None,
    data_dir: DataDirOption = None,
    sync: SyncOption = None,
    log: LogOption = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    json: JsonLinesOption = False,
) -> None:
    """Go on with a run that was interrupted or killed, here or, from its mirror, on another machine."""
    with silenced(quiet, json):
        from nas.api.wishes import absolute, logger_names

        places: dict[str, Any] = {"runner.address": address, "runner.workers": workers, "data.root": absolute(data_dir)}
        places |= {"runner.sync": sync, "log": logger_names(log)}
        _resume(run, None, places, into, quiet=quiet, json=json, dry_run=dry_run)


def _resume(
    name: str,
    budget: int | None,
    places: dict[str, Any],
    into: Path | None = None,
    moved: Mapping[str, Path | str | None] | None = None,
    quiet: bool = False,
    json: bool = False,
    dry_run: bool = False,
) -> None:
    with doing("reading the run"):
        from nas.api.searching import find_or_fetch
        from nas.api.wishes import data_at
        from nas.cli.views.ending import conclude, nothing_left_words
        from nas.cli.views.search_progress import SearchProgress, shown_on
        from nas.runs import session as engine
        from nas.runs.checks import fetching_notes
        from nas.runs.ledger import held
        from nas.runs.plan import describe_rest
        from nas.tools.hardware import detect

        folder, mirror = find_or_fetch(name, into)
        places = places | {"runner.sync": places.get("runner.sync") or mirror}
        if moved is not None:
            places["data.root"] = data_at(folder.config().data, moved).root
    shown, hardware = shown_on(console, quiet, json), detect()
    rest = engine.rest_of(folder, budget, places, hardware)
    say(f"resuming {folder.path}" if rest.due else nothing_left_words(folder))
    with held(folder.ledger_file) if rest.due and not dry_run else nullcontext() as lock:  # from now on whoever watches knows
        if rest.due:
            lines, seconds = describe_rest(rest.config, rest.state, hardware, rest.space)
            lines += fetching_notes(rest.config)
            say_lines(lines)
            shown.plan(lines, seconds)
        if dry_run:
            if rest.due:
                say_next_of_dry_run()
            return
        result = engine.resume(folder, budget, SearchProgress(shown).watcher(), places, rest=rest, lock=lock)
    conclude(result, shown)
