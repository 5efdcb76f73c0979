"""`POST /v1/predict`: recognise the digits of a picture, or of images that were sent as JSON.

The endpoint is a plain ASGI app, since this is the route that has to be fast.
"""

from __future__ import annotations

import asyncio
import urllib.parse
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from mnist_hpo.preprocessing.find import Digit
from mnist_hpo.serving.body import Message, Receive, read_body
from mnist_hpo.serving.errors import ServiceError
from mnist_hpo.serving.model import ServedModel
from mnist_hpo.serving.pixel_lists import read_pixel_lists
from mnist_hpo.serving.saliency import occluded, saliency
from mnist_hpo.serving.service import Current, Service
from mnist_hpo.serving.uploads import read_upload

Scope = dict[str, Any]
Send = Callable[[Message], Awaitable[None]]

EXTRAS = ("pixels", "saliency")
"""What `include` may ask for."""

_DIGIT_SHAPE = (28, 28, 1)
_JSON_HEADERS = ((b"content-type", b"application/json"),)


class Predict:
    """The endpoint."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request.

        Raises:
            ServiceError: the request is refused.

        """
        current = self._service.current
        extras = _extras_of(scope["query_string"])
        images, digits = await self._read(scope, receive, current.model)
        if "saliency" in extras and len(images) > self._service.limits.explained_images:
            raise ServiceError(
                "too_many_images",
                f"{len(images)} images; saliency is computed for at most {self._service.limits.explained_images}",
            )
        predictions = await _predictions(current, images, digits, extras)
        content = orjson.dumps(
            {"predictions": predictions, "model": current.model.summary()}, option=orjson.OPT_SERIALIZE_NUMPY
        )
        scope["state"]["n_images"] = len(images)
        headers = [*_JSON_HEADERS, (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    async def _read(
        self, scope: Scope, receive: Receive, model: ServedModel
    ) -> tuple[NDArray[np.uint8], Sequence[Digit]]:
        """Return the images u8[n, F], and the digits that they are of if they were uploaded as a picture."""
        limits = self._service.limits
        headers = dict(scope["headers"])
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        kind = content_type.partition(";")[0].strip().lower()
        if kind not in ("application/json", "multipart/form-data") or b"content-encoding" in headers:
            raise ServiceError(
                "unsupported_media_type",
                "send application/json, or multipart/form-data with a picture as the field `file`; not compressed",
            )
        is_json = kind == "application/json"
        max_bytes = limits.json_bytes if is_json else limits.upload_bytes
        body = await read_body(receive, headers.get(b"content-length"), max_bytes=max_bytes, within_s=limits.receive_s)
        if is_json:
            return read_pixel_lists(body, model.image_shape, limits.images), ()
        if model.image_shape != _DIGIT_SHAPE:
            shape = "×".join(map(str, model.image_shape))
            raise ServiceError("unsupported_model", f"this model takes images of {shape} pixels; send them as JSON")
        digits = await asyncio.get_running_loop().run_in_executor(
            self._service.readers, read_upload, body, content_type, limits
        )
        return np.stack([digit.pixels.reshape(-1) for digit in digits]), digits


def _extras_of(query: bytes) -> frozenset[str]:
    if not query:
        return frozenset()
    try:
        fields = urllib.parse.parse_qs(query.decode("ascii"), keep_blank_values=True, max_num_fields=8)
    except ValueError:
        raise ServiceError("invalid_parameter", "the query is damaged") from None
    found = frozenset(word for value in fields.get("include", ()) for word in value.split(",") if word)
    if fields.keys() - {"include"} or found - set(EXTRAS):
        raise ServiceError("invalid_parameter", f"the query may have include={','.join(EXTRAS)}, and nothing else")
    return found


async def _predictions(
    current: Current, images: NDArray[np.uint8], digits: Sequence[Digit], extras: frozenset[str]
) -> list[dict[str, Any]]:
    answers = await current.batcher.answer(images)
    guesses: list[int] = answers.probabilities.argmax(axis=1).tolist()
    doubtful: list[bool] = answers.doubtful.tolist()
    predictions = [
        {"digit": guess, "probabilities": row, "doubtful": doubt}
        for guess, row, doubt in zip(guesses, answers.probabilities, doubtful, strict=True)
    ]
    if extras:
        for index, prediction in enumerate(predictions):
            if "pixels" in extras:
                prediction |= _seen(images[index], digits[index] if digits else None, current.model.image_shape)
            if "saliency" in extras:
                prediction["saliency"] = await _explain(current, images[index], answers.probabilities[index])
    return predictions


def _seen(image: NDArray[np.uint8], digit: Digit | None, shape: tuple[int, int, int]) -> dict[str, Any]:
    height, width, channels = shape
    pixels = image.reshape((height, width) if channels == 1 else shape)
    return {"pixels": pixels} if digit is None else {"pixels": pixels, "box": digit.box}


async def _explain(
    current: Current, image: NDArray[np.uint8], probabilities: NDArray[np.float32]
) -> NDArray[np.float32]:
    shape = current.model.image_shape
    answers = await current.batcher.answer(occluded(image, shape))
    return saliency(probabilities, answers.probabilities, shape)
