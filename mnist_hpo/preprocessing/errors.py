"""The exception for pictures that cannot be read."""

from typing import Literal

from mnist_hpo.spec.errors import UserError

ImageErrorCode = Literal["unsupported_format", "damaged_image", "too_many_pixels", "too_many_bytes", "no_ink"]


class ImageError(UserError):
    """A picture that cannot be read, or in which nothing is written."""

    code: ImageErrorCode
    """The kind of error, for programs."""

    def __init__(self, code: ImageErrorCode, message: str) -> None:
        super().__init__(message)
        self.code = code


def nothing_written() -> ImageError:
    """Return the error for a picture without strokes."""
    return ImageError(
        "no_ink",
        "nothing is written in the picture; write larger, and in a colour that differs clearly from the background",
    )
