"""Writes cells as readable PyTorch code: an expression for every operation, a class for every kind of cell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nas.exports.source import copied_definitions
from search_spaces.canonical import live_nodes
from search_spaces.genotype import CellGenotype, Edge, Node
from search_spaces.networks.blocks import EXPANSION, path_width
from search_spaces.skeletons import Conventions
from search_spaces.vocabulary import BLOCK_OPTIONS, OPERATIONS, OptionValue

LINE = 120
"""Longest line written."""


def call(name: str, arguments: Sequence[str]) -> str:
    """A call as an expression."""
    return f"{name}({', '.join(arguments)})"


@dataclass(frozen=True)
class Width:
    """A state's channels as an expression, and whether they are the cell's filters: None where it depends on the cell."""

    text: str
    is_filters: bool | None


FILTERS = Width("filters", True)


@dataclass(frozen=True)
class Instance:
    """One cell of a network: how it is constructed and called.

    ``adjust`` has the expression for each input that the cell reads; ``reads`` are the network states behind them.
    ``width_0`` is the width of hidden state 0.
    """

    name: str
    kind: str
    state: int
    reads: tuple[int, ...]
    filters: int
    adjust: Mapping[int, str]
    width_0: int

    def arguments(self, with_width: bool) -> list[str]:
        """What the cell's class is called with; ``with_width`` where it asks for the width of hidden state 0."""
        return [*self.adjust.values(), str(self.filters), *([str(self.width_0)] if with_width else [])]


@dataclass
class Code:
    """Expressions for operations by the conventions of a skeleton; remembers which parts they need."""

    conventions: Conventions
    parts: set[str] = field(default_factory=set)
    outside: dict[str, Any] = field(default_factory=dict)
    inverted: dict[tuple[tuple[str, OptionValue], ...], str] = field(default_factory=dict)

    def use(self, *names: str) -> None:
        """Remember that these parts are needed."""
        self.parts.update(names)

    def make(self, part: str, *arguments: str) -> str:
        """A call of a part."""
        self.use(part)
        return call(part, arguments)

    def reduction(self, width: str, filters: str, values: Sequence[int], relu: bool = True) -> str:
        """A factorized reduction; ``values`` are all that ``filters`` stands for."""
        last = [] if relu else ["relu=False"]
        whole = call("FactorizedReduction", [width, filters, *last])
        single = call("OneFilterReduction", [width, *last])
        self.use(*(["OneFilterReduction"] if 1 in values else []), *(["FactorizedReduction"] if max(values) > 1 else []))
        if 1 not in values:
            return whole
        return single if max(values) == 1 else f"({single} if {filters} == 1 else {whole})"

    # ------------------------------------------------------------------------------------------------ operations

    def operation(self, edge: Edge, width: Width, stride: int, filters: Sequence[int]) -> str:
        """The operation of an edge; ``filters`` are the widths of all cells that it is written for."""
        name, strided = edge.operation, [str(stride)] if stride > 1 else []
        if name not in OPERATIONS.built_in:
            return self._from_outside(edge, width, stride)
        if name in BLOCK_OPTIONS:
            return self.make("BlockOperation", self.block(edge, width, "filters", stride, filters), *strided)
        if name == "identity":
            return self._identity(width, stride, filters)
        if name == "zero":
            return self.make("Zero", "filters", *strided)
        if name == "conv_1x1":
            return self.make("Projection", width.text, "filters", *strided)
        if "_pool_" in name:
            return self._pooling(name[:3], int(name[-1]), width, stride)
        if name.startswith("sep_conv"):
            return self.make("SeparableConvolution", width.text, "filters", name[-1], *strided)
        if name.endswith("_bn_relu"):
            return self.make("ConvolutionNormReLU", width.text, "filters", name[5], *strided)
        if name.startswith("dil_conv") and self.conventions.dilated == "separable":
            return self.make("DilatedSeparableConvolution", width.text, "filters", name[-1], *strided)
        return self._convolution(name, width, strided, filters)

    def _from_outside(self, edge: Edge, width: Width, stride: int) -> str:
        """An operation of somebody else's: its class is copied, with what it uses of its own file."""
        module, rules = OPERATIONS[edge.operation].module, OPERATIONS[edge.operation].options
        self.outside[edge.operation] = module
        options = {key: rule.default for key, rule in rules.items()} | dict(edge.options)
        keywords = [f"{key}={value!r}" for key, value in options.items()]
        return call(getattr(module, "__name__", ""), [width.text, "filters", str(stride), *keywords])

    def _identity(self, width: Width, stride: int, filters: Sequence[int]) -> str:
        if stride > 1 and self.conventions.strided_identity == "factorized":
            return self.reduction(width.text, "filters", filters)
        if stride > 1:
            return self.make("Projection", width.text, "filters", "stride=2")
        if width.is_filters:
            return "nn.Identity()"
        return self.make("Projection" if width.is_filters is False else "identity_or_projection", width.text, "filters")

    def _pooling(self, kind: str, kernel: int, width: Width, stride: int) -> str:
        if kernel == 2:
            pool = self.make("MaxPool2x2", *([str(stride)] if stride > 1 else []))
        elif stride > 1 and self.conventions.padding == "same":
            part = "SameMaxPool2d" if kind == "max" else "SameAvgPool2d"
            pool = self.make(part + ("WithZeros" if kind == "avg" and self.conventions.average_counts_padding else ""), str(kernel))
        elif kind == "max":
            pool = f"nn.MaxPool2d({kernel}, {stride}, {kernel // 2})"
        else:
            pool = f"nn.AvgPool2d({kernel}, {stride}, {kernel // 2}, count_include_pad=False)"
        if width.is_filters:
            return pool
        return self.make("PoolAndProject" if width.is_filters is False else "pool_and_maybe_project", pool, width.text, "filters")

    def _convolution(self, name: str, width: Width, strided: Sequence[str], filters: Sequence[int]) -> str:
        """A convolution or a pair, in a bottleneck where the conventions ask for one and it has a channel at least."""
        pair = name.startswith(("conv_1x3", "conv_1x7"))
        kernel = name[len("conv_1x")] if pair else name[-1]
        rate = ["dilation=2"] if name.startswith("dil_conv") else []
        plain = "ConvolutionPair" if pair else "Convolution"
        if not self.conventions.bottleneck:
            return self.make(plain, width.text, "filters", kernel, *strided, *rate)
        inner, divide = ("3 * filters // 8", 3 / 8) if name == "conv_1x3_3x1" else ("filters // 4", 1 / 4)
        narrow = [int(f * divide) == 0 for f in filters]
        plain = "NormedConvolutionPair" if pair else plain
        if all(narrow):
            return self.make(plain, width.text, "filters", kernel, *strided, *rate)
        part = "BottleneckConvolutionPair" if pair else "BottleneckConvolution"
        bottleneck = self.make(part, width.text, inner, "filters", kernel, *strided, *rate)
        if not any(narrow):
            return bottleneck
        return f"({bottleneck} if {inner} else {self.make(plain, width.text, 'filters', kernel, *strided, *rate)})"

    # ------------------------------------------------------------------------------------------------ blocks

    def block(self, edge: Edge, width: Width, filters: str, stride: int, values: Sequence[int]) -> str:
        """A residual block from ``width`` to ``filters`` channels; ``values`` are all that ``filters`` stands for."""
        options = {key: rule.default for key, rule in BLOCK_OPTIONS[edge.operation].items()} | dict(edge.options)
        shape = (width.text, filters, str(stride))
        if edge.operation == "convnext_block":
            return self._convnext(options, width, filters, stride)
        if edge.operation == "inverted_block":
            return call(self.inverted.setdefault(tuple(sorted(options.items())), f"InvertedBlock{len(self.inverted) or ''}"), shape)
        if edge.operation == "depthwise_bottleneck_block":
            hidden = str(max(1, int(filters) // EXPANSION)) if filters.isdigit() else f"max(1, {filters} // {EXPANSION})"
            return self.make("Bottleneck", *shape, f"hidden={hidden}", f"groups={hidden}")
        cardinality, share = int(options["cardinality"]), int(options["width"])
        path = str(path_width(int(filters), share)) if filters.isdigit() else f"max(1, {filters} // {EXPANSION} * {share} // 64)"
        if options["form"] == "c":
            hidden = str(cardinality * int(path)) if path.isdigit() else f"{cardinality} * {path}"
            return self.make("Bottleneck", *shape, f"hidden={hidden}", f"groups={cardinality}")
        part = "SummedPaths" if options["form"] == "a" else "ConcatenatedPaths"
        return self.make(part, *shape, f"width={path}", f"cardinality={cardinality}")

    def _convnext(self, options: Mapping[str, OptionValue], width: Width, filters: str, stride: int) -> str:
        part = "ConvNeXtBlock" if options["layer_scale"] == "learned" else "UnscaledConvNeXtBlock"
        block = self.make(part, filters, f"kernel={options['kernel']}", f"expansion={options['expansion']}")
        if stride == 1 and width.is_filters:
            return block
        changed = f"nn.Sequential({self.make('downsample', width.text, filters, str(stride))}, {block})"
        return f"({block} if {width.text} == {filters} else {changed})" if stride == 1 and width.is_filters is None else changed

    def own_classes(self) -> list[str]:
        """The classes of operations that are no parts: one for each set of options of an inverted block, and those from outside."""
        inverted = [_inverted_class(name, dict(options), self) for options, name in self.inverted.items()]
        return [*inverted, *copied_definitions(self.outside)]


# ---------------------------------------------------------------------------------------------------- cells


def cell_class(name: str, genotype: CellGenotype, instances: Sequence[Instance], code: Code) -> str:
    """The class of a cell, for all its instances in a network."""
    filters = [instance.filters for instance in instances]
    differs = {width_varies(instance) for instance in instances}
    widths = dict.fromkeys(range(genotype.inputs), FILTERS)
    if True in differs:
        widths[0] = Width("width_0", False if differs == {True} else None)
    stride = 2 if instances[0].kind == "reduction" else 1
    inputs = {state: slot for state, slot in _slots(genotype).items() if state in instances[0].adjust}
    modules = ", ".join(f"{slot}: nn.Module" for slot in inputs.values())
    last = ", width_0: int" if True in differs else ""
    entries = [(state, node_code(genotype, state, widths, stride, filters, code)) for state in live_nodes(genotype)]
    init = [f"self.adjust = nn.ModuleDict({{{', '.join(f'{chr(34)}{state}{chr(34)}: {slot}' for state, slot in inputs.items())}}})"]
    init += ["self.nodes = nn.ModuleDict(", "    {", *(line for state, text in entries for line in entry(state, text)), "    }", ")"]
    match = {state: _match(widths[state], stride, filters, code) for state in genotype.outputs if state in inputs}
    match = {state: text for state, text in match.items() if text}
    if match:
        init.append(f"self.match = nn.ModuleDict({{{', '.join(f'{chr(34)}{state}{chr(34)}: {text}' for state, text in match.items())}}})")
    body = [f'h{state} = self.adjust["{state}"]({slot})' for state, slot in inputs.items()]
    for state in live_nodes(genotype):
        sources = ", ".join(f"h{edge.source}" for edge in genotype.nodes[state - genotype.inputs].edges)
        body.append(f'h{state} = self.nodes["{state}"]({sources})')
    outputs = [f'self.match["{state}"](h{state})' if state in match else f"h{state}" for state in genotype.outputs]
    body.append(f"return torch.cat([{', '.join(outputs)}], 1)" if len(outputs) > 1 else f"return {outputs[0]}")
    tensors = ", ".join(f"{slot}: Tensor" for slot in inputs.values())
    return "\n".join(
        [
            f"class {name}(nn.Module):",
            f'    """{_CELL_DOCS[stride]}"""',
            "",
            f"    def __init__(self, {modules}, filters: int{last}) -> None:",
            "        super().__init__()",
            *(f"        {line}" for line in init),
            "",
            f"    def forward(self, {tensors}) -> Tensor:",
            *(f"        {line}" for line in body),
        ]
    )


_CELL_DOCS = {
    1: "Keeps the resolution. `previous` and `current` bring the last two cells' outputs to `filters` channels.",
    2: "Halves the resolution. `previous` and `current` bring the last two cells' outputs to `filters` channels.",
}


def width_varies(instance: Instance) -> bool:
    """Whether hidden state 0 is read and has another width than the cell's filters."""
    return 0 in instance.adjust and instance.width_0 != instance.filters


def _slots(genotype: CellGenotype) -> dict[int, str]:
    return {0: "previous", 1: "current"} if genotype.inputs == 2 else {0: "current"}


def _match(width: Width, stride: int, filters: Sequence[int], code: Code) -> str:
    """What brings an input that is also an output to the outputs' shape; empty where nothing must."""
    if stride > 1:
        return code.reduction(width.text, "filters", filters, relu=False)
    if width.is_filters:
        return ""
    return code.make("Projection" if width.is_filters is False else "identity_or_projection", width.text, "filters", "relu=False")


def node_code(
    genotype: CellGenotype, state: int, widths: dict[int, Width], stride: int, filters: Sequence[int], code: Code
) -> tuple[str, list[str]]:
    """A node's class and its operations; enters the node's width into ``widths``."""
    node = genotype.nodes[state - genotype.inputs]
    operations = [code.operation(e, widths[e.source], stride if e.source < genotype.inputs else 1, filters) for e in node.edges]
    widths[state] = _node_width(node)
    name = "Concat" if node.combine == "concat" else "Add"
    code.use(name)
    return name, operations


def _node_width(node: Node) -> Width:
    edges = len(node.edges)
    return Width(f"{edges} * filters", False) if node.combine == "concat" and edges > 1 else FILTERS


def entry(key: int | None, node: tuple[str, list[str]]) -> list[str]:
    """A node of ``node_code`` as an entry of a dictionary (of a list without a key), over several lines where it is long."""
    name, operations = node
    label = "" if key is None else f'"{key}": '
    line = f"        {label}{call(name, operations)},"
    if len(line) <= LINE - 8:
        return [line]
    return [f"        {label}{name}(", *(f"            {operation}," for operation in operations), "        ),"]


# ---------------------------------------------------------------------------------------------------- inverted blocks


def _inverted_class(name: str, options: Mapping[str, OptionValue], code: Code) -> str:
    """The class of one of ConvNeXt's roadmap blocks, see ``search_spaces.networks.blocks.InvertedBlock``."""
    batch, all_norms, first = options["norm"] == "batch", options["norms"] == "all", options["order"] == "depthwise_first"
    activation = "nn.ReLU()" if options["activation"] == "relu" else "nn.GELU()"
    kernel = int(options["kernel"])
    at = "channels_in" if first else "wide"

    def layer(conv: str, channels: str, normed: bool) -> list[str]:
        return [conv, f"nn.BatchNorm2d({channels})" if batch else f"ChannelNorm({channels}, eps=1e-6)"] if normed else [conv]

    depthwise = layer(f"nn.Conv2d({at}, {at}, {kernel}, stride, {kernel // 2}, groups={at}, bias=False)", at, True)
    expand = layer("nn.Conv2d(channels_in, wide, 1, bias=False)", "wide", all_norms)
    project = layer("nn.Conv2d(wide, channels_out, 1, bias=False)", "channels_out", all_norms)
    between = [activation] if options["activations"] == "all" else []
    start = [*depthwise, *between, *expand] if first else [*expand, *between, *depthwise]
    if not batch:
        code.use("ChannelNorm")
    shortcut = code.make("shortcut" if batch else "channel_norm_shortcut", "channels_in", "channels_out", "stride")
    end = "self.branch(x) + self.shortcut(x)"
    end = f"{'F.relu' if options['activation'] == 'relu' else 'F.gelu'}({end})" if between else end
    return "\n".join(
        [
            f"class {name}(nn.Module):",
            '    """A depthwise convolution and two 1×1 convolutions, four times as wide in between (Liu et al. 2022, table 10)."""',
            "",
            "    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:",
            "        super().__init__()",
            f"        wide = {EXPANSION} * channels_out",
            "        self.branch = nn.Sequential(",
            *(f"            {part}," for part in [*start, activation, *project]),
            "        )",
            f"        self.shortcut = {shortcut}",
            "",
            "    def forward(self, x: Tensor) -> Tensor:",
            f"        return {end}",
        ]
    )
