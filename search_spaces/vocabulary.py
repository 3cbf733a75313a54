"""Names a genotype may use: operations with their options, and the ways to combine edges. No torch, so that reading stays instant.

``operations.py`` and ``blocks.py`` hold the module behind each name; a test keeps the two tables equal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from search_spaces.errors import GenotypeError
from search_spaces.plugins import Registry

OptionValue = int | str

PREVIOUS = 0
"""Hidden state 0 of a two-input cell: the output of the cell before the previous one."""
CURRENT = 1
"""Hidden state 1 of a two-input cell: the output of the previous cell."""


@dataclass(frozen=True, slots=True)
class IntOption:
    """An integer option of an operation, ``low <= value <= high``."""

    low: int
    high: int
    default: int


@dataclass(frozen=True, slots=True)
class ChoiceOption:
    """A named option of an operation."""

    choices: tuple[str, ...]
    default: str


Option = IntOption | ChoiceOption

NASNET_PAPER_OPERATIONS: tuple[str, ...] = (
    "identity",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
"""The 13 operations of the NASNet search space (Zoph et al. 2018, arXiv 1707.07012, section 3)."""

NASNET_OPERATIONS: tuple[str, ...] = (*NASNET_PAPER_OPERATIONS[:5], "avg_pool_5x5", *NASNET_PAPER_OPERATIONS[5:])
"""The paper's 13 operations and 5×5 average pooling."""

OTHER_OPERATIONS: tuple[str, ...] = (
    "zero",
    "dil_conv_5x5",
    "conv_5x5",
    "max_pool_2x2",
    "conv_1x1_bn_relu",
    "conv_3x3_bn_relu",
)
"""What other published spaces have beside them: DARTS' 5×5 dilated convolution and its (and NAS-Bench-201's) zero, the 5×5
convolution of ENAS' macro space, AmoebaNet-B's and -D's 2×2 pooling, NAS-Bench-101's convolutions with the ReLU at the end."""

BLOCK_OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "resnext_block": {
        "cardinality": IntOption(1, 1024, 32),
        "width": IntOption(1, 1024, 4),
        "form": ChoiceOption(("a", "b", "c"), "c"),
    },
    "depthwise_bottleneck_block": {},
    "inverted_block": {
        "order": ChoiceOption(("expand_first", "depthwise_first"), "depthwise_first"),
        "kernel": IntOption(1, 31, 3),
        "activation": ChoiceOption(("relu", "gelu"), "relu"),
        "activations": ChoiceOption(("all", "one"), "all"),
        "norm": ChoiceOption(("batch", "layer"), "batch"),
        "norms": ChoiceOption(("all", "one"), "all"),
    },
    "convnext_block": {
        "kernel": IntOption(1, 31, 7),
        "expansion": IntOption(1, 16, 4),
        "layer_scale": ChoiceOption(("learned", "none"), "learned"),
    },
}
"""The residual blocks and their options; ``blocks.py`` says what each option means."""

OPERATION_OPTIONS: Mapping[str, Mapping[str, Option]] = {
    **{name: {} for name in NASNET_OPERATIONS},
    **{name: {} for name in OTHER_OPERATIONS},
    **BLOCK_OPTIONS,
}
"""Every built-in operation and the options it takes."""


@dataclass(frozen=True)
class OperationRow:
    """An operation as a genotype, a network, a picture and an export find it.

    Attributes:
        options: what an edge may say of it.
        module: of an operation from outside: a subclass of ``torch.nn.Module`` made from channels in, channels out, stride (1 or 2)
            and the options as keywords. It maps a hidden state (batch, channels_in, h, w), whose ReLU nobody has taken yet and which
            it must not change in place, to (batch, channels_out, ⌈h / stride⌉, ⌈w / stride⌉). Exports to source files copy its text,
            so it may use ``torch``, ``nn``, ``F`` (``torch.nn.functional``) and ``Tensor``, and its own file's classes and functions.
        kind: its colour in pictures; empty goes by the name.
    """

    options: Mapping[str, Option] = field(default_factory=dict)
    module: Callable[..., Any] | None = None
    kind: Literal["conv", "pool", "block", "other", ""] = ""


def _row(found: object) -> OperationRow:
    if isinstance(found, OperationRow) and found.module is not None:
        return found
    if isinstance(found, type):
        return OperationRow(module=found)
    raise TypeError(f"must be a module's class, or a search_spaces.vocabulary.OperationRow with one, but got {found!r:.200}")


OPERATIONS: Registry[OperationRow] = Registry(
    "operation", "nas.operations", {name: OperationRow(options) for name, options in OPERATION_OPTIONS.items()}, _row, GenotypeError
)
"""Every operation that a genotype may name."""

COMBINES: tuple[str, ...] = ("add", "concat")
"""How a node merges its edges: element-wise sum, or concatenation along channels."""
