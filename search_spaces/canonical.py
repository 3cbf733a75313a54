"""One key for all genotypes that are the same network up to the order of operands, nodes and channels. No torch.

Two cells get the same key exactly if one becomes the other by swapping a node's edges, renumbering nodes,
reordering outputs, or adding nodes that reach no output. Two equal nodes are *not* merged: each has its own weights.
"""

from search_spaces.genotype import CellGenotype, Edge, Genotype


def canonical_key(genotype: Genotype) -> str:
    """The key of a genotype, a text of a few hundred characters."""
    return " / ".join(f"{name}:{canonical_cell(cell)}" for name, cell in genotype.cells())


def canonical_cell(cell: CellGenotype) -> str:
    """The key of one cell: its live nodes in a canonical order."""
    live = live_nodes(cell)
    order = _search(cell, live, _refine(cell, live, dict.fromkeys(live, "")))
    assert order is not None
    return order


def live_nodes(cell: CellGenotype) -> tuple[int, ...]:
    """Hidden states of the nodes that reach an output, in order."""
    reached = set(cell.outputs)
    for state in range(cell.inputs + len(cell.nodes) - 1, cell.inputs - 1, -1):
        if state in reached:
            reached.update(edge.source for edge in cell.nodes[state - cell.inputs].edges)
    return tuple(s for s in sorted(reached) if s >= cell.inputs)


def _operation(edge: Edge) -> str:
    return edge.operation + "".join(f",{key}={value}" for key, value in edge.options)


def _refine(cell: CellGenotype, live: tuple[int, ...], colours: dict[int, str]) -> dict[int, str]:
    """Weisfeiler-Leman colour refinement: a node's colour is its own, its operands' and its consumers' until nothing splits."""
    while True:
        signatures: dict[int, tuple[object, ...]] = {}
        for state in live:
            node = cell.nodes[state - cell.inputs]
            operands = tuple(sorted((_operation(e), colours.get(e.source, f"i{e.source}")) for e in node.edges))
            consumers = tuple(
                sorted(
                    (colours[other], _operation(e))
                    for other in live
                    for e in cell.nodes[other - cell.inputs].edges
                    if e.source == state
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


def _search(cell: CellGenotype, live: tuple[int, ...], colours: dict[int, str]) -> str | None:
    """Individualise and refine until every node has its own colour; the smallest encoding over the branches is the key."""
    classes: dict[str, list[int]] = {}
    for state in live:
        classes.setdefault(colours[state], []).append(state)
    tied = next((sorted(c) for _, c in sorted(classes.items()) if len(c) > 1), None)
    if tied is None:
        return _encode(cell, live, colours)
    # Nodes with the very same operands and consumers can be swapped without changing anything: one branch serves all.
    branches = tied[:1] if _are_twins(cell, live, tied) else tied
    keys = []
    for chosen in branches:
        marked = {**colours, chosen: colours[chosen] + "*"}
        keys.append(_search(cell, live, _refine(cell, live, marked)))
    return min(key for key in keys if key is not None)


def _are_twins(cell: CellGenotype, live: tuple[int, ...], states: list[int]) -> bool:
    def surroundings(state: int) -> tuple[object, ...]:
        operands = tuple(sorted((e.source, _operation(e)) for e in cell.nodes[state - cell.inputs].edges))
        consumers = tuple(
            sorted((other, _operation(e)) for other in live for e in cell.nodes[other - cell.inputs].edges if e.source == state)
        )
        return operands, consumers

    return len({surroundings(state) for state in states}) == 1


def _encode(cell: CellGenotype, live: tuple[int, ...], colours: dict[int, str]) -> str:
    """Write the cell with its nodes in topological order, the smallest colour first among those that are ready."""
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
    return f"{cell.inputs}[{'; '.join(parts)}]->{outputs}"
