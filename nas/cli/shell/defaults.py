"""Defaults of options: the environment, then ``nas.yaml`` in the working directory or nearest above, then the user's own. No torch.

A ``nas.yaml`` names options without their dashes, for every command that has them, or below a command's name for that one::

    threads: 2
    search: {preset: cpu, budget: 100, set: {training.learning_rate: 0.05}}

What is said on the command line stands before the environment, that before the files, and they before the preset.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from nas.errors import ConfigError
from search_spaces.plugins import guess, is_code, trusted

FILE = "nas.yaml"
PREFIX = "NAS_"
TAKEN = {
    "NAS_DATA": "folder in which named data sets are kept",
    "NAS_RUNS": "folder in which runs are looked for",
    "NAS_TRAINED": "folder in which trainings are looked for",
    "NAS_TRUST": "modules that names found in files may import",
    "NAS_KERNELS": "native kernels: off, portable, avx2",
    "NAS_GRAPHS": "off: no CUDA graphs",
}
"""Variables that mean something else than an option that all commands share, and what."""

PERSONAL = ("address", "sync")
"""Options that send code or results elsewhere: a file that may have come with a folder of somebody else does not set them."""

ALONE: Mapping[str, frozenset[str] | None] = {"bench": None, "export": frozenset({"format"})}
"""Options (None: all) of commands in which a name of several commands means something else: only what names the command sets them."""

_CODE = re.compile(r"[^\W\d]\w*(?:\.\w+)*:[^\W\d]\w*(?:\.\w+)*")


@dataclass(frozen=True, slots=True)
class Source:
    """A file of defaults; ``own`` is the one in the user's own folder. ``document`` holds plain data by section or option."""

    path: Path
    own: bool
    document: Mapping[str, Any]

    def __str__(self) -> str:
        try:
            return str(self.path.relative_to(Path.cwd()))
        except ValueError:
            return str(self.path)


@dataclass(frozen=True, slots=True)
class Default:
    """What an option is where the command line does not say, and who says so."""

    value: Any
    origin: str


def own_file() -> Path:
    """The user's own file, wherever programs keep their settings on this system."""
    return Path(typer.get_app_dir("nas")) / FILE


def folder_file() -> Path | None:
    """The ``nas.yaml`` in the working directory, or nearest above it; None where there is none."""
    here = Path.cwd()
    return next((folder / FILE for folder in (here, *here.parents) if (folder / FILE).is_file()), None)


def strangers(path: Path) -> bool:
    """Whether a file belongs to another user of this machine, who might put it where others work (``/tmp``): it is not read."""
    return hasattr(os, "getuid") and path.stat().st_uid not in (0, os.getuid())


def sources() -> list[Source]:
    """The files of defaults that are there, nearest first.

    Raises:
        ConfigError: one is no plain YAML mapping.
    """
    found = folder_file()
    files = [(found, False)] if found is not None and not strangers(found) else []
    if own_file().is_file() and own_file() != found:
        files.append((own_file(), True))
    return [Source(path, own, _document(path)) for path, own in files]


def _document(path: Path) -> dict[str, Any]:
    from search_spaces.strict_yaml import load_document

    document = load_document(path, ConfigError)
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: must hold names of options or commands with values, such as `threads: 2`, but got {document!r:.80}")
    return document


def check(source: Source, commands: Mapping[str, set[str]]) -> None:
    """Raise ConfigError where a file names a command or an option (without dashes) that there is not."""
    every = {name for options in commands.values() for name in options}
    for key, value in source.document.items():
        if isinstance(value, Mapping) and key in commands:
            for name in value:
                _check_name(source, str(name), commands[key], f"{key}.")
        else:
            _check_name(source, str(key), every, "", commands)


def _check_name(source: Source, name: str, options: set[str], section: str, commands: Mapping[str, set[str]] | None = None) -> None:
    if name not in options:
        known = sorted({*options, *(commands or ())})
        what = "option" if commands is None else "option or command"
        raise ConfigError(f"{source}: there is no {what} {section}{name!r}{guess(name, known)}; choose one of {', '.join(known)}")
    if name in PERSONAL and not source.own:
        raise ConfigError(
            f"{source}: {name} may not be set by a file that lies in a folder, which may be somebody else's; set it in {own_file()}, "
            f"by {PREFIX}{name.upper()}, or by --{name}"
        )


def of_files(command: str, flags: Mapping[str, bool]) -> dict[str, Default]:
    """What the files say of a command's options: by flag without dashes. ``flags`` says which of them may be repeated.

    Raises:
        ConfigError: a value is none that an option can have.
    """
    found: dict[str, Default] = {}
    for source in sources():
        section = source.document.get(command)
        for where, said in ((f"{command}.", section), ("", source.document)):
            for name, value in said.items() if isinstance(said, Mapping) else ():
                if name not in flags or name in found or value is None:
                    continue
                if where or (shared(command, name) and (flags[name] or not isinstance(value, Mapping))):  # else it is another's section
                    text = _as_typed(value, f"{source}: {where}{name}", source, flags[name])
                    found[name] = Default(text, f"{source} ({where}{name})")
    return found


def _as_typed(value: object, where: str, source: Source, repeated: bool) -> Any:  # noqa: ANN401 - what a command line would hold
    """A value of a file as it would be typed: a text, texts where an option may be repeated, True or False for a switch."""
    if isinstance(value, bool) and not repeated:
        return value
    if isinstance(value, Mapping) and repeated:
        texts = [f"{name}={inner if isinstance(inner, str) else json.dumps(inner)}" for name, inner in value.items()]
    else:
        texts = [_text(inner, where) for inner in (value if isinstance(value, list) else [value])]
    for text in texts:
        _check_code(text, where, source)
    texts = [_beside(text, source.path.parent) for text in texts]
    return texts if repeated else ",".join(texts)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str | int | float):
        raise ConfigError(f"{where} must be a text, a number, true, false or a list of them, but got {value!r:.80}")
    return str(value)


def _check_code(text: str, where: str, source: Source) -> None:
    """Raise ConfigError where a file of a folder names code that the user has not named; see SECURITY.md."""
    for name in () if source.own else _CODE.findall(text):
        module = name.partition(":")[0]
        if is_code(name) and module not in trusted():
            raise ConfigError(f"{where} names code to import; if you know it and trust it: NAS_TRUST={module} nas …")


def _beside(text: str, folder: Path) -> str:
    """The path of what lies beside a file of defaults, as seen from the working directory; any other text as it is."""
    if text.startswith("~"):
        return str(Path(text).expanduser())
    if folder == Path.cwd() or Path(text).is_absolute() or "://" in text or "=" in text:
        return text
    meant = "/" in text or text.startswith(".") or Path(text).suffix in (".yaml", ".yml", ".json", ".safetensors")
    return str(folder / text) if meant else text


def shared(command: str, flag: str) -> bool:
    """Whether an option is meant by what names no command."""
    alone = ALONE.get(command, frozenset())
    return alone is not None and flag not in alone


def variables(command: str, flag: str) -> list[str]:
    """The environment variables that an option is read from, the nearer first: its own, then that of all commands' options of its name."""
    name = flag.upper().replace("-", "_")
    general = [PREFIX + name] if PREFIX + name not in TAKEN and shared(command, flag) else []
    return [f"{PREFIX}{command.upper()}_{name}", *general]


def unknown_variables(commands: Mapping[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Variables that begin as ours do and mean nothing, each with a guess of what was meant."""
    known = {*TAKEN, *(variable for command, flags in commands.items() for flag in flags for variable in variables(command, flag))}
    for name in sorted(os.environ):
        if name.startswith(PREFIX) and name not in known:
            yield name, guess(name, known)

