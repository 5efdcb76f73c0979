"""A bundle of a small network."""

from pathlib import Path

import pytest
from small_bundle import MODEL, weights_of

from mnist_hpo.bundle.writing import write_bundle
from mnist_hpo.spec.model import Tensors


@pytest.fixture
def weights() -> Tensors:
    return weights_of(5)


@pytest.fixture
def directory(weights: Tensors, tmp_path: Path) -> Path:
    write_bundle(tmp_path / "model", MODEL, weights, {"study": "small", "trial": 7})
    return tmp_path / "model"
