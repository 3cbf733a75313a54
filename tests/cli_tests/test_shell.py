"""Shell habits: examples, completion, near names, defaults from the environment and from nas.yaml, and what `nas config` says of them."""

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from support.documents import blocks
from support.paths import ROOT
from typer.testing import CliRunner

from nas.cli import main
from nas.cli.shell import completion, defaults
from nas.cli.shell.command import MAY_BE_BLANK, Command, flags_of
from nas.cli.shell.examples import EXAMPLES
from nas.errors import ConfigError
from nas.tools.environment import environment
from search_spaces.plugins import PluginError

ROOT_COMMAND: Any = typer.main.get_command(main.app)
COMMANDS = {name: command for name, command in ROOT_COMMAND.commands.items() if isinstance(command, Command)}


def leaves(command: Any = ROOT_COMMAND, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command that does something, as it is typed after ``nas``."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from leaves(inner, (*path, name))
    if not hasattr(command, "commands"):
        yield " ".join(path)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory of a user without settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    yield tmp_path / "work"


def parsed(command: str, *words: str) -> dict[str, Any]:
    """What a command would be called with."""
    root = typer.main.get_command(main.app)
    context = root.make_context("nas", [command])
    return COMMANDS[command].make_context(command, list(words), parent=context).params  # type: ignore[no-any-return]


def said(*words: str) -> str:
    done = CliRunner().invoke(main.app, words)
    return done.output if done.exception is None or isinstance(done.exception, SystemExit) else str(done.exception)


# ------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("name", list(leaves()))
def test_every_command_ends_its_help_with_examples_that_parse(name: str, here: Path) -> None:
    assert len(EXAMPLES.get(name, ())) >= 2, f"add two or three to nas/cli/shell/examples.py: what people type after `nas {name}`"
    text = said(*name.split(), "--help")
    for purpose, words in EXAMPLES[name]:
        assert f"  # {purpose}\n  nas {name} {words}".rstrip() in text
        if name in COMMANDS:
            parsed(name, *(word for word in shlex.split(words, comments=True) if word not in (">", "doctor.json")))


@pytest.mark.parametrize("name", list(leaves()))
def test_help_fits_and_names_types_plainly(name: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = said(*name.split(), "--help")
    assert max(map(len, text.splitlines())) <= 81, "the parser breaks before a comma or a full stop, not after it"
    assert "list[" not in text and " range>" not in text and "..." not in text.partition("Options:")[2]
    arguments = text.partition("Arguments:\n")[2].partition("\n\n")[0].splitlines()
    heads = [line.split()[0] for line in arguments if line[:2] == "  " and line[2] != " "]
    assert all(head == head.upper() for head in heads) and not any("<" in line for line in arguments)


def test_what_was_got_is_said_of_a_value_that_is_none(here: Path) -> None:
    for words, got in ((["search", "--budget", "ten"], "'ten'"), (["train", "nasnet-a", "--epochs", "many"], "'many'")):
        assert f"but got {got}" in " ".join(said(*words).split())


def test_a_variable_of_a_command_that_means_nothing_is_said(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_COST_FILTRS", "3")
    monkeypatch.setenv("NAS_HOST", "a disk in the cellar")
    monkeypatch.setenv("COLUMNS", "200")
    text = said("cost", "nasnet-a", "--cells", "1", "--filters", "4")
    assert "NAS_COST_FILTRS in the environment means nothing (did you mean 'NAS_COST_FILTERS'?)" in text and "NAS_HOST" not in text


def test_a_group_of_commands_shows_an_example_of_each(here: Path) -> None:
    text = said("runs", "--help").partition("Examples:\n")[2]
    assert text.count("  nas runs ") == 4 and "  nas runs rm first\n" in text and "Examples" not in said("--help")


def test_help_shows_defaults_and_commands_in_full(here: Path) -> None:
    assert "[default: fast]" in said("train", "--help") and "..." not in said("--help").partition("Commands:")[2]


def test_the_version_and_the_module_are_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "nas", "--version"], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.startswith("nas ") and done.stdout == said("--version")


def test_help_and_completion_load_nothing_slow() -> None:
    code = (
        "import sys, os\nos.environ.update(_NAS_COMPLETE='complete_zsh', _TYPER_COMPLETE_ARGS='nas train n')\n"
        "from nas.cli.main import main\nsys.argv = ['nas']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('SLOW', sorted({'torch', 'ray', 'numpy', 'pydantic', 'rich.markdown', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "nasnet-a" in done.stdout and done.stdout.strip().endswith("SLOW []")
    helped = code.replace("_NAS_COMPLETE='complete_zsh', ", "").replace("['nas']", "['nas', '--help']")
    assert subprocess.run([sys.executable, "-c", helped], capture_output=True, text=True, cwd=ROOT, check=True).stdout.endswith("SLOW []\n")


# ------------------------------------------------------------------------------------------------ names


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["serch"], "did you mean 'search'"),
        (["search", "--budgt", "3"], "did you mean --budget"),
        (["search", "--preset", "laptp"], "did you mean 'laptop'"),
        (["search", "--space", "nasnt"], "did you mean 'nasnet'"),
        (["search", "--data", "cifar"], "did you mean 'cifar1"),
        (["train", "nasnet-a", "--data", "digits", "--recipe", "fst"], "did you mean 'fast'"),
        (["train", "nasnet-a", "--data", "digits", "--skeleton", "nasnet-ciphar"], "did you mean 'nasnet-cifar'"),
        (["export", "nasnet-a", "-f", "onx"], "did you mean 'onnx'"),
        (["list", "run"], "did you mean 'runs'"),
        (["cost", "nasnet-a", "--latency", "--dtype", "float23"], "did you mean 'float32'"),
        (["show", "fund"], "did you mean 'found'"),
        (["config", "serch"], "did you mean 'search'"),
    ],
)
def test_a_near_name_is_named(words: list[str], near: str, here: Path) -> None:
    (here / "runs" / "found").mkdir(parents=True)
    (here / "runs" / "found" / "ledger.jsonl").touch()
    assert near in said(*words)


def test_the_short_lists_of_completion_are_the_registries() -> None:
    from controllers.registry import CONTROLLERS
    from nas.cli.views.listing import tables
    from nas.data.registry import DATASETS
    from nas.evaluators.registry import EVALUATORS
    from nas.exports.formats import FORMATS
    from nas.runs.config import preset_names
    from nas.training.recipe import recipe_names
    from search_spaces.reference import reference_names
    from search_spaces.registry import SPACES
    from search_spaces.skeletons import SKELETONS

    assert {*completion.DATASETS, "folder"} == set(DATASETS.built_in)
    assert {*completion.EVALUATORS, "given"} == set(EVALUATORS.built_in)
    assert set(completion.EXPORTS) == set(FORMATS.built_in)
    assert list(completion.SPACES) == list(SPACES.built_in) and list(completion.CONTROLLERS) == list(CONTROLLERS.built_in)
    assert list(completion.SKELETONS) == list(SKELETONS) and list(completion.genotypes()) == list(reference_names())
    assert {*completion.presets()} == {"auto", *preset_names()} and {*completion.recipes()} == {*recipe_names()}
    with pytest.raises(ConfigError, match=", ".join(sorted(completion.LISTS)[:1])) as refused:
        list(tables("nothing"))
    assert all(name in str(refused.value) for name in completion.LISTS)


def completed(*words: str) -> list[str]:
    """What bash is given for the last word."""
    environment = {"_NAS_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(["nas", *words]), "COMP_CWORD": str(len(words))}
    return CliRunner(env=environment).invoke(main.app, [], prog_name="nas").output.splitlines()


def test_names_of_everything_are_completed(here: Path) -> None:
    for name in ("first run", "[second]"):
        (here / "runs" / name).mkdir(parents=True)
        (here / "runs" / name / "ledger.jsonl").touch()
    assert {"'first run'", "'[second]'", "last"} == {*completed("resume", "")}
    assert "nasnet-a" in completed("train", "n") and completed("sea") == ["search"]
    assert completed("search", "--preset", "la") == ["laptop"]
    assert completed("search", "--cards", "nasnet-a,darts-v") == ["nasnet-a,darts-v1", "nasnet-a,darts-v2"]
    assert completed("export", "last", "--format", "onn") == ["onnx"]
    assert completed("evaluate", "net", "--format", "c") == ["csv"]
    assert completed("cost", "--skeleton", "nasnet-m") == ["nasnet-mobile"]
    assert completed("draw", "nasnet-a", "--theme", "a") == ["auto"] and completed("search", "--log", "none,w") == ["none,wandb"]


# ------------------------------------------------------------------------------------------------ defaults


def test_the_line_stands_before_the_environment_that_before_the_files(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = here.parent / "home" / "nas"
    own.mkdir(parents=True)
    (own / "nas.yaml").write_text("seed: 1\nsearch: {budget: 10, controller: random}\naddress: auto\n")
    search = "search:\n  budget: 20\n  cards: [nasnet-a, darts-v2]\n  set: {training.learning_rate: 0.05}\n"
    (here / "nas.yaml").write_text(f"seed: 2\ndevice: cpu\n{search}")
    (here / "deep" / "er").mkdir(parents=True)
    monkeypatch.chdir(here / "deep" / "er")
    found = parsed("search")
    assert (found["seed"], found["budget"], found["controller"], found["address"]) == (2, 20, "random", "auto")
    assert found["cards"] == "nasnet-a,darts-v2" and found["assign"] == ["training.learning_rate=0.05"]
    monkeypatch.setenv("NAS_SEED", "3")
    monkeypatch.setenv("NAS_SEARCH_BUDGET", "30")
    monkeypatch.setenv("NAS_SEARCH_DRY_RUN", "1")
    assert (parsed("search")["seed"], parsed("search")["budget"], parsed("search")["dry_run"]) == (3, 30, True)
    monkeypatch.setenv("NAS_SEARCH_SEED", "4")
    assert parsed("search")["seed"] == 4 and parsed("train", "nasnet-a")["seed"] == 3
    assert parsed("search", "--seed", "5", "--set", "a=1")["seed"] == 5 and parsed("search", "--set", "a=1")["assign"] == ["a=1"]


def test_what_is_typed_displaces_defaults_that_do_not_go_with_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nas.yaml").write_text("device: cpu\nsearch: {budget: 20, preset: cpu, data: digits}\ntrain: {epochs: 3, data: digits}\n")
    assert parsed("search", "--minutes", "3")["budget"] is None
    resumed = parsed("search", "--resume", "last")
    assert (resumed["preset"], resumed["data"], resumed["budget"]) == ("auto", None, None)
    resumed = parsed("train", "--resume", "net")
    assert (resumed["epochs"], resumed["data"], resumed["device"]) == (None, None, "cpu")


def test_what_is_made_again_is_not_changed_by_defaults(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nas.yaml").write_text("device: cpu\nsearch: {budget: 20, data: digits}\ntrain: {epochs: 3}\ncompare: {seeds: 3}\n")
    monkeypatch.setenv("NAS_SEED", "7")
    again = parsed("search", "--preset", "runs/first/config.yaml")
    assert (again["budget"], again["data"], again["seed"]) == (None, None, None)
    assert parsed("search", "--preset", "cpu")["budget"] == 20
    again = parsed("train", "--again", "net")
    assert (again["epochs"], again["seed"], again["device"]) == (None, None, "cpu")
    assert parsed("compare", "--again", "compared")["seeds"] == 1


def test_defaults_that_held_are_on_record_as_they_would_be_typed(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nas.yaml").write_text("search: {budget: 20, set: {looks: 0, data.name: digits}, dry-run: true}\n")
    monkeypatch.setenv("NAS_SEED", "7")
    monkeypatch.setenv("NAS_DATA", "/sets")
    parsed("search", "--controller", "random")
    found = environment()
    assert found["variables"]["NAS_DATA"] == "/sets"
    expected = "--budget 20 --seed 7 --set looks=0 --set data.name=digits --dry-run"
    assert found["defaults"] == expected.split()
    assert {"altair", "jinja2", "packaging", "vl-convert-python", "torch"} <= set(found["packages"]), "all that pyproject.toml names"
    parsed("list")
    assert "defaults" not in environment()


def test_paths_in_a_file_are_seen_from_its_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nas.yaml").write_text("data: ./photos\ndata-dir: ~/sets\nsearch: {preset: mine.yaml, space: nasnet}\n")
    (here / "below").mkdir()
    monkeypatch.chdir(here / "below")
    found = parsed("search")
    assert found["data"] == str(here / "photos") and found["preset"] == str(here / "mine.yaml") and found["space"] == "nasnet"
    assert found["data_dir"] == Path.home() / "sets"
    assert parsed("bench")["data"] == Path(), "a name that means something else there"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("serch: {budget: 3}", "no option or command 'serch' (did you mean 'search'?)"),
        ("search: {budgt: 3}", "no option search.'budgt' (did you mean 'budget'?)"),
        ("search: {budget: [[1]]}", "must be a text, a number"),
        ("- 3", "must hold names of options or commands"),
        ("a: [1, 2", "nas.yaml"),
        ("search: {budget: many}", "It comes from nas.yaml (search.budget)"),
        ("address: ray-head:6379", "may not be set by a file that lies in a folder"),
        ("search: {evaluator: 'evil:RUN'}", "NAS_TRUST=evil"),
        ("search: {set: ['evaluator=evil.deep:RUN']}", "NAS_TRUST=evil.deep"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_message(content: str, message: str, here: Path) -> None:
    (here / "nas.yaml").write_text(content)
    assert message in " ".join(said("search", "--dry-run").split())
    assert "Usage" in said("search", "--help")


def test_a_variable_that_cannot_be_used_is_one_message(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_SEARCH_BUDGET", "many")
    assert "It comes from the environment: NAS_SEARCH_BUDGET" in said("search")


def test_code_is_named_by_files_of_the_user_and_by_whoever_is_trusted(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nas.yaml").write_text("search: {evaluator: 'mine_of_test:RUN'}")
    with pytest.raises((ConfigError, PluginError), match="NAS_TRUST=mine_of_test"):
        parsed("search")
    monkeypatch.setenv("NAS_TRUST", "mine_of_test")
    assert parsed("search")["evaluator"] == "mine_of_test:RUN"


def test_files_of_strangers_are_not_read(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nas.yaml").write_text("seed: 7")
    monkeypatch.setattr("nas.cli.shell.defaults.strangers", lambda path: True)
    assert parsed("search")["seed"] is None and "another user" in said("config")


def test_every_command_that_reads_a_data_set_is_told_where_it_lies() -> None:
    """What to do where it is missing names the option (``nas.data.cifar.ways_out``)."""
    for name in ("search", "resume", "finalists", "train", "transfer", "compare", "evaluate", "data"):
        assert "data-dir" in flags_of(COMMANDS[name]), name


def test_no_variable_means_two_options() -> None:
    names: dict[str, tuple[str, str]] = {}
    shared = {flag for command in COMMANDS.values() for flag in flags_of(command)}
    for name, command in COMMANDS.items():
        for flag in flags_of(command):
            own, *general = defaults.variables(name, flag)
            assert own not in names and own not in defaults.TAKEN and own not in {f"NAS_{one.upper().replace('-', '_')}" for one in shared}
            names[own] = name, flag
            assert general or f"NAS_{flag.upper()}" in defaults.TAKEN or not defaults.shared(name, flag)


def test_config_says_what_holds_and_who_says_so(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "nas.yaml").write_text("threads: 2\nsearch: {budget: 20}\n")
    monkeypatch.setenv("NAS_SEARCH_SEED", "4")
    monkeypatch.setenv("NAS_SEARCH_BUGDET", "4")
    text = said("config")
    assert "search --budget" in text and "nas.yaml (search.budget)" in text and "train --threads" in text
    assert "NAS_SEARCH_BUGDET in the environment means nothing (did you mean 'NAS_SEARCH_BUDGET'?)" in text
    document = json.loads(said("config", "search", "--json"))
    origins = {one["option"]: (one["value"], one["origin"]) for one in document["settings"]}
    assert origins["seed"] == ("4", "environment: NAS_SEARCH_SEED") and origins["budget"] == ("20", "nas.yaml (search.budget)")
    assert origins["controller"][1].startswith("preset ") and origins["minutes"] == (None, "default")


def test_the_file_in_the_guide_can_be_used(here: Path) -> None:
    shown = next(block for block in blocks(ROOT / "docs" / "search.md", ROOT) if "file of defaults" in block.mark)
    (here / "nas.yaml").write_text(shown.text)
    found = parsed("search")
    assert (found["data"], found["preset"], found["budget"], found["cards"]) == ("photos/", "cpu", 100, "nasnet-a,darts-v2")
    assert parsed("train")["recipe"] == "fast" and parsed("train")["threads"] == 2


def test_defaults_of_a_file_are_told_when_they_hold(here: Path) -> None:
    (here / "nas.yaml").write_text("list: {root: elsewhere}\n")
    assert "defaults from nas.yaml: root=elsewhere (see `nas config list`)" in said("list", "presets")
    assert "defaults" not in said("list", "presets", "--root", "x")


# ------------------------------------------------------------------------------------------------ blank


def takes_text(parameter: Any) -> bool:
    """Whether an option or argument takes a path, a name or another text."""
    kind = str(parameter.type_descriptor.annotation)
    return not (getattr(parameter, "is_flag", False) or "int" in kind or "float" in kind or parameter.name in MAY_BE_BLANK)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_option_or_argument_takes_a_blank_path_or_name(name: str, here: Path) -> None:
    texts = [parameter for parameter in COMMANDS[name].params if takes_text(parameter)]
    needed = ["x" for one in COMMANDS[name].params if one.param_type_name == "argument" and one.required]
    for parameter in texts:
        flag = max(parameter.opts, key=len)
        for blank in ("", "  "):
            words = [blank, *needed[1:]] if parameter.param_type_name == "argument" else [*needed, f"{flag}={blank}"]
            with pytest.raises(ConfigError, match="must not be empty"):
                parsed(name, *words)
    assert list(here.iterdir()) == []


def test_a_blank_default_says_where_it_comes_from(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_OUTPUT", "  ")
    with pytest.raises(ConfigError, match=r"--output must not be empty, but got '  ', from the environment"):
        parsed("train", "nasnet-a")
    monkeypatch.delenv("NAS_OUTPUT")
    (here / "nas.yaml").write_text("output: ''\n")
    with pytest.raises(ConfigError, match=r"from a file of defaults"):
        parsed("train", "nasnet-a")


def test_python_callers_may_not_name_a_blank_folder_either(here: Path) -> None:
    import nas

    for call in (lambda: nas.new_run("nasnet", budget=1, run=" "), lambda: nas.open_run("")):
        with pytest.raises(ConfigError, match="must not be empty"):
            call()
    assert list(here.iterdir()) == []


def test_folders_that_a_run_makes_above_its_own_are_said(here: Path) -> None:
    from nas.runs.checks import check_place

    assert check_place(Path("runs/first")) == check_place(Path("first")) == []
    (note,) = check_place(Path("a/b/first"))
    assert note.startswith("folder: a/b/first; a/b is made too")
