"""Initial weights have the published variances."""

import math

import jax
import numpy as np
import pytest
from program import program_of

from mnist_hpo.learners.flax.initial import initial_state
from mnist_hpo.spec.study import ParameterValue


def kernels(initializer: str, seed: int = 1, model: str = "mlp", **parameters: ParameterValue) -> dict[str, np.ndarray]:
    state = initial_state(program_of(model, **parameters), seed, initializer)
    leaves = jax.tree_util.tree_flatten_with_path(state.parameters)[0]
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves if path[-1].key == "kernel"}


CASES: list[tuple[str, dict[str, ParameterValue]]] = [
    ("mlp", {"depth": 3, "width": 300, "taper": 0.5}),
    ("mlp", {"depth": 2, "width": 300, "normalization": "batch"}),
    ("cnn", {"architecture": "vgg", "channels": 24}),
    ("cnn", {"architecture": "lenet", "channels": 12, "kernel_size": 5}),
]


@pytest.mark.parametrize(("model", "parameters"), CASES)
@pytest.mark.parametrize("initializer", ["he", "xavier"])
def test_the_variance_follows_from_the_numbers_of_inputs_and_outputs(
    model: str, parameters: dict[str, ParameterValue], initializer: str
) -> None:
    """As in Keras, each of a convolution's inputs is a factor in k · k · n_out products."""
    for path, kernel in kernels(initializer, model=model, **parameters).items():
        *window, n_in, n_out = kernel.shape
        fan_in, fan_out = n_in * math.prod(window), n_out * math.prod(window)
        variance = 2 / fan_in if initializer == "he" else 2 / (fan_in + fan_out)
        # The standard error of a variance of n normal draws is sqrt(2 / n).
        assert kernel.var() == pytest.approx(variance, rel=5 * math.sqrt(2 / kernel.size)), path
        assert abs(kernel.mean()) < 5 * math.sqrt(variance / kernel.size)
        assert np.mean(np.abs(kernel) > 2 * math.sqrt(variance)) == pytest.approx(0.0455, abs=0.03), "normal"


@pytest.mark.parametrize("averaging", ["none", "ema"])
def test_all_else_starts_at_its_neutral_value(averaging: str) -> None:
    state = initial_state(program_of(normalization="batch", averaging=averaging), 1, "xavier")
    for norm, moments in zip(state.parameters["norms"].values(), state.statistics["norms"].values(), strict=True):
        assert (norm["scale"] == 1).all()
        assert not norm["bias"].any()
        assert not moments["mean"].any()
        assert (moments["var"] == 1).all()
    assert not state.parameters["logits"]["bias"].any()
    assert not any(leaf.any() for leaf in jax.tree.leaves((state.optimizer_state, state.step, state.average)))


def test_the_weights_depend_on_the_seed_alone() -> None:
    """Options that have no variables do not change the initial weights, so that trials can be compared."""
    first = kernels("xavier", seed=5)
    for again in (kernels("xavier", seed=5), kernels("xavier", seed=5, averaging="ema", mixup=0.4, rotation=5)):
        assert all(np.array_equal(first[path], again[path]) for path in first)
    assert not any(np.array_equal(first[path], kernel) for path, kernel in kernels("xavier", seed=6).items())
