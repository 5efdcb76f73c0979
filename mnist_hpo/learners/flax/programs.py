"""Compiled programs, kept by their static configuration, with the seconds that each compile took."""

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
"""Compiled functions take some 2 MB each. A search over widths one by one would fill the memory with them; one that
comes back later is loaded from the persistent cache."""


class Programs:
    """The core's functions, each compiled once for a program and the shapes of its data."""

    def __init__(self) -> None:
        self._compiled: OrderedDict[tuple[object, ...], Compiled] = OrderedDict()
        """The latest used last."""
        self.compile_s = 0.0
        """Seconds spent in compiling, or in loading from the persistent cache, since the start."""

    def train_epoch(self, program: Program, n_examples: int, n_steps: int) -> Compiled:
        """`core.train_epoch` for this program: so many steps over so many examples; it uses up the state."""
        f32: Any = jax.ShapeDtypeStruct((), np.float32)
        shapes = (
            jax.eval_shape(partial(core.init, program)),
            *_data_shapes(program, n_examples),
            jax.ShapeDtypeStruct((n_steps, program.batch_size), np.int32),
            jax.ShapeDtypeStruct((n_steps,), np.float32),
            core.Dynamics(f32, f32, f32, f32, f32),
            jax.ShapeDtypeStruct((2,), np.uint32),
        )
        function = partial(core.train_epoch, program)
        return self._get(("train", program, n_examples, n_steps), function, shapes, donate_argnums=(0,))

    def predict(self, program: Program, n_examples: int) -> Compiled:
        """`core.predict` for this program's architecture over so many examples."""
        state = jax.eval_shape(partial(core.init, program))
        shapes = (state.parameters, state.statistics, _data_shapes(program, n_examples)[0])
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
                jax.clear_caches()  # What JAX remembers of its tracing would outlive it.
        self._compiled.move_to_end(key)
        return self._compiled[key]


def _data_shapes(program: Program, n_examples: int) -> tuple[jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    images = jax.ShapeDtypeStruct((n_examples, program.n_features), np.uint8)
    return images, jax.ShapeDtypeStruct((n_examples,), np.uint8)
