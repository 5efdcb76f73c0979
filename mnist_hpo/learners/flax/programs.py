"""A cache of compiled programs by static configuration."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

from mnist_hpo.learners.flax import core
from mnist_hpo.learners.flax.program import Program

Compiled = Callable[..., Any]

_N_KEPT = 40
"""Maximum number of programs, of about 2 MB each: a search over many widths would otherwise fill the memory. A program
that was evicted is loaded from the persistent cache."""


class Programs:
    """Compiles the core's functions, once per program and data shapes."""

    def __init__(self) -> None:
        self._compiled: OrderedDict[tuple[object, ...], Compiled] = OrderedDict()
        """Least recently used first."""
        self.compile_s = 0.0
        """Seconds spent compiling or loading from the persistent cache so far."""

    def train_epoch(self, program: Program, n_examples: int, n_steps: int) -> Compiled:
        """Return `core.train_epoch` compiled for this program, of n_steps over n_examples. It donates the state."""
        number: Any = jax.ShapeDtypeStruct((), np.float32)
        numbers: Any = jax.ShapeDtypeStruct((n_steps,), np.float32)
        shapes = (
            jax.eval_shape(partial(core.init, program)),
            *_data_shapes(program, n_examples),
            jax.ShapeDtypeStruct((n_steps, program.batch_size), np.int32),
            core.PerStep(
                numbers, numbers if "mixup" in program.active else None, numbers if program.averaging else None
            ),
            core.Dynamics(*[number] * len(core.Dynamics._fields)),
            jax.ShapeDtypeStruct((2,), np.uint32),
        )
        function = partial(core.train_epoch, program)
        return self._get(("train", program, n_examples, n_steps), function, shapes, donate_argnums=(0,))

    def predict(self, program: Program, n_examples: int) -> Compiled:
        """Return `core.predict` compiled for this program's architecture and n_examples."""
        state = jax.eval_shape(partial(core.init, program))
        shapes = (*state.predicting, _data_shapes(program, n_examples)[0])
        shape = (program.input_shape, program.n_classes, program.architecture, program.precision)
        key = ("predict", program.model, *shape, n_examples)
        return self._get(key, partial(core.predict, program), shapes)

    def _get(self, key: tuple[object, ...], function: Compiled, shapes: tuple[Any, ...], **options: Any) -> Compiled:
        if key not in self._compiled:
            start = time.perf_counter()
            self._compiled[key] = jax.jit(function, **options).lower(*shapes).compile()
            self.compile_s += time.perf_counter() - start
            if len(self._compiled) > _N_KEPT:
                self._compiled.popitem(last=False)
                jax.clear_caches()  # JAX's tracing caches would keep it alive.
        self._compiled.move_to_end(key)
        return self._compiled[key]


def _data_shapes(program: Program, n_examples: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    images = jax.ShapeDtypeStruct((n_examples, program.n_features), np.uint8)
    return images, jax.ShapeDtypeStruct((n_examples,), np.uint8)
