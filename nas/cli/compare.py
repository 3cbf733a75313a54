"""``nas compare``."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.options import MacsOption, ParamsOption, absolute, console, data_flags
from nas.cli.train import DataDirOption, DataOption, SetOption


def compare(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN|GENOTYPE ...]", help="Who takes part: run folders (their winners), reference genotypes, files."),
    ] = None,
    randoms: Annotated[int, typer.Option("--random", min=0, help="So many cells drawn uniformly from --space.")] = 0,
    space: Annotated[str, typer.Option(help="Search space of the random cells.")] = "nasnet",
    macs: MacsOption = None,
    params: ParamsOption = None,
    recipe: Annotated[str, typer.Option(help="Everybody's recipe: a name (`nas list recipes`), or a YAML file.")] = "fast",
    data: DataOption = None,
    data_dir: DataDirOption = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training images; default the recipe's.")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="Trainings of everybody, with seeds 0, 1, …")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    assign: SetOption = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the comparison.")] = Path("compared"),
) -> None:
    """Train genotypes under one recipe at matched MACs or parameters, and table them; the same command again goes on."""
    from nas.errors import ConfigError
    from nas.networks.scaling import read_target

    target = read_target(macs, params)
    if target is None:
        raise ConfigError("a comparison needs everybody's size: give --macs or --params, such as --macs 10M")
    from nas.comparisons.networks import Plan, choose_members, run_comparison
    from nas.tools.interrupts import Stopper
    from nas.training.config import TrainConfig
    from nas.training.setup import Request, recipe_and_data

    members = choose_members(sources or [], randoms, space, seed=0)
    flags = {**data_flags(data or "cifar10"), "data.root": absolute(data_dir) or data_flags(data).get("data.root")}
    wanted = Request("", data=flags, recipe=recipe, recipe_flags={"epochs": epochs}, assignments=tuple(assign or ()))
    chosen, images = recipe_and_data(wanted)
    base = TrainConfig(skeleton={}, data=images, recipe=chosen, threads=threads, device=device)

    def tell(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    with Stopper(console, "writing a checkpoint") as stopper:
        rows, whole = run_comparison(members, Plan(target, base, seeds, output), tell, stopper.asked)
    for row in rows:
        done = f"{row.mean:7.2%}  {row.label:24} {row.latency_ms:6.2f} ms  {row.network}"
        tell(done if row.test else f" failed  {row.label:24} {row.reason}")
    tell(f"\nwrote {output / 'compare.md'}, compare.json and compare.png")
    if not whole:
        tell("interrupted; the same command goes on")
        raise typer.Exit(130)
