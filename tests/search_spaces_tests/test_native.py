"""Native kernels against torch's layers in float64: values, gradients, moving statistics; and where networks must not use them."""

import copy
import itertools
import random
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.training.scoring import score
from search_spaces.genotype import Edge
from search_spaces.nasbench201 import NASBENCH201
from search_spaces.networks import fast
from search_spaces.networks.build import build_network
from search_spaces.networks.cell import State
from search_spaces.networks.cost import count_macs, training_memory
from search_spaces.networks.native import library
from search_spaces.networks.operations import OPERATIONS, FactorizedReduction, FreshReLU, Layers, Operation, Sequential, build_operation
from search_spaces.reference import load_reference
from search_spaces.skeletons import AMOEBANET_CONVENTIONS, DARTS_CONVENTIONS, NASNET_CONVENTIONS, NASBench201Skeleton, NASNetSkeleton
from search_spaces.space import sample_actions

needs_kernels = pytest.mark.skipif(library.load() is None, reason=f"native kernels: {library.describe()}")
pytestmark = needs_kernels

CONVENTIONS = (NASNET_CONVENTIONS, AMOEBANET_CONVENTIONS, DARTS_CONVENTIONS)
FEW = settings(max_examples=60, deadline=None, derandomize=True)


def through(operation: nn.Module, x: Tensor, addend: Tensor | None = None) -> Tensor:
    return State(x).through(operation, addend)  # type: ignore[arg-type]


def by_torch(operation: Operation, x: Tensor, addend: Tensor | None = None) -> Tensor:
    result = operation(F.relu(x) if operation.activated else x)
    return result if addend is None else addend + result


def compare(operation: Operation, x: Tensor, addend: Tensor | None = None) -> None:
    """Output, gradients and moving statistics, against float64."""
    operation.train()
    with torch.no_grad():
        for name, parameter in operation.named_parameters():
            parameter.copy_(
                torch.randn(parameter.shape) * (0.5 if parameter.dim() > 1 else 0.3) + (1 if "norm" in name and "weight" in name else 0)
            )
    exact = copy.deepcopy(operation).double()
    inputs, exact_inputs = (
        [None if t is None else t.detach().to(kind).requires_grad_() for t in (x, addend)] for kind in (torch.float32, torch.float64)
    )
    assert inputs[0] is not None and exact_inputs[0] is not None
    with mock.patch.object(operation, "forward", side_effect=AssertionError("the kernels were not used")):
        y = through(operation, *inputs)  # type: ignore[arg-type]
    wanted = by_torch(exact, *exact_inputs)  # type: ignore[arg-type]
    assert y.shape == wanted.shape
    grad = torch.randn(wanted.shape, dtype=torch.float64)
    y.backward(grad.float())
    wanted.backward(grad)
    pairs = [(y, wanted), *((a.grad, b.grad) for a, b in zip(inputs, exact_inputs, strict=True) if a is not None and b is not None)]
    pairs += [(a.grad, b.grad) for a, b in zip(operation.parameters(), exact.parameters(), strict=True)]
    pairs += [(a, b) for a, b in zip(operation.buffers(), exact.buffers(), strict=True)]
    largest = max(float(theirs.detach().abs().max()) for _, theirs in pairs if theirs is not None and theirs.is_floating_point())
    for number, (ours, theirs) in enumerate(pairs):
        assert ours is not None and theirs is not None
        scale = theirs.abs().max().double() + largest / 10  # a weight that a norm makes ineffective has nothing but rounding
        assert (ours.double() - theirs.double()).abs().max() <= 2e-4 * scale, number


@FEW
@given(st.data())
def test_every_operation_is_what_torch_computes(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in OPERATIONS if name not in ("zero", "identity")]))
    conventions = data.draw(st.sampled_from(CONVENTIONS))
    channels, out = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([1, 2, 3, 5, 8, 17, 20]))
    stride, batch = data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from([2, 3, 7, 18]))
    height, width = data.draw(st.integers(4, 19)), data.draw(st.integers(4, 19))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    operation = build_operation(Edge(0, name), channels, out, stride, Layers(conventions))
    x = torch.randn(batch, channels, height, width)
    if data.draw(st.booleans()):
        x = x.contiguous(memory_format=torch.channels_last)
    addend = torch.randn(batch, out, -(-height // stride), -(-width // stride)) if data.draw(st.booleans()) else None
    compare(operation, x, addend)


@pytest.mark.parametrize("activated", [True, False])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 5), (6, 9)])
@pytest.mark.parametrize("out", [2, 5, 12])
def test_a_factorized_reduction(activated: bool, height: int, width: int, out: int) -> None:
    torch.manual_seed(0)
    compare(FactorizedReduction(5, out, Layers(NASNET_CONVENTIONS), activated=activated), torch.randn(9, 5, height, width))


def test_wide_states_and_a_chain_that_ends_with_a_relu() -> None:
    torch.manual_seed(0)
    layers = Layers(NASNET_CONVENTIONS)
    chain = Sequential(layers.conv(70, 33, 3, 2), FreshReLU(), layers.conv(33, 130, 1), layers.norm(130), FreshReLU())
    compare(chain, torch.randn(3, 70, 12, 12))


def test_slices_of_a_larger_state_and_of_a_larger_gradient() -> None:
    torch.manual_seed(0)
    operation = build_operation(Edge(0, "sep_conv_5x5"), 4, 6, 1, Layers(NASNET_CONVENTIONS)).train()
    whole = torch.randn(5, 11, 8, 8, requires_grad=True)
    grad = torch.randn(5, 9, 8, 8)
    grads = []
    for run in (through, by_torch):
        whole.grad = None
        torch.cat([run(operation, whole[:, 3:7]), whole[:, :3]], 1).backward(grad)
        grads.append(whole.grad)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["sep_conv_3x3", "max_pool_3x3", "avg_pool_3x3", "conv_1x1", "conv_1x7_7x1", "dil_conv_3x3"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_passes_as_in_torch(name: str, value: float) -> None:
    torch.manual_seed(0)
    operation = build_operation(Edge(0, name), 4, 4, 1, Layers(NASNET_CONVENTIONS)).train()
    x = torch.randn(3, 4, 8, 8)
    x[1, 2, 3, 4] = value
    finite = []
    for run in (through, by_torch):
        twin, given = copy.deepcopy(operation), x.clone().requires_grad_()
        y = run(twin, given)
        y.sum().backward()
        finite.append((y.isfinite(), y.isnan(), *(p.grad.isfinite().all() for p in twin.parameters() if p.grad is not None)))
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*finite, strict=True))


def test_the_first_of_equal_pixels_gets_the_gradient_of_a_maximum() -> None:
    operation = build_operation(Edge(0, "max_pool_3x3"), 2, 2, 1, Layers(NASNET_CONVENTIONS)).train()
    grads = []
    for run in (through, by_torch):
        x = torch.randint(0, 2, (3, 2, 9, 9), generator=torch.Generator().manual_seed(0)).float().requires_grad_()
        run(operation, x).square().sum().backward()
        grads.append(x.grad)
    assert torch.equal(*grads)


def child(filters: int = 5) -> nn.Module:
    torch.manual_seed(0)
    return build_network(load_reference("nasnet-a"), NASNetSkeleton(1, filters), classes=10, image_size=16).train()


def others() -> Iterator[nn.Module]:
    """Networks of other skeletons and spaces, with drop path and auxiliary heads."""
    cell = NASBENCH201.decode(sample_actions(NASBENCH201, random.Random(2)))
    for genotype, skeleton in (
        (load_reference("darts-v2"), NASNetSkeleton(1, 4, conventions=DARTS_CONVENTIONS, auxiliary=True, drop_path_keep=0.8)),
        (load_reference("amoebanet-a"), NASNetSkeleton(1, 4, conventions=AMOEBANET_CONVENTIONS)),
        (cell, NASBench201Skeleton(1, 4)),
    ):
        torch.manual_seed(0)
        yield build_network(genotype, skeleton, classes=10, image_size=16).train()


def step(network: nn.Module, batch: int = 6) -> list[Tensor]:
    """Loss and gradients of one step."""
    network.zero_grad()
    torch.manual_seed(1)
    logits, auxiliary = network.forward_with_auxiliary(torch.randn(batch, 3, 16, 16))  # type: ignore[operator]
    loss = sum(F.cross_entropy(each, torch.arange(batch) % 10) for each in (logits, auxiliary) if each is not None)
    assert isinstance(loss, Tensor)
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in network.parameters() if p.grad is not None)]


def test_networks_take_the_same_step_with_and_without() -> None:
    for network in (child(), *others()):
        twin = copy.deepcopy(network)
        with mock.patch.object(fast, "run_layers", wraps=fast.run_layers) as used:
            ours = step(network)
        assert used.call_count > 10
        with library.without():
            theirs = step(twin)
        assert ours[0] == pytest.approx(float(theirs[0]), rel=1e-5)
        apart = torch.cat([(a - b).flatten() for a, b in zip(ours, theirs, strict=True)]).norm()
        assert apart < 2e-3 * torch.cat([b.flatten() for b in theirs]).norm()


def test_the_same_bits_again_and_with_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 1, 2, 3):
            torch.set_num_threads(threads)
            operation = build_operation(Edge(0, "sep_conv_5x5"), 6, 6, 1, Layers(NASNET_CONVENTIONS)).train()
            with torch.no_grad():
                for number, parameter in enumerate(operation.parameters()):
                    parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
            x = torch.randn(32, 6, 16, 16, generator=torch.Generator().manual_seed(9)).requires_grad_()
            y = through(operation, x)
            y.square().sum().backward()
            found.append([y, x.grad, *(p.grad for p in operation.parameters())])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))  # type: ignore[arg-type]


def test_what_was_computed_before_leaves_no_trace() -> None:
    layers, found = Layers(NASNET_CONVENTIONS), []
    for spoiled in (False, True):
        results: list[Tensor] = []
        for name, stride, side, batch in itertools.product(OPERATIONS, (1, 2), (4, 9, 16), (5, 33)):
            if name in ("identity", "zero"):
                continue
            torch.manual_seed(0)
            operation = build_operation(Edge(0, name), 5, 6, stride, layers).train()
            x = torch.randn(batch, 5, side, side).requires_grad_()
            if spoiled:  # leaves no number in the memory that kernels use again
                through(
                    build_operation(Edge(0, name), 9, 9, stride, layers).train(), torch.full((40, 9, 17, 17), torch.nan).requires_grad_()
                ).sum().backward()
            y = through(operation, x)
            y.square().sum().backward()
            results += [y, *(t.grad for t in (x, *operation.parameters()) if t.grad is not None)]
        found.append(results)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("width", ["portable", "avx2", "avx512"])
def test_every_width_of_vectors(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(library.SWITCH, width)
    library.forget()
    try:
        torch.manual_seed(0)
        for name in ("sep_conv_7x7", "conv_3x3", "max_pool_3x3", "avg_pool_3x3", "conv_1x7_7x1"):
            compare(build_operation(Edge(0, name), 7, 9, 2, Layers(NASNET_CONVENTIONS)), torch.randn(4, 7, 11, 10))
    finally:
        monkeypatch.undo()
        library.forget()


# ------------------------------------------------------------------------------------------------ scoring


def used_to(operation: nn.Module) -> nn.Module:
    """In evaluation, with weights and moving statistics as if it had been trained."""
    with torch.no_grad():
        for tensor in (*operation.parameters(), *operation.buffers()):
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape) + 0.5 if tensor.dim() == 1 else torch.randn(tensor.shape) * 0.5)
    return operation.eval()


@FEW
@given(st.data())
def test_every_operation_scores_as_torch_does(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([name for name in OPERATIONS if name not in ("zero", "identity")]))
    channels, out = data.draw(st.integers(1, 9)), data.draw(st.sampled_from([2, 3, 8, 17]))
    stride, batch = data.draw(st.sampled_from([1, 2])), data.draw(st.sampled_from([2, 7, 18]))
    torch.manual_seed(data.draw(st.integers(0, 99)))
    operation = used_to(build_operation(Edge(0, name), channels, out, stride, Layers(data.draw(st.sampled_from(CONVENTIONS)))))
    x = torch.randn(batch, channels, data.draw(st.integers(4, 19)), data.draw(st.integers(4, 19)))
    exact, before = copy.deepcopy(operation).double(), copy.deepcopy(operation.state_dict())
    refused = mock.patch.object(operation, "forward", side_effect=AssertionError("the kernels were not used"))
    with torch.no_grad(), fast.scoring(), refused:
        y = through(operation, x)
    with torch.no_grad():
        wanted = by_torch(exact, x.double())  # type: ignore[arg-type]
    assert (y.double() - wanted).abs().max() <= 1e-4 * wanted.abs().max()
    assert all(torch.equal(value, before[name]) for name, value in operation.state_dict().items()), "scoring changes nothing"


def test_networks_are_scored_by_kernels_as_without() -> None:
    images, labels = torch.randn(40, 3, 16, 16), torch.arange(40) % 10
    for network in (child(), *others()):
        step(network, 40)
        found: list[tuple[float, int]] = []
        logits: list[Tensor] = []
        for kernels in (True, False):
            with nullcontext() if kernels else library.without(), mock.patch.object(fast, "run_chain", wraps=fast.run_chain) as used:
                scores = score(network, [(images, labels)], on_logits=lambda given, _, logits=logits: logits.append(given))
            assert (used.call_count > 10) == kernels
            found.append((scores.top1, scores.images))
        torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)
        assert found[0] == found[1]


@pytest.mark.usefixtures("forbidden")
def test_only_what_is_scored_is_computed_by_kernels() -> None:
    network, images = child().eval(), torch.randn(2, 3, 16, 16)
    with torch.no_grad(), fast.scoring():
        with pytest.raises(AssertionError, match="a kernel ran"):
            network(images)
        network.double()(images.double())
    with torch.no_grad():
        network.float()(images)
    with fast.scoring():
        network(images)  # with gradients: of an attack, say


# ------------------------------------------------------------------------------------------------ where they must not be used


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel may run."""

    def refuse(*_: object) -> None:
        raise AssertionError("a kernel ran")

    monkeypatch.setattr("search_spaces.networks.fast.run_chain", refuse)
    monkeypatch.setattr("search_spaces.networks.operations.run_pool", refuse)


@pytest.mark.usefixtures("forbidden")
def test_evaluation_other_types_shapes_alone_and_autocast_run_torchs_layers() -> None:
    network, images = child(), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        network(images)
    network.eval()
    network(images)
    network.train()
    with torch.autocast("cpu", torch.bfloat16):
        network(images)
    child().double()(images.double())
    assert count_macs(network, image_size=16) > 0
    assert training_memory(network, batch_size=2, image_size=16, device="meta") > 0


@pytest.mark.usefixtures("forbidden")
def test_whatever_traces_a_network_meets_torchs_layers() -> None:
    network, images = child(), torch.randn(2, 3, 16, 16)
    exported = torch.export.export(network, (images,))
    assert all("native" not in str(node.target) for node in exported.graph.nodes)
    small = build_operation(Edge(0, "max_pool_3x3"), 3, 3, 1, Layers(NASNET_CONVENTIONS)).train()
    torch.jit.trace(network, (images,), check_trace=False)
    torch.func.grad(lambda x: State(x).through(small).sum())(images)


@pytest.mark.usefixtures("forbidden")
def test_a_frozen_norm_and_one_without_moving_statistics_are_torchs() -> None:
    operation = build_operation(Edge(0, "conv_1x1"), 3, 4, 1, Layers(NASNET_CONVENTIONS)).train()
    norm = next(module for module in operation.modules() if isinstance(module, nn.BatchNorm2d))
    x = torch.randn(4, 3, 8, 8)
    norm.eval()
    through(operation, x)
    norm.train()
    norm.momentum = None
    through(operation, x)


def test_a_layer_that_is_exchanged_counts_at_once() -> None:
    torch.manual_seed(0)
    operation = build_operation(Edge(0, "conv_1x1"), 3, 4, 1, Layers(NASNET_CONVENTIONS)).train()
    assert isinstance(operation, Sequential)
    x = torch.randn(4, 3, 8, 8)
    through(operation, x)
    operation.layers[0] = Layers(NASNET_CONVENTIONS).conv(3, 4, 3)
    torch.testing.assert_close(through(operation, x), by_torch(operation, x), rtol=1e-4, atol=1e-5)


def test_an_empty_batch_and_a_single_pixel_are_as_in_torch() -> None:
    operation = build_operation(Edge(0, "conv_1x1"), 3, 4, 1, Layers(NASNET_CONVENTIONS)).train()
    for x in (torch.randn(0, 3, 8, 8), torch.randn(1, 3, 1, 1)):
        ends = []
        for run in (through, by_torch):
            try:
                ends.append(tuple(run(operation, x).shape))
            except ValueError as problem:
                ends.append(str(problem))
        assert ends[0] == ends[1]


def test_steps_need_no_more_memory_than_torchs() -> None:
    for filters in (4, 16):
        network = child(filters)
        ours = training_memory(network, batch_size=16, image_size=16)
        with library.without():
            theirs = training_memory(network, batch_size=16, image_size=16)
        assert ours < theirs


def test_which_kernels_there_are_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert library.describe() in ("AVX-512", "AVX2", "portable")
    try:
        monkeypatch.setenv(library.SWITCH, "off")
        library.forget()
        assert library.describe() == "none, NAS_KERNELS=off" and library.load() is None
        monkeypatch.delenv(library.SWITCH)
        monkeypatch.setattr(library, "INTERFACE", library.INTERFACE + 1)
        library.forget()
        assert library.describe().endswith("was compiled for another version of this package: install it again") and library.load() is None
        monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
        library.forget()
        assert library.describe().startswith("none, not compiled") and library.load() is None
        (tmp_path / f"_kernels{EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
        library.forget()
        assert "cannot be loaded" in library.describe() and library.load() is None
    finally:
        monkeypatch.undo()
        library.forget()
