"""STAND-IN for the package of branch `image`; drop this commit at the merge."""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from mnist_hpo.preprocessing.errors import ImageError


def decode(content: bytes, *, max_pixels: int = 40_000_000) -> NDArray[np.uint8]:
    """Return a picture's grey values, u8[H, W]."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = Image.open(io.BytesIO(content), formats=["PNG", "JPEG", "BMP", "WEBP"])
        except (UnidentifiedImageError, Image.DecompressionBombError):
            raise ImageError("unsupported_format", "the file is not a PNG, JPEG, BMP or WebP picture") from None
        except Exception as error:
            raise ImageError("damaged_image", f"the picture is damaged: {error}") from None
        if picture.width * picture.height > max_pixels:
            raise ImageError("too_many_pixels", f"the picture has more than {max_pixels} pixels")
        try:
            return np.asarray(ImageOps.exif_transpose(picture).convert("L"))
        except Exception as error:
            raise ImageError("damaged_image", f"the picture is damaged: {error}") from None
