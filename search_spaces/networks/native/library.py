"""Finds the compiled kernels, chooses the ones for this processor, and says which or why none."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

SWITCH = "NAS_KERNELS"
"""``off`` computes with torch alone; ``portable``, ``avx2`` and ``avx512`` are the widest vectors that may be used."""
INTERFACE = 2
"""As ``nas_interface`` in kernels.c says it."""
_WIDTHS = {"": 512, "on": 512, "avx512": 512, "avx2": 256, "portable": 128}


def load() -> ctypes.CDLL | None:
    """The compiled kernels, set up for this processor; None where there are none or the switch says off."""
    return None if _without else _choose()[0]


_without = 0


@contextmanager
def without() -> Iterator[None]:
    """Compute with torch alone, in all threads, for tests and benchmarks."""
    global _without
    _without += 1
    try:
        yield
    finally:
        _without -= 1


def forget() -> None:
    """Choose anew at the next call: the switch has changed."""
    _choose.cache_clear()


def describe() -> str:
    """Which kernels are used, in words for a person: ``AVX-512``, or ``none`` and the reason."""
    return _choose()[1]


@cache
def _choose() -> tuple[ctypes.CDLL | None, str]:
    wish = os.environ.get(SWITCH, "").lower()
    if wish == "off":
        return None, f"none, {SWITCH}=off"
    path = next((path for suffix in EXTENSION_SUFFIXES if (path := Path(__file__).with_name(f"_kernels{suffix}")).is_file()), None)
    if path is None:
        return None, "none, not compiled (no C compiler when this was installed)"
    try:
        library = ctypes.CDLL(str(path))
        library.nas_interface.restype = ctypes.c_int64
        if library.nas_interface() != INTERFACE:
            return None, f"none, {path.name} was compiled for another version of this package: install it again"
        library.nas_kernels.restype = ctypes.c_char_p
        library.nas_kernels.argtypes = [ctypes.c_int64, ctypes.c_void_p]
        name = library.nas_kernels(_WIDTHS.get(wish, 512), _openmp())
        units, pointer, number = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int64
        library.nas_chain_forward.argtypes = [units, number, pointer, number, pointer, number, pointer, number]
        library.nas_chain_backward.argtypes = [units, number, pointer, number, pointer, number, number]
        library.nas_pool_forward.argtypes = library.nas_pool_backward.argtypes = [units, number]
        for function in (library.nas_chain_forward, library.nas_chain_backward, library.nas_pool_forward, library.nas_pool_backward):
            function.restype = None
    except (OSError, AttributeError) as problem:
        return None, f"none, {path.name} cannot be loaded: {problem}"
    return library, name.decode()


def _openmp() -> int | None:
    """The address of the function that runs a job on the threads of the OpenMP library that torch has loaded, if it is GNU's."""
    import torch  # noqa: F401 - loads it

    try:
        return ctypes.cast(ctypes.CDLL(None).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError, TypeError):
        return None
