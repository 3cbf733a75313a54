"""Genotypes are data: written and read without loss, and a reader that answers anything with a genotype or one clear message."""

import copy
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.paths import ROOT

from search_spaces.errors import GenotypeError
from search_spaces.genotype import (
    MAX_NODES,
    CellGenotype,
    Edge,
    Genotype,
    Node,
    Provenance,
    from_document,
    read_genotype,
    to_document,
    to_json,
    to_yaml,
    validate,
)
from search_spaces.nasnet import NASNET
from search_spaces.reference import load_reference, reference_names, reference_source
from search_spaces.space import sample_actions
from search_spaces.strict_yaml import MAX_BYTES, parse_document
from search_spaces.vocabulary import OPERATION_OPTIONS


def parse(text: str) -> Genotype:
    return from_document(parse_document(text, GenotypeError, "text"))


def random_genotype(seed: int) -> Genotype:
    return NASNET.decode(sample_actions(NASNET, random.Random(seed)))


def document() -> dict[str, Any]:
    return copy.deepcopy(to_document(load_reference("nasnet-a")))


# ------------------------------------------------------------------------------------------------ writing and reading


@pytest.mark.parametrize("seed", range(20))
def test_random_genotypes_survive_yaml_and_json(seed: int) -> None:
    genotype = random_genotype(seed)
    for text in (to_yaml(genotype), to_json(genotype), to_json(genotype, indent=None)):
        assert parse(text) == genotype
        assert to_yaml(parse(text)) == to_yaml(genotype)


def test_labels_survive_and_do_not_make_genotypes_different() -> None:
    plain = random_genotype(0)
    origin = Provenance("run-1", 7, 0.5, "local-search")
    labelled = Genotype(plain.normal, plain.reduction, name="été", space="nasnet", provenance=origin)
    again = parse(to_yaml(labelled))
    assert (again.name, again.space, again.provenance) == ("été", "nasnet", origin)
    assert again == plain and hash(again) == hash(plain)
    assert parse(to_json(Genotype(plain.normal, provenance=Provenance("r", 0)))).provenance == Provenance("r", 0, None)


def test_options_and_single_input_cells_survive() -> None:
    genotype = load_reference("resnext-8x64d")
    assert genotype.normal.inputs == 1
    assert genotype.normal.nodes[0].edges[0].options == (("cardinality", 8), ("width", 64))
    assert parse(to_yaml(genotype)) == parse(to_json(genotype)) == genotype


def test_yaml_is_written_as_a_person_would() -> None:
    text = to_yaml(load_reference("nasnet-a"))
    assert "      edges: [[1, sep_conv_5x5], [0, sep_conv_3x3]]\n" in text
    assert "    outputs: [0, 2, 3, 4, 5, 6]\n" in text
    assert "!!" not in text and "&id" not in text


def test_reading_a_file(tmp_path: Path) -> None:
    for name, text in (("a.yaml", to_yaml(random_genotype(1))), ("a.json", to_json(random_genotype(1)))):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert read_genotype(tmp_path / name) == random_genotype(1)


def test_loose_ends_are_the_nodes_that_no_node_consumes() -> None:
    cell = load_reference("nasnet-a-figure").reduction
    assert cell is not None and cell.loose_ends() == cell.outputs == (4, 5, 6)


# ------------------------------------------------------------------------------------------------ reference genotypes


def test_reference_genotypes_are_in_the_written_form_and_name_their_source() -> None:
    for name in reference_names():
        genotype = load_reference(name)
        text = (ROOT / "search_spaces" / "genotypes" / f"{name}.yaml").read_text(encoding="utf-8")
        body = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
        assert body == to_yaml(genotype), name
        assert len(reference_source(name)) > 20, name


def slim(operations: str, inputs: list[int], used: list[int]) -> CellGenotype:
    """A cell as tensorflow/models and tensorflow/tpu list it: state 0 is CURRENT, 1 is PREVIOUS, a 0 in ``used`` marks an output."""
    names = {"s": "sep_conv", "a": "avg_pool", "m": "max_pool"}
    ours = [1, 0, *range(2, 7)]
    edges = [
        Edge(ours[source], "identity" if op == "none" else "conv_1x7_7x1" if op == "1x7" else f"{names[op[0]]}_{op[1]}x{op[1]}")
        for op, source in zip(operations.split(), inputs, strict=True)
    ]
    nodes = tuple(Node((edges[i], edges[i + 1])) for i in range(0, 10, 2))
    return CellGenotype(nodes, tuple(sorted(ours[state] for state, mark in enumerate(used) if not mark)))


def darts(text: str, outputs: tuple[int, ...]) -> CellGenotype:
    """A cell as quark0/darts lists it, ``operation source`` by comma: state 0 is PREVIOUS, 1 is CURRENT."""
    names = {"skip": "identity", "sep": "sep_conv_3x3", "dil": "dil_conv_3x3", "max": "max_pool_3x3", "avg": "avg_pool_3x3"}
    edges = [Edge(int(source), names[name]) for name, source in (pair.split() for pair in text.split(","))]
    return CellGenotype(tuple(Node((edges[i], edges[i + 1])) for i in range(0, len(edges), 2)), outputs)


def enas(tokens: str, outputs: tuple[int, ...]) -> CellGenotype:
    """A cell as melodyguan/enas' script gives it: source and operation, twice a node; state 0 is PREVIOUS, 1 is CURRENT."""
    names = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity")
    numbers = [int(token) for token in tokens.split()]
    edges = [Edge(numbers[i], names[numbers[i + 1]]) for i in range(0, len(numbers), 2)]
    return CellGenotype(tuple(Node((edges[i], edges[i + 1])) for i in range(0, len(edges), 2)), outputs)


NASNET_NORMAL = "s5 s3 s5 s3 a3 none a3 a3 s3 none", [0, 1, 1, 1, 0, 1, 1, 1, 0, 0]
NASNET_REDUCTION = "s5 s7 m3 s7 a3 s5 none a3 s3 m3", [0, 1, 0, 1, 0, 1, 3, 2, 2, 0]
ALL = (2, 3, 4, 5)
PUBLISHED = {
    "nasnet-a": (slim(*NASNET_NORMAL, [1, 0, 0, 0, 0, 0, 0]), slim(*NASNET_REDUCTION, [1, 1, 1, 0, 0, 0, 0])),
    "nasnet-a-figure": (slim(*NASNET_NORMAL, [1, 1, 0, 0, 0, 0, 0]), slim(*NASNET_REDUCTION, [1, 1, 1, 1, 0, 0, 0])),
    "amoebanet-a": (
        slim("a3 m3 s3 none none a3 s3 s5 a3 s3", [0, 0, 1, 1, 0, 1, 0, 2, 5, 0], [1, 0, 1, 0, 0, 1, 0]),
        slim("s3 a3 m3 s7 m3 m3 s3 1x7 a3 s7", [1, 0, 0, 2, 1, 0, 4, 0, 1, 0], [1, 1, 0, 0, 0, 0, 0]),
    ),
    "pnasnet-5": (slim("s5 m3 s7 m3 s5 s3 s3 m3 s3 none", [1, 1, 0, 0, 0, 0, 4, 0, 1, 0], [1, 1, 0, 0, 0, 0, 0]), None),
    "darts-v1": (
        darts("sep 1,sep 0,skip 0,sep 1,skip 0,sep 1,sep 0,skip 2", ALL),
        darts("max 0,max 1,skip 2,max 0,max 0,skip 2,skip 2,avg 0", ALL),
    ),
    "darts-v2": (
        darts("sep 0,sep 1,sep 0,sep 1,sep 1,skip 0,skip 0,dil 2", ALL),
        darts("max 0,max 1,skip 2,max 1,max 0,skip 2,skip 2,max 1", ALL),
    ),
    "enas-micro": (
        enas("0 2 0 0 0 4 0 1 0 4 1 1 1 0 0 1 0 2 1 1", (2, 3, 4, 5, 6)),
        enas("1 0 1 0 0 3 0 2 1 1 3 1 1 0 0 4 0 3 1 1", (2, 4, 5, 6)),
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_cells_are_their_sources_lists(name: str) -> None:
    """Read again, independently, from the encodings of the code that published them."""
    normal, reduction = PUBLISHED[name]
    assert load_reference(name) == Genotype(normal, reduction)


def test_an_unknown_reference_lists_the_known_ones() -> None:
    said = r"unknown reference genotype 'nasnet-b' \(did you mean 'nasnet-a'\?\); choose one of amoebanet-a, "
    with pytest.raises(GenotypeError, match=said):
        load_reference("nasnet-b")


# ------------------------------------------------------------------------------------------------ messages


def _change(*path: str | int, to: object) -> Any:
    def spoil(doc: dict[str, Any]) -> None:
        target: Any = doc
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = to

    return spoil


def _drop(*path: str) -> Any:
    def spoil(doc: dict[str, Any]) -> None:
        target: Any = doc
        for key in path[:-1]:
            target = target[key]
        del target[path[-1]]

    return spoil


NODES = ("cells", "normal", "nodes")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            _change(*NODES, 1, "edges", 0, 1, to="conv_9x9"),
            "cell 'normal', node 3: unknown operation 'conv_9x9' (did you mean ",
        ),
        (_change(*NODES, 1, "edges", 0, 1, to="none"), "cell 'normal', node 3: unknown operation 'none'; choose one of identity, "),
        (_change(*NODES, 1, "edges", 0, 0, to=5), "cell 'normal', node 3: an input must be an earlier hidden state 0..2, but got 5"),
        (_change(*NODES, 1, "edges", 0, 0, to=3), "cell 'normal', node 3: an input must be an earlier hidden state 0..2, but got 3"),
        (_change(*NODES, 1, "edges", 0, 0, to=-1), "cell 'normal', node 3: an input must be an earlier hidden state 0..2, but got -1"),
        (_change(*NODES, 1, "edges", 0, 0, to=True), "cell 'normal', node 3: an input must be an earlier hidden state 0..2, but got True"),
        (_change(*NODES, 1, "edges", 0, to=[0]), "cell 'normal', node 3: an edge must be [input, operation] or "),
        (_change(*NODES, 1, "edges", to=[]), "cell 'normal', node 3: `edges` must be a list of [input, operation], but got []"),
        (_change(*NODES, 1, "combine", to="mul"), "cell 'normal', node 3: `combine` must be one of add, concat, but got 'mul'"),
        (_change(*NODES, 1, "state", to=4), "cell 'normal', node 3: `state` must be 3 (nodes are numbered after the inputs), but got 4"),
        (_change(*NODES, 1, "colour", to=4), "cell 'normal', node 3 has an unknown key 'colour'; valid keys: state, combine, edges"),
        (_change(*NODES, to=[]), f"cell 'normal': `nodes` must be a list of 1 to {MAX_NODES} nodes, but got []"),
        (_drop("cells", "reduction", "outputs"), "cell 'reduction': `outputs` must list at least one hidden state, but got None"),
        (_change("cells", "reduction", "outputs", to=[]), "cell 'reduction': `outputs` must list at least one hidden state, but got []"),
        (_change("cells", "reduction", "outputs", to=[7]), "cell 'reduction': every output must be a hidden state 0..6, but got 7"),
        (_change("cells", "reduction", "outputs", to=[2, 2]), "cell 'reduction': `outputs` must not repeat a hidden state, but got [2, 2]"),
        (
            _change("cells", "normal", "inputs", to=["current", "previous"]),
            "cell 'normal': `inputs` must be [previous, current] or [current]",
        ),
        (_drop("cells", "normal"), "`cells` must have a 'normal' cell"),
        (_change("cells", "normal", to=3), "cell 'normal' must be a mapping with text keys, but got 3"),
        (_change("schema", to="nas.genotype/2"), "`schema` must be 'nas.genotype/1', but got 'nas.genotype/2'"),
        (_change("name", to="a\x1b[31m"), "`name` must be printable text of at most 500 characters, but got 'a\\x1b[31m'"),
        (_change("provenance", to={"run": "r", "trial": -1}), "`provenance`: `trial` must be an integer of at least 0, but got -1"),
        (
            _change("provenance", to={"run": "r", "trial": 1, "reward": float("nan")}),
            "`provenance`: `reward` must be a finite number, but got nan",
        ),
        (
            _change("provenance", to={"run": "r", "trial": 1, "reward": 10**400}),
            "`provenance`: `reward` must be a finite number, but got 1000",
        ),
    ],
)
def test_a_broken_rule_is_named_with_its_node_and_value(spoil: Any, message: str) -> None:
    doc = document()
    spoil(doc)
    with pytest.raises(GenotypeError) as caught:
        from_document(doc)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_options_are_checked() -> None:
    for options, message in (
        ({"cardinality": 0}, "`cardinality` of resnext_block must be an integer 1..1024, but got 0"),
        ({"form": "d"}, "`form` of resnext_block must be one of a, b, c, but got 'd'"),
        ({"depth": 3}, "the options of resnext_block has an unknown key 'depth'; valid keys: cardinality, width, form"),
        ([1], "the options of resnext_block must be a mapping with text keys, but got [1]"),
    ):
        doc = document()
        doc["cells"]["normal"]["nodes"][0]["edges"][0] = [0, "resnext_block", options]
        with pytest.raises(GenotypeError) as caught:
            from_document(doc)
        assert message in str(caught.value)


def test_a_cycle_made_in_code_is_refused() -> None:
    cycle = CellGenotype((Node((Edge(3, "identity"),)), Node((Edge(2, "identity"),))), (3,))
    with pytest.raises(GenotypeError, match=r"node 2: an input must be an earlier hidden state 0\.\.1, but got 3"):
        validate(Genotype(cycle))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!!python/object/apply:os.system [ls]", "tags (tag:yaml.org,2002:python/object/apply:os.system) are not allowed"),
        ("schema: !!bool x", "tags (tag:yaml.org,2002:bool) are not allowed"),
        ("schema: !custom x", "tags (!custom) are not allowed"),
        ("a: &x [1]\nb: *x", "aliases (*name) are not allowed"),
        ("name: a\nname: b", "the key 'name' is given twice"),
        ("schema: 0x" + "f" * 9000, "an integer must fit into 64 bits"),
        ("schema: [unclosed", "not plain YAML or JSON"),
        ("[" * 5000, "maximum recursion depth exceeded"),
        ("a: 1\n---\nb: 2", "not plain YAML or JSON"),
        ("schema: 2020-13-41", "not plain YAML or JSON"),
        ("a: \x00", "not plain YAML or JSON"),
        ("", "a genotype must be a mapping with text keys, but got None"),
    ],
)
def test_documents_that_are_not_plain_data_are_refused(text: str, message: str) -> None:
    with pytest.raises(GenotypeError) as caught:
        parse(text)
    assert message in str(caught.value)


def test_files_that_are_no_documents_are_refused(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(10 << 20)
    cases = {
        "noise.yaml": (noise, f"a document must be at most {MAX_BYTES:,} bytes, but it has 10,485,760"),
        "latin.yaml": ("name: é".encode("latin-1"), "must be UTF-8 text"),
        "binary.json": (noise[:1000], ""),
        "spaces.yaml": (b" " * MAX_BYTES, "a genotype must be a mapping"),
        "brackets.json": (b"[" * MAX_BYTES, "recursion"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(GenotypeError) as caught:
            read_genotype(tmp_path / name)
        assert message in str(caught.value) and str(caught.value).count(str(tmp_path / name)) == 1
    with pytest.raises(GenotypeError, match=r"missing\.yaml: cannot be read: No such file or directory"):
        read_genotype(tmp_path / "missing.yaml")
    with pytest.raises(GenotypeError, match="cannot be read"):
        read_genotype(tmp_path)


# ------------------------------------------------------------------------------------------------ anything at all

NAMES = ["add", "concat", "previous", "current", "normal", "state", "edges", *OPERATION_OPTIONS]
JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=10**400, max_value=10**401),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(NAMES),
        st.dates(),
        st.binary(max_size=4),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=6), inner, max_size=3),
        st.dictionaries(st.integers(), inner, max_size=2),
    ),
    max_leaves=6,
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from _places(inner, (*path, key))


@st.composite
def mutated_documents(draw: st.DrawFn) -> Any:
    """A valid document with one to four values replaced, removed, repeated or inserted anywhere."""
    name = draw(st.sampled_from(["nasnet-a", "pnasnet-5", "resnext-8x64d", "random"]))
    doc: Any = copy.deepcopy(to_document(random_genotype(draw(st.integers(0, 50))) if name == "random" else load_reference(name)))
    for _ in range(draw(st.sampled_from([1, 1, 2, 4]))):
        places = list(_places(doc))
        if not places:
            break
        path = draw(st.sampled_from(places))
        parent = doc
        for key in path[:-1]:
            parent = parent[key]
        action = draw(st.sampled_from(["replace", "rename", "rename", "nudge", "nudge", "remove", "repeat", "insert"]))
        old = parent[path[-1]]
        if action == "remove":
            del parent[path[-1]]
        elif action == "nudge" and isinstance(old, int):
            parent[path[-1]] = old + draw(st.integers(-2, 2))
        elif action == "rename" and isinstance(old, str):
            parent[path[-1]] = draw(st.sampled_from(NAMES))
        elif action == "repeat" and isinstance(parent, list):
            parent.append(copy.deepcopy(old))
        elif action == "insert":
            junk = draw(JUNK)
            if isinstance(parent, list):
                parent.insert(draw(st.integers(0, len(parent))), junk)
            else:
                parent[draw(st.text(max_size=8))] = junk
        else:
            parent[path[-1]] = draw(JUNK)
    return doc


def accepted_or_refused(make: Any) -> bool:
    """Whether the reader accepts; it must then lose nothing, and otherwise raise GenotypeError alone, with one line."""
    try:
        genotype = make()
    except GenotypeError as error:
        message = str(error)
        assert 0 < len(message) < 2000 and "\n" not in message
        return False
    assert isinstance(genotype, Genotype)
    again = parse(to_yaml(genotype))
    assert again == genotype and to_document(again) == to_document(genotype)
    assert from_document(json.loads(to_json(genotype))) == genotype
    return True


GENEROUS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example]


@settings(max_examples=250, deadline=None, suppress_health_check=GENEROUS, derandomize=True, database=None)
@given(mutated_documents())
def test_mutated_documents_are_accepted_or_refused(doc: Any) -> None:
    accepted_or_refused(lambda: from_document(doc))


@settings(max_examples=120, deadline=None, suppress_health_check=GENEROUS, derandomize=True, database=None)
@given(mutated_documents())
def test_mutated_documents_as_text_are_accepted_or_refused(doc: Any) -> None:
    try:
        text = yaml.safe_dump(doc)
    except (yaml.YAMLError, ValueError):  # a value that no YAML can hold, such as an integer of 400 digits in some builds
        return
    accepted_or_refused(lambda: parse(text))


@settings(max_examples=120, deadline=None, suppress_health_check=GENEROUS, derandomize=True, database=None)
@given(st.integers(0, 50), st.data())
def test_damaged_text_is_accepted_or_refused(seed: int, data: st.DataObject) -> None:
    """Valid text with a slice cut out, doubled, or replaced by characters that mean something to YAML."""
    text = to_yaml(random_genotype(seed))
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 40)))
    middle = data.draw(
        st.one_of(st.just(""), st.just(text[start:end] * 2), st.text(st.sampled_from("&*!|>-?:{}[],#%@`'\"\\\n \t0x.eé~"), max_size=12))
    )
    accepted_or_refused(lambda: parse(text[:start] + middle + text[end:]))


@settings(max_examples=150, deadline=None, suppress_health_check=GENEROUS, derandomize=True, database=None)
@given(st.one_of(st.text(max_size=80), st.text(st.characters(max_codepoint=127), max_size=200)))
def test_noise_is_refused(text: str) -> None:
    assert not accepted_or_refused(lambda: parse(text))


def test_the_mutations_leave_some_documents_acceptable() -> None:
    """Otherwise the tests above would exercise one branch only."""
    verdicts = []

    @settings(max_examples=500, deadline=None, suppress_health_check=GENEROUS, derandomize=True, database=None)
    @given(mutated_documents())
    def collect(doc: Any) -> None:
        verdicts.append(accepted_or_refused(lambda: from_document(doc)))

    collect()
    assert 3 <= sum(verdicts) < len(verdicts) - 50  # about two in a hundred are acceptable


def test_documents_are_read_and_written_alike_where_pyyaml_has_no_libyaml() -> None:
    """What the pure loader and dumper make of every reference genotype, in a process that cannot have the others."""
    program = (
        "import hashlib, yaml; yaml.__with_libyaml__ = {}\n"
        "from search_spaces import reference as r, strict_yaml as s; from search_spaces.genotype import to_yaml\n"
        "assert issubclass(s._StrictLoader, yaml.SafeLoader) == (s.SafeDumper is yaml.SafeDumper) == (not yaml.__with_libyaml__)\n"
        "print(hashlib.sha256(''.join(to_yaml(r.load_reference(name)) for name in r.reference_names()).encode()).hexdigest())"
    )
    commands = [[sys.executable, "-c", program.format(having)] for having in (yaml.__with_libyaml__, False)]
    made = [subprocess.run(command, capture_output=True, text=True, check=True) for command in commands]
    assert made[0].stdout == made[1].stdout and len(made[0].stdout) == 65
