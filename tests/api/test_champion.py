"""The Python API: re-train, predict and compare."""

import math
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_results import Retrained, Runs, our_children, started_since
from command import Folder
from mlflow import MlflowClient

import mnist_hpo
from mnist_hpo.api.prediction import LoadedModel
from mnist_hpo.cli.schemas.retrain import RetrainOutput
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.prepared import PreparedDataset


@pytest.fixture(scope="module")
def model(retrained: Retrained) -> LoadedModel:
    return mnist_hpo.load_model("small", folder=retrained.folder)


def test_retrain_returns_the_figures_that_the_command_prints(retrained: Retrained, runs: Runs) -> None:
    figures = retrained.figures
    assert RetrainOutput.model_validate(figures).model_dump() == figures
    assert runs.result.best is not None
    assert (figures["reproduced"], figures["trial"], figures["n_seeds"]) == ("exact", runs.result.best.number, 2)
    assert figures["test_accuracy_mean"] > 0.9


def test_re_training_does_not_change_the_callers_process(retrained: Retrained) -> None:
    assert retrained.after == retrained.before


def test_the_model_is_registered_in_the_folders_mlflow(retrained: Retrained) -> None:
    client = MlflowClient(f"sqlite:///{retrained.folder}/mlruns/mlflow.db")
    version = client.get_model_version_by_alias("small", "champion")
    assert version.run_id == retrained.figures["run_id"]


def test_the_loaded_champion_has_the_recorded_test_accuracy(
    retrained: Retrained, model: LoadedModel, mnist: PreparedDataset
) -> None:
    images, labels = load_test(mnist.directory, "standard")
    assert str(model.folder) == retrained.figures["model"]
    assert np.mean(model.predict(images) == labels) == retrained.figures["test_accuracy"][0]
    probabilities = model.predict_proba(images)
    assert (probabilities.shape, probabilities.dtype) == ((10_000, 10), np.float32)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)


def test_images_may_have_any_usual_shape_and_type(model: LoadedModel, mnist: PreparedDataset) -> None:
    images = np.asarray(load_test(mnist.directory, "standard")[0])[:7]
    expected = model.predict_proba(images)
    for shape in ((7, 784), (7, 28, 28), (7, 28, 28, 1)):
        for dtype in (np.uint8, np.int64, np.float32, np.float64):
            assert np.array_equal(model.predict_proba(images.reshape(shape).astype(dtype)), expected)
    assert model.predict(images.tolist()).tolist() == expected.argmax(axis=1).tolist()
    for wrong in (images[0], images.reshape(7, 28, 28, 1)[..., 0, :], images / 255, images.reshape(-1, 392)):
        with pytest.raises(mnist_hpo.UserError):
            model.predict(wrong)


def test_without_a_champion_the_best_trials_model_is_loaded(runs: Runs) -> None:
    model = mnist_hpo.load_model("small", folder=runs.folder)
    assert runs.result.best is not None
    assert model.folder.name == f"best-{runs.result.best.number:05d}"
    assert model.provenance["valid_loss"] == runs.result.best.value
    by_path = mnist_hpo.load_model(model.folder)
    blank = np.zeros((1, 784), np.uint8)
    assert np.array_equal(by_path.predict_proba(blank), model.predict_proba(blank))
    assert mnist_hpo.load_model(runs.folder / "small.yaml", folder=runs.folder).folder == model.folder


def test_a_missing_model_raises_an_exception(runs: Runs, tmp_path: Path) -> None:
    with pytest.raises(mnist_hpo.UserError, match="not a model"):
        mnist_hpo.load_model(tmp_path)
    with pytest.raises(mnist_hpo.UserError, match="no study 'other'"):
        mnist_hpo.load_model("other", folder=runs.folder)
    Folder(runs.folder).copy_record(Folder(tmp_path))
    with pytest.raises(mnist_hpo.UserError, match="run 'small' to its end"):
        mnist_hpo.load_model("small", folder=tmp_path)


def test_invalid_arguments_of_retrain_raise_an_exception(runs: Runs, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(mnist_hpo.UserError, match="no trial 99; the study has 8 trials"):
        mnist_hpo.retrain("small", trial=99, folder=runs.folder)
    with pytest.raises(mnist_hpo.UserError, match="n_seeds is 0"):
        mnist_hpo.retrain("small", n_seeds=0, folder=runs.folder)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_an_interrupt_ends_re_training_and_keeps_the_champion(retrained: Retrained) -> None:
    champions = retrained.folder / "mlruns" / "champions"
    children = our_children()

    def interrupt_while_training() -> None:
        while not list(champions.glob("*/.trial-*.new/*.safetensors")):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt_while_training, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        mnist_hpo.retrain("small", n_seeds=20, folder=retrained.folder, progress=False)
    assert started_since(children) == []
    assert [str(path) for path in champions.glob("*/*")] == [str(Path(retrained.figures["model"]).parent)]
    assert not list(champions.glob("*/.*"))


def test_trials_can_be_compared(retrained: Retrained) -> None:
    best = retrained.figures["trial"]
    comparison = mnist_hpo.compare([f"small:{best}", "small:0"], runs=True, folder=retrained.folder)
    assert comparison.comparable
    assert [entry.label for entry in comparison.compared] == [f"small:{best}", "small:0"]
    assert comparison.compared[0].test is not None
    assert comparison.compared[0].test.test_accuracy_mean == retrained.figures["test_accuracy_mean"]


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["small"], {}, "a comparison needs at least two"),
        ([], {}, "a comparison needs at least two"),
        (["small", "small"], {}, "is listed twice"),
        (["small", "other"], {}, "no study 'other'"),
        (["small:0", "small"], {"runs": True}, "is not a trial"),
        (["small", "other"], {"target": math.nan}, "is not a loss"),
    ],
)
def test_invalid_arguments_of_compare_raise_an_exception(
    runs: Runs, names: list[str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(mnist_hpo.UserError, match=message):
        mnist_hpo.compare(names, folder=runs.folder, **options)
