"""A batch's images, gathered by their row numbers and scaled: XLA's own gather goes byte by byte."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from mnist_hpo.kernels.native import register_kernel

SCALE = np.float32(1 / 255)
"""What makes a byte a float between 0 and 1; `gather_pixels.ll` holds the same."""


def gather_pixels(images: jax.Array, rows: jax.Array, dtype: DTypeLike = jnp.float32) -> jax.Array:
    """Return f32[B, F] or bf16[B, F], the rows i32[B] of the images u8[E, F], each byte times `SCALE`.

    The rows are not checked: they must lie between 0 and E - 1.
    """
    shape = jax.ShapeDtypeStruct((rows.shape[0], images.shape[1]), dtype)
    return jax.ffi.ffi_call(register_kernel("gather_pixels"), shape)(images, rows)
