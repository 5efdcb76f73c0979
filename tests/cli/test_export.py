"""`export`, `bundle verify` and `predict`: hand a model on, check it, and read pictures with it."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Folder
from PIL import Image

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset


@pytest.fixture(scope="module")
def model(finished: Folder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the model of the best trial."""
    best = finished.status()["best"]["number"]
    found = next((finished.path / "mlruns" / "checkpoints").rglob(f"best-{best:05d}"))
    return Path(shutil.copytree(found, tmp_path_factory.mktemp("handed-on") / "model"))


@pytest.fixture(scope="module")
def pictures(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of validation digits, dark on light, six times as large."""
    folder = tmp_path_factory.mktemp("pictures")
    paths = [folder / f"{index}.png" for index in range(20)]
    for path, digit in zip(paths, load_search(mnist.directory, "standard").valid_images, strict=False):
        Image.fromarray(255 - digit.reshape(28, 28)).resize((168, 168), Image.Resampling.BICUBIC).save(path)
    return paths


def predictions(folder: Folder, *arguments: str | Path) -> list[dict[str, Any]]:
    return folder.call("predict", *map(str, arguments), "--json").json()["predictions"]


def test_a_model_is_verified(finished: Folder, model: Path) -> None:
    found = finished.call("bundle", "verify", str(model), "--json").json()
    assert found["origin"]["study"] == "small"
    assert found["files"].keys() == {"model.safetensors"}
    assert "ok: mlp, format 5" in finished.call("bundle", "verify", str(model)).out


def test_a_changed_model_is_refused_with_the_file(finished: Folder, model: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(model, tmp_path / "model"))
    content = bytearray((copy / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (copy / "model.safetensors").write_bytes(content)
    outcome = finished.call("bundle", "verify", str(copy))
    assert outcome.code == 2
    assert "model.safetensors has changed since the model was written" in outcome.err
    assert "Traceback" not in outcome.err


def test_pictures_are_read_like_the_digits_that_they_show(
    finished: Folder, model: Path, pictures: list[Path], mnist: PreparedDataset
) -> None:
    found = predictions(finished, *pictures, "--model", f"{model}/")
    assert [entry["file"] for entry in found] == [str(path) for path in pictures]
    digits = np.asarray(load_search(mnist.directory, "standard").valid_images[: len(pictures)])
    expected = load_bundle(model).log_probabilities(digits).argmax(axis=1)
    agreeing = [entry["digit"] == digit for entry, digit in zip(found, expected, strict=True)]
    assert sum(agreeing) >= 18
    assert all(sum(entry["probabilities"]) == pytest.approx(1, abs=1e-5) for entry in found)


def test_a_blank_picture_is_doubtful(finished: Folder, model: Path, tmp_path: Path) -> None:
    Image.new("L", (90, 90), 255).save(tmp_path / "blank.png")
    (entry,) = predictions(finished, tmp_path / "blank.png", "--model", f"{model}/")
    assert entry["doubtful"]


def test_what_the_network_saw_is_shown(finished: Folder, model: Path, pictures: list[Path]) -> None:
    out = finished.call("predict", str(pictures[0]), "--model", f"{model}/", "--show").out
    assert f"{pictures[0]}: " in out
    assert "██" in out


@pytest.mark.parametrize(("content", "message"), [(b"GIF89a", "digit.png: "), (None, "digit.png: cannot be read")])
def test_an_unreadable_picture_is_refused(
    finished: Folder, model: Path, tmp_path: Path, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "digit.png").write_bytes(content)
    outcome = finished.call("predict", str(tmp_path / "digit.png"), "--model", f"{model}/")
    assert outcome.code == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_an_exported_model_has_digests_figures_and_doubt(
    finished: Folder, pictures: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "exported"
    found = finished.call("export", "small", "--out", str(out), "--weights", "int8", "--onnx", "--json").json()
    assert found["files"].keys() == {"model.safetensors", "doubt.safetensors", "model.stablehlo", "model.onnx"}
    checked = json.loads((out / "model.json").read_text())["programs"]["model.onnx"]["checked"]
    assert checked["n_images"] == 10_000
    assert checked["n_same_digit"] >= 9_990
    assert finished.call("bundle", "verify", str(out), "--json").json() == found
    bundle = load_bundle(out)
    assert bundle.doubt is not None
    noise = np.random.default_rng(0).integers(0, 256, (50, 784)).astype(np.uint8)
    assert bundle.answer(noise).doubtful.mean() > 0.9
    exported = predictions(finished, *pictures, "--model", f"{out}/")
    of_study = predictions(finished, *pictures, "--model", "small")
    assert [entry["digit"] for entry in exported] == [entry["digit"] for entry in of_study]
    assert [entry["doubtful"] for entry in exported] == [entry["doubtful"] for entry in of_study]


def test_export_replaces_no_other_folder(finished: Folder, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "summer.jpg").touch()
    outcome = finished.call("export", "small", "--out", str(tmp_path / "photos"))
    assert outcome.code == 2
    assert "is not replaced because it is no model" in outcome.err
    assert (tmp_path / "photos" / "summer.jpg").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either --out DIR or --page FILE"),
        (("--out", "a", "--page", "a.html"), "give either --out DIR or --page FILE"),
        (("--page", "a.html", "--weights", "fp32"), "--weights 'fp32': known are bf16, int8"),
        (("--page", "a.html", "--json"), "--json is for folders"),
        (("--page", "photo.html"), "is not a page written by mnist-hpo"),
    ],
)
def test_an_export_that_cannot_be_written_is_refused(
    finished: Folder, arguments: tuple[str, ...], message: str
) -> None:
    (finished.path / "photo.html").write_text("<img>")
    outcome = finished.call("export", "small", *arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert not (finished.path / "a").exists()
    assert not (finished.path / "a.html").exists()
