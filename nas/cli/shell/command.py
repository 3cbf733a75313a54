"""What a command of ``nas`` does with what is typed: defaults from elsewhere, completion, examples in its help, near names. No torch.

All of it goes by the parser's own table of parameters, so that a new command has it by standing in the table of ``nas.cli.main``.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from nas.cli.options import errors
from nas.cli.shell import defaults
from nas.cli.shell.completion import candidates
from nas.cli.shell.defaults import Default
from nas.cli.shell.examples import EXAMPLES
from nas.cli.shell.screen import broken
from nas.errors import UserError
from nas.tools.environment import DEFAULTS
from nas.tools.files import check_not_blank
from nas.tools.words import quoted
from search_spaces.plugins import guess

EXCLUDES: Mapping[str, frozenset[str]] = {
    "budget": frozenset({"minutes"}),
    "minutes": frozenset({"budget"}),
    "macs": frozenset({"params"}),
    "params": frozenset({"macs"}),
    "json": frozenset({"format"}),
    "format": frozenset({"json"}),
    "suite": frozenset({"table", "objective", "space", "architecture", "reward", "report", "seconds", "epochs", "fidelity", "controller"}),
}
"""Options that a typed one displaces where they come from the environment or a file: both together are refused."""

MAY_BE_BLANK = frozenset({"text", "title"})
"""Parameters that an empty text says something to: it takes away the note of a run, and the title of a picture."""

STILL_WITH_FOLDER = frozenset({"data-dir", "device", "threads", "loader-workers", "address", "workers", "sync", "dry-run"})
"""Defaults that hold beside a typed ``--resume``, ``--again`` or a run's own config.yaml as ``--preset``: a folder says all else."""


WHENCE: Mapping[str, str] = {"ENVIRONMENT": ", from the environment", "DEFAULT_MAP": ", from a file of defaults (see `nas config`)"}
"""Where a value comes from that was not typed, by the parser's name for it, for the end of a message."""


class ClosedPipeError(UserError):
    """Whoever read what a command prints (``| head``) has gone. No OSError: the parser would end that with the code of a divergence."""

    exit_code = 141


def flag_of(option: Any) -> str | None:  # noqa: ANN401 - a parameter of typer's
    """An option's longest flag without dashes; None for an argument."""
    if option.param_type_name == "argument":
        return None
    return str(max(option.opts, key=len)).lstrip("-")


def flags_of(command: Any) -> dict[str, Any]:  # noqa: ANN401 - a command of typer's
    """A command's options by their flags without dashes."""
    return {flag: option for option in command.params if (flag := flag_of(option)) is not None}


def commands_of(context: Any) -> dict[str, "Command"]:  # noqa: ANN401 - a context of typer's
    """Every command whose options take defaults, by its name."""
    root = context.find_root().command
    found = getattr(root, "commands", {root.name: root})
    return {name: command for name, command in found.items() if isinstance(command, Command)}


def table_of(context: Any) -> dict[str, set[str]]:  # noqa: ANN401 - a context of typer's
    """The flags, without dashes, of every such command."""
    return {name: set(flags_of(command)) for name, command in commands_of(context).items()}


def files_say(context: Any, command: Any) -> dict[str, Default]:  # noqa: ANN401 - of typer's
    """What the files of defaults say of a command's options, by flag. Raises ConfigError where they name what there is not."""
    for source in defaults.sources():
        defaults.check(source, table_of(context))
    return defaults.of_files(command.name, {flag: option.multiple for flag, option in flags_of(command).items()})


class Shown(TyperCommand):
    """One command, also below another (``nas runs rm``): names are completed, near ones named, and its help ends with examples."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as typer calls it
        super().__init__(*args, **kwargs)
        parameters: list[Any] = list(self.params)
        for parameter in parameters:
            if parameter._custom_shell_complete is None:
                parameter._custom_shell_complete = self._complete
            if parameter.name not in MAY_BE_BLANK:
                parameter.process_value = _taking(parameter)
            if parameter.param_type_name == "argument" and parameter.metavar is None:
                parameter.metavar = str(parameter.name).upper()
            parameter.display_type = _plain_type(parameter)

    def _complete(self, context: Any, parameter: Any, begun: str) -> list[str]:  # noqa: ANN401 - of typer's
        """The names that may stand at a parameter and begin so; in a list with commas, at its last place."""
        before, comma, last = begun.rpartition(",")
        names = candidates(str(self.name), flag_of(parameter), parameter.metavar or str(parameter.name))
        found = [f"{before}{comma}{name}" for name in names if name.startswith(last)]
        in_bash = os.environ.get("_NAS_COMPLETE") == "complete_bash"  # which takes a name as it is given; the others quote it themselves
        return [quoted(name) for name in found] if in_bash else found

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - a context of typer's
        """Parse what is typed; of an option that there is not, say which one is near."""
        try:
            return list(super().parse_args(ctx, args))
        except Exception as error:
            if near := getattr(error, "possibilities", None):
                error.message, error.possibilities = f"{error.message} (did you mean {sorted(near)[0]}?)", None  # type: ignore[attr-defined]
            raise

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - of typer's
        """Examples."""
        path = ctx.command_path
        _write_examples(formatter, [(purpose, f"{path} {words}") for purpose, words in EXAMPLES.get(path.partition(" ")[2], ())])

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - of typer's
        """Run the command. What Ctrl-C ends at once says so."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            errors.print("interrupted: stopped at once; what is recorded is kept")
            ctx.exit(130)


class Command(Shown):
    """One command right below ``nas``: variables and files may set every option of it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as typer calls it
        super().__init__(*args, **kwargs)
        for flag, option in flags_of(self).items():
            option.envvar, option.show_envvar = defaults.variables(str(self.name), flag), False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - a context of typer's
        """Parse what is typed, with defaults from files below it, and say which of them hold."""
        said: dict[str, Default] = {}
        if not (ctx.resilient_parsing or {"-h", "--help"} & {*args}):
            said = files_say(ctx, self)
            by_name = flags_of(self)
            ctx.default_map = {by_name[flag].name: default.value for flag, default in said.items()}
        try:
            rest = super().parse_args(ctx, args)
        except Exception as error:
            self._say_where_from(error, ctx, said)
            raise
        if not ctx.resilient_parsing:
            self._give_way(ctx)
            self._tell_unknown(ctx)
            self._tell(ctx, said)
            DEFAULTS.set(self._defaults(ctx, said))
        return rest

    def _say_where_from(self, error: Any, ctx: Any, said: Mapping[str, Default]) -> None:  # noqa: ANN401 - of typer's
        """To an error of the parser: that the value was not typed, but where it stands."""
        option: Any = getattr(error, "param", None)
        source = option is not None and ctx.get_parameter_source(option.name)
        if source and source.name == "ENVIRONMENT":
            error.message = f"{error.message.rstrip('.')}. It comes from the environment: {' or '.join(option.envvar)}."
        if source and source.name == "DEFAULT_MAP":
            error.message = f"{error.message.rstrip('.')}. It comes from {said[flag_of(option) or ''].origin}."

    def _give_way(self, ctx: Any) -> None:  # noqa: ANN401 - a context of typer's
        """Take back what comes from the environment or a file and does not go with what is typed."""
        sources = {flag: ctx.get_parameter_source(option.name) for flag, option in flags_of(self).items()}
        typed = {flag for flag, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
        gone = {other for flag in typed for other in EXCLUDES.get(flag, ())}
        if typed & {"resume", "again"} or ("preset" in typed and Path(str(ctx.params["preset"])).name == "config.yaml"):
            gone |= sources.keys() - STILL_WITH_FOLDER
        for flag in gone & sources.keys() - typed:
            option = flags_of(self)[flag]
            ctx.params[option.name] = option.process_value(ctx, option.default)
            ctx.set_parameter_source(option.name, type(sources[flag]).DEFAULT)

    def _defaults(self, ctx: Any, said: Mapping[str, Default]) -> tuple[str, ...]:  # noqa: ANN401 - a context of typer's
        """What holds beside what is typed, from the environment or files, as it would be typed: a result depends on it as well."""
        words: list[str] = []
        for flag, option in flags_of(self).items():
            source = ctx.get_parameter_source(option.name)
            if source is None or source.name not in WHENCE:
                continue
            value = said[flag].value if source.name == "DEFAULT_MAP" else next(filter(None, map(os.environ.get, option.envvar)))
            if option.is_flag:
                words += [f"--{flag}"] if ctx.params[option.name] else []
                continue
            for one in value if isinstance(value, list) else value.split() if option.multiple else [value]:
                words += [f"--{flag}", str(one)]
        return tuple(words)

    def _tell(self, ctx: Any, said: Mapping[str, Default]) -> None:  # noqa: ANN401 - a context of typer's
        """Say which defaults of files hold, so that none comes as a surprise; on the error stream."""
        options = flags_of(self)
        held = [flag for flag in said if ctx.get_parameter_source(options[flag].name).name == "DEFAULT_MAP"]
        if held:
            words = ", ".join(f"{flag}={_short(said[flag].value)}" for flag in held)
            files = " and ".join(dict.fromkeys(said[flag].origin.partition(" (")[0] for flag in held))
            errors.print(f"defaults from {files}: {words} (see `nas config {self.name}`)", style="dim")

    def _tell_unknown(self, ctx: Any) -> None:  # noqa: ANN401 - a context of typer's
        """Say which variables begin as this command's do and mean nothing: a misspelt one would be missed."""
        if not any(name.startswith(self._prefix()) for name in os.environ):
            return
        for name, near in defaults.unknown_variables(table_of(ctx)):
            if name.startswith(self._prefix()):
                errors.print(f"{name} in the environment means nothing{near}", style="dim", highlight=False, markup=False)

    def _prefix(self) -> str:
        """What the variables begin with that set this command's options alone."""
        return defaults.variables(str(self.name), "option")[0].removesuffix("OPTION")

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - of typer's
        """Examples, and how options are set without being typed."""
        super().format_epilog(ctx, formatter)
        if flags_of(self):
            formatter.write(f"\nDefaults: {self._prefix()}<OPTION> in the environment, or nas.yaml;\nsee `nas config {self.name}`.\n")


class Group(TyperGroup):
    """Several commands."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - of typer's
        """List every command with what it does, in full."""
        rows = [(name, self.commands[name].get_short_help_str(300)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - of typer's
        """An example of each command, below another (``nas runs``): the program's own list of commands is long enough."""
        below = ctx.command_path.partition(" ")[2]
        first = {name: EXAMPLES[f"{below} {name}"][0] for name in self.commands if f"{below} {name}" in EXAMPLES}
        _write_examples(formatter, [(purpose, f"{ctx.command_path} {name} {words}") for name, (purpose, words) in first.items()])

    def make_context(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the parser calls it
        """Parse what is typed before the command's name; ``--help`` prints here already."""
        try:
            return super().make_context(*args, **kwargs)
        except BrokenPipeError as error:
            raise ClosedPipeError("nobody reads what is printed") from error
        except Exception as error:
            _break_between_words(error)
            raise

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - of typer's
        """Parse and run the command that is typed. A closed pipe becomes an end that the caller of the parser can tell apart."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ClosedPipeError("nobody reads what is printed") from error
        except Exception as error:
            _break_between_words(error)
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - of typer's
        """Find the command that is typed, or name the one that is near."""
        self.suggest_commands = False
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            if hasattr(error, "message") and args and args[0] not in self.commands:
                near = guess(args[0], self.commands)
                error.message = f"{error.message.rstrip('.')}{near}; `{ctx.command_path} --help` lists the commands"
            raise


def _write_examples(formatter: Any, examples: Sequence[tuple[str, str]]) -> None:  # noqa: ANN401 - of typer's
    """What each example is for, and below it the command."""
    formatter.write("\nExamples:\n" if examples else "")
    for purpose, command in examples:
        formatter.write(f"  # {purpose}\n  {command}".rstrip() + "\n")


def _taking(parameter: Any) -> Callable[[Any, Any], Any]:  # noqa: ANN401 - of typer's
    """How a parameter takes what is said, and says what it was where it cannot.

    A blank text is refused: ``--run "$NAME"`` without the variable must not mean this folder.
    """
    take: Callable[[Any, Any], Any] = parameter.process_value

    def taken(ctx: Any, value: Any) -> Any:  # noqa: ANN401 - as the parser calls it
        source = ctx.get_parameter_source(parameter.name)
        whence = WHENCE.get(source.name, "") if source is not None else ""
        for word in value if isinstance(value, list | tuple) else (value,):
            check_not_blank(word, name, whence, folder)
        try:
            return take(ctx, value)
        except Exception as error:  # of the parser: "Input should be a valid integer" alone does not say what was got
            if isinstance(value, str) and repr(value) not in getattr(error, "message", repr(value)):
                error.message = f"{error.message.rstrip('.')}, but got {value!r}"  # type: ignore[attr-defined]
            raise

    flag = flag_of(parameter)
    folder = flag is None or "Path" in str(parameter.type_descriptor.annotation)
    name = parameter.metavar or str(parameter.name).upper() if flag is None else f"--{flag}"
    return taken


def _plain_type(parameter: Any) -> Callable[[Any], str]:  # noqa: ANN401 - of typer's
    """How the help names a parameter's type: ``<int>`` also where it has bounds or may be repeated; an argument says by its name alone."""
    of_the_parser: Callable[[Any], str] = getattr(parameter, "display_type", lambda ctx: "")
    is_argument = parameter.param_type_name == "argument"
    return lambda ctx: "" if is_argument else re.sub(r"list\[(\w+)\]|(\w+) range", r"\1\2", of_the_parser(ctx)).lower()


def _break_between_words(error: Any) -> None:  # noqa: ANN401 - of any kind
    """Let an error of the parser, which prints it itself, be printed as all else is."""
    if hasattr(error, "format_message") and errors.is_terminal:
        head = "Error: "
        said = broken(Text(head + error.format_message()), errors.width).plain.removeprefix(head)
        error.format_message = lambda: said


def _short(value: object) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
