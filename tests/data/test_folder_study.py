"""Studies that use a folder of images and labels, run with the command line."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Folder, assert_refused, make_folder
from folders import STUDY, Arrays, save_idx, save_keras
from mlflow import MlflowClient

from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_LABELS


class Studies:
    """Working folders that share one folder of prepared datasets."""

    def __init__(self, base: Path) -> None:
        self.base, self.root = base, base / "datasets"
        self.environment = {"MNIST_HPO_DATA_DIR": str(self.root)}

    def folder(self, name: str, study: str = STUDY) -> Folder:
        folder = make_folder(self.base, name)
        (folder.path / "small.yaml").write_text(study)
        return folder

    def prepared(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir() if path.is_dir())

    def history(self, folder: Folder) -> str:
        return folder.call("status", "small", "--json", **self.environment).json()["history_sha256"]


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return Studies(tmp_path)


@pytest.mark.slow
def test_a_study_continues_with_a_moved_dataset_folder_but_not_with_changed_files(
    coloured: Arrays, studies: Studies
) -> None:
    folder = studies.folder("moving")
    save_idx(folder.path / "digits", coloured)
    first = folder.run(**studies.environment).json()
    for trial in folder.call("trials", "small", "--json").json():
        width = trial["params"]["width"]
        assert trial["n_parameters"] == 20 * 18 * 3 * width + width + 10 * width + 10
    (prepared,) = studies.prepared()
    assert prepared.startswith("folder-")

    # The same images and labels in another folder and another format.
    shutil.rmtree(folder.path / "digits")
    save_keras(folder.path / "moved" / "here", coloured)
    (folder.path / "small.yaml").write_text(STUDY.replace("path: digits", "path: moved/here"))
    moved = folder.run(**studies.environment)
    assert moved.json()["history_sha256"] == first["history_sha256"]
    assert "2 of them already recorded" in moved.err
    assert studies.prepared() == [prepared]

    changed = coloured[TRAIN_LABELS].copy()
    changed[7] = (changed[7] + 1) % 10
    save_keras(folder.path / "moved" / "here", {**coloured, TRAIN_LABELS: changed})
    refused = folder.call("run", "small.yaml", **studies.environment)
    assert refused.code == 2
    *_, message, file, advice = refused.err.splitlines()
    assert message.startswith(
        "error: the study 'small' was started with other images or labels in the dataset's folder"
    )
    assert file.startswith(f"  {TRAIN_LABELS}: ")
    assert advice == "Put the folder back as it was, or give the study another name."
    assert studies.history(folder) == first["history_sha256"]


def test_a_missing_dataset_folder_is_reported_with_the_line_of_the_study_file(studies: Studies) -> None:
    folder = studies.folder("missing")
    refused = folder.call("run", "small.yaml", **studies.environment)
    assert_refused(refused, f"small.yaml, line 2: dataset.path: {folder.path / 'digits'}: no such folder")
    assert not studies.root.exists()


def test_the_data_command_prepares_a_folder_and_shows_it(coloured: Arrays, studies: Studies) -> None:
    folder = studies.folder("shown")
    save_keras(folder.path / "digits", coloured)
    shown = folder.call("data", "--path", "digits", "--json", **studies.environment).json()
    assert shown["dataset"] == f"folder-{shown['digest'][:16]}"
    assert studies.prepared() == [shown["dataset"]]
    assert shown["image_shape"] == [20, 18, 3]
    assert shown["splits"]["standard"]["class_counts"]["test"] == np.bincount(coloured[TEST_LABELS]).tolist()
    for_people = folder.call("data", "--path", "digits", **studies.environment)
    assert "images of 20 × 18 × 3" in for_people.out
    assert for_people.err == ""
    assert_refused(folder.call("data", "mnist", "--path", "digits"), "mnist and --path exclude each other")
    assert_refused(folder.call("data", "--path", "nowhere"), f"{folder.path / 'nowhere'}: no such folder")


@pytest.mark.slow
def test_retrain_report_compare_and_sync_work_after_the_dataset_folder_is_deleted(
    coloured: Arrays, studies: Studies
) -> None:
    folder, environment = studies.folder("whole"), studies.environment
    save_idx(folder.path / "digits", coloured, gzipped=True)
    folder.run("--workers", "1", **environment)

    # Another root folder, another format, another number of workers, and the Python API instead of the command line.
    other = studies.folder("other")
    save_keras(other.path / "elsewhere", coloured)
    program = f"""if True:
        from pathlib import Path
        import mnist_hpo
        from mnist_hpo.spec.reader import parse_study
        study = parse_study({STUDY!r}.replace("digits", "elsewhere"), Path("small.yaml")).study
        print(mnist_hpo.run_study(study, n_workers=2, progress=False).history_sha256)
    """
    environment_of_python = other.environment(MNIST_HPO_DATA_DIR=str(studies.base / "other-datasets"))
    history = subprocess.run(
        [sys.executable, "-c", program], cwd=other.path, env=environment_of_python, capture_output=True, text=True
    )
    assert history.stdout.strip() == studies.history(folder), history.stderr

    shutil.rmtree(folder.path / "digits")
    retrained = folder.call("retrain", "small", "--seeds", "1", "--json", **environment).json()
    assert retrained["reproduced"] == "exact"
    assert retrained["test_accuracy_mean"] > 0.3
    assert sum(map(sum, retrained["confusion_matrix"])) == 400
    assert check_model(folder, coloured, environment) == pytest.approx(retrained["test_accuracy_mean"])
    check_in_mlflow(folder, studies.prepared()[0], retrained)
    assert folder.call("report", "small", **environment).code == 0

    # Two studies of the same content are comparable, although it lies in different folders.
    second = STUDY.replace("name: small", "name: second").replace("path: digits", "path: again")
    save_keras(folder.path / "again", coloured)
    (folder.path / "second.yaml").write_text(second)
    assert folder.call("run", "second.yaml", **environment).code == 0
    assert folder.call("compare", "small", "second", "--json").json()["comparable"]
    assert len(studies.prepared()) == 1

    # `sync` needs only the study's record; `retrain` needs the images.
    shutil.rmtree(studies.root)
    synced = folder.call("sync", "small", "--tracking-uri", "sqlite:///mlruns/again.db", **environment)
    assert synced.code == 0, synced.err
    refused = folder.call("retrain", "small", **environment)
    assert_refused(refused, "no prepared dataset here; prepare it from the folder", "mnist-hpo data --path DIR")
    folder.call("data", "--path", "again", "--json", **environment).json()
    again = folder.call("retrain", "small", "--seeds", "1", "--json", **environment).json()
    assert again["test_accuracy"] == retrained["test_accuracy"]


def check_model(folder: Folder, arrays: Arrays, environment: dict[str, str]) -> float:
    """Return the test accuracy of the champion, loaded with the Python API and given images [n, height, width, 3]."""
    np.save(folder.path / "images.npy", arrays[TEST_IMAGES])
    program = "import mnist_hpo, numpy as np; print(*mnist_hpo.load_model('small').predict(np.load('images.npy')))"
    predicted = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder.path,
        env=folder.environment(**environment),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(np.mean(np.array(predicted.stdout.split(), int) == arrays[TEST_LABELS]))


def check_in_mlflow(folder: Folder, dataset: str, retrained: dict[str, Any]) -> None:
    client = MlflowClient(folder.tracking_uri)
    used = client.get_run(retrained["run_id"]).inputs.dataset_inputs
    assert {entry.dataset.name for entry in used} == {f"{dataset}-standard-development", f"{dataset}-standard-test"}
    version = client.get_model_version_by_alias("small", "champion")
    assert version.tags["dataset_digest"].startswith(dataset.removeprefix("folder-"))
    assert "[n, 1080] or [n, 20, 18, 3]" in client.get_registered_model("small").description
