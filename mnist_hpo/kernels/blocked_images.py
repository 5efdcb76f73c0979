"""A memory layout of images for convolutions: blocks of 32 examples, whose values of a pixel are contiguous.

A vector instruction processes the same pixel and channel of 16 examples. So every lane is used, whatever the number of
channels, a weight is broadcast to all lanes, and rounding, normalisation and pooling move no values between lanes.
Blocks are

- float32: f32[B / 32, H, W, C, 2, 16], where example 2i + u of a block is at [u, i];
- bfloat16: bf16[B / 32, H, W, C, 32], in the order of the examples.

Word i of a bfloat16 vector thus contains the rounded values of lane i of two float32 vectors. The last block is padded
with zeros.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from mnist_hpo.kernels.call_frame import (
    address_of,
    array,
    data,
    dimension,
    handle_registration,
    input_buffer,
    is_bfloat16,
    output_buffer,
    pointer_to,
    size,
)
from mnist_hpo.kernels.compiled import compiled
from mnist_hpo.kernels.native import call_kernel, register_kernel
from mnist_hpo.kernels.round_to_bf16 import round_to_bf16
from mnist_hpo.kernels.transpose import transpose_block_of_32_bits
from mnist_hpo.kernels.vectors import VECTOR_BYTES, load, rounded_pairs, store_words

EXAMPLES = 32
"""The number of examples in a block."""
_ELEMENTS = 8
"""The number of an image's elements that are transposed at a time."""


def block_shape(n_examples: int, image_shape: tuple[int, ...], dtype: DTypeLike) -> tuple[int, ...]:
    """Return the shape of the blocks of images of shape (H, W, C)."""
    inner = (2, EXAMPLES // 2) if dtype == jnp.float32 else (EXAMPLES,)
    return (-(-n_examples // EXAMPLES), *image_shape, *inner)


def to_blocks(images: jax.Array, dtype: DTypeLike) -> jax.Array:
    """Return images, f32[B, H, W, C], as blocks of float32 or bfloat16."""
    return call_kernel(partial(_to_blocks, dtype=dtype), partial(_to_blocks_reference, dtype=dtype), images)


def from_blocks(blocks: jax.Array, n_examples: int) -> jax.Array:
    """Return the first examples of blocks of float32 as f32[B, H, W, C]."""
    return call_kernel(
        partial(_from_blocks, n_examples=n_examples), lambda blocks: images_of(blocks)[:n_examples], blocks
    )


def images_of(blocks: jax.Array) -> jax.Array:
    """Return all examples of blocks of either dtype as f32[B, H, W, C], in plain JAX."""
    if blocks.dtype == jnp.float32:
        blocks = jnp.swapaxes(blocks, -1, -2)
    _, height, width, channels, *_ = blocks.shape
    blocks = blocks.reshape(-1, height, width, channels, EXAMPLES).astype(jnp.float32)
    return jnp.moveaxis(blocks, -1, 1).reshape(-1, height, width, channels)


def _to_blocks_reference(images: jax.Array, dtype: DTypeLike) -> jax.Array:
    n, height, width, channels = images.shape
    padded = jnp.pad(images, ((0, -n % EXAMPLES), (0, 0), (0, 0), (0, 0)))
    blocks = jnp.moveaxis(padded.reshape(-1, EXAMPLES, height, width, channels), 1, -1)
    if dtype == jnp.bfloat16:
        return round_to_bf16(blocks)
    return jnp.swapaxes(blocks.reshape(*blocks.shape[:-1], EXAMPLES // 2, 2), -1, -2)


def _to_blocks(images: jax.Array, dtype: DTypeLike) -> jax.Array:
    outputs = [
        jax.ShapeDtypeStruct(block_shape(len(images), images.shape[1:], dtype), dtype),
        jax.ShapeDtypeStruct((_ELEMENTS * EXAMPLES,), jnp.float32),
    ]
    return jax.ffi.ffi_call(register_kernel("to_blocks", _to_blocks_handler), outputs)(images)[0]


def _from_blocks(blocks: jax.Array, n_examples: int) -> jax.Array:
    output = jax.ShapeDtypeStruct((n_examples, *blocks.shape[1:4]), jnp.float32)
    return jax.ffi.ffi_call(register_kernel("from_blocks", _from_blocks_handler), output)(blocks)


def _to_blocks_handler(call: Any) -> Any:
    """Input: images f32[B, H, W, C]. Outputs: their blocks, and scratch memory, f32[_ELEMENTS * EXAMPLES]."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    n = dimension(input_buffer(frame, 0), 0)
    length = size(input_buffer(frame, 0)) // n
    images, blocks = data(input_buffer(frame, 0)), data(output_buffer(frame, 0))
    is_short, scratch = is_bfloat16(output_buffer(frame, 0)), data(output_buffer(frame, 1))
    for first in range(0, n, EXAMPLES):
        for start in range(0, length, _ELEMENTS):
            n_elements = min(_ELEMENTS, length - start)
            place = blocks + (first * length + EXAMPLES * start) * (2 if is_short else 4)
            target = scratch if is_short else place
            _gather(images + 4 * (first * length + start), 4 * length, min(EXAMPLES, n - first), target, n_elements)
            if is_short:
                for i in range(n_elements):
                    vector = scratch + 2 * VECTOR_BYTES * i
                    pairs = rounded_pairs(load(vector), load(vector + VECTOR_BYTES))
                    store_words(pairs, place + VECTOR_BYTES * i)
    return pointer_to(0)


@compiled
def _gather(images: int, image_bytes: int, n: int, target: int, n_elements: int) -> None:
    """Copy elements of the n images of a block to f32[n_elements, 2, 16]; missing examples are zeros."""
    if n == EXAMPLES and n_elements == _ELEMENTS:
        for parity in range(2):
            for half in range(2):
                transpose_block_of_32_bits(
                    images + (16 * half + parity) * image_bytes,
                    2 * image_bytes,
                    target + parity * VECTOR_BYTES + half * VECTOR_BYTES // 2,
                    2 * VECTOR_BYTES,
                )
    else:
        elements = array(target, n_elements * EXAMPLES, np.float32)
        elements[:] = np.float32(0)
        for example in range(n):
            image = array(images + example * image_bytes, n_elements, np.float32)
            for i in range(n_elements):
                elements[EXAMPLES * i + EXAMPLES // 2 * (example % 2) + example // 2] = image[i]


def _from_blocks_handler(call: Any) -> Any:
    """Input: blocks of float32. Output: the first examples, f32[B, H, W, C]."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    n = dimension(output_buffer(frame, 0), 0)
    length = size(output_buffer(frame, 0)) // n
    blocks, images = data(input_buffer(frame, 0)), data(output_buffer(frame, 0))
    for first in range(0, n, EXAMPLES):
        for start in range(0, length, _ELEMENTS):
            n_elements = min(_ELEMENTS, length - start)
            place = blocks + 4 * (first * length + EXAMPLES * start)
            _scatter(place, n_elements, images + 4 * (first * length + start), 4 * length, min(EXAMPLES, n - first))
    return pointer_to(0)


@compiled
def _scatter(source: int, n_elements: int, images: int, image_bytes: int, n: int) -> None:
    """Copy elements of the n images of a block from f32[n_elements, 2, 16]."""
    if n == EXAMPLES and n_elements == _ELEMENTS:
        for parity in range(2):
            for half in range(2):
                transpose_block_of_32_bits(
                    source + parity * VECTOR_BYTES + half * VECTOR_BYTES // 2,
                    2 * VECTOR_BYTES,
                    images + (16 * half + parity) * image_bytes,
                    2 * image_bytes,
                )
    else:
        elements = array(source, n_elements * EXAMPLES, np.float32)
        for example in range(n):
            image = array(images + example * image_bytes, n_elements, np.float32)
            for i in range(n_elements):
                image[i] = elements[EXAMPLES * i + EXAMPLES // 2 * (example % 2) + example // 2]
