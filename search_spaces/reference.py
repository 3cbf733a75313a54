"""Reference genotypes: published cells and blocks, as files in the format that an export writes. No torch; anyone may import it."""

from importlib.resources import files

from search_spaces.errors import GenotypeError
from search_spaces.genotype import Genotype, from_document
from search_spaces.plugins import guess
from search_spaces.strict_yaml import parse_document

_FOLDER = files("search_spaces") / "genotypes"


def reference_names() -> tuple[str, ...]:
    """The names of all reference genotypes, sorted."""
    return tuple(sorted(entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml")))


def load_reference(name: str) -> Genotype:
    """The reference genotype of that name.

    Raises:
        GenotypeError: there is none.
    """
    known = reference_names()
    if name not in known:
        raise GenotypeError(f"unknown reference genotype {name!r}{guess(name, known)}; choose one of {', '.join(known)}")
    text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return from_document(parse_document(text, GenotypeError, f"{name}.yaml"))


def reference_source(name: str) -> str:
    """Where a reference genotype comes from: the comment at the head of its file.

    Raises:
        GenotypeError: there is none of that name.
    """
    load_reference(name)
    lines = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
