"""The multilayer perceptron."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

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
