"""Data sets: reading, fetching, splitting. ``load_dataset`` and ``prepare`` are the ways in. No torch (but for ``augmentation``)."""

from nas.data.dataset import load_dataset
from nas.data.images import Dataset
from nas.data.proxy import ProxyData, prepare, split_validation

__all__ = ["Dataset", "ProxyData", "load_dataset", "prepare", "split_validation"]
