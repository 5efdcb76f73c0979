"""A stack of convolutions, each followed by batch normalisation, ReLU and pooling, on blocked images.

The images stay in the layout of `kernels.blocked_images` from the first convolution to the last pooling, and the passes
between convolutions are fused. The results equal those of separate layers up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from mnist_hpo.kernels.blocked_images import images_of, to_blocks
from mnist_hpo.kernels.convolution_gradient import convolution_gradient
from mnist_hpo.kernels.convolve import convolve
from mnist_hpo.kernels.normalise import Pool, normalise
from mnist_hpo.kernels.normalise_gradient import normalise_gradient, normalise_sums
from mnist_hpo.kernels.plain_convolution import Padding, outer_padding
from mnist_hpo.layers.mixed_precision import FACTOR


class Stage(NamedTuple):
    """The parameters of a convolution and its normalisation."""

    kernel: jax.Array
    """f32[h, w, I, O]; the padding keeps the image's size."""
    scale: jax.Array
    """f32[O]"""
    bias: jax.Array
    """f32[O]"""


class Moments(NamedTuple):
    """The mean and the variance that a normalisation uses."""

    mean: jax.Array
    """f32[O]"""
    variance: jax.Array
    """f32[O]"""


class Plan(NamedTuple):
    """The static configuration of a stack."""

    pools: tuple[Pool, ...]
    """The pooling of each stage. Only the last stage may have "mean"."""
    precision: str
    epsilon: float
    """Added to each variance."""


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def convolution_stack(
    plan: Plan, images: jax.Array, stages: Sequence[Stage], running: Sequence[Moments] | None
) -> tuple[jax.Array, list[Moments]]:
    """Compute a stack.

    Args:
        plan: the static configuration.
        images: f32[B, H, W, I].
        stages: the parameters of each stage.
        running: the moments of each stage, for evaluation; None to use those of the batch.

    Returns:
        The features, f32[B, H', W', O], and the moments that were used. The features' gradient includes the dependence
        of the batch's moments on the batch. The returned moments have no gradient, and that of `running` is zero.

    """
    return _forward(plan, images, stages, running)[0]


class _Residuals(NamedTuple):
    """The values that the gradient of a stage needs."""

    x: jax.Array
    y: jax.Array
    factors: jax.Array


def _forward(
    plan: Plan, images: jax.Array, stages: Sequence[Stage], running: Sequence[Moments] | None
) -> tuple[tuple[jax.Array, list[Moments]], tuple[list[_Residuals], Sequence[Stage], Sequence[Moments] | None]]:
    n_examples, dtype = len(images), FACTOR[plan.precision]
    x = to_blocks(images, dtype)
    moments: list[Moments] = []
    residuals: list[_Residuals] = []
    for index, (stage, pool) in enumerate(zip(stages, plan.pools, strict=True)):
        y, sums = convolve(x, stage.kernel, _same(stage.kernel))
        n = n_examples * y.shape[1] * y.shape[2]
        used = _batch_moments(sums, n) if running is None else Moments(*running[index])
        factors = _factors(stage, used, plan.epsilon)
        residuals.append(_Residuals(x, y, factors))
        moments.append(used)
        is_last = index == len(stages) - 1
        x = normalise(y, factors[:2], n_examples, pool, jnp.float32 if is_last else dtype)
    # In plain JAX: the features are small, and XLA compiles this faster than Numba compiles a kernel.
    return (images_of(x)[:n_examples], moments), (residuals, stages, running)


def _backward(
    plan: Plan,
    saved: tuple[list[_Residuals], Sequence[Stage], Sequence[Moments] | None],
    slopes: tuple[jax.Array, list[Moments]],
) -> tuple[jax.Array, list[Stage], Sequence[Moments] | None]:
    residuals, stages, running = saved
    features, _ = slopes
    n_examples, dtype = len(features), FACTOR[plan.precision]
    last = residuals[-1].y
    if plan.pools[-1] == "mean":
        features = features / (last.shape[1] * last.shape[2])
    slope = to_blocks(features, jnp.float32)
    gradients: list[Stage] = []
    for stage, pool, (x, y, factors) in reversed(list(zip(stages, plan.pools, residuals, strict=True))):
        bias, scale = normalise_sums(y, slope, factors, pool)
        if running is None:
            by = _batch_gradient_factors(factors, bias, scale, n_examples * y.shape[1] * y.shape[2])
        else:
            by = factors.at[2:].set(0)
        slope = normalise_gradient(y, slope, by, n_examples, pool, dtype)
        padding = _same(stage.kernel)
        size = stage.kernel.shape[0], stage.kernel.shape[1]
        gradients.insert(0, Stage(convolution_gradient(x, slope, size, padding), scale, bias))
        slope, _ = convolve(slope, stage.kernel, outer_padding(size, padding), transposed=True)
    # XLA removes the last convolution if the images' gradient is not used.
    return images_of(slope)[:n_examples], gradients, jax.tree.map(jnp.zeros_like, running)


convolution_stack.defvjp(_forward, _backward)


def _same(kernel: jax.Array) -> Padding:
    height, width = kernel.shape[:2]
    return ((height - 1) // 2, height // 2), ((width - 1) // 2, width // 2)


def _batch_moments(sums: jax.Array, n: int) -> Moments:
    mean, mean_square = sums / n
    return Moments(mean, jnp.maximum(0, mean_square - mean * mean))


def _factors(stage: Stage, moments: Moments, epsilon: float) -> jax.Array:
    """Return f32[4, O]: the scale and shift from y to the result, and those that normalise y."""
    to_unit = lax.rsqrt(moments.variance + epsilon)
    scale = stage.scale * to_unit
    return jnp.stack([scale, stage.bias - moments.mean * scale, to_unit, -moments.mean * to_unit])


def _batch_gradient_factors(factors: jax.Array, bias: jax.Array, scale: jax.Array, n: int) -> jax.Array:
    """Return the factors with which `normalise_gradient` includes the gradient through the batch's moments."""
    forward, shift, to_unit, unit_shift = factors
    by = -forward * to_unit * scale / n
    plus = -forward * (bias + unit_shift * scale) / n
    return jnp.stack([forward, shift, by, plus])
