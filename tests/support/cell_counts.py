"""The rows of golden_counts.csv that are networks of cells: model string -> (genotype, skeleton, classes)."""

from dataclasses import replace

from search_spaces.genotype import Genotype
from search_spaces.reference import load_reference
from search_spaces.skeletons import DARTS_CONVENTIONS, SKELETONS, NASNetSkeleton

Row = tuple[Genotype, NASNetSkeleton, int]

CIFAR = NASNetSkeleton()
MOBILE, LARGE, DARTS = SKELETONS["nasnet-mobile"], SKELETONS["nasnet-large"], SKELETONS["darts-cifar"]


def _nasnets() -> dict[str, Row]:
    nasnet = load_reference("nasnet-a")
    rows: dict[str, Row] = {}
    for name, skeleton in (("NASNet-A 4@1056 mobile", MOBILE), ("NASNet-A 6@4032 large", LARGE)):
        rows[f"{name}; 1000 classes; trainable; no aux"] = (nasnet, skeleton, 1000)
        rows[f"{name}; incl. BN moving statistics"] = (nasnet, skeleton, 1000)
        rows[f"{name}; without classifier"] = (nasnet, skeleton, 0)
        rows[f"{name}; with aux head"] = (nasnet, replace(skeleton, auxiliary=True), 1000)
        rows[f"{name}; 1001 classes"] = (nasnet, skeleton, 1001)
    cifar = "NASNet-A 6@768 CIFAR"
    rows[f"{cifar}; 10 classes; trainable; no aux"] = (nasnet, CIFAR, 10)
    rows[f"{cifar}; incl. BN moving statistics"] = (nasnet, CIFAR, 10)
    rows[f"{cifar}; with aux head"] = (nasnet, replace(CIFAR, auxiliary=True), 10)
    rows[f"{cifar}; 100 classes; no aux"] = (nasnet, CIFAR, 100)
    rows[f"{cifar}; figure-style concat 5/3; 10 classes"] = (load_reference("nasnet-a-figure"), CIFAR, 10)
    for name, cells, filters in (
        ("7@2304 CIFAR; 10 classes; no aux", 7, 96),
        ("N=2 F=32 CIFAR search proxy; 10 classes; no aux", 2, 32),
        ("N=2 F=24 CIFAR proxy; 10 classes; no aux", 2, 24),
        ("N=2 F=16 CIFAR proxy; 10 classes; no aux", 2, 16),
        ("N=1 F=8 CIFAR toy; 10 classes; no aux", 1, 8),
        ("N=4 F=32 CIFAR; 10 classes; no aux", 4, 32),
    ):
        rows[f"NASNet-A {name}"] = (nasnet, NASNetSkeleton(cells, filters), 10)
    rows["NASNet-A 5@1536; 1000 classes; stem 32"] = (nasnet, NASNetSkeleton(5, 64, "imagenet", 32), 1000)
    rows["NASNet-A 7@1920; 1000 classes; stem 96"] = (nasnet, NASNetSkeleton(7, 80, "imagenet", 96), 1000)
    return rows


def _others() -> dict[str, Row]:
    pnasnet, amoebanet = load_reference("pnasnet-5"), load_reference("amoebanet-a")
    v1, v2 = load_reference("darts-v1"), load_reference("darts-v2")
    in_darts = NASNetSkeleton(6, 32, conventions=DARTS_CONVENTIONS)
    return {
        "NASNet-A 20 cells C=32 CIFAR; DARTS code; concat 5/3; no aux": (load_reference("nasnet-a-figure"), in_darts, 10),
        "PNASNet-5 large N=4 F=216; 1000 classes; trainable; no aux": (pnasnet, SKELETONS["pnasnet-large"], 1000),
        "PNASNet-5 large; incl. BN moving statistics": (pnasnet, SKELETONS["pnasnet-large"], 1000),
        "PNASNet-5 mobile N=3 F=54; 1000 classes; no aux": (pnasnet, SKELETONS["pnasnet-mobile"], 1000),
        "AmoebaNet-A N=6 F=32 CIFAR; 10 classes; no aux": (amoebanet, CIFAR, 10),
        "AmoebaNet-A N=6 F=36 CIFAR; 10 classes; no aux": (amoebanet, SKELETONS["amoebanet-cifar"], 10),
        "AmoebaNet-A N=6 F=190; 1000 classes; stem 32; no aux": (amoebanet, SKELETONS["amoebanet-large"], 1000),
        "DARTS_V2 C=36 20 cells CIFAR; no aux": (v2, DARTS, 10),
        "DARTS_V2 C=36 20 cells CIFAR; with aux head": (v2, replace(DARTS, auxiliary=True), 10),
        "DARTS_V1 C=36 20 cells CIFAR; no aux": (v1, DARTS, 10),
        "DARTS_V2 C=48 14 cells ImageNet; no aux": (v2, SKELETONS["darts-imagenet"], 1000),
    }


CELL_ROWS = {**_nasnets(), **_others()}
