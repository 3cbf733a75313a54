"""Folders as people have them: what is below them is said by paths, drawn small, every image another one."""

import os
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image


def encoded(seed: str, kind: str = "PNG") -> bytes:
    """The file of an image of 8×8 pixels that the text draws: the same text the same image."""
    pixels = np.random.default_rng(zlib.crc32(os.fsencode(seed))).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).save(out, kind)
    return out.getvalue()


def lay(root: Path, *folders: str, count: int = 6) -> Path:
    """``count`` images in every one of the folders, which are paths below ``root``."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (root / folder / f"{number}.png").write_bytes(encoded(f"{root}/{folder}/{number}"))
    return root


def put(root: Path, *files: str, content: bytes | str | None = None) -> Path:
    """Files by their paths below ``root``: an image each, or the content that is given."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(
            encoded(f"{root}/{file}") if content is None else content.encode() if isinstance(content, str) else content
        )
    return root
