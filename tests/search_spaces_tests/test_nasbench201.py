"""The NAS-Bench-201 space: its notation, its genotypes, and its isomorphism classes as the benchmark's table has them."""

import csv
import gzip
import itertools
import random
from collections import defaultdict

import pytest
from support.paths import SHARED_DATA

from search_spaces.errors import GenotypeError
from search_spaces.genotype import from_document, to_document
from search_spaces.nasbench201 import NASBENCH201
from search_spaces.nasnet import NASNET
from search_spaces.registry import load_space
from search_spaces.space import sample_actions, size

TABLES = SHARED_DATA
BEST = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"


def key(actions):
    return NASBENCH201.canonical(NASBENCH201.decode(actions))


def test_size_and_registry():
    assert size(NASBENCH201) == 15_625
    assert load_space("nasbench201") is NASBENCH201


def test_best_cifar10_cell_of_the_benchmark():
    actions = NASBENCH201.read_text(BEST)
    assert actions == (3, 3, 3, 1, 3, 2)
    cell = NASBENCH201.decode(actions).normal
    assert cell.inputs == 1 and cell.outputs == (3,)
    assert [(e.source, e.operation) for e in cell.nodes[2].edges] == [(0, "identity"), (1, "conv_3x3"), (2, "conv_1x1")]
    assert NASBENCH201.write_text(actions) == BEST


def test_every_cell_survives_text_and_document_and_there_are_6466_classes():
    keys = set()
    for actions in itertools.product(range(5), repeat=6):
        assert NASBENCH201.read_text(NASBENCH201.write_text(actions)) == actions
        genotype = NASBENCH201.decode(actions)
        assert NASBENCH201.encode(genotype) == actions
        keys.add(NASBENCH201.canonical(genotype))
    assert len(keys) == 6_466
    document = to_document(NASBENCH201.decode(NASBENCH201.read_text(BEST)))
    assert NASBENCH201.encode(from_document(document)) == NASBENCH201.read_text(BEST)


def test_edges_of_a_node_may_be_listed_in_any_order():
    document = to_document(NASBENCH201.decode((0, 1, 2, 3, 4, 0)))
    document["cells"]["normal"]["nodes"][2]["edges"].reverse()
    assert NASBENCH201.encode(from_document(document)) == (0, 1, 2, 3, 4, 0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ((0, 3, 0, 0, 0, 1), (3, 0, 0, 0, 1, 0), False),  # equal on paper; the benchmark keeps '##' apart from '#'
        ((1, 3, 2, 1, 1, 1), (1, 2, 3, 1, 1, 1), True),  # node 1 is the input: the two convolutions swap
        ((2, 0, 3, 0, 0, 1), (2, 0, 4, 0, 0, 1), False),
        ((0, 3, 2, 0, 4, 1), (0, 3, 4, 0, 2, 1), True),  # what follows a zero edge does not matter
    ],
)
def test_canonical_form(one, other, same):
    assert (key(one) == key(other)) == same


@pytest.mark.skipif(not (TABLES / "nasbench201_extra.csv.gz").exists(), reason="the benchmark's table is not beside the project")
def test_classes_are_the_tables():
    """Both partitions of the 15,625 cells are the same."""
    ours, theirs = defaultdict(set), defaultdict(set)
    with gzip.open(TABLES / "nasbench201_extra.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            canonical = key(tuple(int(digit) for digit in row["cell"]))
            ours[canonical].add(row["iso_class"])
            theirs[row["iso_class"]].add(canonical)
    assert len(theirs) == 6_466
    assert all(len(classes) == 1 for classes in ours.values())
    assert all(len(canonicals) == 1 for canonicals in theirs.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "must look like"),
        (BEST + "+|none~0|", "must look like"),
        (BEST.replace("nor_conv_1x1", "conv_1x1"), "node 3: an edge must be op~2 with op one of none, skip_connect"),
        (BEST.replace("~2", "~1"), "node 3: an edge must be op~2"),
        (BEST.strip("|"), "must look like"),
    ],
)
def test_broken_notation_is_one_message(text, words):
    with pytest.raises(GenotypeError, match="must") as caught:
        NASBENCH201.read_text(text)
    assert words in str(caught.value)


def test_foreign_genotypes_are_refused():
    with pytest.raises(GenotypeError, match="one cell of three nodes"):
        NASBENCH201.encode(NASNET.decode(sample_actions(NASNET, random.Random(0))))
    for change, words in (("sep_conv_3x3", "is not searched here"), (None, "one edge from every earlier hidden state")):
        document = to_document(NASBENCH201.decode((1, 1, 1, 1, 1, 1)))
        edges = document["cells"]["normal"]["nodes"][1]["edges"]
        edges[1] = [1, change] if change else [0, "identity"]
        with pytest.raises(GenotypeError, match=words):
            NASBENCH201.encode(from_document(document))
