"""The export format ``layers``: a line for every operation. A format writes its file, reads it back and says how that went."""

from pathlib import Path

from nas.exports.formats import Format
from nas.exports.handover import ExportError, Handover


def write(handover: Handover, path: Path) -> str:
    """Write ``cell,node,input,operation`` lines."""
    lines = [
        f"{name},{state},{edge.source},{edge.operation}" + "".join(f",{key}={value}" for key, value in edge.options)
        for name, cell in handover.architecture.genotype.cells()
        for state, node in enumerate(cell.nodes, cell.inputs)
        for edge in node.edges
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if path.read_text(encoding="utf-8").splitlines() != lines:
        raise ExportError("the layers, read back, are others")
    return f"read back: {len(lines)} operations"


LAYERS = Format("genotype", ".csv", write, "a line for every operation")
