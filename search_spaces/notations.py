"""Genotypes in other people's notations: DARTS' text, ENAS' arcs, NAS-Bench-201's strings. Parsed, never evaluated. No torch.

All of them number the inputs as we do, 0 for PREVIOUS and 1 for CURRENT (the released NASNet and AmoebaNet code has it the
other way round). Outputs differ: DARTS writes them down, ENAS concatenates the loose ends, NAS-Bench-201 has one.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from search_spaces.errors import GenotypeError
from search_spaces.genotype import CellGenotype, Edge, Genotype, Node, validate
from search_spaces.nasbench201 import NASBENCH201

MAX_LENGTH = 200_000
"""Longest text read, in characters: a file with all the genotypes of a project has a few tens of thousands."""

DARTS_OPERATIONS: Mapping[str, str] = {
    "none": "zero",
    "max_pool_3x3": "max_pool_3x3",
    "avg_pool_3x3": "avg_pool_3x3",
    "skip_connect": "identity",
    "sep_conv_3x3": "sep_conv_3x3",
    "sep_conv_5x5": "sep_conv_5x5",
    "sep_conv_7x7": "sep_conv_7x7",
    "dil_conv_3x3": "dil_conv_3x3",
    "dil_conv_5x5": "dil_conv_5x5",
    "conv_7x1_1x7": "conv_1x7_7x1",
}
"""The names in quark0/darts (cnn/operations.py), and ours. Its ``conv_7x1_1x7`` runs the 1×7 convolution first, despite its name."""

ENAS_OPERATIONS = ("sep_conv_3x3", "sep_conv_5x5", "avg_pool_3x3", "max_pool_3x3", "identity")
"""What the numbers 0 to 4 stand for in the micro search of melodyguan/enas."""

_DARTS_FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
_CALL = re.compile(r"\bGenotype\s*\(")


def is_notation(text: str) -> bool:
    """Whether the text looks like one of the notations, rather than a name or a path; it may still be a faulty one."""
    return bool(_CALL.search(text)) or text.lstrip().startswith("|") or _looks_like_arc(text)


def read_notation(text: str) -> Genotype:
    """The genotype that a text in one of the notations stands for; its ``space`` is ``darts``, ``enas`` or ``nasbench201``.

    Example::

        read_notation("Genotype(normal=[('sep_conv_3x3', 1), ('skip_connect', 0)], normal_concat=[2], reduce=…, reduce_concat=[2])")
        read_notation("0 2 0 0 0 4 0 1 …")  # the fixed_arc of ENAS' scripts: four numbers a node, the normal cell first
        read_notation("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|avg_pool_3x3~2|")

    Raises:
        GenotypeError: the text is in none of them, or breaks the rules of its own; the message names what is wrong.
    """
    if len(text) > MAX_LENGTH:
        raise GenotypeError(f"a genotype's text must have at most {MAX_LENGTH:,} characters, but it has {len(text):,}")
    if _CALL.search(text):
        return read_darts(text)
    if text.lstrip().startswith("|"):
        return NASBENCH201.decode(NASBENCH201.read_text(text))
    if _looks_like_arc(text):
        return read_enas(text)
    raise GenotypeError(
        "a genotype's text must be DARTS' `Genotype(normal=[…], …)`, an ENAS arc (numbers) or a NAS-Bench-201 cell "
        f"(|op~0|+|op~0|op~1|+|op~0|op~1|op~2|), but got {text[:80]!r}"
    )


# ---------------------------------------------------------------------------------------------------- DARTS


def read_darts(text: str) -> Genotype:
    """The one ``Genotype(…)`` in a Python text (other statements, such as imports, are passed over); named as it is assigned to.

    Raises:
        GenotypeError: there is none, there are several, or a part of it breaks a rule.
    """
    name, call = _darts_call(text)
    fields = dict(zip(_DARTS_FIELDS, call.args, strict=False))
    for keyword in call.keywords:
        if keyword.arg not in _DARTS_FIELDS or keyword.arg in fields:
            raise GenotypeError(f"DARTS genotype: the fields must be {', '.join(_DARTS_FIELDS)}, each once, but got {_some(keyword.arg)}")
        fields[keyword.arg] = keyword.value
    if len(call.args) > len(_DARTS_FIELDS) or len(fields) < len(_DARTS_FIELDS):
        raise GenotypeError(f"DARTS genotype: the fields must be {', '.join(_DARTS_FIELDS)}, but got {', '.join(fields) or 'none'}")
    normal = _darts_cell(_literal(fields["normal"], "normal"), _literal(fields["normal_concat"], "normal_concat"), "normal")
    reduction = _darts_cell(_literal(fields["reduce"], "reduce"), _literal(fields["reduce_concat"], "reduce_concat"), "reduce")
    return validate(Genotype(normal, reduction, name=name, space="darts"))


def _darts_call(text: str) -> tuple[str, ast.Call]:
    """The call and the name that it is assigned to, if any."""
    try:
        statements = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as problem:
        place = f", line {problem.lineno}" if isinstance(problem, SyntaxError) and problem.lineno else ""
        raise GenotypeError(f"DARTS genotype{place}: not Python's notation: {getattr(problem, 'msg', None) or problem}") from None
    found: list[tuple[str, ast.Call]] = []
    for statement in statements:
        value = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "Genotype":
            target = statement.targets[0] if isinstance(statement, ast.Assign) else None
            found.append((target.id if isinstance(target, ast.Name) else "", value))
    if len(found) != 1:
        names = f" ({', '.join(name or 'unnamed' for name, _ in found)})"[:200] if found else ""
        raise GenotypeError(
            f"DARTS genotype: the text must have one `Genotype(…)` by itself or after `NAME =`, but has {len(found)}{names}"
        )
    return found[0]


def _literal(node: ast.expr, field: str) -> object:
    """Lists, tuples, texts and numbers as they are written, and ``range(…)``, which DARTS prints for its outputs."""
    called = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range" and not node.keywords
    try:
        if called and isinstance(node, ast.Call):
            ends = [ast.literal_eval(argument) for argument in node.args]
            if 1 <= len(ends) <= 2 and all(type(end) is int and 0 <= end <= MAX_LENGTH for end in ends):
                return list(range(*ends))
        return ast.literal_eval(node)
    except (ValueError, TypeError, RecursionError, MemoryError):
        place = f"line {node.lineno}, column {node.col_offset + 1}"
        raise GenotypeError(f"DARTS genotype, `{field}`: must be a list of literals or a range, but is something else ({place})") from None


def _darts_cell(edges: object, outputs: object, field: str) -> CellGenotype:
    where = f"DARTS genotype, `{field}`"
    if not isinstance(edges, list | tuple) or not edges or len(edges) % 2:
        raise GenotypeError(f"{where}: must list two ('operation', input) for every node, but got {_some(edges)}")
    if not isinstance(outputs, list | tuple):
        raise GenotypeError(f"DARTS genotype, `{field}_concat`: must be a list of hidden states, but got {_some(outputs)}")
    read = []
    for number, edge in enumerate(edges):
        if not isinstance(edge, list | tuple) or len(edge) != 2:
            raise GenotypeError(f"{where}, entry {number + 1}: must be ('operation', input), but got {_some(edge)}")
        operation, source = edge
        if not isinstance(operation, str) or operation not in DARTS_OPERATIONS:
            raise GenotypeError(
                f"{where}, entry {number + 1}: the operation must be one of {', '.join(DARTS_OPERATIONS)}, but got {_some(operation)}"
            )
        read.append(Edge(_source(source, 2 + number // 2, f"{where}, entry {number + 1}"), DARTS_OPERATIONS[operation]))
    return CellGenotype(_pairs(read), tuple(outputs))


# ---------------------------------------------------------------------------------------------------- ENAS


def read_enas(text: str) -> Genotype:
    """The cells of an ENAS arc: for every node an input, an operation, an input, an operation; the normal cell, then the reduction cell.

    One list is taken in halves, as the scripts' ``fixed_arc`` is; two lists in brackets, as the search prints them, are the two cells.

    Raises:
        GenotypeError: the numbers break a rule.
    """
    lists = [[int(number[:9]) for number in re.findall(r"\d+", part)] for part in re.split(r"\]", text)]
    lists = [numbers for numbers in lists if numbers]
    if len(lists) == 1:
        half = len(lists[0]) // 2
        if len(lists[0]) % 8:
            raise GenotypeError(
                "ENAS arc: a cell has four numbers a node (input, operation, input, operation) and there are two cells of as many nodes, "
                f"so their number must be a multiple of 8, but got {len(lists[0])}; an arc of the macro search is a whole network"
            )
        lists = [lists[0][:half], lists[0][half:]]
    if len(lists) != 2 or any(len(numbers) % 4 for numbers in lists):
        sizes = " and ".join(str(len(numbers)) for numbers in lists)
        raise GenotypeError(f"ENAS arc: must be two lists, a multiple of 4 numbers each, but got lists of {sizes}")
    normal, reduction = (_enas_cell(numbers, name) for numbers, name in zip(lists, ("normal", "reduction"), strict=True))
    return validate(Genotype(normal, reduction, space="enas"))


def _enas_cell(numbers: Sequence[int], cell: str) -> CellGenotype:
    edges = []
    for i in range(0, len(numbers), 2):
        state = 2 + i // 4
        where = f"ENAS arc, {cell} cell, node {state}"
        if numbers[i + 1] >= len(ENAS_OPERATIONS):
            known = ", ".join(f"{number} {name}" for number, name in enumerate(ENAS_OPERATIONS))
            raise GenotypeError(f"{where}: an operation must be one of {known}, but got {numbers[i + 1]}")
        edges.append(Edge(_source(numbers[i], state, where), ENAS_OPERATIONS[numbers[i + 1]]))
    every = CellGenotype(_pairs(edges), outputs=())
    return replace(every, outputs=every.loose_ends())


def _looks_like_arc(text: str) -> bool:
    return len(text) <= MAX_LENGTH and set(text) <= set("0123456789[], \t\r\n") and len(re.findall(r"\d+", text)) > 1


# ---------------------------------------------------------------------------------------------------- small rules


def _pairs(edges: Sequence[Edge]) -> tuple[Node, ...]:
    return tuple(Node(tuple(edges[i : i + 2])) for i in range(0, len(edges), 2))


def _source(value: object, state: int, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < state:
        raise GenotypeError(
            f"{where}: an input must be 0 (previous), 1 (current) or an earlier node, below {state}, but got {_some(value)}"
        )
    return value


def _some(value: object) -> str:
    try:
        return repr(value)[:80]
    except ValueError:  # an integer of more digits than Python turns into text
        return f"a huge {type(value).__name__}"
