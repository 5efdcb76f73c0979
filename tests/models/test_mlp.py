"""The multilayer perceptron equals a NumPy implementation, in values and in gradients."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray
from scipy.special import expit

from mnist_hpo.layers.dropout import no_dropout
from mnist_hpo.models.mlp import MODEL
from mnist_hpo.spec.study import ParameterValue


def mlp(precision: str = "fp32", **architecture: ParameterValue) -> nnx.Module:
    defaults = {name: parameter.default for name, parameter in MODEL.hyperparameters.items()}
    return MODEL.module()((6,), 3, defaults | architecture, precision, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu", "tanh"])
def test_the_mlp_equals_its_formula(activation: str) -> None:
    model = mlp(depth=2, width=4, activation=activation)
    x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(2, 6)
    function = getattr(jnp, activation) if activation == "tanh" else getattr(jax.nn, activation)
    weights = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    expected = x
    for layer in range(2):
        linear = weights["hidden"][layer]
        expected = np.asarray(function(expected @ linear["kernel"] + linear["bias"][None]))
    expected = expected @ weights["logits"]["kernel"] + weights["logits"]["bias"][None]
    np.testing.assert_allclose(model(x, no_dropout), expected, rtol=1e-5, atol=1e-6)


def test_noise_and_dropout_apply_to_every_hidden_layer_but_not_to_the_logits() -> None:
    seen: list[tuple[str, int, tuple[int, ...]]] = []

    class Recorder:
        def __call__(self, layer: int, x: jax.Array) -> jax.Array:
            seen.append(("dropout", layer, x.shape))
            return x

        def noise(self, layer: int, x: jax.Array) -> jax.Array:
            seen.append(("noise", layer, x.shape))
            return x

    logits = mlp(depth=3, width=4)(jnp.ones((2, 6)), Recorder())
    assert seen == [(kind, layer, (2, 4)) for layer in range(3) for kind in ("noise", "dropout")]
    assert logits.shape == (2, 3)


Array = NDArray[np.float64]

ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "silu": lambda x: x * expit(x),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "sigmoid": expit,
}

SHAPES: list[dict[str, ParameterValue]] = [
    {"normalization": "batch"},
    {"normalization": "layer"},
    {"residual": "yes", "depth": 4},
    {"normalization": "batch", "residual": "yes", "depth": 3},
    {"normalization": "layer", "residual": "yes", "depth": 3, "width": 6},
    {"taper": 0.6, "depth": 4, "width": 9},
    {"taper": 0.9, "depth": 4, "width": 4, "residual": "yes", "normalization": "layer"},
    {"taper": 0.01, "depth": 3, "width": 50},
]


@dataclass(frozen=True, eq=False)
class Model:
    """An MLP whose variables are all random: scales of one and biases of zero would hide mistakes."""

    graph: Any
    parameters: Any
    moments: Any

    def call(self, parameters: Any, x: jax.Array) -> tuple[jax.Array, Any]:
        """Return the logits and the running moments after the call."""
        model = nnx.merge(self.graph, parameters, jax.tree.map(jnp.asarray, self.moments))
        return model(x, no_dropout), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    def in_float64(self) -> tuple[Any, Any]:
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), (self.parameters, self.moments))


def random_model(architecture: dict[str, ParameterValue], *, training: bool) -> Model:
    rng = np.random.default_rng(0)

    def draw(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> NDArray[np.float32]:
        values = rng.standard_normal(leaf.shape)
        return np.asarray(np.abs(values) + 0.5 if "var" in jax.tree_util.keystr(path) else values, np.float32)

    model = nnx.eval_shape(lambda: mlp(**architecture))
    model.train() if training else model.eval()
    kinds = (nnx.to_pure_dict(nnx.state(model, kind)) for kind in (nnx.Param, nnx.BatchStat))
    return Model(nnx.graphdef(model), *(jax.tree.map_with_path(draw, kind) for kind in kinds))


def formula(
    parameters: Any, moments: Any, x: Array, architecture: dict[str, ParameterValue], *, training: bool
) -> Array:
    """Compute the logits from the description of the model, in float64."""
    normalization, depth = architecture.get("normalization", "none"), int(architecture["depth"])
    activation = ACTIVATIONS[str(architecture.get("activation", "relu"))]
    for layer in range(depth):
        linear = parameters["hidden"][layer]
        y = x @ linear["kernel"]
        if normalization == "none":
            y = y + linear["bias"]
        else:
            if normalization == "layer":
                mean, variance, epsilon = y.mean(axis=1, keepdims=True), y.var(axis=1, keepdims=True), 1e-6
            elif training:
                mean, variance, epsilon = y.mean(axis=0), y.var(axis=0), 1e-5
            else:
                mean, variance, epsilon = moments["norms"][layer]["mean"], moments["norms"][layer]["var"], 1e-5
            norm = parameters["norms"][layer]
            y = (y - mean) / np.sqrt(variance + epsilon) * norm["scale"] + norm["bias"]
        y = activation(y)
        x = x + y if architecture.get("residual") == "yes" and layer > 0 and x.shape == y.shape else y
    return x @ parameters["logits"]["kernel"] + parameters["logits"]["bias"]


def complete(architecture: dict[str, ParameterValue]) -> dict[str, ParameterValue]:
    return {"depth": 2, "width": 5} | architecture


X = np.random.default_rng(1).standard_normal((8, 6))


@pytest.mark.parametrize("architecture", [*SHAPES, *({"activation": name} for name in ACTIVATIONS)], ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_every_architecture_equals_its_formula(architecture: dict[str, ParameterValue], training: bool) -> None:
    model = random_model(complete(architecture), training=training)
    parameters, moments = model.in_float64()
    found, after = jax.jit(model.call)(model.parameters, jnp.asarray(X, jnp.float32))
    expected = formula(parameters, moments, X, complete(architecture), training=training)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4)
    if architecture.get("normalization") == "batch":
        first, before = X @ parameters["hidden"][0]["kernel"], moments["norms"][0]
        share = 0.05 if training else 0.0
        for name, value in (("mean", first.mean(axis=0)), ("var", first.var(axis=0))):
            np.testing.assert_allclose(after["norms"][0][name], (1 - share) * before[name] + share * value, rtol=1e-4)


@pytest.mark.parametrize("architecture", SHAPES[:-1], ids=str)
def test_gradients_equal_finite_differences(architecture: dict[str, ParameterValue]) -> None:
    """Uses a smooth activation, and differences of the formula in float64, so that both errors are small."""
    architecture = complete(architecture | {"activation": "tanh"})
    model, direction = random_model(architecture, training=True), np.random.default_rng(2).standard_normal((8, 3))
    parameters, moments = model.in_float64()

    def loss(parameters: Any) -> jax.Array:
        return jnp.sum(model.call(parameters, jnp.asarray(X, jnp.float32))[0] * jnp.asarray(direction, jnp.float32))

    found = jax.jit(jax.grad(loss))(model.parameters)
    for path, weights in jax.tree_util.tree_flatten_with_path(parameters)[0]:
        slopes, expected = found, np.empty_like(weights)
        for key in path:
            slopes = slopes[key.key]
        for place in np.ndindex(weights.shape):
            value, losses = weights[place], []
            for moved in (value + 1e-5, value - 1e-5):
                weights[place] = moved
                losses.append(np.sum(formula(parameters, moments, X, architecture, training=True) * direction))
            weights[place] = value
            expected[place] = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(slopes, expected, rtol=1e-3, atol=1e-3, err_msg=jax.tree_util.keystr(path))


@pytest.mark.parametrize(
    ("taper", "widths"), [(1.0, [100, 100, 100]), (0.5, [100, 50, 25]), (0.01, [100, 1, 1]), (0.33, [100, 33, 11])]
)
def test_the_widths_taper_to_at_least_one(taper: float, widths: list[int]) -> None:
    parameters = random_model({"depth": 3, "width": 100, "taper": taper}, training=False).parameters
    shapes = [parameters["hidden"][layer]["kernel"].shape for layer in range(3)]
    assert shapes == list(zip([6, *widths[:-1]], widths, strict=True))
    assert parameters["logits"]["kernel"].shape == (widths[-1], 3)


def test_only_layers_without_a_normalisation_have_a_bias() -> None:
    for normalization, has_bias in (("none", True), ("batch", False), ("layer", False)):
        architecture = {"depth": 2, "width": 4, "normalization": normalization}
        parameters = random_model(architecture, training=False).parameters
        assert all(("bias" in layer) == has_bias for layer in parameters["hidden"].values())
        assert "bias" in parameters["logits"]
