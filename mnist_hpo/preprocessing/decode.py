"""Read a picture file as grey values."""

import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_hpo.preprocessing.errors import ImageError
from mnist_hpo.spec.errors import first_line

_FORMATS: Final = ("PNG", "JPEG", "BMP", "WEBP")
_SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM")
_ORIENTATION = 0x0112
"""The tag of EXIF."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What shows the picture upright, by the orientation in its EXIF data."""

_MAX_SIDE = 65_535
"""The longest side of a JPEG. A PNG of 40 million rows has few bytes, and takes seconds to decode."""

_OPAQUE = 255
_MIDDLE = 127
_FLAT = 16
"""Opaque pixels whose grey levels differ by less all belong to the drawing, and none to its paper."""


def decode(content: bytes, *, max_pixels: int = 40_000_000) -> NDArray[np.uint8]:
    """Read a PNG, JPEG, BMP or WebP file as grey values u8[H, W], 255 = white.

    The picture is turned as its EXIF data say. Colours are weighted as in ITU-R BT.601. Of an animation, the first
    picture is read.

    Args:
        content: the file's content.
        max_pixels: larger pictures are refused before they are decoded, and so are those with a side above 65,535.

    Raises:
        ImageError: (unsupported_format) the file has another format; (damaged_image) it cannot be decoded;
            (too_many_pixels) it is too large.

    """
    try:
        with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
            _check_size(image.width, image.height, max_pixels)
            image.load()
            grey = _grey_of(image)
            turn = _TURNS.get(_orientation(image))
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise _unidentified(content) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError("too_many_pixels", f"the picture is too large: {first_line(error)}; make it smaller") from None
    except Exception as error:  # Pillow's decoders raise exceptions of many types for damaged files.
        raise _damaged(first_line(error)) from None
    return grey if turn is None else np.array(Image.fromarray(grey).transpose(turn))


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if max(width, height) > _MAX_SIDE:
        raise ImageError(
            "too_many_pixels",
            f"the picture has {width:,} × {height:,} pixels; sides of at most {_MAX_SIDE:,} are read, so make it "
            "smaller",
        )
    if width * height > max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"the picture has {width:,} × {height:,} = {width * height:,} pixels; at most {max_pixels:,} are read, "
            "so make it smaller",
        )


def _unidentified(content: bytes) -> ImageError:
    is_webp = content[:4] == b"RIFF" and content[8:12] == b"WEBP"
    if is_webp or content.startswith(_SIGNATURES):
        return _damaged("its header cannot be read")
    return ImageError(
        "unsupported_format",
        f"the file starts with {content[:8]!r}, so its format is unknown; save it as PNG, JPEG, BMP or WebP",
    )


def _damaged(reason: str) -> ImageError:
    return ImageError("damaged_image", f"the picture is damaged: {reason}; save or send it again")


def _orientation(image: Image.Image) -> int:
    """Return the orientation from 1 (upright) to 8; damaged EXIF data are ignored, as browsers do."""
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _grey_of(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        return _from_16_bits(np.asarray(image))
    if image.mode == "I":
        return _from_16_bits(np.asarray(image).clip(0, 65535))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return _on_paper(np.asarray(image.convert("L")), np.asarray(image.getchannel("A")))
    if image.mode not in ("L", "RGB"):
        image = image.convert("RGB")
    return np.array(image.convert("L"))


def _from_16_bits(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _on_paper(grey: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put a transparent picture on white or black, u8[H, W], so that what is drawn differs from it.

    If most of the picture is transparent, or the rest has one colour, then the rest is drawn, and the background must
    differ from it. Else the rest is the paper with the drawing, and the background continues the paper.
    """
    weight = int(alpha.sum(dtype=np.int64))
    if weight == 0:
        return np.full_like(grey, 255)
    is_light = int((grey.astype(np.uint32) * alpha).sum(dtype=np.int64)) > _MIDDLE * weight
    opaque = grey[alpha > _MIDDLE]
    is_drawn = 2 * opaque.size < grey.size or int(opaque.max()) - int(opaque.min()) < _FLAT
    background = 0 if is_light == is_drawn else 255
    over = grey.astype(np.uint32) * alpha + background * (_OPAQUE - alpha.astype(np.uint32))
    return ((over + _MIDDLE) // _OPAQUE).astype(np.uint8)
