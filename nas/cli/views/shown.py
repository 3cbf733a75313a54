"""What ``nas show`` says of a search, a training or a comparison. No torch."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from nas.api.things import Thing
from nas.cli.options import say, say_lines, say_next, say_whole
from nas.cli.views.run import print_run, print_winner
from nas.comparisons.folder import CompareFolder
from nas.data.settings import data_words
from nas.runs.folder import RunFolder, found_genotype
from nas.runs.standings import best_known
from nas.tools.environment import read_environment
from nas.tools.words import counted, duration, printable, top5_words
from nas.training.config import size_words, skeleton_of
from nas.training.folder import TrainFolder
from search_spaces.genotype import to_yaml
from search_spaces.skeletons import network_name


def print_thing(console: Console, thing: Thing, top: int) -> None:
    """All that is known of it, from its folder alone; of a search the best ``top`` trials. Raises UserError where it is damaged."""
    match thing.folder:
        case RunFolder() as folder:
            _print_search(console, folder, top)
        case TrainFolder() as folder:
            say_lines(training_lines(folder))
            say_next(*_next_of_training(folder))
        case CompareFolder() as folder:
            print_comparison(console, folder)
    label = thing.label
    if label.note:
        say(f"note:    {printable(label.note)}")
    if label.formerly:
        say(f"formerly {', '.join(map(printable, label.formerly))}")


def _print_search(console: Console, folder: RunFolder, top: int) -> None:
    config, state = folder.config(), folder.state()
    space = folder.space(config)
    print_run(console, folder, config, state, space, top)
    print_winner(console, folder)
    say(f"state:   {folder.condition(state)}")
    known = best_known(space, state)
    if known.trials:
        console.print(f"\nbest known ({known.how(1)}):")
        trial, believed = known.head(1)[0]
        say_whole(to_yaml(found_genotype(space, trial, folder.path.name, config.controller.name, believed)))


def training_lines(folder: TrainFolder) -> list[str]:
    """What was trained on what and how, how far it is, and how good: from the folder alone."""
    config, genotype, result = folder.config(), folder.genotype(), folder.result() or {}
    recipe, records = config.recipe, folder.history()
    origin = genotype.provenance
    found = f", found in the search {origin.run}, trial {origin.trial}" if origin is not None and origin.run else ""
    rate = f"{recipe.optimizer.name}, learning rate {recipe.optimizer.learning_rate:g}, batches of {recipe.batch_size}"
    seconds = sum(float(record.get("seconds", 0.0)) for record in records)
    lines = [
        f"{folder.path}: {folder.condition()} after {len(records)} of {counted(recipe.epochs, 'epoch')}, {duration(seconds)}",
        f"network: {network_name(genotype, skeleton_of(config))}{size_words(config)} in skeleton {config.skeleton['name']}{found}",
        f"data:    {data_words(config.data)}",
        f"recipe:  {recipe.name}: {rate}; seed {config.seed}",
    ]
    if result.get("parameters"):
        lines.append(f"costs:   {result['parameters']:,} parameters, {result['macs']:,} MACs")
    if records:
        accuracies = [float(record.get("validation_top1", 0.0)) for record in records]
        epoch = result.get("best_epoch") or accuracies.index(max(accuracies)) + 1
        head = "kept:" if result.get("best_epoch") else "best:"  # which one is kept is known at the end
        lines.append(f"{head}    {100 * result.get('validation_top1', max(accuracies)):.2f} % of the validation images, epoch {epoch}")
    if isinstance(test := result.get("test"), dict):
        top5 = top5_words(float(test["top5"]), int(result.get("classes", 0)))
        lines.append(f"test:    {100 * test['top1']:.2f} % top-1{top5} on {test['images']:,} images, read once")
    if result.get("detail"):
        lines.append(f"detail:  {result['detail']}")
    return lines


def _next_of_training(folder: TrainFolder) -> list[tuple[str, list[object]]]:
    if folder.condition() in ("interrupted", "killed"):
        return [("go on with it", ["nas", "train", "--resume", folder.path])]
    return [("accuracy again, and by class", ["nas", "evaluate", folder.path])] if folder.best_file.is_file() else []


def print_comparison(console: Console, folder: CompareFolder) -> None:
    """Everybody's figures, best first, and on what terms."""
    from nas.comparisons.networks import read_plan, read_rows, told_apart

    plan, rows = read_plan(folder, folder.path), read_rows(folder)
    recipe = plan.base.recipe
    terms = f"{counted(recipe.epochs, 'epoch')}, {counted(plan.seeds, 'seed')}"
    table = Table(title=f"about {plan.target}, recipe {recipe.name}, {terms}", title_justify="left")
    for name in ("who", "test %", "parameters", "MACs", "ms"):
        table.add_column(name, justify="left" if name == "who" else "right", overflow="fold")
    for row in rows:
        spread = f" ± {100 * row.deviation:.2f}" if len(row.test) > 1 else ""
        accuracy = f"{100 * row.mean:.2f}{spread}" if row.test else row.without
        costs = (f"{row.parameters:,}", f"{row.macs:,}", f"{row.latency_ms:.2f}") if row.test else ("", "", "")
        table.add_row(*(Text(text) for text in (row.label, accuracy, *costs)))
    console.print(table)
    missing = set(folder.labels()) - {row.label for row in rows if not row.unfinished}
    if sure := told_apart(rows):
        say(sure)
    say(f"{folder.path}: {folder.condition()}, on {data_words(plan.base.data)}")
    if missing:
        following = _next_of_comparison(folder)
        say(f"not trained yet: {', '.join(sorted(missing))}{'' if following else '; the same command again goes on'}")
        say_next(*following)


def _next_of_comparison(folder: CompareFolder) -> list[tuple[str, list[object]]]:
    """The command that was typed, where it is known: its paths hold in the folder that it was typed in."""
    known = read_environment(folder.environment_file)
    words, typed_in = known.get("command"), known.get("directory")
    if not isinstance(words, list) or not words:
        return []
    elsewhere = f", in {printable(str(typed_in))}" if typed_in and Path(str(typed_in)) != Path.cwd() else ""
    return [(f"go on with it{elsewhere}", [printable(str(word)) for word in words])]
