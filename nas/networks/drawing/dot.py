"""A genotype as text for graphviz, in its DOT language. No torch, no matplotlib."""

from search_spaces.genotype import STATE_NAMES, Genotype


def to_dot(genotype: Genotype) -> str:
    """The genotype in graphviz' DOT language: inputs at the bottom, an ellipse for every operation, a box for every node."""
    lines = [f"digraph {_quoted(genotype.name or 'genotype')} {{", "  rankdir=BT;", "  node [fontname=Helvetica, fontsize=10];"]
    for name, cell in genotype.cells():
        lines.append(f"  subgraph cluster_{name} {{")
        lines.append(f"    label={_quoted(f'{name} cell')};")
        for state, text in enumerate(STATE_NAMES[-cell.inputs :]):
            lines.append(f"    {name}_{state} [label={_quoted(text)}, shape=box, style=rounded];")
        for state, node in enumerate(cell.nodes, cell.inputs):
            lines.append(f"    {name}_{state} [label={_quoted(f'{state}: {node.combine}')}, shape=box];")
            for i, edge in enumerate(node.edges):
                operation = f"{name}_{state}_{i}"
                text = "\n".join((edge.operation, *(f"{key}={value}" for key, value in edge.options)))
                lines.append(f"    {operation} [label={_quoted(text)}, shape=ellipse];")
                lines.append(f"    {name}_{edge.source} -> {operation} -> {name}_{state};")
        lines.append(f"    {name}_output [label={_quoted('concat' if len(cell.outputs) > 1 else 'output')}, shape=box, style=rounded];")
        lines += [f"    {name}_{output} -> {name}_output;" for output in cell.outputs]
        lines.append("  }")
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
