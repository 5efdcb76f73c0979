"""The JSON that the service reads and writes, as its OpenAPI document describes it.

These models only describe: requests are read by `pixel_lists` and `uploads`, which take microseconds for an image.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mnist_hpo.serving.errors import STATUSES

Pixel = Annotated[float, Field(ge=0, le=255, multiple_of=1)]
Image = Annotated[list[Pixel], Field(min_length=784, max_length=784)]


class PredictRequest(BaseModel):
    """Images of 28 × 28 pixels, row by row. 0 is the background and 255 is ink; nothing is scaled or rounded."""

    model_config = ConfigDict(extra="forbid")

    images: Annotated[list[Image], Field(min_length=1)]


class UploadRequest(BaseModel):
    """A picture with a digit, or with several in a line."""

    model_config = ConfigDict(extra="forbid")

    file: Annotated[
        str, Field(min_length=1, json_schema_extra={"format": "binary"}, description="PNG, JPEG, BMP or WebP.")
    ]
    line: Annotated[
        bool | Literal["1", "on", "yes", "0", "off", "no", ""],
        Field(description="Whether to read several digits in a line, from left to right."),
    ] = False


class Prediction(BaseModel):
    """What the model recognises in one image."""

    digit: Annotated[int, Field(description="The most probable class.")]
    probabilities: Annotated[list[float], Field(description="One for each class.")]
    doubtful: Annotated[bool, Field(description="Whether the image may show no digit, or another one.")]
    pixels: Annotated[
        list[list[int]] | None, Field(description="With include=pixels: what the model saw, 28 rows of 28.")
    ] = None
    box: Annotated[
        list[int] | None,
        Field(
            min_length=4,
            max_length=4,
            description="With include=pixels, of a picture: left, top, right, bottom of the digit, in its pixels.",
        ),
    ] = None
    saliency: Annotated[
        list[list[float]] | None,
        Field(
            description="With include=saliency: for each pixel, the mean drop of the digit's probability when a 4 × 4 "
            "patch over the pixel is blanked."
        ),
    ] = None


class ModelSummary(BaseModel):
    """The model that answered."""

    kind: str
    study: str | None = None
    trial: int | None = None
    seed: int | None = None
    version: Annotated[str | None, Field(description="Its version in the registry.")] = None


class PredictResponse(BaseModel):
    """The answer, in the order of the images."""

    predictions: list[Prediction]
    model: ModelSummary


class ModelResponse(ModelSummary):
    """The model that answers now."""

    hyperparameters: dict[str, Any]
    image_shape: Annotated[list[int], Field(min_length=3, max_length=3, description="Height, width and channels.")]
    classes: list[int]
    provenance: dict[str, Any]
    max_images: Annotated[int, Field(description="The most images of a request.")]
    loaded: Annotated[str, Field(description="UTC, ISO 8601.")]


class Health(BaseModel):
    """The state of the service."""

    status: Literal["ok", "ready"]


def _add_codes(schema: dict[str, Any]) -> None:
    schema["enum"] = sorted(STATUSES)


class Error(BaseModel):
    """What is wrong."""

    code: Annotated[str, Field(description="For programs.", json_schema_extra=_add_codes)]
    message: Annotated[str, Field(description="For people.")]


class ErrorResponse(BaseModel):
    """The body of every response with a status from 400."""

    error: Error
