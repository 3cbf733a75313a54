"""The native kernels, for pip; everything else is in pyproject.toml.

They are optional: where there is no C compiler, or not GCC or Clang, the package installs without them and trains more slowly.
"""

from setuptools import Extension, setup

KERNELS = Extension(  # ctypes loads it: it needs neither Python's headers nor torch's
    "search_spaces.networks.native._kernels",
    sources=["search_spaces/networks/native/kernels.c"],
    depends=["search_spaces/networks/native/body.h", "search_spaces/networks/native/pooling.h"],
    extra_compile_args=["-O3", "-fno-tree-loop-distribute-patterns", "-Wno-psabi", "-pthread"],
    optional=True,
)

setup(ext_modules=[KERNELS])
