"""Does any damaged or hostile image get past the reader? Mutations of files in every format, mode and depth that Pillow writes.

    python benchmarks/fuzz_images.py --cases 100000

Every case is read in a process of its own kind (a decoder in C may take the process with it), with a limit on time and memory. A finding is

- crashed: anything but ``nas.data.pixels.READING_ERRORS`` is raised, a reason is empty or of several lines, or the process ends;
- hung: the case takes more than twenty seconds (the largest images that are read take five);
- wrong: a file that was only cut is read as another picture than the whole one; or an image becomes a single value although its own vary.

Findings are written to the folder --out, with the seed that repeats them. tests/data_tests/test_fuzz_images.py runs some hundred cases.
"""

import argparse
import multiprocessing
import random
import resource
import time
import zlib
from collections.abc import Iterator
from functools import cache
from io import BytesIO
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import Tally, conclude
from PIL import Image, ImageSequence

from nas.data.pixels import READING_ERRORS, as_array, contrast, decode, fit, image_formats, to_channels

LIMIT_SECONDS = 20
MEMORY_BYTES = 4 << 30
VERDICTS = ("refused", "read", "constant", "crashed", "hung", "wrong")
FINDINGS = VERDICTS[3:]
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I;16B", "I", "F")
VARIANTS: dict[str, tuple[dict[str, Any], ...]] = {
    "GIF": ({}, {"interlace": 0}),
    "JPEG": ({}, {"progressive": True}, {"subsampling": 0, "optimize": True}),
    "PNG": ({}, {"bits": 2}, {"compress_level": 0}),
    "TIFF": tuple(
        {"compression": name} for name in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4", "zstd", "webp")
    ),
    "WEBP": ({}, {"lossless": True}),
    "JPEG2000": ({}, {"irreversible": True}),
}


def main() -> None:
    """Fuzz and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/fuzz-images"))
    arguments = parser.parse_args()
    began = time.perf_counter()
    tally = fuzz(range(arguments.cases), arguments.seed, arguments.out)
    print(f"| format | files | cases | {' | '.join(VERDICTS)} |\n{'|---' * (3 + len(VERDICTS))}|")
    for kind, found in seeds().items():
        numbers = [tally.counts[kind, verdict] for verdict in VERDICTS]
        print(f"| {kind} | {len(found)} | {sum(numbers):,} | {' | '.join(f'{n:,}' for n in numbers)} |")
    conclude(tally, began)


def fuzz(cases: range, seed: int, out: Path | None = None) -> Tally:
    """Judge these cases; case i of a seed is always the same. The process that judges is replaced where it ends or hangs."""
    seeds()  # made once, and inherited
    tally = Tally()
    waiting = cases
    while waiting:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(target=_judge_all, args=(waiting, seed, theirs), daemon=True)
        process.start()
        theirs.close()
        for number in waiting:
            began = time.perf_counter()
            verdict, problem = _next_verdict(ours)
            tally.slowest = max(tally.slowest, time.perf_counter() - began)
            kind, mutant, _, _ = case(number, seed)
            tally.counts[kind, verdict] += 1
            if verdict in FINDINGS:
                tally.findings.append(f"{kind}, case {number} of seed {seed}: {verdict}: {problem[:300]}")
                if out is not None:
                    out.mkdir(parents=True, exist_ok=True)
                    (out / f"{seed}-{number}.{kind.lower()}").write_bytes(mutant)
            waiting = waiting[1:]
            if verdict == "hung" or (verdict == "crashed" and not process.is_alive()):
                break
        process.kill()
        process.join()
        ours.close()
    return tally


def _next_verdict(results: Connection) -> tuple[str, str]:
    if not results.poll(LIMIT_SECONDS):
        return "hung", f"more than {LIMIT_SECONDS} s"
    try:
        verdict, problem = results.recv()
    except EOFError:
        time.sleep(0.1)  # until the process is seen to have ended
        return "crashed", "the process ended"
    return verdict, problem


def _judge_all(cases: range, seed: int, results: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    for number in cases:
        _, mutant, original, cut = case(number, seed)
        results.send(judge(mutant, original if cut else None))


def judge(content: bytes, whole: bytes | None = None) -> tuple[str, str]:
    """The verdict on a file, and what is wrong with it; ``whole`` is the file of which it is the beginning."""
    try:
        image = decode(content)
        seen = to_channels(image, 3)
        small = [fit(seen, channels, 8) for channels in (1, 3)]
    except READING_ERRORS as problem:
        reason = str(problem)
        return (
            ("refused", reason) if reason.strip() and "\n" not in reason and " at 0x" not in reason else ("crashed", f"reason {reason!r}")
        )
    except Exception as problem:
        return "crashed", f"{type(problem).__name__}: {problem}"
    if [part.shape for part in small] != [(8, 8, 1), (8, 8, 3)]:
        return "wrong", "another shape"
    if whole is not None and not np.array_equal(as_array(to_channels(decode(whole), 3)), as_array(seen)):
        return "wrong", "a part of the file is read as another picture"
    if contrast(seen) > 0:
        return "read", ""
    return ("wrong", f"{image.mode} of varying values becomes one value") if _varies(image) else ("constant", "")


def _varies(image: Image.Image) -> bool:
    """Whether an image has different colours, opacity aside, whatever their range."""
    if image.mode in ("HSV", "LAB", "CMYK", "YCbCr"):  # many of their values look alike
        return False
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA").convert("RGB")
    bands = image.split()[: 1 if image.mode in ("LA", "La") else 3 if image.mode in ("RGBA", "RGBa", "RGBX") else None]
    return any(len(np.unique(np.asarray(band))) > 1 for band in bands) and image.mode not in (
        "HSV",
        "LAB",
        "CMYK",
        "YCbCr",
    )  # many of these look alike


# ---------------------------------------------------------------------------------------------------- cases


def case(number: int, seed: int) -> tuple[str, bytes, bytes, bool]:
    """Format, mutated file, the valid one, and whether it was only cut."""
    rng = random.Random(f"{seed}/{number}")
    kind = list(seeds())[number % len(seeds())]
    original = rng.choice(seeds()[kind])
    if rng.random() < 0.15:
        return kind, original[: rng.randrange(len(original))], original, True
    mutant = mutate(original, rng, seeds()[kind])
    return kind, with_right_checksums(mutant) if kind == "PNG" and rng.random() < 0.7 else mutant, original, False


def mutate(original: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """One to four changes: bytes, header fields, cuts, insertions, repetitions, the end of another file."""
    data = bytearray(original)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(min(len(data), rng.choice((16, 64, 256, 1 << 20)))) if data else 0
        length = rng.randint(1, rng.choice((1, 4, 64)))
        match rng.randrange(8):
            case 0:  # a bit
                data[place : place + 1] = bytes(byte ^ (1 << rng.randrange(8)) for byte in data[place : place + 1])
            case 1:
                data[place : place + length] = rng.randbytes(length)
            case 2:  # a number of 16 or 32 bits that few expect
                odd = rng.choice((0, 1, 2, 0x7F, 0xFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, len(data)))
                size = rng.choice((2, 4))
                data[place : place + size] = (odd % (1 << 8 * size)).to_bytes(size, rng.choice(("big", "little")))
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = rng.randbytes(length)
            case 5:
                data[place:place] = data[place : place + length] * rng.randint(1, 3)
            case 6:
                other = rng.choice(others)
                data[place:] = other[rng.randrange(len(other)) :]
            case 7:
                del data[rng.randrange(len(data) + 1) :]
    return bytes(data)


def with_right_checksums(png: bytes) -> bytes:
    """What would not get past the checksums otherwise."""
    parts, place = [png[:8]], 8
    while place < len(png):
        end = place + 8 + int.from_bytes(png[place : place + 4], "big")
        parts += [png[place:end], zlib.crc32(png[place + 4 : end]).to_bytes(4, "big")]
        place = end + 4
    return b"".join(parts)


@cache
def seeds() -> dict[str, list[bytes]]:
    """Valid files by format: every mode, depth and variant that Pillow writes and reads again, with metadata and several frames too."""
    files: dict[str, list[bytes]] = {}
    for kind in image_formats():
        found = [content for image in pictures() for options in VARIANTS.get(kind, ({},)) for content in _written(image, kind, options)]
        if found:
            files[kind] = found
    return files


def pictures() -> Iterator[Image.Image]:
    """A small picture in every mode."""
    y, x = np.mgrid[0:16, 0:24]
    colours = np.stack([x * 10, y * 15, (x * y) % 256], axis=2).astype(np.uint8)
    numbers = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4", "F": "<f4"}
    for mode in MODES:
        if mode in numbers:
            grey = colours[..., 0] / 256 if mode == "F" else colours[..., 0].astype(np.int32) * 257
            yield Image.frombytes(mode, (24, 16), grey.astype(numbers[mode]).tobytes())
        elif mode in ("RGBX", "LAB", "HSV"):
            yield Image.frombytes(mode, (24, 16), np.dstack([colours, colours])[..., : len(mode)].tobytes())
        else:
            image = Image.fromarray(colours).convert("P" if mode == "PA" else mode).convert(mode)
            if mode in ("LA", "PA", "RGBA"):
                image.putalpha(Image.fromarray(colours[..., 1]))
            yield image


def _written(image: Image.Image, kind: str, options: dict[str, Any]) -> Iterator[bytes]:
    """The file, where Pillow writes and reads it; once more with EXIF data, and with three frames, where the format holds them."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    exif.get_ifd(0x8769)[0x9286] = b"comment"
    frames = [image.transpose(Image.Transpose.ROTATE_180), image]
    for more in ({}, {"exif": exif}, {"save_all": True, "append_images": frames}):
        buffer = BytesIO()
        try:
            image.save(buffer, kind, **options, **more)
            decode(buffer.getvalue())
            several = len(list(ImageSequence.Iterator(Image.open(buffer)))) > 1
        except Exception:  # noqa: S112 - a mode that the format has not
            continue
        if not more or "exif" in more or several:
            yield buffer.getvalue()


if __name__ == "__main__":
    main()
