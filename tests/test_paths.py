"""Whoever names a file may do so with a string: every public reader and writer takes one where it takes a path."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.paths import ROOT

from nas.networks.drawing.draw import draw_genotype
from nas.networks.weights.files import read_metadata, read_weights, write_weights
from search_spaces.errors import GenotypeError, SpaceError
from search_spaces.genotype import read_genotype
from search_spaces.reference import load_reference
from search_spaces.registry import SPACES, load_space

VERBS = ("read_", "load_", "write_", "draw_", "export_", "evaluate_", "train_")
INSIDE = ("nas/data/", "nas/training/checkpoint", "nas/training/curves", "nas/cli/", "nas/tools/", "nas/exports/formats.py:write_weights")
"""Reached through settings or folders, never called by a person."""


def readers_and_writers() -> Iterator[tuple[str, ast.arg]]:
    for package in ("search_spaces", "nas"):
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith(VERBS):
                    name = f"{file.relative_to(ROOT)}:{node.name}"
                    yield from ((name, argument) for argument in [*node.args.args, *node.args.kwonlyargs] if not name.startswith(INSIDE))


def test_every_public_reader_and_writer_takes_a_string_where_it_takes_a_path() -> None:
    takes = [(name, ast.unparse(argument.annotation)) for name, argument in readers_and_writers() if argument.annotation is not None]
    assert any("str | Path" in annotation for _, annotation in takes)
    assert [name for name, annotation in takes if "Path" in annotation and "str | Path" not in annotation] == []


def test_strings_name_what_paths_name(tmp_path: Path) -> None:
    genotype = ROOT / "search_spaces/genotypes/nasnet-a.yaml"
    assert read_genotype(str(genotype)) == read_genotype(genotype)
    with pytest.raises(GenotypeError, match="cannot be read"):
        read_genotype("nowhere.yaml")
    assert load_space(Path("nasnet")) is SPACES["nasnet"]
    with pytest.raises(SpaceError, match="unknown search space 'spiral'"):
        load_space(Path("spiral"))
    write_weights(str(tmp_path / "w.safetensors"), {}, {"for": "nobody"})
    assert read_weights(str(tmp_path / "w.safetensors")) == {} and read_metadata(str(tmp_path / "w.safetensors"))["for"] == "nobody"
    draw_genotype(load_reference("nasnet-a"), str(tmp_path / "cells.svg"))
    assert (tmp_path / "cells.svg").read_text().startswith("<?xml")
