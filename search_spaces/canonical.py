"""One key for all genotypes that are the same network up to the order of operands, nodes and channels. No torch.

Two cells get the same key exactly if one becomes the other by swapping a node's edges, renumbering nodes,
reordering outputs, or adding nodes that reach no output. Two equal nodes are *not* merged: each has its own weights.
"""

import hashlib

from search_spaces.genotype import CellGenotype, Edge, Genotype
from search_spaces.vocabulary import OPERATIONS


def canonical_key(genotype: Genotype) -> str:
    """The key of a genotype, a text of a few hundred characters."""
    return " / ".join(f"{name}:{canonical_cell(cell)}" for name, cell in genotype.cells())


def digest(key: str) -> str:
    """128 bits of a key, which itself may be hundreds of characters long."""
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def canonical_cell(cell: CellGenotype) -> str:
    """The key of one cell: its live nodes in a canonical order."""
    live = live_nodes(cell)
    return _search(cell, live, _refine(cell, live, dict.fromkeys(live, "")))


def live_nodes(cell: CellGenotype) -> tuple[int, ...]:
    """Hidden states of the nodes that reach an output, in order."""
    reached = set(cell.outputs)
    for state in range(cell.inputs + len(cell.nodes) - 1, cell.inputs - 1, -1):
        if state in reached:
            reached.update(edge.source for edge in cell.nodes[state - cell.inputs].edges)
    return tuple(s for s in sorted(reached) if s >= cell.inputs)


def read_inputs(genotype: CellGenotype) -> frozenset[int]:
    """The input states that the cell's output depends on."""
    sources = {edge.source for state in live_nodes(genotype) for edge in genotype.nodes[state - genotype.inputs].edges}
    return frozenset(state for state in sources.union(genotype.outputs) if state < genotype.inputs)


def _operation(edge: Edge) -> str:
    """The operation with all its options: one left out means the same as its default written out."""
    rules = OPERATIONS[edge.operation].options if edge.operation in OPERATIONS else {}
    options = {key: rule.default for key, rule in rules.items()} | dict(edge.options)
    return edge.operation + "".join(f",{key}={value}" for key, value in sorted(options.items()))


def _refine(cell: CellGenotype, live: tuple[int, ...], colours: dict[int, str]) -> dict[int, str]:
    """Weisfeiler-Leman colour refinement: a node's colour is its own, its operands' and its consumers' until nothing splits."""
    while True:
        signatures: dict[int, tuple[object, ...]] = {}
        for state in live:
            node = cell.nodes[state - cell.inputs]
            operands = tuple(sorted((_operation(e), colours.get(e.source, f"i{e.source}")) for e in node.edges))
            consumers = tuple(
                sorted(
                    (colours[other], _operation(e)) for other in live for e in cell.nodes[other - cell.inputs].edges if e.source == state
                )
            )
            signatures[state] = (colours[state], node.combine, operands, consumers, state in cell.outputs)
        names = {signature: f"c{i:03d}" for i, signature in enumerate(sorted(set(signatures.values()), key=repr))}
        refined = {state: names[signatures[state]] for state in live}
        if len(names) == len(set(colours.values())) and live:
            return refined
        if not live:
            return {}
        colours = refined


def _search(cell: CellGenotype, live: tuple[int, ...], colours: dict[int, str]) -> str:
    """Individualise and refine until every node has its own colour; the smallest encoding over the branches is the key."""
    tied = _tied(live, colours)
    if not tied:
        return _encode(cell, live, colours)[0]
    # Nodes with the very same operands and consumers can be swapped without changing anything: one branch serves all.
    if _are_twins(cell, live, tied):
        return _search(cell, live, _individualise(cell, live, colours, tied[0]))
    keys: list[str] = []
    explored: list[tuple[str, tuple[tuple[str, bool], ...]]] = []
    for chosen in tied:
        marked = _individualise(cell, live, colours, chosen)
        encoding, order = _first_leaf(cell, live, marked)
        # Two equal leaves are an automorphism that takes one chosen node to the other; what is below them is then equal too.
        leaf = encoding, tuple((colours[state], state == chosen) for state in order)
        if leaf not in explored:
            explored.append(leaf)
            keys.append(_search(cell, live, marked))
    return min(keys)


def _tied(live: tuple[int, ...], colours: dict[int, str]) -> list[int]:
    """The nodes of the first colour that more than one node has."""
    classes: dict[str, list[int]] = {}
    for state in live:
        classes.setdefault(colours[state], []).append(state)
    return next((sorted(c) for _, c in sorted(classes.items()) if len(c) > 1), [])


def _individualise(cell: CellGenotype, live: tuple[int, ...], colours: dict[int, str], chosen: int) -> dict[int, str]:
    return _refine(cell, live, {**colours, chosen: colours[chosen] + "*"})


def _first_leaf(cell: CellGenotype, live: tuple[int, ...], colours: dict[int, str]) -> tuple[str, tuple[int, ...]]:
    while tied := _tied(live, colours):
        colours = _individualise(cell, live, colours, tied[0])
    return _encode(cell, live, colours)


def _are_twins(cell: CellGenotype, live: tuple[int, ...], states: list[int]) -> bool:
    def surroundings(state: int) -> tuple[object, ...]:
        operands = tuple(sorted((e.source, _operation(e)) for e in cell.nodes[state - cell.inputs].edges))
        consumers = tuple(
            sorted((other, _operation(e)) for other in live for e in cell.nodes[other - cell.inputs].edges if e.source == state)
        )
        return operands, consumers

    return len({surroundings(state) for state in states}) == 1


def _encode(cell: CellGenotype, live: tuple[int, ...], colours: dict[int, str]) -> tuple[str, tuple[int, ...]]:
    """The cell written with its nodes in topological order, the smallest colour first among those that are ready; and that order."""
    number = {state: state for state in range(cell.inputs)}
    waiting = set(live)
    parts: list[str] = []
    while waiting:
        ready = [s for s in waiting if all(e.source in number for e in cell.nodes[s - cell.inputs].edges)]
        state = min(ready, key=lambda s: colours[s])
        waiting.discard(state)
        node = cell.nodes[state - cell.inputs]
        operands = sorted((number[e.source], _operation(e)) for e in node.edges)
        number[state] = cell.inputs + len(parts)
        mark = "+" if node.combine == "add" else "|"
        parts.append(mark.join(f"{op}({source})" for source, op in operands) + ("" if mark == "+" or len(operands) > 1 else "|"))
    outputs = ",".join(str(n) for n in sorted(number[s] for s in cell.outputs))
    order = tuple(state for state in number if state >= cell.inputs)
    return f"{cell.inputs}[{'; '.join(parts)}]->{outputs}", order
