"""The compiled core: one training epoch, and prediction, each a pure function of arrays and a single XLA call.

Shapes: E examples, F features, C classes, S steps per epoch, B examples per step.
Images are u8[E, F] and become floats (× 1/255) of the module's input shape inside the step; labels are u8[E].
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from mnist_hpo.kernels.gather_pixels import SCALE, gather_pixels
from mnist_hpo.kernels.softmax_loss import softmax_loss
from mnist_hpo.layers.dropout import hashed_dropout, no_dropout
from mnist_hpo.layers.mixed_precision import FACTOR, round_weights, with_rounded
from mnist_hpo.learners.flax.optimizers import Scalar, init_optimizer, update
from mnist_hpo.learners.flax.program import Program
from mnist_hpo.learners.flax.variables import structure_of, zeros_of

Parameters = Any
"""A pytree of f32 arrays: the trainable parameters."""

Statistics = Any
"""A pytree of f32 arrays: the running moments of BatchNorm; without leaves for a model without BatchNorm."""

EVALUATION_BATCH = 1000
"""Examples per matrix product in evaluation: enough for full speed, and the activations fit in the cache."""


class TrainState(NamedTuple):
    """The state that a training step updates."""

    parameters: Parameters
    optimizer_state: Any
    step: jax.Array
    """u32[]: number of steps since the start of the training."""
    statistics: Statistics


class Dynamics(NamedTuple):
    """The traced hyperparameters, each f32[]; the learning rate is passed separately for each step."""

    dropout: Scalar
    l1: Scalar
    l2: Scalar
    label_smoothing: Scalar
    momentum: Scalar


def init(program: Program) -> TrainState:
    """Return a state of zeros with the right structure and shapes; `initial_state` returns the one to start from."""
    structure = structure_of(program)
    parameters = zeros_of(structure.parameters)
    optimizer_state = init_optimizer(program.optimizer, parameters)
    return TrainState(parameters, optimizer_state, jnp.uint32(0), zeros_of(structure.statistics))


def train_epoch(
    program: Program,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    learning_rates: jax.Array,
    dynamics: Dynamics,
    seed: jax.Array,
) -> tuple[TrainState, jax.Array]:
    """Train S steps.

    Args:
        program: the static configuration.
        state: donated by the caller.
        images: u8[E, F].
        labels: u8[E].
        order: i32[S, B], the rows of each step.
        learning_rates: f32[S].
        dynamics: the traced hyperparameters.
        seed: u32[2], the seed of the dropout masks.

    Returns:
        The new state, and the mean cross-entropy of each step's batch, f32[S].

    """
    structure = structure_of(program)

    def batch_loss(
        parameters: Parameters, statistics: Statistics, rows: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, Statistics]:
        dropout = hashed_dropout(seed, step, jnp.asarray(dynamics.dropout)) if program.with_dropout else no_dropout
        # Already rounded as the first product would round them, then cast back to float32; XLA removes that cast.
        pixels = gather_pixels(images, rows, FACTOR[program.precision]).astype(jnp.float32)
        model = nnx.merge(structure.training, parameters, statistics)
        logits = model(pixels.reshape(-1, *program.input_shape), dropout)
        return softmax_loss(logits, labels, rows, dynamics.label_smoothing), _statistics(model)

    def take_step(
        carried: tuple[TrainState, Parameters], inputs: tuple[jax.Array, jax.Array]
    ) -> tuple[tuple[TrainState, Parameters], jax.Array]:
        (state, rounded), (rows, learning_rate) = carried, inputs
        factors = with_rounded(state.parameters, rounded)
        differentiated = jax.value_and_grad(batch_loss, has_aux=True)
        (loss, statistics), gradients = differentiated(factors, state.statistics, rows, state.step)
        parameters, optimizer_state, rounded = update(
            program.optimizer,
            state.parameters,
            state.optimizer_state,
            gradients,
            rounded,
            structure.is_weight,
            learning_rate=learning_rate,
            l1=dynamics.l1,
            l2=dynamics.l2,
            momentum=dynamics.momentum,
        )
        return (TrainState(parameters, optimizer_state, state.step + jnp.uint32(1), statistics), rounded), loss

    rounded = round_weights(state.parameters, structure.is_weight, program.precision)
    (state, _), losses = lax.scan(take_step, (state, rounded), (order, learning_rates))
    return state, losses


def predict(program: Program, parameters: Parameters, statistics: Statistics, images: jax.Array) -> jax.Array:
    """Return log-probabilities f32[E, C] of images u8[E, F].

    The last batch is padded, and the padding is removed from the result.
    """
    structure = structure_of(program)
    n_examples, n_features = images.shape
    n_batches = -(-n_examples // EVALUATION_BATCH)
    padded = jnp.pad(images, ((0, n_batches * EVALUATION_BATCH - n_examples), (0, 0)))
    batches = padded.reshape(n_batches, EVALUATION_BATCH, n_features)
    rounded = round_weights(parameters, structure.is_weight, program.precision)
    model = nnx.merge(structure.evaluation, with_rounded(parameters, rounded), statistics)

    def logits_of(batch: jax.Array) -> jax.Array:
        return model((batch.astype(jnp.float32) * SCALE).reshape(-1, *program.input_shape), no_dropout)

    logits = lax.map(logits_of, batches)
    return jax.nn.log_softmax(logits.reshape(-1, program.n_classes)[:n_examples])


def _statistics(model: nnx.Module) -> Statistics:
    return nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
