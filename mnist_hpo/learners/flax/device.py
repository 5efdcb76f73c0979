"""Arrays on the device, kept for as long as the next epochs and trainings are likely to use them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import jax
from numpy.typing import NDArray

_N_KEPT = 8
"""Images and labels to learn from and to validate on, of a search and of a re-training."""


class DeviceArrays:
    """Copies host arrays to the device, each once: arrays are told apart by identity, not by content."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, tuple[NDArray[Any], jax.Array]] = OrderedDict()
        """By the host array's id, the latest used last. The host array is kept so that its id stays its own."""

    def put(self, array: NDArray[Any]) -> jax.Array:
        """The device's copy of an array, which must not be changed; images as one row of pixels each."""
        if id(array) not in self._kept:
            rows = array.reshape(len(array), -1) if array.ndim > 1 else array
            self._kept[id(array)] = array, jax.device_put(rows)
            if len(self._kept) > _N_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(id(array))
        return self._kept[id(array)][1]
