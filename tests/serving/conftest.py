"""Running services, shared by tests that do not end them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from served import TOKEN, Served, start_command, start_program, write_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("served") / "model", 7)


@pytest.fixture(scope="session")
def images() -> NDArray[np.uint8]:
    """u8[256, 784] with strokes of random lightness."""
    rng = np.random.default_rng(0)
    return np.where(rng.random((256, 784)) < 0.2, rng.integers(0, 256, (256, 784)), 0).astype(np.uint8)


@pytest.fixture(scope="session")
def service(model_folder: Path) -> Iterator[Served]:
    """A service that was started by the command, without options."""
    served = start_command(f"{model_folder}/")
    yield served
    assert served.stop() == 0
    assert "Traceback" not in served.err()


@pytest.fixture(scope="session")
def limited(model_folder: Path) -> Iterator[Served]:
    """A service with low limits and a token."""
    limits = {
        "connections": 12,
        "head_bytes": 2000,
        "requests": 3,
        "receive_s": 1.0,
        "upload_bytes": 20_000,
        "json_bytes": 10_000,
        "pixels": 10_000,
        "images": 20,
        "explained_images": 2,
    }
    served = start_program(model_folder, limits=limits, token=TOKEN)
    yield served
    assert served.stop() == 0
    assert "Traceback" not in served.err()
