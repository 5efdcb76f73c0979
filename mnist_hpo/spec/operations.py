"""The prediction of a network as a list of operations, for programs that cannot run its module.

`mnist-hpo export --page` writes such a list into the page, whose script carries it out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

OperationName = Literal[
    "dense",
    "convolution",
    "scale_and_shift",
    "layer_norm",
    "activation",
    "max_pool",
    "average_pool",
    "mean",
    "keep",
    "add_kept",
]

_BATCH_NORM_EPSILON, _LAYER_NORM_EPSILON = 1e-5, 1e-6
"""Flax's defaults."""


@dataclass(frozen=True)
class Operation:
    """One step, from an image f32[H, W, C] or a vector f32[N] to another.

    - dense: the image row by row, or the vector, times `kernel` f32[N, M], plus `bias` f32[M] if there is one.
    - convolution: with `kernel` f32[h, w, C, D], plus `bias` f32[D] if there is one, padded to the image's size.
    - scale_and_shift: each channel or element times `scale`, plus `shift`.
    - layer_norm: a vector normalised with `epsilon`, then times `scale`, plus `bias`.
    - activation: Flax's function of the name `function`, with its default arguments.
    - max_pool, average_pool: of 2 × 2 pixels. An odd last row or column is left out.
    - mean: of each channel over all pixels.
    - keep, add_kept: keep the value, and add the kept value to a later one.

    In a network with bf16 precision, dense and convolution round their input and their kernel to bfloat16.
    """

    name: OperationName
    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    values: Mapping[str, str | float] = field(default_factory=dict)


def dense(tensors: Mapping[str, NDArray[Any]], layer: str) -> Operation:
    """Return the operation of an `nnx.Linear`."""
    return Operation("dense", _kernel_and_bias(tensors, layer))


def convolve(tensors: Mapping[str, NDArray[Any]], layer: str) -> Operation:
    """Return the operation of an `nnx.Conv`."""
    return Operation("convolution", _kernel_and_bias(tensors, layer))


def batch_norm(tensors: Mapping[str, NDArray[Any]], layer: str) -> Operation:
    """Return the operation of an `nnx.BatchNorm` with its running mean and variance."""
    mean, variance, scale, bias = (
        tensors[f"{layer}.{name}"].astype(np.float64) for name in ("mean", "var", "scale", "bias")
    )
    factor = scale / np.sqrt(variance + _BATCH_NORM_EPSILON)
    arrays = {"scale": factor.astype(np.float32), "shift": (bias - mean * factor).astype(np.float32)}
    return Operation("scale_and_shift", arrays)


def layer_norm(tensors: Mapping[str, NDArray[Any]], layer: str) -> Operation:
    """Return the operation of an `nnx.LayerNorm`."""
    arrays = {name: tensors[f"{layer}.{name}"] for name in ("scale", "bias")}
    return Operation("layer_norm", arrays, {"epsilon": _LAYER_NORM_EPSILON})


def activation(function: str) -> Operation:
    """Return the operation of an activation of `flax.nnx`."""
    return Operation("activation", values={"function": function})


def _kernel_and_bias(tensors: Mapping[str, NDArray[Any]], layer: str) -> dict[str, NDArray[np.float32]]:
    return {name: tensors[f"{layer}.{name}"] for name in ("kernel", "bias") if f"{layer}.{name}" in tensors}
