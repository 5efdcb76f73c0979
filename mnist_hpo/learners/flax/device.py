"""A cache of arrays on the device."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import jax
from numpy.typing import NDArray

_N_KEPT = 8
"""Maximum number of arrays: training and validation images and labels, of a search and of a re-training."""


class DeviceArrays:
    """Copies each host array to the device once. Arrays are compared by identity, not by content."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[NDArray[Any], jax.Array]] = OrderedDict()
        """By the host array's id, least recently used first. Keeping the host array keeps its id unique."""

    def put(self, array: NDArray[Any]) -> jax.Array:
        """Return the device copy of an array, which must not be modified; each image is one row of pixels."""
        if id(array) not in self._kept:
            rows = array.reshape(len(array), -1) if array.ndim > 1 else array
            self._kept[id(array)] = array, jax.device_put(rows)
            if len(self._kept) > _N_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(id(array))
        return self._kept[id(array)][1]
