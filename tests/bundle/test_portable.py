"""A model converted to StableHLO or ONNX gives the original's answers, for any number of images."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.bundle.bundle import predictor_of
from mnist_hpo.bundle.combination import METHODS, Method
from mnist_hpo.bundle.portable import load_onnx, load_stablehlo, onnx_model, stablehlo
from mnist_hpo.bundle.quantization import WeightType, dequantize, quantize
from mnist_hpo.bundle.reading import StoredModel, read_model
from mnist_hpo.bundle.writing import ModelDescription, write_bundle, write_ensemble
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples, Predictor
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.parameter import ParameterSet

SMALL = {"depth": 2, "width": 32, "normalization": "batch"}
NETWORKS = [
    ("mlp", SMALL),
    ("mlp", {"depth": 3, "width": 32, "normalization": "layer", "activation": "gelu", "residual": "yes"}),
    ("cnn", {"architecture": "vgg", "channels": 4}),
    ("cnn", {"architecture": "lenet", "channels": 3}),
    ("rnn", {"cell": "gru", "direction": "both", "width": 16}),
    ("rnn", {"cell": "lstm", "width": 16, "readout": "mean"}),
    ("transformer", {"width": 32, "depth": 1, "patch_size": 7}),
]


@pytest.fixture(scope="module")
def digits(mnist: PreparedDataset) -> NDArray[np.uint8]:
    return np.asarray(load_search(mnist.directory, "standard").valid_images[:50]).reshape(-1, 28, 28, 1)


def trained(model: str, parameters: ParameterSet, mnist: PreparedDataset, seed: int = 0) -> Tensors:
    """A model after an epoch of a thousand examples, so that its normalisation has statistics."""
    data = load_search(mnist.directory, "standard")
    images = np.asarray(data.train_images[:1000]).reshape(-1, 28, 28, 1)
    examples = Examples(images, np.asarray(data.train_labels[:1000]))
    learner = LearnerFactory().make(TrainingConfig(model, parameters, seed, 1), examples, n_classes=10)
    return learner.model(learner.advance(learner.start(), 1).state)


def stored(model: str, parameters: ParameterSet, mnist: PreparedDataset, folder: Path) -> StoredModel:
    description = ModelDescription(model, parameters, (28, 28, 1), 10)
    write_bundle(folder, description, trained(model, parameters, mnist), {})
    return read_model(folder)


def stored_ensemble(method: Method, mnist: PreparedDataset, folder: Path) -> StoredModel:
    members = [(ModelDescription("mlp", SMALL, (28, 28, 1), 10), trained("mlp", SMALL, mnist, seed)) for seed in (0, 1)]
    rng = np.random.default_rng(0)
    if method == "stacking":
        combination = {"coefficients": rng.normal(size=(20, 10)), "intercepts": rng.normal(size=10)}
    else:
        combination = {"weights": np.array([0.7, 0.3])}
    write_ensemble(folder, members, method, combination, {})
    return read_model(folder)


def converted_to_onnx(model: StoredModel) -> Predictor:
    with jax.numpy_rank_promotion("allow"):  # The converter's own layers need it.
        return load_onnx(onnx_model(model))


def largest_difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    return float(np.abs(np.exp(first) - np.exp(second)).max())


def check_stablehlo(model: StoredModel, digits: NDArray[np.uint8], tensors: Tensors | None = None) -> None:
    tensors = model.tensors if tensors is None else tensors
    predict = load_stablehlo(stablehlo(model, tensors), tensors)
    for n in (1, 50):
        assert largest_difference(predict(digits[:n]), predictor_of(model)(digits[:n])) < 0.02


@pytest.mark.parametrize("weight_type", ["fp32", "bf16", "int8"])
def test_stablehlo_takes_the_weights_as_they_are_in_the_file(
    mnist: PreparedDataset, digits: NDArray[np.uint8], tmp_path: Path, weight_type: WeightType
) -> None:
    original = stored("mlp", SMALL, mnist, tmp_path / "model")
    tensors = quantize(original.tensors, weight_type)
    program = stablehlo(original, tensors)
    assert len(program) < 20_000, "the weights are not in the program"
    predict = load_stablehlo(program, tensors)
    expected = predictor_of(replace(original, tensors=dequantize(tensors)))
    assert largest_difference(predict(digits), expected(digits)) < 0.005


@pytest.mark.parametrize("method", ["vote", "stacking"])
def test_an_ensemble_is_one_program(
    mnist: PreparedDataset, digits: NDArray[np.uint8], tmp_path: Path, method: Method
) -> None:
    check_stablehlo(stored_ensemble(method, mnist, tmp_path / "model"), digits)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_onnx_gives_the_answers_of_the_original(
    mnist: PreparedDataset, digits: NDArray[np.uint8], tmp_path: Path, precision: str
) -> None:
    model = stored("mlp", {**SMALL, "width": 24, "precision": precision}, mnist, tmp_path / "model")
    predict = converted_to_onnx(model)
    for n in (1, 50):
        assert largest_difference(predict(digits[:n]), predictor_of(model)(digits[:n])) < 0.02


def test_a_model_of_scikit_learn_cannot_be_converted(mnist: PreparedDataset, tmp_path: Path) -> None:
    description = ModelDescription("logistic", {}, (28, 28, 1), 10)
    write_bundle(tmp_path / "model", description, {"weights": np.zeros(1)}, {})
    with pytest.raises(UserError, match="only neural networks can be converted"):
        onnx_model(read_model(tmp_path / "model"))


@pytest.mark.slow
@pytest.mark.parametrize(("model", "parameters"), NETWORKS)
def test_all_networks_can_be_converted(
    mnist: PreparedDataset, digits: NDArray[np.uint8], tmp_path: Path, model: str, parameters: ParameterSet
) -> None:
    original = stored(model, parameters, mnist, tmp_path / "model")
    check_stablehlo(original, digits)
    predict = converted_to_onnx(original)
    assert largest_difference(predict(digits), predictor_of(original)(digits)) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_all_ensembles_can_be_converted(
    mnist: PreparedDataset, digits: NDArray[np.uint8], tmp_path: Path, method: Method
) -> None:
    original = stored_ensemble(method, mnist, tmp_path / "model")
    check_stablehlo(original, digits)
    predict = converted_to_onnx(original)
    assert largest_difference(predict(digits), predictor_of(original)(digits)) < 0.02
