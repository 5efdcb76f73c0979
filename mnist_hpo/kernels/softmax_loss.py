"""The mean cross-entropy of a batch, with its gradient computed in the same pass.

In XLA both are a dozen loops over a few numbers each: fast to run, but a third of a program's compile time.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mnist_hpo.kernels.arithmetic import ONE, ZERO, Float, exp, log
from mnist_hpo.kernels.call_frame import (
    address_of,
    array,
    data,
    dimension,
    handle_registration,
    input_buffer,
    output_buffer,
    pointer_to,
)
from mnist_hpo.kernels.compiled import compiled
from mnist_hpo.kernels.native import call_kernel, register_kernel


@jax.custom_vjp
def softmax_loss(logits: jax.Array, labels: jax.Array, rows: jax.Array, label_smoothing: Any) -> jax.Array:
    """Return the mean cross-entropy of the softmax, f32[]; differentiable with respect to the logits.

    The label smoothing is that of Szegedy et al., "Rethinking the Inception Architecture" (2016).

    Args:
        logits: f32[B, C].
        labels: u8[E], each below C.
        rows: i32[B], each from 0 to E - 1: example b has the label `labels[rows[b]]`. Neither is checked.
        label_smoothing: f32[], the fraction of the target that is spread over all classes.

    """
    return _loss_and_gradient(logits, labels, rows, label_smoothing)[0]


def _loss_and_gradient(
    logits: jax.Array, labels: jax.Array, rows: jax.Array, label_smoothing: Any
) -> tuple[jax.Array, jax.Array]:
    return call_kernel(_kernel, _reference, logits, labels, rows, jnp.asarray(label_smoothing, jnp.float32))


def _backward(gradient: jax.Array, slope: jax.Array) -> tuple[jax.Array, None, None, None]:
    return slope * gradient, None, None, None


softmax_loss.defvjp(_loss_and_gradient, _backward)


def _kernel(
    logits: jax.Array, labels: jax.Array, rows: jax.Array, label_smoothing: jax.Array
) -> tuple[jax.Array, jax.Array]:
    outputs = [jax.ShapeDtypeStruct((), np.float32), jax.ShapeDtypeStruct(logits.shape, np.float32)]
    loss, gradient = jax.ffi.ffi_call(register_kernel("softmax_loss", _handler), outputs)(
        logits, labels, rows, label_smoothing
    )
    return loss, gradient


def _reference(
    logits: jax.Array, labels: jax.Array, rows: jax.Array, label_smoothing: jax.Array
) -> tuple[jax.Array, jax.Array]:
    n_examples, n_classes = logits.shape
    hits = jax.nn.one_hot(labels[rows], n_classes, dtype=jnp.float32)
    targets = (1 - label_smoothing) * hits + label_smoothing / n_classes
    log_probabilities = jax.nn.log_softmax(logits)
    loss = -jnp.sum(targets * log_probabilities) / n_examples
    return loss, (jax.nn.softmax(logits) - targets) / n_examples


@compiled
def _example(
    logits: NDArray[np.float32], gradient: NDArray[np.float32], label: int, hit: Any, miss: Any, share: Any
) -> Any:
    """Write one example's gradient and return its loss.

    Args:
        logits: f32[C].
        gradient: f32[C], the gradient of the mean over the batch.
        label: the right class.
        hit: the label's target minus that of any other class.
        miss: the target of every class but the label.
        share: the example's weight in the batch's mean.

    """
    n_classes = logits.shape[0]
    largest = logits[0]
    for i in range(n_classes):
        largest = logits[i] if logits[i] > largest else largest
    total, distance = ZERO, ZERO
    for i in range(n_classes):
        below = logits[i] - largest
        distance += below
        gradient[i] = exp(below)
        total += gradient[i]
    reciprocal = share / total
    for i in range(n_classes):
        gradient[i] = gradient[i] * reciprocal - miss * share
    gradient[label] -= hit * share
    return log(total) - hit * (logits[label] - largest) - miss * distance


def _handler(call: Any) -> Any:
    """Inputs: logits f32[B, C], labels u8[E], rows i32[B], smoothing f32[]. Outputs: loss f32[], gradient f32[B, C]."""
    frame = address_of(call)
    if handle_registration(frame):
        return pointer_to(0)
    n, n_classes = dimension(input_buffer(frame, 0), 0), dimension(input_buffer(frame, 0), 1)
    logits = array(data(input_buffer(frame, 0)), n * n_classes, np.float32)
    labels = data(input_buffer(frame, 1))
    rows = array(data(input_buffer(frame, 2)), n, np.int32)
    smoothing = array(data(input_buffer(frame, 3)), 1, np.float32)[0]
    gradient = array(data(output_buffer(frame, 1)), n * n_classes, np.float32)
    hit, miss, share = ONE - smoothing, smoothing / Float(n_classes), ONE / Float(n)
    total = ZERO
    for i in range(n):
        label = array(labels + np.int64(rows[i]), 1, np.uint8)[0]
        start, end = i * n_classes, (i + 1) * n_classes
        total += _example(logits[start:end], gradient[start:end], label, hit, miss, share)
    array(data(output_buffer(frame, 0)), 1, np.float32)[0] = total * share
    return pointer_to(0)
