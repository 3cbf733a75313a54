"""``nas compare``."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import (
    STOPPING,
    DataDirOption,
    DataOption,
    DryRunOption,
    LatencyOnOption,
    MacsOption,
    ParamsOption,
    SetOption,
    console,
    say,
    say_lines,
    say_next,
    say_next_of_dry_run,
    say_next_the_same,
)
from nas.errors import ConfigError
from nas.tools.stages import doing, loading_torch
from nas.tools.words import quoted


def compare(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN|GENOTYPE", help="Who takes part: run folders (their winners), reference genotypes, files."),
    ] = None,
    randoms: Annotated[int, typer.Option("--random", min=0, help="So many cells drawn uniformly from --space.")] = 0,
    space: Annotated[str, typer.Option(help="Search space of the random cells.")] = "nasnet",
    macs: MacsOption = None,
    params: ParamsOption = None,
    latency: Annotated[str | None, typer.Option(metavar="TIME", help="Solve for F with such a measured latency of one image: 8ms.")] = None,
    latency_on: LatencyOnOption = None,
    cells: Annotated[
        int | None, typer.Option(min=1, max=50, help="Everybody's N, but for networks of blocks; default solved for, 1 with --latency.")
    ] = None,
    recipe: Annotated[str, typer.Option(help="Everybody's recipe: a name (`nas list recipes`), or a YAML file.")] = "fast",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images; default the recipe's.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of everybody, with seeds 0, 1, …")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Trainings at once; default one a core, or a GPU.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of each.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    assign: SetOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the comparison.")] = Path("compared"),
    dry_run: DryRunOption = False,
    again: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Compare who was compared in this folder once more, on its terms.")
    ] = None,
) -> None:
    """Train genotypes under one recipe at matched MACs, parameters or latency, and table them; the same command again goes on."""
    given = dict(locals())
    if dry_run and again is not None:
        raise ConfigError(f"--dry-run is for a new comparison; what --again would repeat, `nas show {quoted(again)}` says")
    given |= {"sources": given["sources"] or (), "random": given.pop("randoms"), "settings": given.pop("assign")}
    del given["dry_run"]
    if again is not None:
        from nas.comparisons.folder import CompareFolder

        CompareFolder(again).document()  # before torch is loaded
    else:
        with doing("reading the settings"):
            from nas.api.wishes import check_names

            check_names(given, *(sources or ()))
    with loading_torch():
        import nas
        from nas.api.training import comparison_wish
        from nas.comparisons.plan import describe_comparison
        from nas.tools.interrupts import Stopper

    if dry_run:
        say_lines(describe_comparison(*comparison_wish(sources or (), given)))
        say_next_of_dry_run()
        return
    with Stopper(console.print, STOPPING) as stopper:
        compared = nas.compare(**given, tell=say, stop=stopper.asked)
    for line in compared.lines():
        say(line)
    say(f"\nwrote {output / 'compare.md'}, compare.json and compare.png")
    if not compared.whole:
        say("interrupted: what is not finished can be gone on with")
        say_next_the_same()
        raise typer.Exit(130)
    say_next(
        ("a page of it, to keep or to send", ["nas", "report", output]),
        ("this table again", ["nas", "show", output]),
    )
