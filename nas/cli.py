"""The ``nas`` command: reads flags, calls the engine, prints. Heavy packages are imported inside the commands, so that help is instant."""

import errno
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nas.errors import ConfigError, DataError, UserError

app = typer.Typer(
    name="nas",
    help="Neural architecture search: a controller proposes cells, children are trained, the best are handed over.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console()
errors = Console(stderr=True)

SkeletonOption = Annotated[str | None, typer.Option(help="Macro network, see `nas list`; default: the one the genotype is known in.")]
CellsOption = Annotated[int | None, typer.Option(help="N, cells a stage; default as published.")]
FiltersOption = Annotated[int | None, typer.Option(help="F, filters of the first stage's cells; default as published.")]
ClassesOption = Annotated[int | None, typer.Option(help="Classes; default as published.")]
ChannelsOption = Annotated[int, typer.Option(help="Channels of an image.")]
SizeOption = Annotated[int | None, typer.Option(help="Side of an image in pixels; default as published.")]
SourceArgument = Annotated[
    str, typer.Argument(metavar="RUN|GENOTYPE", help="Run folder, `last`, a reference genotype's name, or a genotype file.")
]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run folder, its name under runs/, or `last`.")]


def main() -> None:
    """Run the command line: exit code 0 when all went well, 2 for bad input, 130 when interrupted, 1 for a search that gave up."""
    try:
        app()
    except UserError as error:
        errors.print(f"[bold red]error:[/] {_escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        place = f" {error.filename}" if error.filename else ""
        errors.print(f"[bold red]error:[/] cannot write{_escape(place)}: {error.strerror}; nothing recorded is lost", highlight=False)
        sys.exit(2)
    except KeyboardInterrupt:
        errors.print("interrupted")
        sys.exit(130)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


@app.command()
def search(
    space: Annotated[str | None, typer.Option(help="Search space: nasnet, nasnet-paper, …, or a YAML file that declares one.")] = None,
    budget: Annotated[int | None, typer.Option(help="Children to train.")] = None,
    preset: Annotated[str, typer.Option(help="auto, laptop, cpu, gpu, paper, or a YAML file of settings.")] = "auto",
    data: Annotated[str | None, typer.Option(help="cifar10, cifar100, digits, synthetic, or a folder of images.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder that holds the named data set.")] = None,
    controller: Annotated[str | None, typer.Option(help="ppo, reinforce, evolution, local_search, random.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of everything random.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs a child is trained for.")] = None,
    cells: Annotated[int | None, typer.Option(help="N, normal cells a stage.")] = None,
    filters: Annotated[int | None, typer.Option(help="F, filters of the first stage.")] = None,
    workers: Annotated[int | None, typer.Option(help="Children trained at once; default fills the machine.")] = None,
    gpus_per_child: Annotated[float | None, typer.Option(help="Whole or fractional GPUs for each child.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join: auto or HOST:PORT. Default: Ray on this machine.")] = None,
    runner: Annotated[str | None, typer.Option(help="ray, or local for one child at a time in this process.")] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds a child may take.")] = None,
    assign: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting, such as training.learning_rate=0.05.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="Folder for this run; default runs/<time>-<space>-<preset>.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="RUN", help="Go on with this run, up to the given --budget.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and how long it takes, and stop.")] = False,
) -> None:
    """Search for cells: propose, train, learn, and keep everything in a run folder."""
    flags: dict[str, Any] = {
        "space": space,
        "budget": budget,
        "seed": seed,
        "controller.name": controller,
        "data.root": _absolute(data_dir),
        "fidelity.epochs": epochs,
        "fidelity.cells": cells,
        "fidelity.filters": filters,
        "runner.workers": workers,
        "runner.gpus_per_child": gpus_per_child,
        "runner.address": address,
        "runner.kind": runner,
        "runner.time_limit": time_limit,
        **_data_flags(data),
    }
    if resume is not None:
        given = [name for name, value in flags.items() if value is not None and name != "budget"]
        if given or assign or run or preset != "auto":
            raise ConfigError(
                f"--resume goes on with the run's own settings: only --budget may be given with it, but got {', '.join(given) or 'others'}"
            )
        _resume(resume, budget)
        return
    from nas.hardware import auto_preset, detect
    from nas.settings import build_config

    hardware = detect()
    if preset == "auto":
        preset, why = auto_preset(hardware)
        console.print(f"preset [bold]{preset}[/] ({why}); choose another with --preset", highlight=False)
    config = build_config(preset, assign or (), flags)
    from nas.plan import describe_plan

    for line in describe_plan(config, hardware):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    if dry_run:
        return
    from nas import engine

    _conclude(engine.start(config, run, console))


@app.command()
def resume(run: RunArgument) -> None:
    """Go on with a run that was interrupted or killed."""
    _resume(run, None)


def _resume(name: str, budget: int | None) -> None:
    from nas import engine, run_folder

    folder = run_folder.find(name)
    console.print(f"resuming {folder.path}", highlight=False)
    _conclude(engine.resume(folder, budget, console))


def _conclude(result: Any) -> None:  # noqa: ANN401 - nas.engine.SearchResult, whose import would load the engine
    from nas import engine, report

    console.print()
    report.print_run(console, result.folder, result.config, result.state, result.space)
    best = result.folder.best_folder
    if result.state.ranked():
        console.print(f"genotypes: {best}/1.yaml … {best}/{len(list(best.glob('*.yaml')))}.yaml", highlight=False)
    if result.ending.value == "exhausted":
        console.print("the search space is exhausted: every further proposal repeats a trained cell")
    console.print("\nnext:")
    for command, purpose in report.next_commands(result.folder.path, result.state):
        console.print(f"  [bold]{_escape(command)}[/]   {purpose}", highlight=False, soft_wrap=True)
    engine.check_failing(result)
    if result.ending.value == "interrupted":
        raise typer.Exit(130)


@app.command()
def show(
    name: Annotated[
        str,
        typer.Argument(metavar="RUN|NAME", help="Run folder, `last`, a genotype file, or a name from `nas list`."),
    ],
    top: Annotated[int, typer.Option(min=1, help="Trials in the table.")] = 10,
) -> None:
    """Show a run's ranking and its incumbent, or what a listed name stands for."""
    from nas import report, run_folder
    from nas.listing import describe
    from search_spaces.genotype import to_yaml

    text = describe(name)
    if text is not None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        return
    folder = run_folder.find(name)
    config, state = folder.config(), folder.state()
    space = folder.space(config)
    report.print_run(console, folder, config, state, space, top)
    if state.ranked():
        console.print("\nincumbent:")
        best = run_folder.found_genotype(space, state.ranked()[0], folder.path.name)
        console.print(to_yaml(best), markup=False, highlight=False, soft_wrap=True)


@app.command(name="list")
def list_(
    what: Annotated[str | None, typer.Argument(help="runs, spaces, genotypes, skeletons, presets or controllers; default all.")] = None,
    root: Annotated[Path, typer.Option(help="Folder whose runs are listed.")] = Path("runs"),
) -> None:
    """List runs, search spaces, reference genotypes and skeletons with their costs, presets and controllers."""
    from nas.listing import tables

    for table in tables(root, what):
        console.print(table)
    if what is None:
        console.print("`nas list genotypes` and `nas list skeletons` show published cells and networks with their parameters and MACs")


@app.command()
def export(
    source: SourceArgument,
    format_: Annotated[str, typer.Option("--format", "-f", help="yaml, json or dot.")] = "yaml",
    rank: Annotated[int, typer.Option(min=1, help="Which of the run's genotypes: 1 is the incumbent.")] = 1,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; default prints it.")] = None,
) -> None:
    """Hand over a genotype for use elsewhere."""
    from nas.export import export_text
    from nas.genotypes import resolve_genotype

    text = export_text(resolve_genotype(source, rank), format_)
    if output is None:
        sys.stdout.write(text)
        return
    from nas.run_folder import write_atomically

    try:
        write_atomically(output, text)
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror or error}") from None
    console.print(f"wrote {output}", highlight=False)


@app.command()
def cost(
    source: SourceArgument,
    skeleton: SkeletonOption = None,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = 3,
    image_size: SizeOption = None,
    latency: Annotated[bool, typer.Option("--latency", help="Measure latency and throughput on this machine.")] = False,
    memory: Annotated[bool, typer.Option("--memory", help="Measure the peak memory of a training step.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a batch, for --latency and --memory.")] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
) -> None:
    """Count parameters and MACs of a network exactly; measure how fast it runs and how much memory its training takes."""
    from nas.architectures import choose_architecture
    from nas.genotypes import resolve_genotype

    architecture = choose_architecture(resolve_genotype(source), skeleton, cells, filters, classes, channels, image_size)
    from search_spaces.cost import network_cost, training_memory
    from search_spaces.network import build_network

    wanted = {"classes": architecture.classes, "channels": architecture.channels, "image_size": architecture.image_size}
    counted = network_cost(architecture.genotype, architecture.skeleton, **wanted)
    console.print(f"{architecture.name} in skeleton {architecture.skeleton_name}", highlight=False)
    side = architecture.image_size
    console.print(f"input:      {architecture.channels}×{side}×{side}, {architecture.classes} classes", highlight=False)
    console.print(f"parameters: {counted.parameters:,} (trainable)", highlight=False)
    console.print(f"MACs:       {counted.macs:,} (convolutions and linear layers, one image)", highlight=False)
    if latency:
        from nas.latency import measure_latency

        network = build_network(architecture.genotype, architecture.skeleton, **wanted)
        measured = measure_latency(
            network, image_size=side, channels=architecture.channels, batch_size=batch_size, device=device, dtype=dtype
        )
        console.print(f"latency:    {measured}", highlight=False)
    if memory:
        network = build_network(architecture.genotype, architecture.skeleton, **wanted).to(device)
        peak = training_memory(network, batch_size=batch_size, channels=architecture.channels, image_size=side, device=device)
        console.print(
            f"memory:     {peak / 2**20:,.1f} MiB at the peak of a training step with {batch_size} images, on {device}", highlight=False
        )


@app.command()
def draw(
    source: SourceArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write: .svg, .png or .pdf.")],
    network: Annotated[bool, typer.Option("--network", help="Draw the whole network instead of the cells.")] = False,
    skeleton: SkeletonOption = None,
    cells: CellsOption = None,
    filters: FiltersOption = None,
    classes: ClassesOption = None,
    channels: ChannelsOption = 3,
    image_size: SizeOption = None,
) -> None:
    """Draw the cells of a genotype, or (with --network or --skeleton) the whole network."""
    from nas.genotypes import resolve_genotype

    genotype = resolve_genotype(source)
    if not network and skeleton is None:
        from nas.draw import draw_genotype

        draw_genotype(genotype, output)
    else:
        from nas.architectures import choose_architecture
        from nas.draw import draw_skeleton

        chosen = choose_architecture(genotype, skeleton, cells, filters, classes, channels, image_size)
        wanted = {"classes": chosen.classes, "channels": chosen.channels, "image_size": chosen.image_size}
        draw_skeleton(genotype, chosen.skeleton, output, **wanted)
    console.print(f"wrote {output}", highlight=False)


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100 or digits.")] = "cifar10",
    data_dir: Annotated[Path | None, typer.Option(help="Folder to keep the data in; default $NAS_DATA or ~/.cache/nas/data.")] = None,
) -> None:
    """Fetch a data set where it is missing, and verify it."""
    from nas.config import DataSettings
    from nas.data.cifar import SPECS, unofficial_files
    from nas.data.dataset import load_dataset

    if name not in ("cifar10", "cifar100", "digits"):
        raise ConfigError(f"a data set to fetch must be one of cifar10, cifar100, digits, but got {name!r}")
    dataset = load_dataset(DataSettings(name=name, root=_absolute(data_dir)))
    if name in SPECS and (altered := unofficial_files(SPECS[name], str(data_dir) if data_dir else None)):
        raise DataError(f"{', '.join(map(str, altered))}: not the official file (its checksum differs); remove it to fetch it anew")
    height, width, channels = dataset.train_images.shape[1:]
    console.print(
        f"{name}: {len(dataset.train_images):,} training and {len(dataset.test_images):,} test images, "
        f"{height}×{width}×{channels}, {dataset.classes} classes: {', '.join(dataset.class_names[:10])}"
        f"{', …' if dataset.classes > 10 else ''}",
        highlight=False,
    )


def _absolute(folder: Path | None) -> str | None:
    """A folder as a run records it: so that the run can be resumed from anywhere."""
    return str(folder.expanduser().resolve()) if folder else None


def _data_flags(data: str | None) -> dict[str, Any]:
    """``--data``: a name, or a folder of images."""
    named = ("cifar10", "cifar100", "digits", "synthetic")
    if data is None or data in named:
        return {"data.name": data}
    if Path(data).expanduser().is_dir():
        return {"data.name": "folder", "data.root": _absolute(Path(data))}
    raise ConfigError(f"--data must be one of {', '.join(named)}, or an existing folder of images, but got {data!r}")


if __name__ == "__main__":
    main()
