"""``nas config``: which defaults hold here, and who says so."""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.options import say
from nas.cli.shell import defaults
from nas.cli.shell.command import commands_of, files_say, flags_of, table_of
from nas.errors import ConfigError
from search_spaces.plugins import guess


@dataclass(frozen=True, slots=True)
class Setting:
    """An option of a command, what it is when it is not typed, and who says so."""

    command: str
    option: str
    value: Any
    origin: str


def config(
    context: typer.Context,
    command: Annotated[
        str | None, typer.Argument(metavar="COMMAND", help="Every option of this command; default what is set of all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Say which defaults hold here and who says so: environment variables, nas.yaml in this folder or above, your own, presets."""
    commands = commands_of(context)
    if command is not None and command not in commands:
        raise ConfigError(f"there is no command {command!r}{guess(command, commands)}; choose one of {', '.join(commands)}")
    chosen = [command] if command is not None else list(commands)
    found = [setting for name in chosen for setting in in_force(context, commands[name])]
    found = [setting for setting in found if setting.origin != "default"] if command is None else list(_with_preset(found))
    variables = {name: os.environ[name] for name in sorted(defaults.TAKEN) if os.environ.get(name)}
    unknown = [f"{name} in the environment means nothing{near}" for name, near in defaults.unknown_variables(table_of(context))]
    if as_json:
        document = {"files": list(_files()), "settings": [asdict(one) for one in found], "variables": variables, "notes": unknown}
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))
        return
    for line in _files():
        say(line)
    for name, value in variables.items():
        say(f"{name}={value} ({defaults.TAKEN[name]})")
    for note in unknown:
        say(f"note: {note}")
    say("")
    _say_settings(found, command)


def _files() -> Iterator[str]:
    """The two places of defaults in words."""
    near, own = defaults.folder_file(), defaults.own_file()
    if near is None:
        yield f"no {defaults.FILE} in {Path.cwd()} or above it"
    elif defaults.strangers(near):
        yield f"{near}: not read, since it belongs to another user"
    else:
        yield f"{near}: read"
    yield f"{own}: {'read' if own.is_file() else 'not there'}"


def in_force(context: Any, command: Any) -> list[Setting]:  # noqa: ANN401 - of typer's
    """Every option of a command with its value when it is not typed. Raises ConfigError where a file of defaults breaks a rule."""
    said = files_say(context, command)
    return [_setting(command.name, flag, option, said) for flag, option in flags_of(command).items()]


def _setting(command: str, flag: str, option: Any, said: dict[str, defaults.Default]) -> Setting:  # noqa: ANN401 - of typer's
    for variable in option.envvar:
        if os.environ.get(variable):
            return Setting(command, flag, os.environ[variable], f"environment: {variable}")
    if flag in said:
        return Setting(command, flag, said[flag].value, said[flag].origin)
    return Setting(command, flag, option.default, "default")


def _with_preset(settings: list[Setting]) -> Iterator[Setting]:
    """The same, with what the preset of a search fills in."""
    preset = next((one.value for one in settings if one.option == "preset"), None)
    if preset is None or settings[0].command != "search":
        yield from settings
        return
    from nas.api.wishes import SEARCH_SETTINGS, choose_preset
    from nas.runs.config import build_config

    name, _ = choose_preset(preset)
    document = build_config(name).model_dump(mode="json")
    document["data"], where = document["data"]["name"], SEARCH_SETTINGS | {"data": "data"}
    for one in settings:
        value: Any = document if one.value is None and one.option.replace("-", "_") in where else None
        for part in where.get(one.option.replace("-", "_"), "").split(".") if value is not None else ():
            value = value[part] if isinstance(value, dict) else value
        if value is not None and one.option == "filters" and document["match"] is not None:
            value = f"solved for, {document['match']}"
        yield one if value is None else Setting(one.command, one.option, value, f"preset {name}")


def _say_settings(settings: list[Setting], command: str | None) -> None:
    if not settings:
        say("no option is set: every default is the program's own, which `nas config COMMAND` lists")
        return
    names = [one.option if command else f"{one.command} --{one.option}" for one in settings]
    values = [_said(one.value) for one in settings]
    width, middle = max(map(len, names)), min(40, max(map(len, values)))
    for name, value, one in zip(names, values, settings, strict=True):
        say(f"{name:{width}}  {value:{middle}}  {one.origin}")


def _said(value: object) -> str:
    """A value as it is typed."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
