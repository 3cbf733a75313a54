"""Folders of generated images in ILSVRC's layout, with everything in them that real folders have."""

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("n01", "n02", "n03")


def picture(label: int, number: int, side: int = 40) -> Image.Image:
    """A grating whose direction and colour tell the class."""
    rng = np.random.default_rng([label, number])
    y, x = np.mgrid[0:side, 0 : side + 8 * (number % 2)] / side
    angle = np.pi * label / len(CLASSES)
    wave = np.sin(2 * np.pi * 3 * (x * np.cos(angle) + y * np.sin(angle)) + rng.uniform(0, 6))
    colour = np.eye(3)[label % 3] * 0.7 + 0.3
    pixels = 127.5 * (1 + 0.6 * wave[..., None] * colour) + rng.normal(0, 15, (*wave.shape, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def make_tree(root: Path, train: int = 20, val: int = 6, side: int = 40, damaged: bool = True) -> Path:
    """``root/train/CLASS/*.jpg`` and ``root/val/CLASS/*.jpg``; among them, where ``damaged``, 4 unreadable files and 4 odd ones."""
    for part, count in (("train", train), ("val", val)):
        for label, name in enumerate(CLASSES):
            folder = root / part / name
            folder.mkdir(parents=True)
            for number in range(count):
                picture(label, number + 1000 * (part == "val"), side).save(folder / f"{number:03}.jpg")
    if damaged:
        first = root / "train" / CLASSES[0]
        whole = (first / "000.jpg").read_bytes()
        (first / "cut.jpg").write_bytes(whole[: len(whole) // 2])
        (first / "empty.jpg").write_bytes(b"")
        (first / "text.png").write_text("not an image")
        (root / "val" / CLASSES[1] / "cut.jpg").write_bytes(whole[:100])
        picture(0, 50, side).convert("L").save(first / "grey.jpg")
        picture(0, 51, side).convert("CMYK").save(first / "cmyk.jpg")
        picture(0, 52, side).convert("P").save(first / "palette.png")
        picture(0, 53, side).convert("RGBA").save(first / "transparent.png")
    return root
