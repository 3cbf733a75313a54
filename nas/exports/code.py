"""Writes a network as readable PyTorch code: one class for each kind of cell, and what its `__init__` and `features` say."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from nas.exports.cell_code import Code, Instance, Width, call, cell_class, entry, node_code, width_varies
from nas.exports.handover import ExportError
from nas.exports.network_code import NetworkCode
from nas.exports.residual_code import residual_network
from nas.networks.architecture import Architecture
from search_spaces.canonical import live_nodes
from search_spaces.networks.cell_network import CellNetwork
from search_spaces.networks.nasbench201_network import CONVENTIONS as NASBENCH201_CONVENTIONS
from search_spaces.networks.network import Network
from search_spaces.networks.operations import FactorizedReduction, Sequential
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import FAMILIES, NASBench201Skeleton, NASNetSkeleton, kind_of, plan_cells


def network_code(architecture: Architecture) -> NetworkCode:
    """The code of an architecture's network. Raises UserError where the genotype does not fit the skeleton."""
    with torch.device("meta"):
        network = architecture.build()
    kind = kind_of(architecture.skeleton)
    write = WRITERS.get(kind) or FAMILIES[kind].code
    if write is None:
        raise ExportError(f"skeletons of the family {kind!r} bring no source code; export the network as torch-export, onnx or safetensors")
    code: NetworkCode = write(architecture, network)
    return code


# ---------------------------------------------------------------------------------------------------- networks of cells


def _cell_network(architecture: Architecture, network: CellNetwork) -> NetworkCode:
    skeleton = network.skeleton
    code = Code(skeleton.conventions)
    stem, stem_widths = _stem(skeleton, network, code)
    instances, states = _instances(network, stem_widths, code)
    classes = []
    for kind in ("normal", "reduction"):
        made = [instance for instance in instances if instance.kind == kind]
        if made:
            genotype = architecture.genotype.normal if kind == "normal" else architecture.genotype.reduction or architecture.genotype.normal
            classes.append(cell_class(_CLASS_NAMES[kind], genotype, made, code))
    classes = [*code.own_classes(), *classes]
    varying = {instance.kind for instance in instances if width_varies(instance)}
    lines = [f'    "{i.name}": {call(_CLASS_NAMES[i.kind], i.arguments(i.kind in varying))},' for i in instances]
    relu = "F.relu({})" if skeleton.conventions.head_relu else "{}"
    maps = ", ".join(relu.format(f"s{state}") for state in network.feature_states)
    names = {state: name for name, state, _, _ in network.wiring}
    return NetworkCode(
        classes=tuple(classes),
        parts=frozenset(code.parts),
        padding=skeleton.conventions.padding,
        norm_eps=skeleton.norm_eps,
        init=(*stem, "self.cells = nn.ModuleDict(", "    {", *(f"    {line}" for line in lines), "    }", ")"),
        features=(
            *(f"s{i} = self.stem[{i}]({f's{i - 1}' if i else 'images'})" for i in range(len(stem_widths))),
            *(_cell_call(i) for i in instances),
            f"maps = [{maps}]",
        ),
        head=("x = x.mean((2, 3))", *([f"x = F.dropout(x, {skeleton.dropout:g}, self.training)"] if skeleton.dropout else [])),
        classifier="self.classifier",
        width=states[network.wiring[-1][1]],
        head_init=("self.classifier = {classifier}",),
        first_conv="stem.0.0",
        info=network.feature_info,
        modules=tuple(f"cells.{names[state]}" if state in names else f"stem.{state}" for state in network.feature_states),
    )


_CLASS_NAMES = {"normal": "NormalCell", "reduction": "ReductionCell"}


def _cell_call(instance: Instance) -> str:
    states = ", ".join(f"s{state}" for state in instance.reads)
    return f's{instance.state} = self.cells["{instance.name}"]({states})'


def _stem(skeleton: NASNetSkeleton, network: CellNetwork, code: Code) -> tuple[list[str], list[int]]:
    """The lines that make the stem, and the channels of its outputs."""
    code.use("conv", "norm")
    widths = [[m.num_features for m in stage.modules() if isinstance(m, nn.BatchNorm2d)] for stage in network.stem]
    outputs = [stage[-1] for stage in widths]
    if skeleton.stem == "cifar":
        return [f"self.stem = nn.ModuleList([nn.Sequential(conv(channels, {outputs[0]}, 3), norm({outputs[0]}))])"], outputs
    if skeleton.stem == "imagenet":
        conv = f"nn.Conv2d(channels, {outputs[0]}, 3, stride=2, bias=False)"
        return [f"self.stem = nn.ModuleList([nn.Sequential({conv}, norm({outputs[0]}))])"], outputs
    half, width = widths[0]
    first = f"conv(channels, {half}, 3, 2), norm({half}), nn.ReLU(), conv({half}, {width}, 3, 2), norm({width})"
    return [
        "self.stem = nn.ModuleList(",
        "    [",
        f"        nn.Sequential({first}),",
        f"        nn.Sequential(nn.ReLU(), conv({width}, {width}, 3, 2), norm({width})),",
        "    ]",
        ")",
    ], outputs


def _instances(network: CellNetwork, stem_widths: Sequence[int], code: Code) -> tuple[list[Instance], dict[int, int]]:
    """Every cell of the network as it is constructed and called, and the channels of all network states."""
    plans = {plan.name: plan for plan in plan_cells(network.skeleton)}
    states = dict(enumerate(stem_widths))
    instances = []
    for name, state, previous, current in network.wiring:
        cell, plan = network.cells[name], plans[name]
        adjust = {int(key): _adjust(module, plan.filters, code) for key, module in cell.adjust.items()}  # type: ignore[union-attr, operator]
        width_0 = states[previous] if adjust.get(0) == "nn.Identity()" else plan.filters
        reads = tuple(states_read for slot, states_read in enumerate((previous, current)) if slot - (2 - cell.inputs) in adjust)  # type: ignore[operator]
        instances.append(Instance(name, plan.genotype, state, reads, plan.filters, adjust, width_0))
        states[state] = cell.channels  # type: ignore[assignment]
    return instances, states


def _adjust(module: nn.Module, filters: int, code: Code) -> str:
    """What brings a network state to a cell's shape, as an expression."""
    if isinstance(module, FactorizedReduction):
        return code.reduction(str(module.odd.in_channels), str(filters), [filters])
    if isinstance(module, Sequential):
        convolution = module.layers[0]
        assert isinstance(convolution, nn.Conv2d)
        return code.make("Projection", str(convolution.in_channels), str(filters))
    return "nn.Identity()"


# ---------------------------------------------------------------------------------------------------- NAS-Bench-201


def _nasbench201(architecture: Architecture, network: Network) -> NetworkCode:
    assert isinstance(architecture.skeleton, NASBench201Skeleton)
    cell, count = architecture.genotype.normal, architecture.skeleton.cells
    code = Code(NASBENCH201_CONVENTIONS)
    code.use("conv", "norm", "ReductionBlock")
    widths = [info.channels for info in network.feature_info]
    states = {0: Width("filters", True)}
    nodes = [node_code(cell, state, states, 1, widths, code) for state in range(1, len(cell.nodes) + 1)]
    live = {cell.outputs[0]} | {s for s in range(1, len(cell.nodes) + 1) if s in live_nodes(cell)}
    calls = []
    for state in sorted(live - {0}):
        sources = ", ".join(f"h{edge.source}" for edge in cell.nodes[state - 1].edges)
        calls.append(f"h{state} = self.nodes[{state - 1}]({sources})")
    cell_text = "\n".join(
        [
            "class Cell(nn.Module):",
            '    """Keeps shape. Nodes that do not reach the output have weights, as in the benchmark, but are not computed."""',
            "",
            "    def __init__(self, filters: int) -> None:",
            "        super().__init__()",
            "        self.nodes = nn.ModuleList(",
            "            [",
            *(f"        {line}" for node in nodes for line in entry(None, node)),
            "            ]",
            "        )",
            "",
            "    def forward(self, h0: Tensor) -> Tensor:",
            *(f"        {line}" for line in calls),
            f"        return h{cell.outputs[0]}",
        ]
    )
    return NetworkCode(
        classes=(*code.own_classes(), cell_text),
        parts=frozenset(code.parts),
        padding="symmetric",
        norm_eps=1e-5,
        init=(
            f"self.stem = nn.Sequential(conv(channels, {widths[0]}, 3), norm({widths[0]}))",
            "self.stages = nn.ModuleList(",
            f"    nn.Sequential(*(Cell(filters) for _ in range({count}))) for filters in ({', '.join(map(str, widths))})",
            ")",
            f"self.reductions = nn.ModuleList([ReductionBlock({widths[0]}, {widths[1]}), ReductionBlock({widths[1]}, {widths[2]})])",
            f"self.norm = norm({widths[2]})",
        ),
        features=(
            "s0 = self.stages[0](self.stem(images))",
            "s1 = self.stages[1](self.reductions[0](s0))",
            "s2 = self.stages[2](self.reductions[1](s1))",
            "maps = [F.relu(s0), F.relu(s1), F.relu(self.norm(s2))]",
        ),
        head=("x = x.mean((2, 3))",),
        classifier="self.classifier",
        width=widths[2],
        head_init=("self.classifier = {classifier}",),
        first_conv="stem.0",
        info=network.feature_info,
        modules=("stages.0", "stages.1", "norm"),
    )


def _residual(architecture: Architecture, network: Network) -> NetworkCode:
    assert isinstance(architecture.skeleton, ResidualSkeleton)
    return residual_network(architecture, network, architecture.skeleton)


WRITERS: Mapping[str, Callable[[Architecture, Any], NetworkCode]] = {
    "nasnet": _cell_network,
    "nasbench201": _nasbench201,
    "residual": _residual,
}
"""What writes the network of each built-in family of skeletons as source code."""
