"""The native kernels, and the README as it is read outside the repository; everything else is in pyproject.toml.

The kernels are optional: where there is no C compiler, or not GCC or Clang, the package installs without them and trains more slowly.
"""

import os
import re
from pathlib import Path

from setuptools import Extension, setup

KERNELS = Extension(  # ctypes loads it: it needs neither Python's headers nor torch's
    "search_spaces.networks.native._kernels",
    sources=["search_spaces/networks/native/kernels.c"],
    depends=["search_spaces/networks/native/body.h", "search_spaces/networks/native/pooling.h"],
    extra_compile_args=["-O3", "-fno-tree-loop-distribute-patterns", "-Wno-psabi", "-pthread"],
    optional=True,
)


def readme(text: str, repository: str) -> str:
    """The README where its links lead nowhere, as on a package index, and without the marks that tests read.

    Links into the repository lead to where it is to be seen (NAS_REPOSITORY, the address before a file's path); where whoever builds
    does not say, the path stands in the text: it is one of the source distribution.
    """

    def link(found: re.Match[str]) -> str:
        text, path = found.groups()
        if repository:
            return f"[{text}]({repository.rstrip('/')}/{path})"
        return f"`{path}`" if text == path else f"{text} (`{path}`)"

    return re.sub(r"\[([^\]]+)\]\((?!\w+:|#)([^)]+)\)", link, re.sub(r"^<!--.*?-->\n", "", text, flags=re.MULTILINE | re.DOTALL))


if __name__ == "__main__":
    setup(
        ext_modules=[KERNELS],
        long_description=readme(Path("README.md").read_text(encoding="utf-8"), os.environ.get("NAS_REPOSITORY", "")),
        long_description_content_type="text/markdown",
    )
