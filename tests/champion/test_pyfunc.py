"""The registered champion, loaded with MLflow in a new process as the README shows."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
from command import ROOT, Folder

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset

PREDICT = """
import json, sys
import mlflow
import numpy as np
images = np.load(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/small@champion")
expected = model.predict(images)
square = images.reshape(-1, 28, 28)
taken = [images.astype("f4"), images.astype("f8"), images.astype("i8"), square, square.astype("f4"), images.tolist()]
errors = []
for refused in (images / np.float32(255), images.astype("i4") - 1, images[0], images[:, 1:], images.astype(str)):
    try:
        model.predict(refused)
        errors.append(None)
    except mlflow.MlflowException as error:
        errors.append([error.error_code, error.message])
print(json.dumps({
    "same": [bool(np.array_equal(model.predict(inputs), expected)) for inputs in taken],
    "errors": errors,
    "n_none": len(model.predict(images[:0])),
}))
"""


def python(folder: Folder, cwd: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = folder.environment(MLFLOW_TRACKING_URI=folder.tracking_uri)
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True)


def test_retrain_prints_no_warnings(retrained: Folder) -> None:
    assert "arning" not in (retrained.path / "retrain.err").read_text()


def test_images_of_any_usual_type_and_shape_are_accepted_and_others_refused(
    retrained: Folder, mnist: PreparedDataset, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", load_search(mnist.directory, "standard").valid_images[:300])
    done = python(retrained, tmp_path, "-c", PREDICT, "images.npy")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"] == [True] * 6
    assert found["n_none"] == 0
    for error, expected in zip(
        found["errors"],
        [r"scaled to 0\.\.1; pass the raw", "from -1 to", r"image\[None\]", r"\(300, 783\)", "type <U"],
        strict=True,
    ):
        assert error is not None, expected
        assert error[0] == "INVALID_PARAMETER_VALUE"
        assert re.search(expected, error[1])


def test_the_readmes_snippet_runs_unchanged(retrained: Folder, mnist: PreparedDataset, tmp_path: Path) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (snippet,) = [snippet for snippet in snippets if "models:/quickstart@champion" in snippet]
    # Only the study's name differs; the working folder is that of the commands.
    done = python(retrained, retrained.path, "-c", snippet.replace("quickstart", "small"))
    assert done.returncode == 0, done.stderr
    (label,) = load_search(mnist.directory, "standard").train_labels[:1]
    assert done.stdout.strip() == f"[{label}]"


DOWNLOAD = """
import pathlib, mlflow
path = mlflow.artifacts.download_artifacts("models:/small@champion", dst_path="model")
weights = next(pathlib.Path(path).rglob("model.safetensors"))
content = bytearray(weights.read_bytes())
content[-1] ^= 1
weights.write_bytes(content)
mlflow.pyfunc.load_model(path)
"""


def test_a_registered_model_with_a_changed_byte_is_not_loaded(retrained: Folder, tmp_path: Path) -> None:
    done = python(retrained, tmp_path, "-c", DOWNLOAD)
    assert done.returncode == 1
    assert "model.safetensors has changed since the model was written" in done.stderr
