"""Scores a network on labelled images: top-1 and top-5 accuracy, loss, and how many images it takes a second."""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nas.training.numerics import autocast
from search_spaces.networks import fast


@dataclass(frozen=True)
class Scores:
    """Accuracies in [0, 1]; ``top5`` counts an image whose class is among the five likeliest (all, where there are fewer classes).

    ``loss`` is the mean cross-entropy; ``seconds`` is the network's own time, without reading the images.
    """

    top1: float
    top5: float
    loss: float
    images: int
    seconds: float

    @property
    def images_per_second(self) -> float:
        """Throughput of the network alone."""
        return self.images / self.seconds if self.seconds else 0.0


class Mirrored(nn.Module):
    """A network that looks at every image and at its mirror image: the mean of both probabilities, as logits (their logarithms)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Images (batch, channels, height, width) to (batch, classes)."""
        both = torch.stack([self.network(images), self.network(images.flip(-1))]).float().log_softmax(dim=2)
        return both.logsumexp(dim=0) - math.log(2)


@torch.no_grad()
def score(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: torch.dtype = torch.float32,
    on_logits: Callable[[Tensor, Tensor], None] = lambda logits, labels: None,
) -> Scores:
    """Score the network in evaluation mode (and leave it there); ``on_logits`` is given the logits and labels of every batch."""
    totals = score_sums(network, batches, precision, on_logits)
    count = max(1.0, totals["images"])
    return Scores(totals["top1"] / count, totals["top5"] / count, totals["loss"] / count, int(totals["images"]), totals["seconds"])


@torch.no_grad()
def score_sums(
    network: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    precision: torch.dtype = torch.float32,
    on_logits: Callable[[Tensor, Tensor], None] = lambda logits, labels: None,
) -> dict[str, float]:
    """What ``score`` divides by the number of images, so that workers who share the images can add it up."""
    network.eval()
    sums = {"top1": 0.0, "top5": 0.0, "loss": 0.0, "images": 0.0, "seconds": 0.0}
    for images, labels in batches:
        started = time.perf_counter()
        with autocast(images.device, precision), fast.scoring():
            logits = network(images)
        logits = logits.float()
        ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
        sums["top1"] += float(ranked[:, 0].sum())  # waits for the device, so that the time is the network's
        sums["top5"] += float(ranked.sum())
        sums["loss"] += float(F.cross_entropy(logits, labels, reduction="sum"))
        sums["images"] += len(labels)
        sums["seconds"] += time.perf_counter() - started
        on_logits(logits, labels)
    return sums
