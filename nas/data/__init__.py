"""Data sets: reading, fetching, splitting. ``load_dataset`` and ``prepare`` are the ways in. No torch (but for ``augmentation``)."""

from nas.data.dataset import Dataset
from nas.data.proxy import ProxyData, prepare, split_validation
from nas.data.registry import load_dataset

__all__ = ["Dataset", "ProxyData", "load_dataset", "prepare", "split_validation"]
