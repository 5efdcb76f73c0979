"""Curves as one line of text: ▇▅▃▂▁."""

from __future__ import annotations

import math
from collections.abc import Sequence

_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int, *, low: float | None = None, high: float | None = None) -> str:
    """Draw positive values, such as losses, on a logarithmic scale.

    Args:
        values: what to draw, from left to right.
        width: the maximum number of characters. With more values than that, a character shows the last of its values.
        low: the value of the lowest bar; by default the lowest value. Values outside low to high are clipped.
        high: the value of the highest bar; by default the highest value.

    """
    shown = (
        [values[(index + 1) * len(values) // width - 1] for index in range(width)] if len(values) > width else values
    )
    if not shown:
        return ""
    floor = math.log(max(min(values) if low is None else low, 1e-12))
    ceiling = math.log(max(max(values) if high is None else high, 1e-12))
    span = ceiling - floor
    if span <= 0:
        return _BARS[0] * len(shown)
    heights = [(math.log(max(value, 1e-12)) - floor) / span for value in shown]
    return "".join(_BARS[min(max(round(height * (len(_BARS) - 1)), 0), len(_BARS) - 1)] for height in heights)
