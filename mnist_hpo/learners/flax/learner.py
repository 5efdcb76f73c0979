"""The learner of Flax modules: an epoch's work on the host, around the compiled core."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mnist_hpo.data.permutation import permutation
from mnist_hpo.kernels.native import references_only
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.flax import core, schedules
from mnist_hpo.learners.flax.device import DeviceArrays
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.flax.program import Hyperparameters, Program
from mnist_hpo.learners.flax.programs import Programs
from mnist_hpo.learners.flax.variables import structure_of
from mnist_hpo.learners.flax.weights import load_state, named, save_state, shapes_of, unnamed, with_weights
from mnist_hpo.learners.protocol import Advanced, Examples, PortablePredictor, Predictor
from mnist_hpo.learners.stored_weights import read_weights
from mnist_hpo.learners.subset import training_rows
from mnist_hpo.learners.training import mean
from mnist_hpo.spec.model import Tensors


class FlaxLearner:
    """See `Learner`.

    Args:
        programs: the cache of compiled programs, shared by learners.
        device: the cache of data on the device, shared by learners.
        config: the configuration to train.
        program: the static configuration of `config`.
        dynamic: the dynamic configuration of `config`.
        train: the training examples.
        n_train: the number of examples to use; None for all.

    """

    def __init__(
        self,
        programs: Programs,
        device: DeviceArrays,
        config: TrainingConfig,
        program: Program,
        dynamic: Hyperparameters,
        train: Examples,
        n_train: int | None,
    ) -> None:
        self._programs, self._device = programs, device
        self._config, self._program, self._dynamic = config, program, dynamic
        self._train, self._n_train = train, n_train
        self._seed = seed_words(config.seed)

    @property
    def compile_s(self) -> float:
        """See `Learner.compile_s`. Loading from the persistent cache counts as compiling."""
        return self._programs.compile_s

    def start(self) -> core.TrainState:
        """See `Learner.start`."""
        state = initial_state(self._program, self._config.seed, self._dynamic.initializer)
        initial = self._config.initial
        if initial is None:
            return state
        tensors = read_weights(Path(initial.path), initial.sha256)
        return with_weights(self._program, state, tensors, keeps_last=initial.layers == "all")

    def advance(self, state: core.TrainState, epoch: int) -> Advanced:
        """See `Learner.advance`."""
        rows = self._rows(epoch)
        train_epoch = self._programs.train_epoch(self._program, len(self._train), len(rows))
        arguments = rows, self._per_step(epoch, len(rows)), dynamics_of(self._dynamic), self._seed
        images, labels = (self._device.put(array) for array in (self._train.images, self._train.labels))
        start = time.perf_counter()
        state, losses = train_epoch(state, images, labels, *arguments)
        train_loss = mean(np.asarray(losses))
        return Advanced(state, train_loss, time.perf_counter() - start)

    def predict(self, state: core.TrainState, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """See `Learner.predict`."""
        predict = self._programs.predict(self._program, len(images))
        return np.asarray(predict(*state.predicting, self._device.put(images)))

    def model(self, state: core.TrainState) -> Tensors:
        """See `Learner.model`: the trainable parameters and batch statistics."""
        return named(*state.predicting)

    def save(self, state: core.TrainState) -> Tensors:
        """See `Learner.save`."""
        return save_state(state)

    def load(self, tensors: Tensors) -> core.TrainState:
        """See `Learner.load`."""
        return load_state(self._program, tensors)

    def _rows(self, epoch: int) -> NDArray[np.int32]:
        """Return the rows of each step, i32[S, B]. Examples that do not fill a batch are left out."""
        batch_size = self._program.batch_size
        if self._n_train is None:
            rows = permutation(len(self._train), self._config.seed, epoch)
        else:
            subset = training_rows(len(self._train), self._n_train, self._config.seed)
            rows = subset[permutation(self._n_train, self._config.seed, epoch)]
        n_steps = len(rows) // batch_size
        return rows[: n_steps * batch_size].astype(np.int32).reshape(n_steps, batch_size)

    def _per_step(self, epoch: int, n_steps: int) -> core.PerStep:
        dynamic, max_epochs = self._dynamic, self._config.schedule_epochs or self._config.max_epochs
        steps = schedules.Steps(epoch, n_steps, max_epochs)
        learning_rates = schedules.learning_rates(
            dynamic.schedule, dynamic.learning_rate, steps, decay_start=dynamic.decay_start, warmup=dynamic.warmup
        )
        mixing = schedules.mixing(dynamic.mixup, self._config.seed, steps) if dynamic.mixup > 0 else None
        return core.PerStep(*jax.tree.map(jnp.asarray, (learning_rates, mixing, self._averaging(steps))))

    def _averaging(self, steps: schedules.Steps) -> NDArray[np.float32] | None:
        match self._dynamic.averaging:
            case "ema":
                return schedules.exponential_average(self._dynamic.ema_decay, steps)
            case "swa":
                return schedules.equal_average(self._dynamic.swa_start, steps)
            case _:
                return None


def dynamics_of(dynamic: Hyperparameters) -> core.Dynamics:
    """Return the traced hyperparameters of a training."""
    return core.Dynamics(*(np.float32(getattr(dynamic, name)) for name in core.Dynamics._fields))


def seed_words(seed: int) -> NDArray[np.uint32]:
    """Return a seed below 2 ** 64 as u32[2]."""
    return np.array([seed >> 32, seed & 0xFFFFFFFF], dtype=np.uint32)


def make_predictor(program: Program, tensors: Tensors) -> Predictor:
    """Return a predictor from the tensors that `FlaxLearner.model` returned.

    Raises:
        ValueError: the names, types or shapes of the tensors are not those of the program's module.

    """
    shapes = shapes_of(program)
    for name in sorted(shapes.keys() | tensors.keys()):
        has = tensors[name].shape if name in tensors else None
        if has != shapes.get(name):
            raise ValueError(f"the weights are not the model's: {name} is {has}, not {shapes.get(name)}")
        if tensors[name].dtype != np.float32:
            raise ValueError(f"the weights are not the model's: {name} is {tensors[name].dtype}, not float32")
    parameters, statistics = unnamed(program, tensors)
    of_many: Any = jax.jit(partial(core.predict, program))
    of_few: Any = jax.jit(partial(core.predict_few, program))

    def predict(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        flat = images.reshape(len(images), program.n_features)
        if len(flat) >= core.EVALUATION_BATCH:
            return np.asarray(of_many(parameters, statistics, flat))
        padding = _few(len(flat)) - len(flat)
        padded = np.pad(flat, ((0, padding), (0, 0)))
        return np.asarray(of_few(parameters, statistics, padded))[: len(images)]

    return predict


def make_portable(program: Program) -> PortablePredictor:
    """Return the prediction of a program in pure JAX, which calls no kernels of this package."""
    # Build and cache the module now: a converter may replace Flax's functions while it calls `predict`.
    structure_of(program)

    def predict(tensors: Mapping[str, Any], images: Any) -> Any:
        parameters, statistics = unnamed(program, tensors)
        with references_only():
            return core.predict_batch(program, parameters, statistics, images)

    return predict


def _few(n_examples: int) -> int:
    """Return the number of examples to which so many are padded: a power of two, so that few programs are compiled."""
    return max(core.SMALL_BATCH, 1 << (n_examples - 1).bit_length())
