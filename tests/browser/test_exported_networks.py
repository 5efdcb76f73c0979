"""The scripts of an exported page compute the answers of the networks that Python runs."""

import base64
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from flax import nnx
from numpy.typing import NDArray
from playwright.sync_api import Page

from mnist_hpo.bundle.bundle import predictor_of
from mnist_hpo.bundle.quantization import WeightType, dequantize, quantize
from mnist_hpo.bundle.reading import StoredModel
from mnist_hpo.bundle.writing import ModelDescription
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.serving.exported_page.description import describe_model
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import Choice

pytestmark = pytest.mark.browser

SHAPE = (28, 28, 1)
PREDICT = """([model, base64]) => {
  const pixels = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
  const network = new Network(model.network, new Arrays(model.arrays));
  return Array.from({ length: pixels.length / 784 }, (_, i) =>
    Array.from(network.logProbabilities(pixels.subarray(784 * i, 784 * (i + 1)))));
}"""

ACTIVATE = "names => names.map((name) => [-30, -3, -0.5, 0, 1e-3, 2, 40].map(ACTIVATIONS[name]))"

MODELS: list[tuple[str, dict[str, Any]]] = [
    ("mlp", {"width": 24, "depth": 3, "normalization": "batch", "residual": "yes", "precision": "fp32"}),
    ("mlp", {"width": 24, "taper": 0.5, "normalization": "layer", "residual": "yes", "precision": "bf16"}),
    ("cnn", {"channels": 4, "precision": "bf16"}),
    ("cnn", {"architecture": "lenet", "activation": "tanh", "channels": 3, "kernel_size": 4, "precision": "fp32"}),
]
MORE_MODELS: list[tuple[str, dict[str, Any]]] = [
    ("mlp", {"depth": 1, "precision": "fp32", "activation": "leaky_relu"}),
    ("mlp", {"depth": 4, "taper": 0.7, "residual": "yes", "normalization": "batch", "activation": "elu"}),
    ("mlp", {"width": 64, "normalization": "layer", "activation": "sigmoid", "precision": "fp32"}),
    ("cnn", {"channels": 16}),
    ("cnn", {"channels": 5, "kernel_size": 4, "activation": "gelu", "precision": "fp32"}),
    ("cnn", {"channels": 2, "kernel_size": 11, "activation": "silu"}),
    ("cnn", {"architecture": "lenet", "channels": 6, "kernel_size": 5}),
]


@pytest.fixture
def script(page: Page) -> Page:
    """A page with the script, which forbids code from strings."""
    page.set_content("<meta http-equiv='Content-Security-Policy' content=\"script-src 'unsafe-inline'\">")
    folder = files("mnist_hpo.serving.exported_page").joinpath("assets")
    for name in ("network.js", "recogniser.js"):
        page.add_script_tag(content=folder.joinpath(name).read_text(encoding="utf-8"))
    return page


@pytest.fixture(scope="module")
def images(mnist: PreparedDataset) -> NDArray[np.uint8]:
    return np.asarray(load_search(mnist.directory, "standard").valid_images[:32])


def initial(model: str, parameters: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Return the tensors of a model whose biases and statistics are random too, so that each of them counts."""
    blank = Examples(np.zeros((1, *SHAPE), np.uint8), np.zeros(1, np.uint8))
    learner = LearnerFactory().make(TrainingConfig(model, parameters, 0, 1), blank, n_classes=10)
    rng = np.random.default_rng(0)
    return {
        name: array if array.ndim > 1 else rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
        for name, array in learner.model(learner.start()).items()
    }


def stored_model(model: str, parameters: Mapping[str, Any], tensors: Any) -> StoredModel:
    return StoredModel(
        ModelDescription(model, dict(parameters), SHAPE, 10), tensors, {}, (), {}, {}, "model.safetensors"
    )


def answers_of_script(
    script: Page, stored: StoredModel, images: NDArray[np.uint8], weight_type: WeightType
) -> NDArray[np.float64]:
    model = describe_model(stored, None, weight_type)
    return np.array(script.evaluate(PREDICT, [model, base64.b64encode(images.tobytes()).decode()]))


def assert_alike(script: Page, models: list[tuple[str, dict[str, Any]]], images: NDArray[np.uint8]) -> None:
    for model, parameters in models:
        tensors = initial(model, parameters)
        stored = stored_model(model, parameters, dequantize(quantize(tensors, "bf16")))
        expected = predictor_of(stored)(images.reshape(-1, *SHAPE))
        is_exact = parameters.get("precision") == "fp32"
        assert np.ptp(expected, axis=0).max() > 0.005  # The images are told apart.
        found = answers_of_script(script, stored, images, "bf16")
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 if is_exact else 2e-3, err_msg=str(parameters))


def test_every_kind_of_layer_is_computed_alike(script: Page, images: NDArray[np.uint8]) -> None:
    assert_alike(script, MODELS, images)


@pytest.mark.slow
def test_more_models_are_computed_alike(script: Page, images: NDArray[np.uint8]) -> None:
    assert_alike(script, MORE_MODELS, images)


def test_every_activation_is_that_of_flax(script: Page) -> None:
    names = sorted({name for model in ("mlp", "cnn") for name in choices_of(model)})
    x = np.array([-30, -3, -0.5, 0, 1e-3, 2, 40], np.float32)
    expected = [np.asarray(getattr(nnx, name)(x)) for name in names]
    np.testing.assert_allclose(script.evaluate(ACTIVATE, names), expected, rtol=2e-6, atol=1e-7)


def choices_of(model: str) -> tuple[Any, ...]:
    found = find_model(model)
    assert isinstance(found, FlaxModel)
    activation = found.hyperparameters["activation"]
    assert isinstance(activation, Choice)
    return activation.choices


def test_weights_in_8_bits_give_the_answers_of_the_quantized_model(script: Page, images: NDArray[np.uint8]) -> None:
    parameters = {"width": 24, "depth": 1, "precision": "fp32"}
    tensors = initial("mlp", parameters)
    found = answers_of_script(script, stored_model("mlp", parameters, tensors), images, "int8")
    quantized = stored_model("mlp", parameters, dequantize(quantize(tensors, "int8")))
    np.testing.assert_allclose(found, predictor_of(quantized)(images.reshape(-1, *SHAPE)), rtol=0, atol=2e-5)
