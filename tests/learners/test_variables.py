"""Roles of a module's variables and FLOPs of its forward pass, both found without running it."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mnist_hpo.layers.mixed_precision import round_weights
from mnist_hpo.learners.flax import core, counting, variables
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.flax.optimizers import update
from mnist_hpo.learners.flax.program import Program
from mnist_hpo.spec.model import Counts, FlaxModel

N_CLASSES = 3
_names = itertools.count()

Register = Callable[[type[nnx.Module]], str]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Return a function that registers a module as a model and returns the model's name."""
    models: dict[str, FlaxModel] = {}
    monkeypatch.setattr(variables, "find_model", models.__getitem__)

    def add(module: type[nnx.Module]) -> str:
        name = f"test {next(_names)}"
        models[name] = FlaxModel(hyperparameters={}, module=lambda: lambda *_, rngs: module(rngs), images="shaped")
        return name

    return add


def program_of(name: str, *shape: int) -> Program:
    return Program(name, shape, N_CLASSES, (), 1, "adam", "fp32")


def roles_of(name: str) -> dict[str, tuple[str, int]]:
    structure = variables.structure_of(program_of(name, 4, 6))
    roles = jax.tree_util.tree_flatten_with_path(structure.parameter_roles)[0]
    return {".".join(str(key.key) for key in path): (role.kind, role.fan_in) for path, role in roles}


class Attention(nnx.Module):
    """Attention with two heads over [B, 4, 6]: its kernels have three axes, its biases two."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.attention = nnx.MultiHeadAttention(2, 6, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(6, rngs=rngs)
        self.logits = nnx.Linear(6, N_CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array, dropout: object) -> jax.Array:
        return self.logits(self.norm(self.attention(x)).mean(axis=1))


class Recurrent(nnx.Module):
    """A recurrent layer of five units over 4 time steps of 6 numbers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.of_input, self.of_state = (nnx.Linear(n, 5, rngs=rngs) for n in (6, 5))
        self.logits = nnx.Linear(5, N_CLASSES, rngs=rngs)

    def __call__(self, x: jax.Array, dropout: object) -> jax.Array:
        def step(state: jax.Array, x: jax.Array) -> tuple[jax.Array, None]:
            return jnp.tanh(self.of_input(x) + self.of_state(state)), None

        state, _ = jax.lax.scan(step, jnp.zeros((len(x), 5)), x.transpose(1, 0, 2))
        return self.logits(state)


class Tagged(nnx.Module):
    """A module whose own variables are tagged with their roles."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.matrix = nnx.Param(jnp.zeros((24, N_CLASSES)), role="weight", fan_in=24)
        self.shift = nnx.Param(jnp.ones((1, N_CLASSES)), role="bias")
        self.gain = nnx.Param(jnp.zeros((1, N_CLASSES)), role="scale")
        self.seen = nnx.BatchStat(jnp.ones(()), role="mean")

    def __call__(self, x: jax.Array, dropout: object) -> jax.Array:
        return (x.reshape(len(x), -1) @ self.matrix[...] + self.shift[...]) * self.gain[...]


class Untagged(Tagged):
    def __init__(self, rngs: nnx.Rngs) -> None:
        super().__init__(rngs)
        self.other = nnx.Param(jnp.zeros(3))


class OwnDropout(Tagged):
    def __init__(self, rngs: nnx.Rngs) -> None:
        super().__init__(rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)


class Looping(Tagged):
    def __call__(self, x: jax.Array, dropout: object) -> jax.Array:
        square = self.matrix[...].T @ self.matrix[...]
        return jax.lax.while_loop(lambda y: y.sum() < 1, lambda y: y @ square, super().__call__(x, dropout))


def test_the_fan_in_is_the_number_of_summed_products(register: Register) -> None:
    """The query's kernel has the shape [6, 2, 3], but only 6 products are summed."""
    heads = {f"attention.{name}.kernel": ("weight", 6) for name in ("query", "key", "value", "out")}
    biases = {f"attention.{name}.bias": ("bias", 0) for name in ("query", "key", "value", "out")}
    norm = {"norm.scale": ("scale", 0), "norm.bias": ("bias", 0)}
    logits = {"logits.kernel": ("weight", 6), "logits.bias": ("bias", 0)}
    assert roles_of(register(Attention)) == heads | biases | norm | logits


def test_tagged_variables_are_initialised_by_their_role(register: Register) -> None:
    name = register(Tagged)
    assert roles_of(name)["matrix"] == ("weight", 24)
    state = initial_state(program_of(name, 4, 6), seed=1)
    assert np.std(state.parameters["matrix"]) == pytest.approx((2 / 24) ** 0.5, rel=0.2)
    assert (state.parameters["shift"] == 0).all()
    assert (state.parameters["gain"] == 1).all()
    assert state.statistics["seen"] == 0


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Untagged, r"the role of other is unknown; tag it, as in nnx\.Param\(value, role=\"weight\", fan_in=64\)"),
        (OwnDropout, "has variables of RngCount; .* applies dropout by the function that it is called with"),
    ],
)
def test_a_module_that_cannot_be_trained_is_refused(register: Register, module: type[nnx.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variables.structure_of(program_of(register(module), 4, 6))


def count(name: str) -> Counts:
    return counting.count(name, (4, 6), N_CLASSES, ())


def test_flops_of_attention_are_counted(register: Register) -> None:
    """Both factors of the attention scores depend on weights; the input needs no gradient."""
    inputs, out, logits = 3 * 4 * 6 * 6, 4 * 6 * 6, 6 * N_CLASSES
    attention = 2 * (2 * 4 * 4 * 3)
    others = attention + out + logits
    counts = count(register(Attention))
    assert (counts.forward_flops, counts.train_flops) == (2 * (inputs + others), 4 * inputs + 6 * others)


def test_flops_of_a_loop_are_counted_for_each_iteration(register: Register) -> None:
    """The state depends on weights from the second step on, the input never does."""
    inputs, others = 4 * 6 * 5, 4 * 5 * 5 + 5 * N_CLASSES
    counts = count(register(Recurrent))
    assert counts.n_parameters == 6 * 5 + 5 + 5 * 5 + 5 + 5 * N_CLASSES + N_CLASSES
    assert (counts.forward_flops, counts.train_flops) == (2 * (inputs + others), 4 * inputs + 6 * others)


def test_a_loop_of_unknown_length_is_refused(register: Register) -> None:
    with pytest.raises(ValueError, match="whose length is unknown; use a scan"):
        count(register(Looping))


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_penalties_apply_to_weights_of_any_rank_and_to_nothing_else(register: Register, optimizer: str) -> None:
    """A bias of attention has two axes, like the kernel of a linear layer."""
    program = dataclasses.replace(program_of(register(Attention), 4, 6), optimizer=optimizer)
    structure, state = variables.structure_of(program), initial_state(program, 1)
    ones = jax.tree.map(jnp.ones_like, state.parameters)
    rounded = round_weights(ones, structure.is_weight, "fp32")

    def updated(l2: float) -> Any:
        options = {"learning_rate": 0.01, "l1": 0.0, "l2": l2, "momentum": 0.0}
        return update(optimizer, ones, state.optimizer_state, ones, rounded, structure.is_weight, **options)[0]

    without, penalised = updated(0.0), updated(-3.0)
    changed = jax.tree.map(lambda first, second: not np.array_equal(first, second), without, penalised)
    assert jax.tree.all(jax.tree.map(lambda changed, is_weight: changed == is_weight, changed, structure.is_weight))


@pytest.mark.parametrize("module", [Attention, Recurrent])
def test_modules_train_and_predict(register: Register, module: type[nnx.Module], digits: Any) -> None:
    """The loss falls on a patch of 24 informative pixels."""
    program = program_of(register(module), 4, 6)
    images = np.ascontiguousarray(digits[0].images[:200, 12:16, 11:17, 0].reshape(200, 24))
    labels = (digits[0].labels[:200] % N_CLASSES).astype(np.uint8)
    order = np.tile(np.arange(200, dtype=np.int32).reshape(4, 50), (20, 1))
    zeros = core.Dynamics()
    epoch = jax.jit(core.train_epoch, static_argnums=0)
    state, losses = epoch(
        program,
        initial_state(program, 1),
        images,
        labels,
        order,
        core.PerStep(np.full(80, 0.01, np.float32)),
        zeros,
        np.array([1, 2], np.uint32),
    )
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    found = jax.jit(core.predict, static_argnums=0)(program, state.parameters, state.statistics, images)
    assert found.shape == (200, N_CLASSES)
