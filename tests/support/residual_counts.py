"""The rows of golden_counts.csv that are residual networks: model string -> (genotype, skeleton, classes)."""

from search_spaces.genotype import Genotype
from search_spaces.residual_skeletons import CONVNEXT_ROADMAP, RESIDUAL_SKELETONS, ResidualSkeleton, block_genotype, resnext_genotype

Row = tuple[Genotype, ResidualSkeleton, int]

_CONVNEXT = block_genotype("convnext", "convnext_block")
_UNSCALED = block_genotype("convnext", "convnext_block", layer_scale="none")


def _resnexts() -> dict[str, Row]:
    names = {
        "resnet-50": {"ResNet-50 (1x64d)": (1, 64)} | {f"ResNeXt-50 {c}x{d}d": (c, d) for c, d in ((2, 40), (4, 24), (8, 14), (32, 4))},
        "resnet-101": {"ResNet-101 (1x64d)": (1, 64), "ResNet-101 wider 1x100d": (1, 100)}
        | {f"ResNeXt-101 {c}x{d}d": (c, d) for c, d in ((2, 40), (4, 24), (8, 14), (32, 4), (64, 4), (2, 64), (32, 8))},
    }
    rows = {
        name: (resnext_genotype(*template), RESIDUAL_SKELETONS[skeleton], 1000)
        for skeleton, templates in names.items()
        for name, template in templates.items()
    }
    for name in ("ResNeXt-50 32x4d", "ResNeXt-101 32x4d", "ResNeXt-101 64x4d"):
        rows[f"{name}; without classifier"] = (*rows[name][:2], 0)
    cifar = RESIDUAL_SKELETONS["resnet-29-cifar"]
    for cardinality in (1, 2, 4, 8, 16, 32):
        for classes in (10, 100):
            rows[f"ResNeXt-29 {cardinality}x64d CIFAR; {classes} classes"] = (resnext_genotype(cardinality, 64), cifar, classes)
    rows["ResNeXt-29 32x4d CIFAR; 10 classes"] = (resnext_genotype(32, 4), cifar, 10)
    for width in (128, 256):
        rows[f"ResNet-29 1x{width}d CIFAR; 10 classes"] = (resnext_genotype(1, width), cifar, 10)
    return rows


def _convnexts() -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for size in ("T", "S", "B", "L", "XL"):
        skeleton = RESIDUAL_SKELETONS[f"convnext-{size.lower()}"]
        rows[f"ConvNeXt-{size}; without classifier"] = (_CONVNEXT, skeleton, 0)
        for classes in (1000, 21841):
            rows[f"ConvNeXt-{size}; {classes} classes"] = (_CONVNEXT, skeleton, classes)
    for size, genotype, rest in (
        ("S", _UNSCALED, "depth 18 dim 384 no layer scale"),
        ("B", _UNSCALED, "depth 18 dim 768 no layer scale"),
        ("L", _CONVNEXT, "depth 36 dim 1024 with layer scale"),
    ):
        rows[f"ConvNeXt isotropic {size} {rest}"] = (genotype, RESIDUAL_SKELETONS[f"convnext-isotropic-{size.lower()}"], 1000)
    return rows


def _roadmap() -> dict[str, Row]:
    names = {
        "0": "0 ResNet-50",
        "1": "1 stage ratio 3-3-9-3",
        "2": "2 patchify stem",
        "3": "3 depthwise conv width 64",
        "4": "4 width 96",
        "5": "5 inverted bottleneck",
        "6": "6 depthwise moved up k=3",
        "7a": "6b k=5",
        "7": "7 k=7",
        "7b": "7b k=9",
        "7c": "7c k=11",
        "10": "10 fewer norms k=7 one BN per block",
    }
    steps = {step.name.removeprefix("convnext-roadmap-"): step for step in CONVNEXT_ROADMAP}
    return {f"ConvNeXt roadmap step {text}": (steps[step].genotype, steps[step].skeleton, 1000) for step, text in names.items()}


RESIDUAL_ROWS = {**_resnexts(), **_convnexts(), **_roadmap()}
