"""One table for everything of a kind, open from outside: by installed packages (entry points) and by ``module:attr``. No torch.

It stands here, at the lowest level, because all three packages have such tables.
"""

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from search_spaces.errors import UserError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint, EntryPoints, SelectableGroups

T = TypeVar("T")
Text = TypeVar("Text", str, str | None)

TRUST_VARIABLE = "NAS_TRUST"
"""Environment variable: modules, separated by commas, that names found in files may import (see SECURITY.md)."""

BUILT_IN = "built-in"
"""The origin of what belongs to this package."""

_trusted: set[str] = set()


class PluginError(UserError):
    """A plug-in cannot be used. Correct its name or its package; or say that you trust it, as the message shows."""


def guess(name: str, choices: Iterable[str]) -> str:
    """For messages about an unknown name: `` (did you mean 'other'?)`` where one of the choices is near; else nothing."""
    near = difflib.get_close_matches(name, list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def is_code(name: str) -> bool:
    """Whether a name is ``module:attr``: code to import."""
    module, colon, attribute = name.partition(":")
    return bool(colon) and all(part.isidentifier() for part in (*module.split("."), *attribute.split(".")))


def trust(names: Iterable[object]) -> None:
    """Allow the import of the modules of those names that are ``module:attr``: for names that the user wrote, never a file's.

    Names in a file (a run folder, a genotype, the description in a weights file) are data of unknown origin; they import a
    module only if the user named it in this session, or in the environment variable NAS_TRUST.
    """
    _trusted.update(name.partition(":")[0] for name in names if isinstance(name, str) and is_code(name))


def as_written(name: Text) -> Text:
    """The name, which the user wrote, and so may import what it names: for flags of commands."""
    trust([name])
    return name


def trust_modules(modules: Iterable[str]) -> None:
    """Allow the import of these modules: in a worker, what its driver was allowed."""
    _trusted.update(modules)


def trusted() -> tuple[str, ...]:
    """The modules that the user named: a worker process of a search is told them."""
    named = (name.strip() for name in os.environ.get(TRUST_VARIABLE, "").split(","))
    return tuple(sorted(_trusted.union(filter(None, named))))


def import_code(name: str) -> object:
    """What ``module:attr`` names. The working directory is looked in last, so that nothing there hides an installed module.

    Raises:
        PluginError: the user has not named the module, it cannot be imported, or has no such attribute.
    """
    module_name, _, attributes = name.partition(":")
    if module_name not in trusted():
        raise PluginError(
            f"{name!r} names code to import, and comes from a file; if you know it and trust it: {TRUST_VARIABLE}={module_name} nas …"
        )
    sys.path.append(os.getcwd())  # noqa: PTH109 - sys.path holds texts
    try:
        found: object = importlib.import_module(module_name)
    except Exception as problem:  # whatever a stranger's module raises while it is imported
        raise PluginError(f"{name}: module {module_name!r} cannot be imported: {type(problem).__name__}: {problem}") from problem
    finally:
        sys.path.pop()
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise PluginError(f"{name}: module {module_name!r} has no {attributes!r}{guess(attribute, dir(found))}")
        found = getattr(found, attribute)
    return found


@cache
def _every() -> "SelectableGroups | EntryPoints":
    """All entry points. Reading them looks at every installed package, so it is done once for all groups, and late."""
    from importlib.metadata import entry_points  # here, since it costs more than all else that `nas --help` needs

    return entry_points()


@cache
def _installed(group: str) -> Mapping[str, tuple["EntryPoint", ...]]:
    """The entry points of a group by name."""
    found: dict[str, tuple[EntryPoint, ...]] = {}
    for point in sorted(_every().select(group=group), key=lambda point: point.value):
        if point not in found.get(point.name, ()):  # a folder that stands twice in sys.path
            found[point.name] = (*found.get(point.name, ()), point)
    return found


def installed_names(group: str) -> list[str]:
    """What installed packages offer of a group, by name. Imports none of it."""
    return sorted(_installed(group))


def forget_installed() -> None:
    """Look at the installed packages again: for a process that has just installed one."""
    _every.cache_clear()
    _installed.cache_clear()


class Registry(Mapping[str, T], Generic[T]):
    """Everything of a kind by name: the built-in rows, then what installed packages offer; ``module:attr`` is a name as well.

    Args:
        kind: what a row is, for messages: "data set".
        group: of the entry points: "nas.datasets".
        built_in: the rows. They are plain data and functions that import heavy packages when called, so that listing is instant.
        row: turns what a plug-in gives into a row; raises TypeError with the rule that it breaks.
        error: what an unknown name raises.
        hint: what else may be given for a name, ends the message about an unknown one: "or an existing folder".
    """

    def __init__(
        self,
        kind: str,
        group: str,
        built_in: Mapping[str, T],
        row: Callable[[object], T] | None = None,
        error: type[UserError] = UserError,
        hint: str = "",
    ) -> None:
        self.kind, self.group, self.built_in = kind, group, built_in
        self._row: Callable[[object], T] = row or (lambda found: cast(T, found))
        self._error, self._hint = error, hint
        self._loaded: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        """The row of that name; a plug-in is imported when first asked for.

        Raises:
            UserError: there is none of that name (of the class given), or a plug-in cannot be used.
        """
        if name in self.built_in:
            return self.built_in[name]
        if name not in self._loaded:
            self._loaded[name] = self._load(name)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        """Whether the name is a row's or an installed package's. ``module:attr`` is only known to be right when it is asked for."""
        return isinstance(name, str) and (name in self.built_in or name in self._loaded or name in _installed(self.group))

    def __iter__(self) -> Iterator[str]:
        yield from self.built_in
        yield from sorted(set(_installed(self.group)).difference(self.built_in))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def known(self) -> Iterator[tuple[str, T]]:
        """The rows that can be had, first those that need no import; a plug-in that cannot be used is passed over."""
        yield from self.built_in.items()
        yield from list(self._loaded.items())
        for name in self:
            if name not in self.built_in and name not in self._loaded:
                with suppress(PluginError):
                    yield name, self[name]

    def check(self, name: str) -> None:
        """Raise UserError where there is no such name, without importing what it stands for."""
        if name not in self and not is_code(name):
            raise self._unknown(name)

    def origin(self, name: str) -> str:
        """Where a row comes from: ``built-in``, ``package NAME (module:attr)``, or the ``module:attr`` itself. Imports nothing."""
        if name in self.built_in:
            return BUILT_IN
        points = _installed(self.group).get(name, ())
        return ", ".join(f"package {_package(point)} ({point.value})" for point in points) or name

    def _load(self, name: str) -> T:
        points = _installed(self.group).get(name, ())
        if len(points) > 1:
            raise PluginError(f"{self.kind} {name!r} is offered more than once: {self.origin(name)}; uninstall all but one")
        if points:
            trust([points[0].value])  # whoever installed the package has run its code before
            found = import_code(points[0].value)
        elif is_code(name):
            found = import_code(name)
        else:
            raise self._unknown(name)
        try:
            return self._row(found)
        except TypeError as problem:
            raise PluginError(f"{self.kind} {name!r} ({self.origin(name)}): {problem}") from None

    def _unknown(self, name: str) -> UserError:
        others = f", {self._hint}" if self._hint else ""
        return self._error(f"unknown {self.kind} {name!r}{guess(name, self)}; choose one of {', '.join(self)}{others}")


def instance_of(kind: type[T]) -> Callable[[object], T]:
    """For ``Registry(row=…)``: a plug-in must be an instance of that class already."""

    def row(found: object) -> T:
        if not isinstance(found, kind):
            raise TypeError(f"must be an instance of {kind.__module__}.{kind.__qualname__}, but got {found!r:.200}")
        return found

    return row


def _package(point: "EntryPoint") -> str:
    return point.dist.name if point.dist is not None else "unknown"
