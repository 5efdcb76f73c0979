"""Read images that were sent as JSON: {"images": [[784 numbers from 0 to 255], …]}."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from mnist_hpo.bundle.pixels import to_pixels
from mnist_hpo.serving.errors import ServiceError
from mnist_hpo.spec.errors import UserError

_EXAMPLE = 'send {"images": [[784 numbers from 0 to 255], …]}'


def read_pixel_lists(body: bytes, image_shape: tuple[int, int, int], max_images: int) -> NDArray[np.uint8]:
    """Return the images as u8[n, F]; values are those of `to_pixels`, so nothing is scaled or rounded.

    Raises:
        ServiceError: (invalid_json, too_many_images, invalid_images) the body is something else.

    """
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ServiceError("invalid_json", f"the body is not JSON: {error}; {_EXAMPLE}") from None
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise ServiceError("invalid_images", f"the body has no list of images; {_EXAMPLE}")
    if unknown := document.keys() - {"images"}:
        raise ServiceError("invalid_images", f"unknown fields beside images: {len(unknown)}; {_EXAMPLE}")
    images: list[Any] = document["images"]
    if images and not isinstance(images[0], list):
        raise ServiceError("invalid_images", f"an image is a list of numbers, also if there is only one; {_EXAMPLE}")
    if not 1 <= len(images) <= max_images:
        code = "too_many_images" if images else "invalid_images"
        raise ServiceError(code, f"{len(images)} images; send 1 to {max_images} in a request")
    # Python's true is the number 1.
    if b"true" in body or b"false" in body:
        raise ServiceError("invalid_images", "pixel values that are not numbers; send numbers from 0 to 255")
    return _bytes_of(images, math.prod(image_shape), image_shape)


def _bytes_of(images: list[Any], n_features: int, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Convert flat lists of integers quickly, and everything else as `to_pixels` does."""
    if all(isinstance(image, list) and len(image) == n_features for image in images):
        try:
            return np.frombuffer(b"".join(map(bytes, images)), np.uint8).reshape(len(images), n_features)
        except (TypeError, ValueError):
            pass
    try:
        return to_pixels(images, image_shape)
    except UserError as error:
        raise ServiceError("invalid_images", str(error)) from None
