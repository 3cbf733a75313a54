"""Inference of the engine's networks, as they are and folded, against timm and torchvision with the same weights and equal logits.

python benchmarks/inference.py                                        # all networks, two threads, some minutes
python benchmarks/inference.py --networks nasnet-large --batches 1 8 --threads 1 --repeats 9 --output inference.csv
python benchmarks/inference.py --networks children --cells 21
python benchmarks/inference.py --profile --networks convnext-t --batches 1
python benchmarks/inference.py --device cuda --batches 1 32

The ways of one network alternate in one process, so that the machine's moods hit all of them. Numbers are medians over the repeats; a ratio
is the median of the ratios within each repeat. Memory is what PyTorch sees: weights and live tensors, without kernels' own scratch space.
"""

import argparse
import copy
import csv
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import torch
from children import CLASSES, SIZES, cell, engine_network, filters_of, peak_gflops, print_profile, seconds_of
from torch import Tensor, nn

from nas.networks.weights.described import load_into
from search_spaces.genotype import Genotype
from search_spaces.networks.build import build_network
from search_spaces.networks.cost import count_macs, inference_memory
from search_spaces.networks.folding import fold
from search_spaces.reference import load_reference
from search_spaces.residual_skeletons import RESIDUAL_SKELETONS, block_genotype, resnext_genotype
from search_spaces.skeletons import SKELETONS, NASNetSkeleton, Skeleton

LEAST_SECONDS = 0.1
"""A repeat is as many passes as take about so long."""
SCORED_PIXELS = 1 << 17
"""Pixels of a batch of a child's images, as the engine scores them on a CPU."""
TOLERANCE = 1e-4
"""Of logits, relative to the largest one."""
COLUMNS = ("network", "batch", "way", "ms", "images/s", "GFLOP/s", "of peak", "MiB", "difference", "ratio to first", "ratio of folded")


@dataclass(frozen=True)
class Subject:
    """A network, and who else has it: constructors by name; the engine's takes the first one's weights where there is one."""

    name: str
    build: Callable[[], nn.Module]
    side: int
    others: tuple[tuple[str, Callable[[], nn.Module]], ...] = ()
    batch: int = 0
    """Images at a time where it is not asked for."""
    same: bool = True
    """Whether the others compute the same function."""


def subjects(names: Iterable[str], cells: int) -> Iterator[Subject]:
    """The networks of these names, ``children`` being all of them."""
    for name in names:
        if name == "children":
            yield from children(cells)
        else:
            yield published()[name]


def published() -> dict[str, Subject]:
    """The networks of the literature. timm has NASNet-A with six cells a stage only: once as wide as the mobile one."""
    nasnet, large = load_reference("nasnet-a"), SKELETONS["nasnet-large-timm"]
    assert isinstance(large, NASNetSkeleton)
    narrow = replace(large, filters=44, stem_filters=32)
    convnext, resnext = block_genotype("convnext", "convnext_block"), resnext_genotype(32, 4)
    found = (
        Subject("nasnet-large", engine(nasnet, large, 331), 331, (("timm", timm_model("nasnetalarge")),)),
        Subject("nasnet-mobile", engine(nasnet, SKELETONS["nasnet-mobile"], 224), 224),
        Subject("nasnet-mobile-6-cells", engine(nasnet, narrow, 224), 224, (("timm", timm_narrow),)),
        Subject(
            "resnext-50",
            engine(resnext, RESIDUAL_SKELETONS["resnet-50"], 224),
            224,
            (("torchvision", torchvision_model("resnext50_32x4d")), ("timm", timm_model("resnext50_32x4d"))),
        ),
        Subject(
            "convnext-t",
            engine(convnext, RESIDUAL_SKELETONS["convnext-t"], 224),
            224,
            (("torchvision", torchvision_model("convnext_tiny")), ("timm", timm_model("convnext_tiny"))),
        ),
    )
    return {subject.name: subject for subject in found}


def children(cells: int) -> Iterator[Subject]:
    """Children of a search, against a plain implementation of the same network, with other weights."""
    from nchw_reference import ReferenceNetwork

    for size in SIZES:
        for number in range(cells):
            name, genotype = cell(number)
            filters = filters_of(genotype, size)
            plain = NASNetSkeleton(size.cells, filters)
            yield Subject(
                f"{size.name} {name} (F={filters})",
                lambda genotype=genotype, size=size, filters=filters: engine_network(genotype, size, filters),
                size.side,
                (("plain NCHW", lambda genotype=genotype, plain=plain: ReferenceNetwork(genotype, plain, CLASSES)),),
                SCORED_PIXELS // size.side**2,
                same=False,
            )


def engine(genotype: Genotype, skeleton: Skeleton, side: int) -> Callable[[], nn.Module]:
    """Builds the engine's network of 1000 classes."""
    return lambda: build_network(genotype, skeleton, classes=1000, image_size=side)


def timm_model(name: str) -> Callable[[], nn.Module]:
    """Builds timm's network of that name, untrained."""

    def build() -> nn.Module:
        import timm

        model: nn.Module = timm.create_model(name)
        return model

    return build


def timm_narrow() -> nn.Module:
    """Timm's NASNet-A, as wide as the mobile one."""
    from timm.models.nasnet import NASNetALarge

    network: nn.Module = NASNetALarge(num_classes=1000, stem_size=32, num_features=44 * 24, pad_type="same")
    return network


def torchvision_model(name: str) -> Callable[[], nn.Module]:
    """Builds torchvision's network of that name, untrained."""

    def build() -> nn.Module:
        import torchvision

        model: nn.Module = getattr(torchvision.models, name)()
        return model

    return build


# ---------------------------------------------------------------------------------------------------- ways


@dataclass
class Way:
    """One way to compute a network's logits, and how long it took in each repeat."""

    name: str
    network: nn.Module
    images: Tensor
    difference: float = 0.0
    seconds: tuple[float, ...] = ()

    def __call__(self) -> Tensor:
        """The logits (batch, classes)."""
        return self.network(self.images)  # type: ignore[no-any-return]


def randomise(network: nn.Module) -> nn.Module:
    """Other scales, shifts and statistics in every norm, and layer scales that count: with fresh ones, a mistake could go unseen."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*network.named_parameters(), *network.named_buffers()]:
            if tensor.is_floating_point() and tensor.dim() > 0 and ("gamma" in name or "layer_scale" in name or name.endswith("scale")):
                tensor.uniform_(0.1, 0.5, generator=generator)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d) and part.running_mean is not None and part.running_var is not None:
                for values, low, high in ((part.weight, 0.5, 1.5), (part.bias, -0.3, 0.3), (part.running_mean, -0.4, 0.4)):
                    values.uniform_(low, high, generator=generator)
                part.running_var.uniform_(0.5, 1.5, generator=generator)
    return network


def ways_of(subject: Subject, batch: int, device: torch.device) -> list[Way]:
    """The others as they come and in channels-last, the engine's network as it is, and folded."""
    torch.manual_seed(0)
    others = [(name, randomise(build()).eval()) for name, build in subject.others]
    own = randomise(subject.build()).eval()
    if others and subject.same:
        weights = others[0][1].state_dict()
        load_into(own, weights, Path(f"{others[0][0]}.safetensors"), without=("progress",))  # type: ignore[arg-type]
        for name, network in others[1:]:
            load_same(network, own, name)
    images = torch.randn(batch, 3, subject.side, subject.side, device=device)
    last = images.contiguous(memory_format=torch.channels_last)
    ways = []
    for name, network in others:
        ways.append(Way(name, network.to(device), images))
        in_last = copy.deepcopy(network).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        ways.append(Way(f"{name}, channels-last", in_last, last))
    own = own.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return [*ways, Way("as it is", own, last), Way("folded", fold(own), last)]


def load_same(network: nn.Module, own: nn.Module, library: str) -> None:
    """Give another library's network the engine's weights."""
    from nas.networks.weights.residual import export_weights

    network.load_state_dict(export_weights(own, library))  # type: ignore[arg-type]


@torch.inference_mode()
def measure(ways: list[Way], repeats: int, device: torch.device, same: bool) -> None:
    """Fill in the ways' seconds, alternating. Raises SystemExit where logits differ."""
    expected, passes = ways[0 if same else -2](), {}
    for way in ways:
        logits = way()
        if same or way.name in ("as it is", "folded"):
            way.difference = float((logits - expected).abs().max() / expected.abs().max())
            if not way.difference <= TOLERANCE:
                raise SystemExit(f"{way.name}: the logits differ by {way.difference:.1e} of the largest")
        passes[way.name] = max(1, round(LEAST_SECONDS / seconds_of(way, 1, device)))
    for _ in range(repeats):
        for way in ways:
            way.seconds += (seconds_of(way, passes[way.name], device),)


def rows_of(subject: Subject, batch: int, repeats: int, device: torch.device) -> Iterator[dict[str, object]]:
    """A row of the table for each way."""
    ways = ways_of(subject, batch, device)
    work = 2 * batch * count_macs(ways[-2].network, image_size=subject.side) / 1e9
    peak = peak_gflops(device)
    measure(ways, repeats, device, subject.same)
    for way in ways:
        seconds = median(way.seconds)
        bytes_ = inference_memory(way.network, batch_size=batch, image_size=subject.side, device=device)
        ratios = (median(a / b for a, b in zip(one.seconds, way.seconds, strict=True)) for one in (ways[0], ways[-1]))
        ratio, of_folded = ratios
        speed = work / seconds
        numbers = (f"{1e3 * seconds:.2f}", f"{batch / seconds:.1f}", f"{speed:.1f}", f"{speed / peak:.0%}", f"{bytes_ / 2**20:.0f}")
        cells = (subject.name, batch, way.name, *numbers, f"{way.difference:.0e}", f"{ratio:.2f}", f"{1 / of_folded:.2f}")
        yield dict(zip(COLUMNS, cells, strict=True))


def profile_of(subject: Subject, batch: int, rows: int) -> None:
    """Print where the time of the folded network goes."""
    from torch.profiler import ProfilerActivity, profile

    way = ways_of(replace(subject, others=()), batch, torch.device("cpu"))[-1]
    with torch.inference_mode():
        way()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            way()
    print(f"\n### {subject.name}, batch {batch}, folded")
    print_profile(profiler, 1, rows)


def main() -> None:
    """Measure what was asked for."""
    names = [*published(), "children"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=names, choices=names)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8], help="of published networks; children's are those of scoring")
    parser.add_argument("--cells", type=int, default=2, help="of children: NASNet-A and so many random cells less one")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--profile", action="store_true", help="where the folded network's time goes, instead")
    parser.add_argument("--rows", type=int, default=16, help="of the profile")
    parser.add_argument("--output", type=Path, metavar="FILE.csv", help="also write the rows as CSV")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.set_flush_denormal(True)
    device, done = torch.device(arguments.device), []
    print(f"torch {torch.__version__}; {torch.backends.cpu.get_cpu_capability()}; {device}, {arguments.threads} threads, float32\n")
    if not arguments.profile:
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for subject in subjects(arguments.networks, arguments.cells):
        for batch in [subject.batch] if subject.batch else arguments.batches:
            if arguments.profile:
                profile_of(subject, batch, arguments.rows)
                continue
            for row in rows_of(subject, batch, arguments.repeats, device):
                print(f"| {' | '.join(map(str, row.values()))} |", flush=True)
                done.append(row)
    if arguments.output is not None:
        with arguments.output.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(done)


if __name__ == "__main__":
    main()
