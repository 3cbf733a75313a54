"""Every mode and depth that Pillow opens becomes what a person sees, or is refused with the reason. Values computed by hand."""

import struct
import subprocess
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nas.data.pixels import MOST_PIXELS, ImageError, as_array, decode, fit, to_channels

pytestmark = pytest.mark.filterwarnings(r"ignore:::PIL\.")
RNG = np.random.default_rng(0)
GREY = RNG.integers(256, size=(12, 20), dtype=np.uint8)
RGB = RNG.integers(256, size=(12, 20, 3), dtype=np.uint8)
ALPHA = RNG.integers(256, size=(12, 20), dtype=np.uint8)
WHITE_LAID = np.rint(RGB * (ALPHA / 255)[..., None] + 255 - ALPHA[..., None].astype(float))


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def seen(content: bytes | Image.Image, channels: int = 3) -> np.ndarray:
    return as_array(to_channels(decode(content) if isinstance(content, bytes) else content, channels)).astype(int)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


# ---------------------------------------------------------------------------------------------------- 8 bits


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG2000"])
def test_a_grey_image_keeps_its_levels(kind):
    content = saved(Image.fromarray(GREY), kind, **({"lossless": True} if kind == "WEBP" else {}))
    np.testing.assert_array_equal(seen(content), three(GREY))
    np.testing.assert_array_equal(seen(content, 1)[..., 0], GREY)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000", "ICO"])
def test_a_colour_image_keeps_its_colours(kind):
    options = {"WEBP": {"lossless": True}, "ICO": {"sizes": [(20, 12)]}}.get(kind, {})
    np.testing.assert_array_equal(seen(saved(Image.fromarray(RGB), kind, **options)), RGB)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "PPM"])
def test_one_bit_is_black_and_white(kind):
    bits = GREY > 127
    np.testing.assert_array_equal(seen(saved(Image.fromarray(bits), kind)), three(bits * 255))


def test_what_is_transparent_is_laid_on_white():
    colour = Image.fromarray(np.dstack([RGB, ALPHA]))
    np.testing.assert_allclose(seen(saved(colour, "PNG")), WHITE_LAID, atol=1)
    np.testing.assert_allclose(seen(saved(colour, "TIFF")), WHITE_LAID, atol=1)
    grey = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    laid = GREY * (ALPHA / 255) + 255 - ALPHA
    np.testing.assert_allclose(seen(saved(grey, "PNG")), three(laid), atol=1)
    np.testing.assert_allclose(seen(saved(grey, "PNG"), 1)[..., 0], laid, atol=1)
    for mode, source, expected in (("RGBa", colour, WHITE_LAID), ("La", grey, three(laid))):
        np.testing.assert_allclose(seen(source.convert(mode)), expected, atol=2)


def test_palettes_with_and_without_transparency():
    colours = RNG.integers(256, size=(256, 3), dtype=np.uint8)
    image = Image.fromarray(GREY)
    image.putpalette(colours.tobytes())
    assert image.mode == "P"
    np.testing.assert_array_equal(seen(saved(image, "PNG")), colours[GREY])
    np.testing.assert_array_equal(seen(saved(image, "BMP")), colours[GREY])
    one = int(GREY[3, 4])
    expected = np.where((one == GREY)[..., None], 255, colours[GREY])
    np.testing.assert_array_equal(seen(saved(image, "PNG", transparency=one)), expected)
    many = np.minimum(np.arange(256), 255).astype(np.uint8)  # an opacity for every colour
    expected = colours[GREY] * (GREY / 255)[..., None] + 255 - GREY[..., None].astype(float)
    np.testing.assert_allclose(seen(saved(image, "PNG", transparency=many.tobytes())), expected, atol=1)
    both = image.convert("PA")
    both.putalpha(Image.fromarray(ALPHA))
    assert both.mode == "PA"
    np.testing.assert_allclose(seen(both), colours[GREY] * (ALPHA / 255)[..., None] + 255 - ALPHA[..., None].astype(float), atol=1)


def test_a_colour_that_stands_for_transparent_is_white():
    marked = saved(Image.fromarray(RGB), "PNG", transparency=tuple(RGB[5, 6].tolist()))
    expected = RGB.copy()
    expected[5, 6] = 255
    np.testing.assert_array_equal(seen(marked), expected)
    grey = saved(Image.fromarray(GREY), "PNG", transparency=int(GREY[5, 6]))
    np.testing.assert_array_equal(seen(grey), three(np.where(GREY[5, 6] == GREY, 255, GREY)))


def test_transparency_that_would_hide_all_on_white_does_not():
    icon = Image.fromarray(np.dstack([np.full((12, 20, 3), 255, np.uint8), ALPHA]))  # a white drawing
    np.testing.assert_allclose(seen(icon), three(ALPHA), atol=1)
    nothing = Image.fromarray(np.dstack([RGB, np.zeros_like(ALPHA)]))  # a file whose fourth channel was never filled
    np.testing.assert_array_equal(seen(saved(nothing, "PNG")), RGB)
    black = Image.fromarray(np.dstack([np.zeros_like(RGB), ALPHA]))
    np.testing.assert_allclose(seen(black), three(255 - ALPHA), atol=1)


def test_inks_are_subtracted_from_white_and_adobes_inverted_files_are_turned_round():
    inks = RNG.integers(256, size=(16, 16, 4), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    expected = 255 - np.minimum(255, inks[..., :3].astype(int) + inks[..., 3:])
    image = Image.frombytes("CMYK", (128, 128), inks.tobytes())
    product = np.rint((255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:]) / 255)
    found = seen(saved(image, "TIFF"))
    assert min(np.abs(found - expected).max(), np.abs(found - product).max()) <= 2  # either of the usual formulas
    jpeg = saved(image, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in jpeg
    assert np.abs(seen(jpeg) - found).mean() < 3


def test_other_colour_spaces():
    image = Image.fromarray(RGB)
    y, b, r = (np.asarray(band).astype(float) for band in image.convert("YCbCr").split())
    jfif = np.dstack([y + 1.402 * (r - 128), y - 0.344136 * (b - 128) - 0.714136 * (r - 128), y + 1.772 * (b - 128)]).clip(0, 255)
    np.testing.assert_allclose(seen(image.convert("YCbCr")), jfif, atol=1.5)
    assert decode(saved(image.convert("YCbCr"), "TIFF")).mode == "YCbCr"
    np.testing.assert_allclose(seen(saved(image.convert("YCbCr"), "TIFF")), jfif, atol=1.5)
    h, s, v = (np.asarray(band).astype(float) for band in image.convert("HSV").split())
    sector = np.array([5, 3, 1])  # f(n) = v - v s max(0, min(k, 4 - k, 1)), k = (n + h / 60°) mod 6
    k = (sector + h[..., None] / 255 * 6) % 6
    expected = v[..., None] * (1 - s[..., None] / 255 * np.clip(np.minimum(k, 4 - k), 0, 1))
    np.testing.assert_allclose(seen(image.convert("HSV")), expected, atol=6)
    np.testing.assert_array_equal(seen(Image.frombytes("RGBX", (20, 12), np.dstack([RGB, ALPHA]).tobytes())), RGB)


def test_lab_colours():
    """CIE 1976 L*a*b* under D50, a* and b* signed, as TIFF has them: red is (54.3, 80.8, 69.9)."""
    colours = {(255, 0, 0): (255, 255, 255), (0, 0, 0): (0, 0, 0), (137, 0, 0): (128, 128, 128), (138, 81, 70): (255, 0, 0)}
    lab = np.array(list(colours), dtype=np.uint8)[None].repeat(4, 0)
    image = Image.frombytes("LAB", (4, 4), lab.tobytes())
    expected = np.array(list(colours.values()))[None].repeat(4, 0)
    np.testing.assert_allclose(seen(image), expected, atol=6)  # of 8-bit Lab
    np.testing.assert_allclose(seen(saved(image, "TIFF")), expected, atol=6)  # of 8-bit Lab


# ---------------------------------------------------------------------------------------------------- other depths

RAMP = np.linspace(0, 1, 240).reshape(12, 20)


@pytest.mark.parametrize(
    ("full", "kind"), [(65535, "PNG"), (65535, "TIFF"), (4095, "PNG"), (4095, "TIFF"), (255, "PNG"), (255, "TIFF"), (65535, "PPM")]
)
def test_sixteen_bits_are_shown_on_the_scale_that_holds_them(full, kind):
    values = np.rint(RAMP * full).astype(np.uint16)
    image = decode(saved(Image.fromarray(values), kind))
    assert image.mode.startswith("I")
    np.testing.assert_allclose(seen(image), three(RAMP * 255), atol=1)


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L"])
def test_either_byte_order(mode):
    values = np.rint(RAMP * 4095).astype(">u2" if mode == "I;16B" else "<u2")
    image = Image.frombytes(mode, (20, 12), values.tobytes())
    np.testing.assert_allclose(seen(image, 1)[..., 0], RAMP * 255, atol=1)


@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [
        (0, 255, 0, 255),  # 8 bits in 32 stay
        (0, 60, 0, 60),
        (0, 4095, 0, 255),
        (0, 65535, 0, 255),
        (0, 2**31 - 1, 0, 255),
        (-1024, 3071, 0, 255),  # a tomograph's
        (40_000, 40_500, 0, 255),  # would be two levels of the whole scale
        (7, 7, 7, 7),
        (-7, -7, 0, 0),
    ],
)
def test_whole_numbers_of_32_bits(low, high, first, last):
    values = np.rint(low + RAMP * (high - low)).astype(np.int32)
    found = seen(saved(Image.fromarray(values, mode="I"), "TIFF"), 1)[..., 0]
    np.testing.assert_allclose(found, first + RAMP * (last - first), atol=1)


@pytest.mark.parametrize(
    ("low", "high", "first", "last"),
    [
        (0, 1, 0, 255),
        (0, 0.5, 0, 127.5),
        (0, 255, 0, 255),
        (0, 4095, 0, 255),
        (0, 1e30, 0, 255),
        (-1, 1, 0, 255),
        (280, 310, 0, 255),  # kelvins
        (0, 3e-5, 0, 255),
        (0.25, 0.25, 63.75, 63.75),
    ],
)
def test_fractions(low, high, first, last):
    values = (low + RAMP * (high - low)).astype(np.float32)
    found = seen(saved(Image.fromarray(values), "TIFF"), 1)[..., 0]
    np.testing.assert_allclose(found, first + RAMP * (last - first), atol=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none_are_refused(bad):
    values = RAMP.astype(np.float32)
    values[3, 3] = bad
    content = saved(Image.fromarray(values), "TIFF")
    for read in (decode, lambda _: seen(Image.fromarray(values))):
        with pytest.raises(ImageError, match="not finite"):
            read(content)


def test_white_is_zero_in_16_bits():
    values = np.rint(RAMP * 65535).astype(np.uint16)
    np.testing.assert_allclose(seen(saved(Image.fromarray(values), "TIFF", tiffinfo={262: 0}), 1)[..., 0], 255 - RAMP * 255, atol=1)


def png(mode: int, rows: np.ndarray) -> bytes:
    """A PNG of 16 bits, written by hand: Pillow writes none in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], 16, mode, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def test_colours_of_16_bits():
    np.testing.assert_array_equal(seen(png(2, RGB.astype(int) * 257)), RGB)
    with pytest.raises(ImageError, match="below 4096"):  # Pillow would give 16 levels of nearly black
        decode(png(2, RGB.astype(int) * 16))
    hidden = png(0, GREY.astype(int) * 257)
    place = hidden.index(b"IDAT") - 4
    mark = b"tRNS" + struct.pack(">H", int(GREY[5, 6]) * 257)
    marked = hidden[:place] + struct.pack(">I", 2) + mark + struct.pack(">I", zlib.crc32(mark)) + hidden[place:]
    np.testing.assert_array_equal(seen(marked), three(np.where(GREY[5, 6] == GREY, 255, GREY)))


# ---------------------------------------------------------------------------------------------------- frames, turns, metadata


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG"])
def test_of_several_frames_the_first_is_seen(kind):
    frames = [Image.fromarray(np.full((12, 20), level, np.uint8)) for level in (40, 90, 200)]
    options = {"lossless": True} if kind == "WEBP" else {}
    content = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Image.open(BytesIO(content)).n_frames == 3
    np.testing.assert_array_equal(seen(content), three(np.full((12, 20), 40)))


TURNS = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud}
TURNS |= {5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: lambda a: np.rot90(a)}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_all_orientations(turn, kind):
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    smooth = np.asarray(Image.fromarray(RGB[:3, :5]).resize((40, 24)))
    np.testing.assert_allclose(seen(saved(Image.fromarray(smooth), kind, exif=exif, **options)), TURNS[turn](smooth), atol=4)


def with_segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data + jpeg[2:]


DAMAGED_BLOCKS = [
    b"Exif\0\0",
    b"Exif\0\0II*\0\xff\xff\xff\xff",
    b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9,
    b"Exif\0\0II*\0\x08\0\0\0\x01\0",
]


@pytest.mark.parametrize("block", DAMAGED_BLOCKS)
def test_a_damaged_exif_block_costs_nothing(block):
    plain = saved(Image.fromarray(RGB), "JPEG")
    np.testing.assert_array_equal(seen(with_segment(plain, 0xE1, block)), seen(plain))


@pytest.mark.parametrize(
    ("marker", "data"),
    [(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"), (0xE2, b"ICC_PROFILE\0\1\1abc"), (0xED, b"Photoshop 3.0\x008BIM\x04"), (0xE0, b"JFIF\0")],
)
def test_other_damaged_segments_cost_nothing(marker, data):
    plain = saved(Image.fromarray(RGB), "JPEG")
    np.testing.assert_array_equal(seen(with_segment(plain, marker, data)), seen(plain))


@pytest.mark.parametrize("kind", [b"pHYs", b"iCCP", b"tEXt", b"eXIf", b"cHRM", b"zTXt", b"tIME"])
def test_damaged_chunks_of_a_png_cost_nothing(kind):
    plain = saved(Image.fromarray(RGB), "PNG")
    place = plain.index(b"IDAT") - 4
    for checksum in (zlib.crc32(kind + b"\1"), 0):
        damaged = plain[:place] + struct.pack(">I", 1) + kind + b"\1" + struct.pack(">I", checksum) + plain[place:]
        np.testing.assert_array_equal(seen(damaged), RGB)


# ---------------------------------------------------------------------------------------------------- refused


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF"])
def test_a_cut_file_is_refused_and_not_half_grey(kind):
    content = saved(Image.fromarray(RNG.integers(256, size=(64, 64, 3), dtype=np.uint8)), kind)
    whole = seen(content)
    for share in (0.02, 0.3, 0.5, 0.9):
        cut = content[: int(len(content) * share)]
        try:
            found = seen(cut)
        except ImageError as problem:
            assert str(problem) and "\n" not in str(problem) and "0x" not in str(problem)
        else:
            np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("kind", ["TIFF", "big TIFF"])
def test_a_tiff_file_whose_directory_is_cut_is_refused(kind):
    """Its last entries say that the numbers are fractions, and how the image is turned."""
    content = saved(Image.fromarray(RAMP.astype(np.float32)), "TIFF", compression="tiff_adobe_deflate", big_tiff=kind == "big TIFF")
    np.testing.assert_allclose(seen(content, 1)[..., 0], RAMP * 255, atol=1)
    for missing in range(1, 60):
        try:
            found = seen(content[:-missing], 1)[..., 0]
        except ImageError:
            continue
        np.testing.assert_allclose(found, RAMP * 255, atol=1)


@pytest.mark.parametrize("pixels", [MOST_PIXELS + 1, 2 * MOST_PIXELS + 1])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(pixels):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", pixels // 1000 + 1, 1000, 8, 0, 0, 0, 0))
    with pytest.raises(ImageError, match="pixels"):
        decode(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b""))


def test_a_refused_bomb_prints_no_warning():
    source = (
        "import struct, zlib\nfrom nas.data.pixels import decode\n"
        "chunk = lambda k, d: struct.pack('>I', len(d)) + k + d + struct.pack('>I', zlib.crc32(k + d))\n"
        "head = chunk(b'IHDR', struct.pack('>IIBBBBB', 10000, 10000, 8, 0, 0, 0, 0))\n"
        "try: decode(b'\\x89PNG\\r\\n\\x1a\\n' + head + chunk(b'IDAT', b'') + chunk(b'IEND', b''))\n"
        "except ValueError as problem: print(problem)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stderr == "" and "10000×10000" in done.stdout


def test_files_that_other_programs_would_draw_are_no_images():
    for content in (saved(Image.fromarray(RGB), "EPS"), b"", b"text", b"GRIB" + bytes(90), bytes(1000)):
        with pytest.raises(ImageError, match="no known image format"):
            decode(content)


def test_a_very_long_image_takes_no_more_memory_than_its_middle():
    long = Image.fromarray(RNG.integers(256, size=(1, 60_000, 3), dtype=np.uint8))
    assert fit(long, 3, 32).shape == (32, 32, 3)
    assert fit(long.transpose(Image.Transpose.ROTATE_90), 3, 32).std() > 1


def test_the_damaged_photograph_that_ended_a_search(tmp_path: Path):
    """Its maker's block points beyond the file; what it says of the orientation is readable."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0x9286] = b"comment"
    content = saved(Image.fromarray(RGB), "JPEG", exif=exif)
    start = content.index(b"II*\0") if b"II*\0" in content else content.index(b"MM\0*")
    damaged = bytearray(content)
    place = damaged.index(struct.pack("<H" if content[start : start + 2] == b"II" else ">H", 0x8769), start)
    damaged[place + 8 : place + 12] = b"\x00\x00\x00\xff" if content[start : start + 2] == b"II" else b"\x00\xff\x00\x00"
    np.testing.assert_array_equal(seen(bytes(damaged)), np.rot90(seen(saved(Image.fromarray(RGB), "JPEG")), -1))
