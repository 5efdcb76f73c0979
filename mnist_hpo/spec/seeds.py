"""Seeds: every random choice is drawn from a name, never from a clock or an order of events."""

import hashlib


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed that belongs to this list of names and numbers.

    >>> seed_of(0, "training", 7) == seed_of(0, "training", 7)
    True
    """
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
