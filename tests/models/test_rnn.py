"""The recurrent networks equal their formulas on real digits, and train to the same bits every time."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray
from program import program_of

from mnist_hpo.layers.dropout import no_dropout
from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.flax import core
from mnist_hpo.learners.flax.counting import count
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.flax.program import Program
from mnist_hpo.models.rnn import MODEL
from mnist_hpo.spec.model import Counts
from mnist_hpo.spec.study import ParameterValue

Array = NDArray[Any]
WIDTH = 5
ARCHITECTURES = pytest.mark.parametrize(
    "architecture",
    [
        {"cell": "gru", "direction": "forward", "readout": "last"},
        {"cell": "gru", "direction": "both", "readout": "last"},
        {"cell": "gru", "direction": "both", "readout": "mean"},
        {"cell": "lstm", "direction": "forward", "readout": "last"},
        {"cell": "lstm", "direction": "both", "readout": "last"},
    ],
    ids=lambda architecture: "-".join(architecture.values()),
)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def read(x: Array, weights: Any, cell: str) -> Array:
    """Read a sequence [T, B, I] in its order; return the outputs [T, B, H]."""
    hidden = memory = np.zeros((x.shape[1], WIDTH))
    outputs = []
    for row in x:
        entering = row @ weights["projection"]["kernel"] + weights["projection"]["bias"]
        recurrent = hidden @ weights["recurrent"]
        if cell == "gru":
            r, u = (sigmoid((entering + recurrent)[:, i * WIDTH : (i + 1) * WIDTH]) for i in range(2))
            candidate = np.tanh(entering[:, 2 * WIDTH :] + r * recurrent[:, 2 * WIDTH :])
            hidden = (1 - u) * candidate + u * hidden
        else:
            i, f, g, o = np.split(entering + recurrent, 4, axis=1)
            memory = sigmoid(f + 1) * memory + sigmoid(i) * np.tanh(g)
            hidden = sigmoid(o) * np.tanh(memory)
        outputs.append(hidden)
    return np.stack(outputs)


@ARCHITECTURES
def test_the_network_equals_its_formula(images: Array, architecture: dict[str, ParameterValue]) -> None:
    program = program_of("rnn", depth=2, width=WIDTH, precision="fp32", **architecture)
    state = initial_state(program, seed=1)
    # Biases other than their initial zeros.
    weights = jax.tree.map(lambda w: w if w.any() else np.linspace(-1, 1, w.size, dtype=np.float32), state.parameters)
    x = images[:20].reshape(-1, 28, 28).transpose(1, 0, 2) / 255
    for layer in range(2):
        directions = weights["layers"][layer]
        forward = outputs = read(x, directions[0], str(architecture["cell"]))
        last = forward[-1]
        if architecture["direction"] == "both":
            backward = read(x[::-1], directions[1], str(architecture["cell"]))
            outputs = np.concatenate([forward, backward[::-1]], axis=2)
            last = np.concatenate([forward[-1], backward[-1]], axis=1)
        x = outputs
    summary = x.mean(axis=0) if architecture["readout"] == "mean" else last
    logits = summary @ weights["logits"]["kernel"] + weights["logits"]["bias"]
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    found = jax.jit(partial(core.predict, program))(weights, state.statistics, images[:20])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_dropout_applies_between_layers_and_before_the_logits() -> None:
    seen: list[tuple[int, int]] = []

    class Recorder:
        adds_noise = False

        def __call__(self, layer: int, x: jax.Array) -> jax.Array:
            seen.append((layer, x.size))
            return x

        def noise(self, _layer: int, x: jax.Array) -> jax.Array:
            return x

    defaults = {name: parameter.default for name, parameter in MODEL.hyperparameters.items()}

    def logits() -> jax.Array:
        network = MODEL.module()((8, 6, 1), 3, defaults | {"depth": 3, "width": 4}, "fp32", rngs=nnx.Rngs(0))
        return network(jnp.ones((2, 8, 6, 1)), Recorder())

    assert jax.eval_shape(logits).shape == (2, 3)
    assert seen == [(0, 8 * 2 * 4), (1, 8 * 2 * 4), (2, 2 * 4)]


def test_each_image_is_read_alone() -> None:
    defaults = {name: parameter.default for name, parameter in MODEL.hyperparameters.items()}
    network = MODEL.module()((8, 6, 2), 3, defaults | {"direction": "both"}, "fp32", rngs=nnx.Rngs(0))
    x = np.random.default_rng(0).random((3, 8, 6, 2), dtype=np.float32)
    alone = np.concatenate([network(x[i : i + 1], no_dropout) for i in range(3)])
    np.testing.assert_allclose(network(x, no_dropout), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("cell", "n_gates"), [("gru", 3), ("lstm", 4)])
@pytest.mark.parametrize(("direction", "n_directions"), [("forward", 1), ("both", 2)])
def test_counts_equal_a_calculation_by_hand(cell: str, n_gates: int, direction: str, n_directions: int) -> None:
    """The recurrent products are counted once for each of the 28 rows."""
    width, n_rows = 12, 28
    architecture = {"cell": cell, "depth": 2, "width": width, "direction": direction, "readout": "last"}
    model = find_model("rnn")
    found = count("rnn", (n_rows, 30, 1), 10, tuple(sorted(architecture.items())))
    assert model is MODEL
    columns, between = n_gates * width, n_directions * width
    first = n_directions * 30 * columns
    others = n_directions * (2 * width * columns + between * columns)
    logits = between * 10
    assert found == Counts(
        n_parameters=first + others + 2 * n_directions * columns + logits + 10,
        forward_flops=2 * (n_rows * (first + others) + logits),
        # The gradient of the images is not computed.
        train_flops=4 * n_rows * first + 6 * (n_rows * others + logits),
    )


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_reduces_the_loss_and_repeats_bit_by_bit(
    check_training: Callable[[Program, float], None], cell: str, precision: str
) -> None:
    program = program_of(
        "rnn", cell=cell, depth=2, width=16, direction="both", batch_size=50, precision=precision, dropout=0.1
    )
    check_training(program, 0.01)
