"""Writes residual networks as readable PyTorch code: stem, stages of blocks, head."""

from nas.exports.cell_code import Code, Width
from nas.exports.network_code import NetworkCode
from nas.networks.architecture import Architecture
from search_spaces.networks.network import Network
from search_spaces.residual_skeletons import ResidualSkeleton
from search_spaces.skeletons import NASNET_CONVENTIONS


def residual_network(architecture: Architecture, network: Network, skeleton: ResidualSkeleton) -> NetworkCode:
    """The code of a one-block genotype in a residual skeleton, which is built already and so fits."""
    code = Code(NASNET_CONVENTIONS)  # blocks do not depend on conventions
    stages = _stages(architecture, skeleton, code)
    width = skeleton.widths[-1]
    head = ["x = x.mean((2, 3))"]
    head_modules = []
    if skeleton.head_norm:
        head.append('x = self.head["norm"](x)')
        head_modules.append(f'"norm": nn.LayerNorm({width}, eps=1e-6)')
    if skeleton.dropout:
        head.append(f"x = F.dropout(x, {skeleton.dropout:g}, self.training)")
    head_modules.append('"classifier": {classifier}')
    return NetworkCode(
        classes=tuple(code.own_classes()),
        parts=frozenset(code.parts | _stem_parts(skeleton)),
        padding="symmetric",
        norm_eps=None,
        init=(*_stem(skeleton), "self.stages = nn.ModuleList(", "    [", *stages, "    ]", ")"),
        features=("x = self.stem(images)", "maps = []", "for stage in self.stages:", "    x = stage(x)", "    maps.append(x)"),
        head=tuple(head),
        classifier='self.head["classifier"]',
        width=width,
        head_init=(f"self.head = nn.ModuleDict({{{{{', '.join(head_modules)}}}}})",),
        first_conv="stem.conv",
        info=network.feature_info,
        modules=tuple(f"stages.{i}" for i in range(len(skeleton.depths))),
    )


def _stages(architecture: Architecture, skeleton: ResidualSkeleton, code: Code) -> list[str]:
    genotype = architecture.genotype
    normal = genotype.normal.nodes[0].edges[0]
    starting = normal if genotype.reduction is None else genotype.reduction.nodes[0].edges[0]
    lines = []
    before = skeleton.stem_filters or skeleton.widths[0]
    for stage, (depth, width) in enumerate(zip(skeleton.depths, skeleton.widths, strict=True)):
        first = code.block(starting, Width(str(before), before == width), str(width), 2 if stage else 1, [width])
        lines += ["        nn.Sequential(", f"            {first},"]
        if depth > 1:
            more = code.block(normal, Width(str(width), True), str(width), 1, [width])
            lines.append(f"            {more}," if depth == 2 else f"            *({more} for _ in range({depth - 1})),")
        lines.append("        ),")
        before = width
    return lines


def _stem(skeleton: ResidualSkeleton) -> list[str]:
    filters = skeleton.stem_filters or skeleton.widths[0]
    bias = "" if skeleton.stem_norm != "batch" else ", bias=False"
    if skeleton.stem == "patch":
        conv = f"PatchConv(channels, {filters}, {skeleton.patch}{bias})"
    elif skeleton.stem == "imagenet":
        conv = f"nn.Conv2d(channels, {filters}, 7, stride=2, padding=3{bias})"
    else:
        conv = f"nn.Conv2d(channels, {filters}, 3, padding=1{bias})"
    layers = [f'("conv", {conv})']
    if skeleton.stem_norm == "batch":
        layers.append(f'("norm", nn.BatchNorm2d({filters}))')
        layers.append(f'("activation", {"nn.ReLU()" if skeleton.activation == "relu" else "nn.GELU()"})')
    elif skeleton.stem_norm == "layer":
        layers.append(f'("norm", ChannelNorm({filters}, eps=1e-6))')
    if skeleton.stem == "imagenet":
        layers.append('("pool", nn.MaxPool2d(3, stride=2, padding=1))')
    inner = [f"            {layer}," for layer in layers]
    return ["self.stem = nn.Sequential(", "    OrderedDict(", "        [", *inner, "        ]", "    )", ")"]


def _stem_parts(skeleton: ResidualSkeleton) -> set[str]:
    parts = {"PatchConv"} if skeleton.stem == "patch" else set()
    return parts | ({"ChannelNorm"} if skeleton.stem_norm == "layer" else set())
