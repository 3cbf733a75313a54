"""Genotypes in DARTS', ENAS' and NAS-Bench-201's notations are those that were published, and a fault is named."""

import random
from pathlib import Path

import pytest
from support.processes import run_nas
from typer.testing import CliRunner

from nas.cli.main import app
from nas.networks.architecture import choose_architecture
from nas.runs.genotypes import is_genotype, resolve_genotype
from search_spaces.errors import GenotypeError
from search_spaces.genotype import Edge, read_genotype, validate
from search_spaces.nasbench201 import NASBENCH201
from search_spaces.notations import DARTS_OPERATIONS, ENAS_OPERATIONS, MAX_LENGTH, is_notation, read_notation
from search_spaces.reference import load_reference
from search_spaces.vocabulary import OPERATION_OPTIONS

# As printed in quark0/darts cnn/genotypes.py, shortened in nothing but white space.
DARTS_V1 = """DARTS_V1 = Genotype(normal=[('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 0), ('sep_conv_3x3', 1),
 ('skip_connect', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('skip_connect', 2)], normal_concat=[2, 3, 4, 5],
 reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 0), ('max_pool_3x3', 0),
 ('skip_connect', 2), ('skip_connect', 2), ('avg_pool_3x3', 0)], reduce_concat=[2, 3, 4, 5])"""
DARTS_V2 = """Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1),
 ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0),
 ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2),
 ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"""
DARTS_NASNET = """NASNet = Genotype(
  normal = [('sep_conv_5x5', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 0), ('sep_conv_3x3', 0), ('avg_pool_3x3', 1),
    ('skip_connect', 0), ('avg_pool_3x3', 0), ('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('skip_connect', 1)],
  normal_concat = [2, 3, 4, 5, 6],
  reduce = [('sep_conv_5x5', 1), ('sep_conv_7x7', 0), ('max_pool_3x3', 1), ('sep_conv_7x7', 0), ('avg_pool_3x3', 1),
    ('sep_conv_5x5', 0), ('skip_connect', 3), ('avg_pool_3x3', 2), ('sep_conv_3x3', 2), ('max_pool_3x3', 1)],
  reduce_concat = [4, 5, 6],
)"""
DARTS_AMOEBANET = """AmoebaNet = Genotype(
  normal = [('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2), ('sep_conv_3x3', 0),
    ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0), ('avg_pool_3x3', 1)],
  normal_concat = [4, 5, 6],
  reduce = [('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_7x7', 2), ('sep_conv_7x7', 0),
    ('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)],
  reduce_concat = [3, 4, 6]
)"""
# As in melodyguan/enas scripts/cifar10_micro_final.sh.
ENAS = "0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1 1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1"
NASBENCH = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|"

SMALL = "Genotype(normal=[('skip_connect', 0), ('none', 1)], normal_concat=[2], reduce=[('max_pool_3x3', 0), ('dil_conv_5x5', 1)], {})"


@pytest.mark.parametrize(
    ("text", "reference", "name"),
    [
        (DARTS_V1, "darts-v1", "DARTS_V1"),
        (DARTS_V2, "darts-v2", ""),
        (DARTS_NASNET, "nasnet-a-figure", "NASNet"),
        (ENAS, "enas-micro", ""),
    ],
    ids=["darts-v1", "darts-v2", "nasnet", "enas"],
)
def test_published_texts_are_the_reference_genotypes(text: str, reference: str, name: str) -> None:
    assert is_notation(text)
    found = read_notation(text)
    assert found == load_reference(reference)
    assert found.name == name


def test_darts_text_of_nasnet_is_not_the_released_one() -> None:
    """DARTS' lists leave PREVIOUS and a node out of the outputs: the released NASNet-A is another network."""
    assert read_notation(DARTS_NASNET) != load_reference("nasnet-a")


def test_darts_seven_by_one_convolution_runs_the_one_by_seven_first() -> None:
    reduction = read_notation(DARTS_AMOEBANET).reduction
    assert reduction is not None
    assert reduction.nodes[4].edges == (Edge(0, "conv_1x7_7x1"), Edge(5, "sep_conv_3x3"))
    assert reduction.outputs == (3, 4, 6)


def test_darts_outputs_may_be_a_range_and_fields_positional() -> None:
    found = read_notation(SMALL.format("reduce_concat=range(2, 3)"))
    assert found.reduction is not None
    assert found.reduction.outputs == (2,)
    again = read_notation("Genotype([['skip_connect', 0], ('none', 1)], (2,), [('max_pool_3x3', 0), ('dil_conv_5x5', 1)], [2])")
    assert found == again
    assert again.normal.nodes[0].edges == (Edge(0, "identity"), Edge(1, "zero"))


def test_a_python_file_is_read_past_its_other_statements_and_nothing_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    text = f"from collections import namedtuple\nopen({str(marker)!r}, 'w')\nPRIMITIVES = ['none']\n{DARTS_V1}\nDARTS = DARTS_V1\n"
    assert read_notation(text) == load_reference("darts-v1")
    assert not marker.exists()


def test_enas_search_prints_two_lists_over_many_lines() -> None:
    numbers = ENAS.split()
    printed = f"[{' '.join(numbers[:11])}\n {' '.join(numbers[11:20])}]\n[{', '.join(numbers[20:])}]"
    assert read_notation(printed) == load_reference("enas-micro")


def test_nasbench201_strings_are_the_spaces_own() -> None:
    found = read_notation(NASBENCH)
    assert NASBENCH201.write_text(NASBENCH201.encode(found)) == NASBENCH


def test_every_name_has_a_buildable_operation() -> None:
    assert {*DARTS_OPERATIONS.values(), *ENAS_OPERATIONS} <= set(OPERATION_OPTIONS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Genotype(", "not Python's notation"),
        ("Genotype()", "the fields must be normal, normal_concat, reduce, reduce_concat, but got none"),
        ("Genotype(1, 2, 3, 4, 5)", "the fields must be normal"),
        ("Genotype(**evil)", "each once, but got None"),
        ("Genotype([], normal=[])", "each once, but got 'normal'"),
        ("Genotype(normal=[], colour=[])", "each once, but got 'colour'"),
        (f"{DARTS_V1}\n{DARTS_NASNET}", r"must have one `Genotype\(…\)` by itself or after `NAME =`, but has 2 \(DARTS_V1, NASNet\)"),
        ("print(Genotype(normal=[]))", "but has 0"),
        (
            SMALL.format("reduce_concat=__import__('os').getpid()"),
            "`reduce_concat`: must be a list of literals or a range, but is something else .line 1, column 137",
        ),
        (SMALL.format("reduce_concat=range(10**9)"), "`reduce_concat`: must be a list of literals"),
        (SMALL.format("reduce_concat=[f() for f in g]"), "`reduce_concat`: must be a list of literals"),
        (SMALL.format("reduce_concat=3"), "`reduce_concat`: must be a list of hidden states, but got 3"),
        (SMALL.format("reduce_concat=[3]"), r"cell 'reduction': every output must be a hidden state 0\.\.2, but got 3"),
        (SMALL.format("reduce_concat=[2, 2]"), "must not repeat a hidden state"),
        (SMALL.format("reduce_concat=[]"), "must list at least one hidden state"),
        ("Genotype([('skip_connect', 0)], [2], [], [2])", r"`normal`: must list two \('operation', input\) for every node"),
        ("Genotype([('skip_connect', 0), 3], [2], [], [2])", r"`normal`, entry 2: must be \('operation', input\), but got 3"),
        ("Genotype([('skip', 0), ('none', 0)], [2], [], [2])", "`normal`, entry 1: the operation must be one of none, .*but got 'skip'"),
        ("Genotype([('none', 0), ('none', 2)], [2], [], [2])", "`normal`, entry 2: an input must be .*below 2, but got 2"),
        ("Genotype([('none', 0), ('none', True)], [2], [], [2])", "`normal`, entry 2: an input must be .*but got True"),
        ("Genotype([('none', '0'), ('none', 1)], [2], [], [2])", "`normal`, entry 1: an input must be .*but got '0'"),
        ("Genotype(" + "[" * 5000 + ")", "not Python's notation"),
        (SMALL.format("reduce_concat=" + "-" * 900 + "1"), "must be a list of literals"),
        ("0 1 0 1 0 1", "must be a multiple of 8, but got 6; an arc of the macro search"),
        ("0 1 0 1 0 1 0 5", r"reduction cell, node 2: an operation must be one of 0 sep_conv_3x3, .*, but got 5"),
        ("0 1 2 1 0 1 0 1", "normal cell, node 2: an input must be .*below 2, but got 2"),
        ("[0 1 0 1] [0 1 0]", "must be two lists, a multiple of 4 numbers each, but got lists of 4 and 3"),
        ("[0 1 0 1] [0 1 0 1] [0 1 0 1]", "but got lists of 4 and 4 and 4"),
        ("9" * 5000 + " 1 0 1 0 1 0 1", "an input must be"),
        ("|nor_conv_3x3~0|+|none~0|", "a cell must look like"),
        ("|conv~0|+|none~0|none~1|+|none~0|none~1|none~2|", "node 1: an edge must be op~0 with op one of none"),
        ("hello", "a genotype's text must be DARTS'"),
        ("|" * (MAX_LENGTH + 1), "at most 200,000 characters"),
    ],
)
def test_faults_are_named(text: str, message: str) -> None:
    with pytest.raises(GenotypeError, match=message):
        read_notation(text)


PIECES = ["[", "]", "(", ")", ",", "'", "0", "-", "range(", "**", "*", "None", "{", "=", "Genotype(", "\n", "\0", "😀", "|", "~", "+"]


@pytest.mark.parametrize("seed", range(5))
def test_a_damaged_text_is_refused_or_read_as_a_valid_genotype(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        text = rng.choice([DARTS_V1, DARTS_NASNET, ENAS, NASBENCH, SMALL.format("reduce_concat=range(2, 3)")])
        for _ in range(rng.randint(1, 3)):
            start = rng.randrange(len(text) + 1)
            text = text[:start] + rng.choice(PIECES) * rng.choice((0, 1, 1, 200)) + text[start + rng.choice((0, 1, 10)) :]
        try:
            validate(read_notation(text))
        except GenotypeError as problem:
            assert len(str(problem)) < 3000


def test_names_and_paths_are_no_notation() -> None:
    for name in ("last", "nasnet-a", "cell.yaml", "runs/20240101-120000-nasnet-cpu", "123", ""):
        assert not is_notation(name)
    assert is_genotype(NASBENCH)
    assert is_genotype("cell.txt")


# ---------------------------------------------------------------------------------------------------- wherever a genotype is named


def test_files_and_texts_stand_where_a_genotype_is_named(tmp_path: Path) -> None:
    for number, (text, reference) in enumerate([(DARTS_V2, "darts-v2"), (ENAS, "enas-micro")]):
        path = tmp_path / f"{number}.txt"
        path.write_text(text)
        assert resolve_genotype(str(path)) == resolve_genotype(text) == load_reference(reference)
    (tmp_path / "bad.txt").write_text("Genotype(")
    with pytest.raises(GenotypeError, match=r"bad\.txt: DARTS genotype, line 1: not Python's notation"):
        resolve_genotype(str(tmp_path / "bad.txt"))
    with pytest.raises(GenotypeError, match=r"none\.txt: cannot be read"):
        resolve_genotype(str(tmp_path / "none.txt"))


def test_each_notation_is_known_in_its_own_skeleton() -> None:
    assert choose_architecture(read_notation(DARTS_NASNET)).skeleton_name == "darts-cifar"
    assert choose_architecture(read_notation(NASBENCH)).skeleton_name == "nasbench201"
    assert choose_architecture(read_notation(ENAS)).skeleton_name == "nasnet-cifar"


def test_the_command_line_takes_them(tmp_path: Path) -> None:
    run = CliRunner().invoke
    text = run(app, ["cost", DARTS_V2])
    assert text.exit_code == 0, text.output
    assert "3,349,342" in text.output  # as quark0/darts counts its own
    shown = run(app, ["show", ENAS])
    assert shown.exit_code == 0
    assert "[0, avg_pool_3x3], [0, sep_conv_3x3]" in shown.output
    (tmp_path / "cell.txt").write_text(DARTS_NASNET)
    written = run(app, ["export", str(tmp_path / "cell.txt"), "-o", str(tmp_path / "cell.yaml")])
    assert written.exit_code == 0, written.output
    assert read_genotype(tmp_path / "cell.yaml") == load_reference("nasnet-a-figure")
    assert run(app, ["export", DARTS_NASNET, "-f", "json", "-o", str(tmp_path / "cell.json")]).exit_code == 0
    assert run(app, ["draw", NASBENCH, "-o", str(tmp_path / "cell.svg")]).exit_code == 0


def test_a_faulty_text_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    text = DARTS_V2.replace("dil_conv_3x3", "dil_conv_9x9")
    done = run_nas(["cost", text], tmp_path)
    assert done.returncode == 2
    assert "entry 8: the operation must be one of none" in done.stderr
    assert "Traceback" not in done.stderr
