"""Picture files of all kinds, sound and hostile."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mnist_hpo.preprocessing.decode import decode
from mnist_hpo.preprocessing.errors import ImageError

RAMP = np.linspace(0, 255, 48).astype(np.uint8).reshape(6, 8)


def file_of(image: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def error_of(content: bytes, **options: int) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(content, **options)
    return caught.value


def png_of_size(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and has the data of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0\0")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("format_", "options"), [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("JPEG", {"quality": 100})]
)
def test_grey_pictures_keep_their_levels(format_: str, options: dict[str, Any]) -> None:
    grey = decode(file_of(Image.fromarray(RAMP), format_, **options))
    assert grey.shape == (6, 8)
    assert grey.dtype == np.uint8
    assert np.abs(grey.astype(int) - RAMP).max() <= (3 if format_ == "JPEG" else 0)


@pytest.mark.parametrize(
    ("colour", "level"), [((255, 0, 0), 76), ((0, 255, 0), 150), ((0, 0, 255), 29), ((255, 255, 255), 255)]
)
def test_colours_are_weighted_by_their_brightness(colour: tuple[int, int, int], level: int) -> None:
    image = Image.new("RGB", (3, 2), colour)
    assert (decode(file_of(image)) == level).all()
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    assert (decode(file_of(palette)) == level).all()


def test_sixteen_bits_are_scaled() -> None:
    levels = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    assert decode(file_of(Image.fromarray(levels))).tolist() == [[0, 1, 128, 255]]


def test_black_and_white_pictures_and_cmyk_are_read() -> None:
    assert decode(file_of(Image.fromarray(RAMP > 99))).tolist() == np.where(RAMP > 99, 255, 0).tolist()
    assert (decode(file_of(Image.new("CMYK", (8, 8)), "JPEG")) > 250).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_their_exif_data_say(orientation: int) -> None:
    upright = np.zeros((24, 40), np.uint8)
    upright[:8, :8] = 255
    # How a camera held in this orientation stores the picture.
    stored: dict[int, Callable[[NDArray[np.uint8]], NDArray[np.uint8]]] = {
        1: lambda a: a,
        2: np.fliplr,
        3: lambda a: np.rot90(a, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda a: np.rot90(a, 1),
        7: lambda a: np.rot90(a, 2).T,
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored[orientation](upright)))
    grey = decode(file_of(image, "JPEG", quality=100, exif=exif))
    assert np.abs(grey.astype(int) - upright).max() < 10


def test_damaged_exif_data_are_ignored() -> None:
    content = file_of(Image.fromarray(RAMP), "JPEG", quality=100, exif=b"Exif\0\0MM\0*\xff\xff\xff\xff\0\1broken")
    assert decode(content).shape == RAMP.shape


@pytest.mark.parametrize("ink", [0, 255], ids=["dark", "light"])
@pytest.mark.parametrize("size", [6, 30], ids=["most of the picture", "a small part"])
def test_what_is_drawn_on_a_transparent_background_differs_from_it(ink: int, size: int) -> None:
    rgba = np.zeros((32, 32, 4), np.uint8)
    rgba[1 : 1 + size, 1 : 1 + size] = (ink, ink, ink, 255)
    grey = decode(file_of(Image.fromarray(rgba)))
    assert grey[2, 2] == ink
    assert grey[-1, -1] == 255 - ink


@pytest.mark.parametrize("paper", [0, 255], ids=["dark", "light"])
def test_a_sheet_with_transparent_corners_is_continued(paper: int) -> None:
    rgba = np.full((32, 32, 4), paper, np.uint8)
    rgba[..., 3] = 255
    rgba[10:20, 15, :3] = 255 - paper
    rgba[:4, :4] = rgba[-4:, -4:] = 0
    grey = decode(file_of(Image.fromarray(rgba)))
    assert grey[0, 0] == grey[5, 5] == paper
    assert grey[15, 15] == 255 - paper


def test_half_transparent_ink_is_half_as_dark() -> None:
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[5, 5:9] = (0, 0, 0, 128)
    assert decode(file_of(Image.fromarray(rgba)))[5, 4:8].tolist() == [255, 127, 127, 127]


def test_a_transparent_picture_is_white() -> None:
    assert (decode(file_of(Image.new("RGBA", (5, 5)))) == 255).all()


@pytest.mark.parametrize("format_", ["PNG", "WEBP"])
def test_the_first_picture_of_an_animation_is_read(format_: str) -> None:
    frames = [Image.new("L", (9, 9), level) for level in (10, 200)]
    content = file_of(frames[0], format_, save_all=True, append_images=frames[1:], lossless=True)
    assert np.abs(decode(content).astype(int) - 10).max() <= 2


@pytest.mark.parametrize("format_", ["GIF", "TIFF", "PPM", "ICO", "PDF"])
def test_other_formats_are_refused(format_: str) -> None:
    error = error_of(file_of(Image.fromarray(RAMP), format_))
    assert error.code == "unsupported_format"
    assert "PNG, JPEG, BMP or WebP" in str(error)


@pytest.mark.parametrize("content", [b"", b"\n", b"<svg/>", b"\0" * 100, b"\x1b[31m"])
def test_what_is_no_picture_is_refused(content: bytes) -> None:
    assert error_of(content).code == "unsupported_format"


def test_a_picture_with_code_behind_it_is_read_as_the_picture() -> None:
    assert (decode(file_of(Image.fromarray(RAMP)) + b"<script>alert(1)</script>PK\3\4") == RAMP).all()


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "BMP", "WEBP"])
def test_truncated_files_are_refused(format_: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)
    content = file_of(Image.fromarray(noise), format_)
    for length in (12, 30, len(content) // 2, len(content) * 9 // 10):
        assert error_of(content[:length]).code == "damaged_image"


def test_a_large_picture_is_refused_before_it_is_decoded() -> None:
    error = error_of(png_of_size(50_000, 50_000))
    assert error.code == "too_many_pixels"
    error = error_of(png_of_size(7000, 7000))
    assert error.code == "too_many_pixels"
    assert "7,000 × 7,000 = 49,000,000" in str(error)
    assert "40,000,000" in str(error)


@pytest.mark.parametrize("size", [(1, 65_536), (65_536, 1)])
def test_a_long_picture_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    content = io.BytesIO()
    Image.new("L", size).save(content, "PNG")
    with pytest.raises(ImageError, match="sides of at most 65,535 are read") as refused:
        decode(content.getvalue())
    assert refused.value.code == "too_many_pixels"


def test_the_largest_number_of_pixels_can_be_chosen() -> None:
    content = file_of(Image.new("L", (20, 10), 255))
    assert decode(content, max_pixels=200).shape == (10, 20)
    assert error_of(content, max_pixels=199).code == "too_many_pixels"


REFUSED = {"damaged_image", "unsupported_format", "too_many_pixels"}

SOUND = [
    file_of(Image.fromarray(RAMP)),
    file_of(Image.new("RGBA", (9, 5), (1, 2, 3, 99))),
    file_of(Image.fromarray(RAMP).convert("P")),
    file_of(Image.fromarray(RAMP), "JPEG", exif=Image.Exif()),
    file_of(Image.fromarray(RAMP), "BMP"),
    file_of(Image.fromarray(RAMP), "WEBP"),
    file_of(Image.new("L", (9, 9)), "WEBP", save_all=True, append_images=[Image.new("L", (9, 9), 99)]),
]


CHANGES = st.lists(st.tuples(st.integers(0, 10_000), st.binary(min_size=1, max_size=4)), max_size=4)
STARTS = st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"RIFF\x20\0\0\0WEBP"])


@given(st.sampled_from(SOUND), CHANGES)
def test_changed_files_raise_nothing_but_image_errors(content: bytes, changes: list[tuple[int, bytes]]) -> None:
    for position, replacement in changes:
        start = position % len(content)
        content = content[:start] + replacement + content[start + len(replacement) :]
    code = None
    try:
        grey = decode(content, max_pixels=1_000_000)
    except ImageError as error:
        code = error.code
    else:
        assert grey.dtype == np.uint8
        assert grey.ndim == 2
    assert code in REFUSED | {None}


@given(STARTS, st.binary(max_size=200))
def test_random_bytes_raise_image_errors(start: bytes, rest: bytes) -> None:
    assert error_of(start + rest, max_pixels=1_000_000).code in REFUSED
