"""Under load, neither the end of the service nor a new model loses a request."""

from pathlib import Path

import numpy as np
import pytest
from load import Load
from numpy.typing import NDArray
from served import Served, start_command, start_program, write_model

from mnist_hpo.bundle.bundle import load_bundle


def test_sigterm_answers_all_requests_first(model_folder: Path, images: NDArray[np.uint8]) -> None:
    served = start_command(f"{model_folder}/")
    load = Load(served, images[:1].tolist(), n_clients=24)
    load.wait_for(200)
    code = served.stop()
    load.join()
    assert code == 0
    assert load.outcomes.keys() == {"answered", "refused"}, load.outcomes
    assert load.outcomes["refused"] == 24
    assert "Traceback" not in served.err()


def switch(alias: Path, version: str) -> None:
    new = alias.with_name("new")
    new.write_text(version)
    new.replace(alias)


def wait_for_event(served: Served, event: str, n: int = 1) -> None:
    while sum(line["event"] == event for line in served.log()) < n:
        assert served.process.poll() is None


def test_a_new_model_takes_over_without_losing_a_request(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    """In between, the alias names a version that cannot be loaded; the model before it goes on."""
    for version in ("1", "3"):
        write_model(tmp_path / version, int(version))
    (tmp_path / "alias").write_text("1")
    served = start_program(tmp_path / "1", alias=str(tmp_path / "alias"))
    load = Load(served, images[:1].tolist(), n_clients=8)
    load.wait_for(50)
    switch(tmp_path / "alias", "2")
    wait_for_event(served, "model_not_loaded")
    load.wait_for(50)
    assert {version for version, _ in load.answers} == {"1"}
    switch(tmp_path / "alias", "3")
    wait_for_event(served, "model_loaded", 2)
    load.wait_for(100)
    load.stop()
    assert load.outcomes.keys() == {"answered"}, load.outcomes
    assert served.get("/v1/model").json()["version"] == "3"
    metrics = served.get("/metrics").text
    assert 'mnist_hpo_model_swaps_total{outcome="loaded"} 1.0' in metrics
    assert 'mnist_hpo_model_swaps_total{outcome="failed"} 1.0' in metrics
    # Each answer is the one of the model that it names.
    assert {version for version, _ in load.answers} == {"1", "3"}
    assert len(load.answers) == 2
    for version, answer in load.answers:
        expected = load_bundle(tmp_path / version).answer(images[:1]).probabilities[0]
        assert str(float(str(expected[0]))).encode() in answer
    assert served.stop() == 0


@pytest.mark.slow
def test_ten_ends_under_load_lose_no_request(model_folder: Path, images: NDArray[np.uint8]) -> None:
    for _ in range(10):
        test_sigterm_answers_all_requests_first(model_folder, images)
