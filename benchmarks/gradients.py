"""Forward and gradients of every kind of layer that a network can hold, in float32 and channels-last, against float64.

    python benchmarks/gradients.py                                       # all kinds of layers, both instruction sets, 1 and 2 threads
    python benchmarks/gradients.py --kinds torch --every 24              # torch's own convolutions of the kinds that are wrong
    python benchmarks/gradients.py --kinds 'conv 1x1' --every 1 --threads 2 --isa AVX2

A kernel that writes beyond its buffer kills the process, hangs it, or gives other gradients than the last time, so every case runs in a
process that may die: what died or hung is a finding like a wrong number, and the sweep goes on with the next case. Where glibc's
checking allocator is installed (``libc_malloc_debug.so.0``), it aborts at the first block that was written beyond, and fills fresh
memory with garbage, so that a kernel that reads what nobody wrote is found as well.

One JSON line for every finding and for every kind and setting that is through; with ``--out FILE`` they are appended there, and what
FILE has already is not run again. The exit status is 1 where there are findings.
"""

import argparse
import copy
import ctypes
import fnmatch
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from search_spaces.genotype import Edge
from search_spaces.networks.blocks import BLOCKS, ChannelNorm, PatchConv, build_block
from search_spaces.networks.nasbench201_network import ResidualBlock
from search_spaces.networks.operations import OPERATIONS, Convolution, FactorizedReduction, Layers, Pooling, build_operation
from search_spaces.skeletons import DARTS_CONVENTIONS, NASNET_CONVENTIONS, Conventions

CHANNELS = range(1, 49)
SIDES = (2, 3, 4, 5, 7, 8, 9, 12, 14, 16, 17, 24, 28, 32, 33, 48, 56, 64, 65, 96)
LARGEST_BATCH = 8
MACS, NUMBERS = 3e7, 1e5
"""A batch shrinks, down to two images, until a case's multiply-accumulates and its input's numbers are as few."""
REPEATS = 3
"""The same gradients so many times: a race between threads is not lost every time."""
HANGS = 60.0
"""Seconds after which a case counts as hanging."""
CHECKING_ALLOCATOR = "libc_malloc_debug.so.0"

Maker = Callable[[int, int], nn.Module]
"""Makes a layer from channels in and channels out."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What oneDNN may use."""

    isa: str
    threads: int

    def environment(self) -> dict[str, str]:
        """The environment of a process with this setting, with the checking allocator where there is one."""
        environment = os.environ | {
            "ONEDNN_MAX_CPU_ISA": self.isa,
            "OMP_NUM_THREADS": str(self.threads),
            "OMP_WAIT_POLICY": "PASSIVE",  # other programs may want the cores
        }
        try:
            ctypes.CDLL(CHECKING_ALLOCATOR)
        except OSError:
            return environment
        return environment | {"LD_PRELOAD": CHECKING_ALLOCATOR, "MALLOC_CHECK_": "3", "MALLOC_PERTURB_": "165"}


@dataclass(frozen=True, slots=True)
class Case:
    """A layer of one kind on states of one size."""

    kind: str
    channels_in: int
    channels_out: int
    side: int


# ------------------------------------------------------------------------------------------------ kinds of layers


def kinds() -> dict[str, Maker]:
    """Every kind by its name: convolutions, poolings, norms, then whole operations and blocks; ``torch …`` are not ours."""
    return {**_convolutions(), **_other_layers(), **_operations(), **_torch_alone()}


def _convolutions() -> dict[str, Maker]:
    made: dict[str, Maker] = {}
    for kernel in (1, 3, 5, 7, (1, 3), (3, 1), (1, 7), (7, 1)):
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        name = f"{height}x{width}"
        strides: tuple[int | tuple[int, int], ...] = (1, 2) if height == width else (1, 2, (min(2, height), min(2, width)))
        for stride in strides:
            for padding in ("same", "symmetric"):
                label = f"stride {stride} {padding}"
                made[f"conv {name} {label}"] = partial(_convolution, kernel, stride, padding)
                if kernel in (3, 5, 7):
                    made[f"depthwise {name} {label}"] = partial(_depthwise, kernel, stride, padding, 1)
                if kernel == 3:
                    made[f"dilated {name} {label}"] = partial(_convolution, kernel, stride, padding, dilation=2)
                    made[f"dilated depthwise {name} {label}"] = partial(_depthwise, kernel, stride, padding, 2)
                    made[f"grouped {name} {label}"] = partial(_grouped, stride, padding)
    made["conv 1x1 stride 4 same"] = partial(_convolution, 1, 4, "same")
    made["conv 3x3 stride 2 valid"] = partial(_convolution, 3, 2, "valid")
    made["conv 2x2 stride 1 valid"] = partial(_convolution, 2, 1, "valid")
    made["conv 7x7 stride 2 bias"] = lambda i, o: nn.Conv2d(i, o, 7, 2, padding=3)
    made["depthwise 7x7 stride 1 bias"] = lambda i, _: nn.Conv2d(i, i, 7, padding=3, groups=i)
    for patch in (1, 2, 4):
        made[f"patches {patch}x{patch}"] = partial(PatchConv, patch=patch)
    return made


Padding = Literal["same", "symmetric", "valid"]


def _convolution(
    kernel: int | tuple[int, int], stride: int | tuple[int, int], padding: Padding, channels_in: int, channels_out: int, dilation: int = 1
) -> nn.Module:
    return Convolution(channels_in, channels_out, kernel, stride, dilation=dilation, padding=padding)


def _depthwise(kernel: int, stride: int, padding: Padding, dilation: int, channels_in: int, _: int) -> nn.Module:
    return Convolution(channels_in, channels_in, kernel, stride, dilation=dilation, groups=channels_in, padding=padding)


def _grouped(stride: int, padding: Padding, channels_in: int, channels_out: int) -> nn.Module:
    """Groups of 1 to 4 channels, as a narrow ResNeXt has them."""
    width = 1 + channels_out % 4
    channels = max(1, channels_in // width) * width
    return nn.Sequential(
        Convolution(channels_in, channels, 1), Convolution(channels, channels, 3, stride, groups=channels // width, padding=padding)
    )


def _other_layers() -> dict[str, Maker]:
    made: dict[str, Maker] = {
        "batch norm": lambda i, _: nn.BatchNorm2d(i),
        "layer norm": lambda i, _: ChannelNorm(i, eps=1e-6),
        "factorized reduction": lambda i, o: FactorizedReduction(i, o, Layers(NASNET_CONVENTIONS)),
        "max pool 3x3 stride 2 of a stem": lambda *_: nn.MaxPool2d(3, 2, padding=1),
        "avg pool 2x2 stride 2": lambda *_: nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False),
    }
    for conventions in ("nasnet", "darts"):
        layers = Layers(CONVENTIONS[conventions])
        for kind, kernel in (("max", 3), ("max", 5), ("max", 7), ("avg", 3), ("avg", 5)):
            for stride in (1, 2):
                name = f"{kind} pool {kernel}x{kernel} stride {stride} {conventions}"
                made[name] = partial(_pooling, kind, kernel, stride, layers)
    return made


CONVENTIONS: dict[str, Conventions] = {"nasnet": NASNET_CONVENTIONS, "darts": DARTS_CONVENTIONS}


def _pooling(kind: str, kernel: int, stride: int, layers: Layers, channels_in: int, _: int) -> nn.Module:
    return Pooling(kind, kernel, channels_in, channels_in, stride, layers)


def _operations() -> dict[str, Maker]:
    made: dict[str, Maker] = {"operation nasbench201 reduction": lambda i, o: _Raw(ResidualBlock(i, o, Layers(DARTS_CONVENTIONS)))}
    for name in OPERATIONS:
        for conventions in CONVENTIONS:
            for stride in (1, 2):
                made[f"operation {name} stride {stride} {conventions}"] = partial(
                    _operation, name, stride, Layers(CONVENTIONS[conventions])
                )
    for name in BLOCKS:
        for stride in (1, 2):
            made[f"operation {name} stride {stride}"] = partial(build_block, name, stride=stride)
    return made


def _operation(name: str, stride: int, layers: Layers, channels_in: int, channels_out: int) -> nn.Module:
    return build_operation(Edge(0, name), channels_in, channels_out, stride, layers)


class _Raw(nn.Module):
    """A module that takes a cell's state, on a tensor."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        from search_spaces.networks.cell import State

        return self.module(State(x)).raw


def _torch_alone() -> dict[str, Maker]:
    made: dict[str, Maker] = {f"torch 1x1 stride {stride}": partial(_torch_convolution, 1, stride) for stride in (2, 4)}
    return made | {f"torch 1x{k} stride (1, 2)": partial(_torch_convolution, (1, k), (1, 2)) for k in (3, 7)}


def _torch_convolution(kernel: int | tuple[int, int], stride: int | tuple[int, int], channels_in: int, channels_out: int) -> nn.Module:
    padding = 0 if isinstance(kernel, int) else (0, kernel[1] // 2)
    return nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)


def cases(kind: str, every: int) -> Iterator[Case]:
    """The grid of channels and sides, thinned evenly: every side, and every so many channels, other ones for the next side."""
    points = [(side, channels) for side in SIDES for channels in CHANNELS if _fits(kind, side, channels)]
    step = every + (every > 1 and every % 2 == 0)  # odd, so that the next side has other channels
    for i, (side, channels) in enumerate(points[::step]):
        yield Case(kind, channels, channels if i % 2 else CHANNELS[channels * 31 % len(CHANNELS)], side)


def _fits(kind: str, side: int, channels: int) -> bool:
    """Not a valid convolution beyond its state, nor a norm over one channel, whose gradients are zero but for rounding."""
    return (side > 2 or kind != "conv 3x3 stride 2 valid") and (channels > 1 or kind != "layer norm")


# ------------------------------------------------------------------------------------------------ one case


def worst_error(case: Case, maker: Maker) -> float:
    """The largest relative error, in the Euclidean norm, of a layer's output and of its gradients, over some repeats."""
    torch.manual_seed(0)
    layer = maker(case.channels_in, case.channels_out)
    with torch.no_grad():
        for parameter in layer.parameters():
            if parameter.dim() == 1:  # a norm's scale and shift, not ones and zeros
                parameter.uniform_(0.5, 1.5)
    pixels = case.side**2
    macs = pixels * max(1, sum(p.numel() for p in layer.parameters()))
    batch = int(min(LARGEST_BATCH, max(2, min(MACS / macs, NUMBERS / pixels / case.channels_in))))
    x = torch.randn(batch, case.channels_in, case.side, case.side)
    output, gradients = _differentiable(copy.deepcopy(layer).double(), x.double())
    upstream = torch.randn(output.shape)
    expected = [output.detach(), *gradients(upstream.double())]
    layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    worst = 0.0
    for _ in range(REPEATS):
        output, gradients = _differentiable(layer, x.contiguous(memory_format=torch.channels_last))
        found = [output.detach(), *gradients(upstream.contiguous(memory_format=torch.channels_last))]
        worst = max(worst, _difference(found, expected))
    return worst


def _differentiable(layer: nn.Module, x: Tensor) -> tuple[Tensor, Callable[[Tensor], list[Tensor]]]:
    """A layer's output, and the function from the output's gradient to those of input and parameters."""
    output = layer(x.requires_grad_())
    if not output.requires_grad:  # zeros
        return output, lambda _: []
    return output, lambda upstream: list(torch.autograd.grad(output, [x, *layer.parameters()], upstream))


def _difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest of the tensors' distances, each relative to the tensor's norm: one that is zero but for rounding counts little."""
    norms = [float(e.norm()) for e in expected]
    small = 1e-3 * max(norms) or 1.0
    return max(float((f.double() - e).norm()) / (norm + small) for f, e, norm in zip(found, expected, norms, strict=True))


def tolerance(kind: str) -> float:
    """Relative error allowed. In a whole operation rounding may decide otherwise at a ReLU's kink, which moves single numbers."""
    return 2e-2 if kind.startswith("operation") else 1e-4


# ------------------------------------------------------------------------------------------------ processes that may die


def sweep(kind: str, every: int) -> Iterator[dict[str, Any]]:
    """The findings of a kind with this process's setting. Torch has run nothing in this process, so that it can fork."""
    todo, context = list(cases(kind, every)), multiprocessing.get_context("fork")
    start = 0
    while start < len(todo):
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(todo[start:], sender), daemon=True)
        child.start()
        sender.close()
        died, reason = None, ""
        for case in todo[start:]:
            start += 1
            outcome = _outcome(receiver, child)
            if isinstance(outcome, str):
                died, reason = case, outcome
                break
            if not outcome <= tolerance(kind):
                yield {"found": f"error {outcome:.1e}", **asdict(case)}
        child.join()
        if died is not None:
            yield {"found": reason, **asdict(died)}


def _outcome(receiver: Connection, child: multiprocessing.process.BaseProcess) -> float | str:
    """The next case's error, or how the process ended over it."""
    if not receiver.poll(HANGS):
        child.kill()
        return "hangs"
    try:
        return float(receiver.recv())
    except EOFError:
        child.join(HANGS)
        return f"died with signal {-child.exitcode}" if (child.exitcode or 0) < 0 else f"exit status {child.exitcode}"


def _work(todo: list[Case], sender: Connection) -> None:
    maker = kinds()[todo[0].kind]
    for case in todo:
        sender.send(worst_error(case, maker))


def run_setting(options: argparse.Namespace, setting: Setting, chosen: list[str], left: float) -> Iterator[dict[str, Any]]:
    """What a process of its own with this setting reports, line by line; no more after so many seconds."""
    command = [sys.executable, __file__, "--worker", "--every", str(options.every), "--kinds", *chosen]
    environment = setting.environment() | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    end = time.monotonic() + left
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield asdict(setting) | json.loads(line)
            if time.monotonic() > end:
                process.kill()
                return
        if process.wait():
            raise SystemExit(f"the worker of {setting} ended with status {process.returncode}")


def worker(chosen: list[str], every: int) -> None:
    """Print the findings of the kinds, and a line for each kind that is through."""
    for kind in chosen:
        findings = 0
        for finding in sweep(kind, every):
            findings += 1
            print(json.dumps(finding), flush=True)
        print(json.dumps({"through": kind, "cases": len(list(cases(kind, every))), "findings": findings}), flush=True)


def main() -> None:
    """Run the settings one after the other; print a summary at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", help="beginnings of names, or patterns; default: all but torch's own")
    parser.add_argument("--every", type=int, default=4, help="of so many sizes take one")
    parser.add_argument("--isa", nargs="+", default=["DEFAULT", "AVX2"], help="values of ONEDNN_MAX_CPU_ISA")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--seconds", type=float, default=1800, help="begin no further kind after so many")
    parser.add_argument("--out", type=Path, help="a file of JSON lines, appended to and gone on with")
    parser.add_argument("--list", action="store_true", help="print the kinds' names")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    wanted = options.kinds or [""]
    chosen = [name for name in kinds() if any(fnmatch.fnmatch(name, f"{w}*") for w in wanted)]
    chosen = chosen if options.kinds else [name for name in chosen if not name.startswith("torch")]
    if options.list:
        print("\n".join(chosen))
    elif options.worker:
        worker([name for name in chosen if name in wanted], options.every)
    else:
        sys.exit(report(options, chosen))


def report(options: argparse.Namespace, chosen: list[str]) -> int:
    """Run what is not done, print every line; returns 1 where there are findings."""
    lines = [json.loads(line) for line in options.out.read_text().splitlines()] if options.out and options.out.exists() else []
    done = {(line["isa"], line["threads"], line["through"]) for line in lines if "through" in line}
    end = time.monotonic() + options.seconds
    for setting in (Setting(isa, threads) for isa in options.isa for threads in options.threads):
        todo = [kind for kind in chosen if (setting.isa, setting.threads, kind) not in done]
        left = end - time.monotonic()
        for line in run_setting(options, setting, todo, left) if todo and left > 0 else ():
            lines.append(line)
            print(json.dumps(line), flush=True)
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(line) + "\n")
    through = [line for line in lines if "through" in line]
    findings = [line for line in lines if "found" in line]
    summary = {"kinds": len({line["through"] for line in through}), "cases": sum(line["cases"] for line in through)}
    print(
        json.dumps(
            summary | {"findings": len(findings), "unfinished": len(options.isa) * len(options.threads) * len(chosen) - len(through)}
        )
    )
    return 1 if findings else 0


if __name__ == "__main__":
    main()
