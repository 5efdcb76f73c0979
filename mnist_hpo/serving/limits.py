"""What a client may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits of a service. A request beyond one of them is refused with the code in parentheses."""

    connections: int = 1024
    """Open connections (too_many_connections)."""
    head_bytes: int = 16 * 1024
    """Of a request's line and headers (head_too_large)."""
    requests: int = 256
    """Requests that are being answered at the same time (overloaded)."""
    receive_s: float = 10.0
    """How long a request's head, and then its body, may take to arrive (request_timeout)."""
    answer_s: float = 30.0
    """How long an answer may take (answer_timeout)."""
    upload_bytes: int = 10 * 1024**2
    """Of the body with a picture (body_too_large)."""
    json_bytes: int = 2 * 1024**2
    """Of a JSON body (body_too_large)."""
    pixels: int = 40_000_000
    """Of a picture (too_many_pixels)."""
    images: int = 256
    """Of a request (too_many_images); also the most images that the model computes at once."""
    explained_images: int = 8
    """Of a request that asks for saliency (too_many_images)."""

    def __post_init__(self) -> None:
        if any(value <= 0 for value in vars(self).values()):
            raise ValueError(f"{self}: limits are positive")
