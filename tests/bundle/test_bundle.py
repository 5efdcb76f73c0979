"""A model on disk loads exactly as it was written, or is refused."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from small_bundle import MODEL, PARAMETERS, weights_of

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.bundle.writing import description_sha256, write_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors


@pytest.fixture
def digits(mnist: PreparedDataset) -> NDArray[np.uint8]:
    return np.asarray(load_search(mnist.directory, "standard").valid_images[:500])


def test_a_bundle_loads_what_was_written(directory: Path, weights: Tensors) -> None:
    bundle = load_bundle(directory)
    assert bundle.model == MODEL
    assert bundle.provenance == {"study": "small", "trial": 7}
    assert bundle.tensors.keys() == weights.keys()
    for name, weight in weights.items():
        assert bundle.tensors[name].tobytes() == weight.tobytes()


def test_predictions_are_those_of_the_network(directory: Path, weights: Tensors, digits: NDArray[np.uint8]) -> None:
    """Compares with the network written in NumPy; predictions use no dropout."""
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


def test_a_bundle_is_tensors_and_json_that_describes_their_use(directory: Path) -> None:
    assert sorted(file.name for file in directory.iterdir()) == ["model.json", "model.safetensors"]
    description = json.loads((directory / "model.json").read_text())
    assert description["classes"] == [str(digit) for digit in range(10)]
    assert description["preprocessing"]["scale"] == "x / 255"
    assert (description["model"], description["parameters"]) == ("mlp", PARAMETERS)
    assert (description["image_shape"], description["n_classes"]) == ([28, 28, 1], 10)


def no_description(directory: Path) -> None:
    (directory / "model.json").unlink()


def no_weights(directory: Path) -> None:
    (directory / "model.safetensors").unlink()


def truncated_description(directory: Path) -> None:
    text = (directory / "model.json").read_text()
    (directory / "model.json").write_text(text[: len(text) // 2])


def truncated_weights(directory: Path) -> None:
    content = (directory / "model.safetensors").read_bytes()
    (directory / "model.safetensors").write_bytes(content[: len(content) // 2])


def a_newer_format(directory: Path) -> None:
    change_description(directory, format=6)


def the_old_format(directory: Path) -> None:
    """A changed format number must not disable the check of the digests."""
    change_description(directory, format=1)


def another_provenance(directory: Path) -> None:
    change_description(directory, provenance={"study": "small", "trial": 8})


def other_weights(directory: Path) -> None:
    """Write other weights of the right names and shapes, in a valid file."""
    weights = load_file(directory / "model.safetensors")
    weights["logits.bias"][3] += np.float32(1e-3)
    save_file(weights, directory / "model.safetensors")


def the_weights_of_another_model(directory: Path) -> None:
    write_bundle(directory.with_name("other"), MODEL, weights_of(6), {})
    (directory / "model.safetensors").write_bytes((directory.with_name("other") / "model.safetensors").read_bytes())


def no_digest_of_the_weights(directory: Path) -> None:
    rewrite_description(directory, files={"model.safetensors": {"n_bytes": 10**9}})


def no_digest_of_the_description(directory: Path) -> None:
    remove_fields(directory, "description_sha256")


def no_digests(directory: Path) -> None:
    remove_fields(directory, "files", "description_sha256")


def a_trailing_byte(directory: Path) -> None:
    with (directory / "model.safetensors").open("ab") as file:
        file.write(b"\0")


def empty_weights_file(directory: Path) -> None:
    (directory / "model.safetensors").write_bytes(b"")


def deep_nesting(directory: Path) -> None:
    (directory / "model.json").write_text("[" * 100_000)


def no_provenance(directory: Path) -> None:
    description = json.loads((directory / "model.json").read_text())
    del description["provenance"]
    (directory / "model.json").write_text(json.dumps(description))


def a_list_as_description(directory: Path) -> None:
    (directory / "model.json").write_text("[1, 2, 3]")


def an_unknown_model(directory: Path) -> None:
    """Name an unknown model in a description with a correct digest."""
    write_bundle(directory, dataclasses.replace(MODEL, model="oracle"), weights_of(5), {})


def a_wider_architecture(directory: Path) -> None:
    write_bundle(directory, dataclasses.replace(MODEL, parameters=PARAMETERS | {"width": 25}), weights_of(5), {})


def a_layer_too_few(directory: Path) -> None:
    weights = dict(weights_of(5))
    del weights["hidden.1.bias"]
    write_bundle(directory, MODEL, weights, {})


def a_layer_too_many(directory: Path) -> None:
    weights = weights_of(5)
    write_bundle(directory, MODEL, {**weights, "hidden.2.bias": weights["hidden.1.bias"]}, {})


def remove_fields(directory: Path, *names: str) -> None:
    description = json.loads((directory / "model.json").read_text())
    kept = {name: value for name, value in description.items() if name not in names}
    (directory / "model.json").write_text(json.dumps(kept))


def read_description(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "model.json").read_text())


def change_description(directory: Path, **changes: object) -> None:
    description = read_description(directory)
    (directory / "model.json").write_text(json.dumps(description | changes))


def rewrite_description(directory: Path, **changes: object) -> None:
    """Change fields of the description, and its digest accordingly."""
    change_description(directory, **changes)
    change_description(directory, description_sha256=description_sha256(read_description(directory)))


@pytest.mark.parametrize(
    "damage",
    [
        no_description,
        no_weights,
        truncated_description,
        truncated_weights,
        a_newer_format,
        the_old_format,
        another_provenance,
        other_weights,
        the_weights_of_another_model,
        no_digest_of_the_weights,
        no_digest_of_the_description,
        no_digests,
        a_trailing_byte,
        empty_weights_file,
        deep_nesting,
        no_provenance,
        a_list_as_description,
        an_unknown_model,
        a_wider_architecture,
        a_layer_too_few,
        a_layer_too_many,
    ],
)
def test_a_damaged_bundle_is_refused(directory: Path, damage) -> None:
    damage(directory)
    with pytest.raises(UserError, match=str(directory)):
        load_bundle(directory)


def test_a_missing_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: not a model of mnist-hpo"):
        load_bundle(tmp_path / "nowhere")


def test_any_changed_bit_of_the_weights_is_refused(directory: Path) -> None:
    """Flips one bit at a time across the file: its length, its header, and each tensor."""
    path = directory / "model.safetensors"
    content = path.read_bytes()
    header_bytes = 8 + int.from_bytes(content[:8], "little")
    for position in [*range(header_bytes), *range(header_bytes, len(content), 4099), len(content) - 1]:
        path.write_bytes(with_a_flipped_bit(content, position))
        with pytest.raises(UserError, match=r"model\.safetensors has changed since the model was written"):
            load_bundle(directory)
    path.write_bytes(content)
    load_bundle(directory)


def test_any_changed_bit_of_the_description_is_refused(directory: Path) -> None:
    path = directory / "model.json"
    content = path.read_bytes()
    fields = json.loads(content)
    for position in range(len(content)):
        changed = with_a_flipped_bit(content, position)
        path.write_bytes(changed)
        try:
            load_bundle(directory)
        except UserError:
            continue
        # Between the fields, one whitespace character may replace another.
        assert json.loads(changed) == fields, position


def with_a_flipped_bit(content: bytes, position: int) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1 << position % 8
    return bytes(changed)


def test_truncated_files_are_refused(directory: Path) -> None:
    for name in ("model.json", "model.safetensors"):
        content = (directory / name).read_bytes()
        # The last byte of the description is only a line feed.
        for length in [*range(0, len(content) - 1, 997), len(content) - 2]:
            (directory / name).write_bytes(content[:length])
            with pytest.raises(UserError, match=str(directory)):
                load_bundle(directory)
        (directory / name).write_bytes(content)


def test_the_message_names_the_file_and_the_fix(directory: Path) -> None:
    other_weights(directory)
    with pytest.raises(
        UserError, match=r"model\.safetensors has changed .*restore the folder, or train the model again"
    ):
        load_bundle(directory)
    a_newer_format(directory)
    with pytest.raises(UserError, match=r"format 6, from a newer mnist-hpo; .* upgrade"):
        load_bundle(directory)


def test_other_files_in_the_folder_are_refused(directory: Path) -> None:
    (directory / "model.py").write_text("print('not run')")
    with pytest.raises(UserError, match=r"'model\.py' does not belong to the model; remove it"):
        load_bundle(directory)


def test_a_link_out_of_the_folder_is_refused(directory: Path, tmp_path: Path) -> None:
    weights = directory / "model.safetensors"
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"model\.safetensors is not a regular file"):
        load_bundle(directory)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..", ".", "", "model.json", "a\0b", "x" * 101])
def test_a_listed_file_outside_the_folder_is_refused(directory: Path, name: str) -> None:
    (directory.parent / "secret").write_bytes(b"")
    files = read_description(directory)["files"]
    rewrite_description(directory, files={**files, name: {"n_bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}})
    with pytest.raises(UserError, match=r"not the name of a file in the folder"):
        load_bundle(directory)


def test_a_file_that_has_grown_is_refused_before_it_is_read(directory: Path) -> None:
    with (directory / "model.safetensors").open("ab") as file:
        file.truncate(2**40)  # A sparse file: reading it would need a terabyte of memory.
    with pytest.raises(UserError, match=r"1,099,511,627,776 bytes, more than"):
        load_bundle(directory)


def test_an_oversized_header_is_refused(directory: Path) -> None:
    """The digests are correct, as in a folder from someone who wants to harm."""
    content = (2**62).to_bytes(8, "little") + b"{" * 100
    (directory / "model.safetensors").write_bytes(content)
    entry = {"n_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewrite_description(directory, files={"model.safetensors": entry})
    with pytest.raises(UserError, match="not a model of mnist-hpo"):
        load_bundle(directory)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": PARAMETERS | {"depth": 10**9}}, "mlp.depth must be from"),
        ({"parameters": PARAMETERS | {"width": 10**9}}, "mlp.width must be from"),
        ({"parameters": PARAMETERS | {"activation": "__import__"}}, "mlp.activation must be one of"),
        ({"parameters": PARAMETERS | {"command": "ls"}}, "mlp.command is unknown"),
        ({"image_shape": [10**6, 10**6, 1]}, "image_shape has 1000000; it must be a whole number from 1 to 4096"),
        ({"n_classes": 10**9}, "n_classes has 1000000000"),
        ({"model": "../../mlp"}, r"unknown model|no model"),
    ],
)
def test_a_description_of_a_huge_or_unknown_network_is_refused(
    directory: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite_description(directory, **changes)
    with pytest.raises(UserError, match=message):
        load_bundle(directory)


def change_to_format_2(directory: Path) -> None:
    """Rewrite the description as an earlier version wrote it; champions of that version exist."""
    remove_fields(directory, "model", "parameters", "image_shape", "n_classes", "files")
    program = {
        "model": "mlp",
        "n_features": 784,
        "n_classes": 10,
        "architecture": {"activation": "tanh", "depth": 2, "width": 24},
        "batch_size": 50,
        "optimizer": "adam",
        "precision": "fp32",
        "with_dropout": True,
    }
    (directory / "model.safetensors").rename(directory / "weights.safetensors")
    sha256 = hashlib.sha256((directory / "weights.safetensors").read_bytes()).hexdigest()
    rewrite_description(directory, format=2, program=program, weights_sha256=sha256)


def test_a_model_of_format_2_predicts_as_before(directory: Path, digits: NDArray[np.uint8]) -> None:
    before = load_bundle(directory).log_probabilities(digits)
    change_to_format_2(directory)
    bundle = load_bundle(directory)
    assert bundle.model.image_shape == (28, 28, 1)
    assert (bundle.log_probabilities(digits) == before).all()


def test_a_model_of_format_1_loads_without_digests(directory: Path, weights: Tensors) -> None:
    change_to_format_2(directory)
    remove_fields(directory, "weights_sha256", "description_sha256")
    change_description(directory, format=1)
    bundle = load_bundle(directory)
    assert all((bundle.tensors[name] == weight).all() for name, weight in weights.items())


def test_images_may_be_flat_or_shaped(directory: Path, digits: NDArray[np.uint8]) -> None:
    bundle = load_bundle(directory)
    assert (bundle.log_probabilities(digits.reshape(-1, 28, 28, 1)) == bundle.log_probabilities(digits)).all()


def test_an_answer_depends_on_no_other_image_and_hardly_on_their_number(
    directory: Path, digits: NDArray[np.uint8]
) -> None:
    """Many images are computed in batches of 1,000, few in small ones; the last bits may differ between these."""
    bundle = load_bundle(directory)
    among_all = bundle.answer(np.tile(digits, (2, 1))).probabilities
    for n in (1, 2, 31, 32, 33, 500):
        few = bundle.answer(digits[:n]).probabilities
        np.testing.assert_array_equal(few, bundle.answer(digits[:500]).probabilities[:n])
        np.testing.assert_allclose(few, among_all[:n], rtol=0, atol=1e-6)
