"""Weights of a model in 8 or 16 bits: a quarter or half of the bytes."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.spec.model import Tensors

WeightType = Literal["fp32", "bf16", "int8"]
WEIGHT_TYPES: tuple[WeightType, ...] = get_args(WeightType)

_SCALE, _BF16 = ":scale", ":bf16"
"""Suffixes of names: the scales of an i8 array, f32[n_columns], and a bf16 array, of which the bits are in u16."""
_MOST = 127


def quantize(tensors: Tensors, weight_type: WeightType) -> Tensors:
    """Return the tensors with the kernels and other arrays of two or more axes in fewer bits.

    - int8: each column (the last axis: an output of the layer) is divided by its scale, its largest absolute value
      divided by 127, and rounded to the nearest integer. The scales are stored as `NAME:scale`.
    - bf16: rounded to the nearest bfloat16 (ties to even), whose bits are stored as u16 in `NAME:bf16`.

    Vectors such as biases and batch statistics, and arrays that are not fp32, are unchanged.
    """
    if weight_type == "fp32":
        return tensors
    converted: dict[str, NDArray[np.generic]] = {}
    for name, array in tensors.items():
        if array.ndim < 2 or array.dtype != np.float32 or not np.isfinite(array).all():
            converted[name] = array
        elif weight_type == "bf16":
            converted[name + _BF16] = _to_bf16(array)
        else:
            converted[name], converted[name + _SCALE] = _to_int8(array)
    return converted


def dequantize(tensors: Tensors) -> Tensors:
    """Return the tensors with all quantized arrays converted back to fp32, under their own names.

    Raises:
        ValueError: the scales do not fit to their array.

    """
    found: dict[str, NDArray[np.generic]] = {}
    for name, array in tensors.items():
        if name.endswith(_SCALE):
            continue
        scale = tensors.get(name + _SCALE)
        if name.endswith(_BF16):
            if array.dtype != np.uint16:
                raise ValueError(f"{name} is {array.dtype}, not uint16")
            found[name.removesuffix(_BF16)] = (array.astype(np.uint32) << 16).view(np.float32)
        elif scale is not None:
            if array.dtype != np.int8 or scale.dtype != np.float32 or scale.shape != array.shape[-1:]:
                raise ValueError(f"{name} is {array.dtype}{array.shape} with scales {scale.dtype}{scale.shape}")
            found[name] = array.astype(np.float32) * scale.reshape((1,) * (array.ndim - 1) + (-1,))
        else:
            found[name] = array
    return found


def _to_bf16(array: NDArray[np.float32]) -> NDArray[np.uint16]:
    bits = np.ascontiguousarray(array).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def _to_int8(array: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    columns = array.reshape(-1, array.shape[-1])
    scale = (np.abs(columns).max(axis=0) / np.float32(_MOST)).astype(np.float32)
    divisor = np.where(scale > 0, scale, np.float32(1))
    rounded = np.clip(np.rint(array / divisor), -_MOST, _MOST).astype(np.int8)
    return rounded, scale
