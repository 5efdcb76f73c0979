"""Read the digits of a picture that was uploaded."""

from __future__ import annotations

from mnist_hpo.preprocessing.decode import decode
from mnist_hpo.preprocessing.errors import ImageError
from mnist_hpo.preprocessing.find import BLANK, Digit, find_digits
from mnist_hpo.serving.errors import STATUSES, ServiceError
from mnist_hpo.serving.limits import Limits
from mnist_hpo.serving.multipart import read_form

_TRUE, _FALSE = (b"true", b"1", b"on", b"yes"), (b"false", b"0", b"off", b"no", b"")


def read_upload(body: bytes, content_type: str, limits: Limits) -> list[Digit]:
    """Return the digits of a form with the fields `file` and, if there may be several digits, `line`.

    It takes up to seconds, so it is called in a thread.

    Raises:
        ServiceError: the form or the picture cannot be read, or it has no digit or too many.

    """
    form = read_form(body, content_type)
    if unknown := form.keys() - {"file", "line"}:
        raise ServiceError("invalid_parameter", f"unknown fields beside file and line: {len(unknown)}")
    if not form.get("file"):
        raise ServiceError("missing_file", "the form has no picture; send it as the field `file`")
    line = form.get("line", b"").strip().lower()
    if line not in _TRUE + _FALSE:
        raise ServiceError("invalid_parameter", "the field `line` is neither true nor false")
    try:
        digits = find_digits(decode(form["file"], max_pixels=limits.pixels), line=line in _TRUE)
    except ImageError as error:
        if error.code == "no_ink":
            return [BLANK]
        code = error.code if error.code in STATUSES else "damaged_image"
        raise ServiceError(code, str(error)) from None
    if len(digits) > limits.images:
        raise ServiceError("too_many_images", f"the picture has {len(digits)} digits; at most {limits.images} are read")
    return digits
