"""`serve --runtime onnx` gives the answers of the original model."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from served import start_command

from mnist_hpo.bundle.bundle import load_bundle


@pytest.mark.slow
def test_onnx_runtime_gives_the_answers_of_the_original(model_folder: Path, images: NDArray[np.uint8]) -> None:
    served = start_command(f"{model_folder}/", "--runtime", "onnx")
    predictions = served.predict(images[:40].tolist()).json()["predictions"]
    expected = load_bundle(model_folder).answer(images[:40]).probabilities
    assert np.allclose([entry["probabilities"] for entry in predictions], expected, atol=0.02)
    assert served.stop() == 0
