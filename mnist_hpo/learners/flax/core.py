"""The compiled core: one training epoch, and prediction, each a pure function of arrays and a single XLA call.

Shapes: E examples, F features, C classes, S steps per epoch, B examples per step.
Images are u8[E, F] and become floats (× 1/255) of the module's input shape inside the step; labels are u8[E].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from mnist_hpo.kernels.gather_pixels import SCALE, gather_pixels
from mnist_hpo.kernels.softmax_loss import softmax_loss
from mnist_hpo.layers.dropout import HashedDropout, no_dropout
from mnist_hpo.layers.hashed_words import HashedWords
from mnist_hpo.layers.mixed_precision import FACTOR, round_like, round_weights, with_rounded
from mnist_hpo.learners.flax.augmentation import Strengths, augment
from mnist_hpo.learners.flax.constraints import limit_norms
from mnist_hpo.learners.flax.optimizers import Scalar, init_optimizer, update
from mnist_hpo.learners.flax.program import AUGMENTATION, INPUT_CHANGES, Program
from mnist_hpo.learners.flax.transfer import scale_steps
from mnist_hpo.learners.flax.variables import structure_of, zeros_of

Parameters = Any
"""A pytree of f32 arrays: the trainable parameters."""

Statistics = Any
"""A pytree of f32 arrays: the running moments of BatchNorm; without leaves for a model without BatchNorm."""

EVALUATION_BATCH = 1000
"""Examples per matrix product in evaluation: enough for full speed, and the activations fit in the cache."""
SMALL_BATCH = 32
"""The batch size of `predict_few`. Batches of fewer examples take hardly less time."""

_INPUT = 10_000
"""The input's number as a layer that is dropped or disturbed, above those of a module's layers."""
_AUGMENTATION = _INPUT + 1
"""The first of the streams of random words for augmentation."""


class Average(NamedTuple):
    """An average of the weights over steps, for predictions."""

    parameters: Parameters
    statistics: Statistics


class TrainState(NamedTuple):
    """The state that a training step updates."""

    parameters: Parameters
    optimizer_state: Any
    step: jax.Array
    """u32[]: number of steps since the start of the training."""
    statistics: Statistics
    average: Average | None = None
    """None if predictions use the last weights."""

    @property
    def predicting(self) -> tuple[Parameters, Statistics]:
        """The parameters and statistics that predictions use."""
        chosen = self if self.average is None else self.average
        return chosen.parameters, chosen.statistics


class Dynamics(NamedTuple):
    """The traced hyperparameters, each f32[]. Those that differ from step to step are arguments of `train_epoch`."""

    dropout: Scalar = 0.0
    l1: Scalar = 0.0
    l2: Scalar = 0.0
    label_smoothing: Scalar = 0.0
    momentum: Scalar = 0.0
    input_dropout: Scalar = 0.0
    input_noise: Scalar = 0.0
    noise: Scalar = 0.0
    max_norm: Scalar = 0.0
    rotation: Scalar = 0.0
    translation: Scalar = 0.0
    scaling: Scalar = 0.0
    shear: Scalar = 0.0
    elastic: Scalar = 0.0
    elastic_sigma: Scalar = 4.0
    erasing: Scalar = 0.0


class PerStep(NamedTuple):
    """Numbers that differ from step to step, each f32[S], or None where the program does not use them."""

    learning_rate: jax.Array
    mixing: jax.Array | None = None
    """The share of each image in its mixture with another one."""
    averaging: jax.Array | None = None
    """The share of the new weights in the average."""


def init(program: Program) -> TrainState:
    """Return a state of zeros with the right structure and shapes; `initial_state` returns the one to start from."""
    structure = structure_of(program)
    parameters = zeros_of(structure.parameters)
    optimizer_state = init_optimizer(program.optimizer, parameters)
    statistics = zeros_of(structure.statistics)
    average = Average(zeros_of(structure.parameters), zeros_of(structure.statistics)) if program.averaging else None
    return TrainState(parameters, optimizer_state, jnp.uint32(0), statistics, average)


def train_epoch(
    program: Program,
    state: TrainState,
    images: jax.Array,
    labels: jax.Array,
    order: jax.Array,
    per_step: PerStep,
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
        per_step: the numbers of each step.
        dynamics: the traced hyperparameters.
        seed: u32[2], the seed of everything that is random in a step.

    Returns:
        The new state, and the mean cross-entropy of each step's batch, f32[S].

    """
    structure = structure_of(program)

    def batch_loss(
        parameters: Parameters, statistics: Statistics, rows: jax.Array, step: jax.Array, mixing: jax.Array | None
    ) -> tuple[jax.Array, Statistics]:
        words = HashedWords(seed, step)
        model = nnx.merge(structure.training, parameters, statistics)
        inputs = step_images(program, dynamics, words, images, rows, mixing)
        logits = model(inputs.reshape(-1, *program.input_shape), _dropout(program, dynamics, words))
        loss = softmax_loss(logits, labels, rows, dynamics.label_smoothing)
        if mixing is not None:
            loss = mixing * loss + (1 - mixing) * softmax_loss(logits, labels, rows[::-1], dynamics.label_smoothing)
        return loss, _statistics(model)

    def take_step(
        carried: tuple[TrainState, Parameters], inputs: tuple[jax.Array, PerStep]
    ) -> tuple[tuple[TrainState, Parameters], jax.Array]:
        (state, rounded), (rows, now) = carried, inputs
        factors = with_rounded(state.parameters, rounded)
        differentiated = jax.value_and_grad(batch_loss, has_aux=True)
        (loss, statistics), gradients = differentiated(factors, state.statistics, rows, state.step, now.mixing)
        parameters, optimizer_state, rounded = update(
            program.optimizer,
            state.parameters,
            state.optimizer_state,
            gradients,
            rounded,
            structure.is_weight,
            learning_rate=now.learning_rate,
            l1=dynamics.l1,
            l2=dynamics.l2,
            momentum=dynamics.momentum,
        )
        if program.learning_rate_factors != (1.0, 1.0):
            parameters = scale_steps(program, state.parameters, parameters)
            rounded = round_like(rounded, parameters)
        if "max_norm" in program.active:
            parameters = limit_norms(parameters, structure.parameter_roles, dynamics.max_norm)
            rounded = round_like(rounded, parameters)
        average = _averaged(state.average, Average(parameters, statistics), now.averaging)
        state = TrainState(parameters, optimizer_state, state.step + jnp.uint32(1), statistics, average)
        return (state, rounded), loss

    rounded = round_weights(state.parameters, structure.is_weight, program.precision)
    (state, _), losses = lax.scan(take_step, (state, rounded), (order, per_step))
    return state, losses


def predict(program: Program, parameters: Parameters, statistics: Statistics, images: jax.Array) -> jax.Array:
    """Return log-probabilities f32[E, C] of images u8[E, F].

    The last batch is padded, and the padding is removed from the result.
    """
    n_examples, n_features = images.shape
    n_batches = -(-n_examples // EVALUATION_BATCH)
    padded = jnp.pad(images, ((0, n_batches * EVALUATION_BATCH - n_examples), (0, 0)))
    batches = padded.reshape(n_batches, EVALUATION_BATCH, n_features)
    logits = lax.map(_logits_of(program, parameters, statistics), batches)
    return jax.nn.log_softmax(logits.reshape(-1, program.n_classes)[:n_examples])


def predict_few(program: Program, parameters: Parameters, statistics: Statistics, images: jax.Array) -> jax.Array:
    """Return log-probabilities f32[E, C] of images u8[E, F], where E is a multiple of `SMALL_BATCH`.

    Each batch is computed alone, so the bits of a result depend on no other image and not on E.
    """
    batches = images.reshape(-1, SMALL_BATCH, images.shape[1])
    found = lax.map(partial(predict_batch, program, parameters, statistics), batches)
    return found.reshape(-1, program.n_classes)


def predict_batch(program: Program, parameters: Parameters, statistics: Statistics, images: jax.Array) -> jax.Array:
    """Return log-probabilities f32[E, C] of images u8[E, F], computed as one batch; E may be a symbolic size."""
    return jax.nn.log_softmax(_logits_of(program, parameters, statistics)(images))


def _logits_of(program: Program, parameters: Parameters, statistics: Statistics) -> Callable[[jax.Array], jax.Array]:
    """Return the function from a batch u8[B, F] to logits f32[B, C]."""
    structure = structure_of(program)
    rounded = round_weights(parameters, structure.is_weight, program.precision)
    model = nnx.merge(structure.evaluation, with_rounded(parameters, rounded), statistics)

    def logits_of(batch: jax.Array) -> jax.Array:
        return model((batch.astype(jnp.float32) * SCALE).reshape(-1, *program.input_shape), no_dropout)

    return logits_of


def step_images(
    program: Program,
    dynamics: Dynamics,
    words: HashedWords,
    images: jax.Array,
    rows: jax.Array,
    mixing: jax.Array | None,
) -> jax.Array:
    """Return the images that a step trains on: augmented, then mixed, then disturbed.

    Args:
        program: the static configuration.
        dynamics: the traced hyperparameters.
        words: the random words of the step.
        images: u8[E, F].
        rows: i32[B], the rows of the step.
        mixing: f32[], the share of each image in its mixture with another one; None for no mixture.

    Returns:
        f32[B, F], from 0 to 1 before the noise is added.

    """
    active = program.active
    if not any(name in active for name in INPUT_CHANGES):
        # Already rounded as the first product would round them, then cast back to float32; XLA removes that cast.
        return gather_pixels(images, rows, FACTOR[program.precision]).astype(jnp.float32)
    pixels = gather_pixels(images, rows)
    if any(name in active for name in AUGMENTATION):
        strengths = Strengths(*(jnp.asarray(getattr(dynamics, name)) for name in Strengths._fields))
        shaped = pixels.reshape(-1, *program.image_shape)
        pixels = augment(shaped, words, _AUGMENTATION, strengths, active).reshape(pixels.shape)
    if mixing is not None:
        # The examples of a batch are in random order, so each is mixed with a random other one.
        pixels = mixing * pixels + (1 - mixing) * pixels[::-1]
    disturb = HashedDropout(
        words,
        dynamics.input_dropout if "input_dropout" in active else None,
        dynamics.input_noise if "input_noise" in active else None,
    )
    return disturb(_INPUT, disturb.noise(_INPUT, pixels))


def _dropout(program: Program, dynamics: Dynamics, words: HashedWords) -> HashedDropout:
    rate = dynamics.dropout if "dropout" in program.active else None
    return HashedDropout(words, rate, dynamics.noise if "noise" in program.active else None)


def _averaged(average: Average | None, new: Average, share: jax.Array | None) -> Average | None:
    if average is None or share is None:
        return None

    def averaged(old: jax.Array, new: jax.Array) -> jax.Array:
        # The sum alone would differ in the last bits at a share of 1, and (1 - share) * old would add up its rounding.
        return jnp.where(share == 1, new, old + share * (new - old))

    return jax.tree.map(averaged, average, new)


def _statistics(model: nnx.Module) -> Statistics:
    return nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
