"""Hands a genotype over in a format for use elsewhere: one function per format."""

from collections.abc import Callable

from nas.errors import ConfigError
from search_spaces.genotype import Genotype, from_document, to_document, to_json, to_yaml
from search_spaces.strict_yaml import parse_document


def export_text(genotype: Genotype, format_: str) -> str:
    """The genotype as text in a format, read back and compared where the format can be read.

    Raises:
        ConfigError: there is no such format.
    """
    if format_ not in FORMATS:
        raise ConfigError(f"--format must be one of {', '.join(FORMATS)}, but got {format_!r}")
    return FORMATS[format_](genotype)


def _yaml(genotype: Genotype) -> str:
    return _checked(to_yaml(genotype), genotype)


def _json(genotype: Genotype) -> str:
    return _checked(to_json(genotype) + "\n", genotype)


def _dot(genotype: Genotype) -> str:
    from nas.draw import to_dot

    return to_dot(genotype)


def _checked(text: str, genotype: Genotype) -> str:
    document = parse_document(text, ConfigError, "the export")
    if to_document(from_document(document)) != to_document(genotype):
        raise RuntimeError("an exported genotype must read back as the same genotype")
    return text


FORMATS: dict[str, Callable[[Genotype], str]] = {"yaml": _yaml, "json": _json, "dot": _dot}
"""Every export format by name."""
