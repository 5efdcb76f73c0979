"""The transformer equals its formula on real digits, and trains to the same bits every time."""

import math
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

from mnist_hpo.learners.flax import core
from mnist_hpo.learners.flax.counting import count
from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.learners.flax.program import Program
from mnist_hpo.models.transformer import MODEL
from mnist_hpo.spec.model import Counts

Array = NDArray[Any]


def linear(x: Array, weights: Any) -> Array:
    return x @ weights["kernel"] + weights["bias"]


def normalized(x: Array, weights: Any) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * weights["scale"] + weights[
        "bias"
    ]


def gelu(x: Array) -> Array:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attended(x: Array, weights: Any, n_heads: int, size: int) -> Array:
    """Return the output of self-attention for each token of [T, width], one head at a time."""
    projected = linear(x, weights["projection"])
    query, key, value = (projected[:, i * n_heads * size : (i + 1) * n_heads * size] for i in range(3))
    heads = []
    for head in range(n_heads):
        columns = slice(head * size, (head + 1) * size)
        scores = np.exp(query[:, columns] @ key[:, columns].T / (2 * math.sqrt(size)))
        heads.append(scores / scores.sum(axis=1, keepdims=True) @ value[:, columns])
    return linear(np.concatenate(heads, axis=1), weights["output"])


def patches(image: Array, size: int, stride: int) -> Array:
    """Return the patches of [28, 28], row by row, each flat; beyond the image there are zeros."""
    starts = [0]
    while starts[-1] + size < 28:
        starts.append(starts[-1] + stride)
    padded = np.zeros((28 + size, 28 + size))
    padded[:28, :28] = image
    return np.stack([padded[y : y + size, x : x + size].ravel() for y in starts for x in starts])


@pytest.mark.parametrize("readout", ["mean", "token"])
@pytest.mark.parametrize(
    ("patch_size", "overlap", "width", "n_heads"),
    [(7, 0, 12, 3), (5, 0, 8, 2), (10, 0, 8, 3), (8, 3, 8, 2), (8, 4, 8, 2)],
)
def test_the_network_equals_its_formula(
    images: Array, readout: str, patch_size: int, overlap: int, width: int, n_heads: int
) -> None:
    """Some patches reach over the image's edge, and 3 heads do not divide a width of 8."""
    program = program_of(
        "transformer",
        **{"depth": 2, "width": width, "n_heads": n_heads, "patch_size": patch_size, "overlap": overlap},
        readout=readout,
        precision="fp32",
    )
    state = initial_state(program, seed=1)
    # Biases other than their initial zeros.
    weights = jax.tree.map(lambda w: w if w.any() else np.linspace(-1, 1, w.size, dtype=np.float32), state.parameters)
    all_logits = []
    for image in images[:5].reshape(-1, 28, 28) / 255:
        x = linear(patches(image, patch_size, patch_size - overlap), weights["embedding"])
        if readout == "token":
            x = np.concatenate([np.zeros((1, width)), x])
        x = x + weights["positions"]
        for block in weights["blocks"].values():
            x = x + attended(normalized(x, block["norms"][0]), block["attention"], n_heads, width // n_heads)
            x = x + linear(gelu(linear(normalized(x, block["norms"][1]), block["hidden"])), block["output"])
        x = normalized(x, weights["norm"])
        all_logits.append(linear(x[0] if readout == "token" else x.mean(axis=0), weights["logits"]))
    logits = np.stack(all_logits)
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    found = jax.jit(partial(core.predict, program))(weights, state.statistics, images[:5])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_dropout_applies_to_the_embedding_and_to_both_parts_of_each_block() -> None:
    seen: list[tuple[int, tuple[int, ...]]] = []

    class Recorder:
        def __call__(self, layer: int, x: jax.Array) -> jax.Array:
            seen.append((layer, x.shape))
            return x

        def noise(self, _layer: int, x: jax.Array) -> jax.Array:
            return x

    defaults = {name: parameter.default for name, parameter in MODEL.hyperparameters.items()}
    architecture = defaults | {"depth": 2, "width": 8, "patch_size": 4}

    def logits() -> jax.Array:
        network = MODEL.module()((8, 12, 1), 3, architecture, "fp32", rngs=nnx.Rngs(0))
        return network(jnp.ones((2, 8, 12, 1)), Recorder())

    assert jax.eval_shape(logits).shape == (2, 3)
    assert seen == [(layer, (2, 6, 8)) for layer in range(5)]


@pytest.mark.parametrize(("readout", "n_tokens"), [("mean", 16), ("token", 17)])
def test_counts_equal_a_calculation_by_hand(readout: str, n_tokens: int) -> None:
    width, n_hidden, n_pixels = 12, 24, 49
    architecture = {
        **{"patch_size": 7, "overlap": 0, "width": width, "n_heads": 3, "depth": 2, "mlp_ratio": 2.0},
        "readout": readout,
    }
    found = count("transformer", (28, 28, 1), 10, tuple(sorted(architecture.items())))
    kernels = 4 * width * width + 2 * width * n_hidden
    biases = 3 * width + width + n_hidden + width + 4 * width
    attention = 2 * n_tokens * n_tokens * width
    embedding, blocks, logits = 16 * n_pixels * width, 2 * (n_tokens * kernels + attention), 10 * width
    assert found == Counts(
        n_parameters=n_pixels * width + width + n_tokens * width + 2 * (kernels + biases) + 2 * width + logits + 10,
        forward_flops=2 * (embedding + blocks + logits),
        # The gradient of the images is not computed.
        train_flops=4 * embedding + 6 * (blocks + logits),
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_reduces_the_loss_and_repeats_bit_by_bit(
    check_training: Callable[[Program, float], None], precision: str
) -> None:
    program = program_of("transformer", depth=2, width=32, batch_size=50, precision=precision, dropout=0.1)
    check_training(program, 0.003)
