"""Read a form that was sent as multipart/form-data (RFC 7578)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from mnist_hpo.serving.errors import ServiceError

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_PARTS = 8


def read_form(body: bytes, content_type: str) -> dict[str, bytes]:
    """Return the fields of a form by name.

    Args:
        body: the request's body.
        content_type: the header, with the boundary.

    Raises:
        ServiceError: (invalid_multipart) the form is damaged or incomplete, has a field twice or many fields.

    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if not boundary:
        raise ServiceError("invalid_multipart", "the Content-Type has no boundary; let your HTTP client build the form")
    form = _Form()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise ServiceError("invalid_multipart", f"the form is damaged: {error}") from None
    if not form.is_complete:
        raise ServiceError("invalid_multipart", "the form ends before its last boundary")
    return form.fields


class _Form:
    """Collects what the parser finds."""

    def __init__(self) -> None:
        self.fields: dict[str, bytes] = {}
        self.is_complete = False
        self._header, self._value, self._disposition = bytearray(), bytearray(), b""
        self._content = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._disposition, self._content = b"", bytearray()

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header, self._value = bytearray(), bytearray()

    def _end_part(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if not name or name in self.fields or len(self.fields) == _MAX_PARTS:
            raise ServiceError(
                "invalid_multipart", f"each part needs a name of its own, and there are at most {_MAX_PARTS}"
            )
        self.fields[name] = bytes(self._content)

    def _end(self) -> None:
        self.is_complete = True
