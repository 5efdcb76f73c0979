"""A model on disk comes back as it was, or is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.bundle.writing import write_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.errors import UserError
from mnist_hpo.training.hyperparameters import Program, split
from mnist_hpo.training.initial import initial_state
from mnist_hpo.training.weights import named

PARAMETERS = {"depth": 2, "width": 24, "activation": "tanh", "dropout": 0.3, "batch_size": 50, "precision": "fp32"}


@pytest.fixture
def program() -> Program:
    return split("mlp", PARAMETERS, n_features=784, n_classes=10)[0]


@pytest.fixture
def weights(program: Program) -> dict[str, NDArray[np.float32]]:
    return named(initial_state(program, seed=5).parameters)


@pytest.fixture
def directory(program: Program, weights: dict[str, NDArray[np.float32]], tmp_path: Path) -> Path:
    write_bundle(tmp_path / "model", program, weights, {"study": "small", "trial": 7})
    return tmp_path / "model"


@pytest.fixture
def digits(mnist: PreparedDataset) -> NDArray[np.uint8]:
    return np.asarray(load_search(mnist.directory, "standard").valid_images[:500])


def test_it_comes_back_whole(directory: Path, program: Program, weights: dict[str, NDArray[np.float32]]) -> None:
    bundle = load_bundle(directory)
    assert bundle.program == program
    assert bundle.provenance == {"study": "small", "trial": 7}
    assert bundle.weights.keys() == weights.keys()
    for name, weight in weights.items():
        assert bundle.weights[name].tobytes() == weight.tobytes()


def test_it_predicts_what_the_weights_say(
    directory: Path, weights: dict[str, NDArray[np.float32]], digits: NDArray[np.uint8]
) -> None:
    """Against the network written out in NumPy; at prediction there is no dropout."""
    x = digits.astype(np.float64) / 255
    for layer in ("hidden.0", "hidden.1"):
        x = np.tanh(x @ weights[f"{layer}.kernel"] + weights[f"{layer}.bias"])
    logits = x @ weights["logits.kernel"] + weights["logits.bias"]
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    found = load_bundle(directory).log_probabilities(digits)
    assert (found.shape, found.dtype) == ((500, 10), np.float32)
    np.testing.assert_allclose(found, log_probabilities, atol=1e-5)


def test_another_process_predicts_the_same_bits(directory: Path, digits: NDArray[np.uint8], tmp_path: Path) -> None:
    np.save(tmp_path / "digits.npy", digits)
    program = """
import sys, pathlib, numpy as np
from mnist_hpo.bundle.bundle import load_bundle
bundle = load_bundle(pathlib.Path(sys.argv[1]))
sys.stdout.buffer.write(bundle.log_probabilities(np.load(sys.argv[2])).tobytes())
assert not {"mlflow", "optuna", "tensorflow_datasets"} & set(sys.modules)
"""
    command = [sys.executable, "-c", program, str(directory), str(tmp_path / "digits.npy")]
    found = subprocess.run(command, env=os.environ, stdout=subprocess.PIPE, check=True).stdout
    assert found == load_bundle(directory).log_probabilities(digits).tobytes()


def test_it_is_tensors_and_json_and_says_how_to_use_them(directory: Path) -> None:
    assert sorted(file.name for file in directory.iterdir()) == ["model.json", "weights.safetensors"]
    description = json.loads((directory / "model.json").read_text())
    assert description["classes"] == [str(digit) for digit in range(10)]
    assert description["preprocessing"]["scale"] == "x / 255"
    assert description["program"]["architecture"] == {"activation": "tanh", "depth": 2, "width": 24}


def no_description(directory: Path) -> None:
    (directory / "model.json").unlink()


def no_weights(directory: Path) -> None:
    (directory / "weights.safetensors").unlink()


def half_a_description(directory: Path) -> None:
    text = (directory / "model.json").read_text()
    (directory / "model.json").write_text(text[: len(text) // 2])


def half_the_weights(directory: Path) -> None:
    content = (directory / "weights.safetensors").read_bytes()
    (directory / "weights.safetensors").write_bytes(content[: len(content) // 2])


def another_format(directory: Path) -> None:
    change_description(directory, format=2)


def no_provenance(directory: Path) -> None:
    description = json.loads((directory / "model.json").read_text())
    del description["provenance"]
    (directory / "model.json").write_text(json.dumps(description))


def a_description_of_nothing(directory: Path) -> None:
    (directory / "model.json").write_text("[1, 2, 3]")


def an_unknown_model(directory: Path) -> None:
    program = json.loads((directory / "model.json").read_text())["program"]
    change_description(directory, program=program | {"model": "oracle"})


def a_wider_architecture(directory: Path) -> None:
    program = json.loads((directory / "model.json").read_text())["program"]
    change_description(directory, program=program | {"architecture": program["architecture"] | {"width": 25}})


def a_layer_too_few(directory: Path) -> None:
    weights = load_file(directory / "weights.safetensors")
    del weights["hidden.1.bias"]
    save_file(weights, directory / "weights.safetensors")


def a_layer_too_many(directory: Path) -> None:
    weights = load_file(directory / "weights.safetensors")
    save_file(weights | {"hidden.2.bias": weights["hidden.1.bias"].copy()}, directory / "weights.safetensors")


def change_description(directory: Path, **changes: object) -> None:
    description = json.loads((directory / "model.json").read_text())
    (directory / "model.json").write_text(json.dumps(description | changes))


@pytest.mark.parametrize(
    "damage",
    [
        no_description,
        no_weights,
        half_a_description,
        half_the_weights,
        another_format,
        no_provenance,
        a_description_of_nothing,
        an_unknown_model,
        a_wider_architecture,
        a_layer_too_few,
        a_layer_too_many,
    ],
)
def test_a_broken_one_is_refused(directory: Path, damage) -> None:
    damage(directory)
    with pytest.raises(UserError, match=str(directory)):
        load_bundle(directory)


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: not a model of mnist-hpo"):
        load_bundle(tmp_path / "nowhere")
