"""Reads YAML and JSON that a stranger wrote (plain data only, bounded size, no aliases, no repeated keys), and writes plain data."""

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from yaml.composer import Composer
from yaml.constructor import SafeConstructor
from yaml.resolver import Resolver

from search_spaces.errors import UserError

MAX_BYTES = 1 << 20
"""Largest document read. Genotypes and configurations are a few kilobytes; YAML parses about a MB a second."""

if yaml.__with_libyaml__ and not TYPE_CHECKING:
    from yaml.cyaml import CParser

    class _SafeLoader(Composer, CParser, SafeConstructor, Resolver):
        """SafeLoader on libyaml's events: five times as fast. CSafeLoader would compose its nodes in C, where nothing can be refused."""

        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            Composer.__init__(self)
            SafeConstructor.__init__(self)
            Resolver.__init__(self)

    SafeDumper = yaml.CSafeDumper
else:
    _SafeLoader = yaml.SafeLoader
    SafeDumper = yaml.SafeDumper


class _StrictLoader(_SafeLoader):
    """SafeLoader without aliases (a small file could stand for a huge tree), tags, huge integers and silent duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not allowed", problem_mark=event.start_mark)
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(problem=f"tags ({event.tag}) are not allowed", problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        value = super().construct_yaml_int(node)
        if abs(value) >= 1 << 63:
            raise yaml.MarkedYAMLError(problem="an integer must fit into 64 bits", problem_mark=node.start_mark)
        return int(value)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"the key {key_node.value!r} is given twice", problem_mark=key_node.start_mark)
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_yaml_int)


def load_document(path: str | Path, error: type[UserError]) -> object:
    """Read the one document in a file.

    Raises:
        UserError: (the class given) the file is missing, too large, not UTF-8, or not plain YAML/JSON.
    """
    return parse_document(load_text(path, error), error, str(path))


def load_text(path: str | Path, error: type[UserError]) -> str:
    """Read a short text that a stranger wrote.

    Raises:
        UserError: (the class given) the file is missing, too large or not UTF-8.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)  # a device, such as /dev/zero, has no size and no end
        if len(content) > MAX_BYTES:
            raise error(f"{path}: a document must be at most {MAX_BYTES:,} bytes, but it has {max(size, len(content)):,}")
        return content.decode("utf-8")
    except OSError as problem:
        raise error(f"{path}: cannot be read: {problem.strerror or problem}") from None
    except UnicodeDecodeError as problem:
        raise error(f"{path}: must be UTF-8 text, but byte {problem.start} is not") from None


def parse_document(text: str, error: type[UserError], source: str) -> object:
    """Parse the one document in a text; ``source`` names it in messages.

    Raises:
        UserError: (the class given) the text is not plain YAML/JSON.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - a SafeLoader made stricter
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise error(f"{source}{place}: not plain YAML or JSON: {problem.problem or problem.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError, TypeError) as problem:
        summary = str(problem).splitlines()[0] if str(problem) else type(problem).__name__
        raise error(f"{source}: not plain YAML or JSON: {summary}") from None


def dump_value(value: object) -> str:
    """Plain data as YAML in one line, as ``--set`` takes it."""
    return str(yaml.dump(value, Dumper=SafeDumper, sort_keys=False, default_flow_style=True, width=1 << 30)).strip()


def dump_document(document: Mapping[str, Any]) -> str:
    """Plain data as YAML, keys in their order."""
    return yaml.dump(dict(document), Dumper=SafeDumper, sort_keys=False)
