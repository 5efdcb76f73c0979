"""Results and durations of undisturbed commands; an attack must not change the results."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import tempfile
import time
from functools import cached_property
from pathlib import Path

import numpy as np
from proving import CheckFailedError, call, history_of, write_study

from attacks.processes import is_temporary
from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.permutation import permutation
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.data.splits import SPLIT_KEY

N_TRIALS, MAX_EPOCHS = 8, 3


class Reference:
    """Results of undisturbed commands, and their durations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_study(folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS)
        self.durations_s: dict[str, float] = {}
        """Seconds of a command, by verb."""
        self._call(folder, "run", "determinism.yaml")
        self._histories = {"determinism": history_of(folder, "determinism")}

    def history(self, name: str) -> str:
        """Return the history of the study under this name, on which Optuna's Hyperband brackets depend."""
        if name not in self._histories:
            write_study(self.folder, n_trials=N_TRIALS, max_epochs=MAX_EPOCHS, name=name)
            call(self.folder, "run", f"{name}.yaml")
            self._histories[name] = history_of(self.folder, name)
        return self._histories[name]

    def _call(self, folder: Path, verb: str, *arguments: str, **variables: str) -> str:
        began = time.monotonic()
        printed = call(folder, verb, *arguments, **variables)
        self.durations_s[verb] = time.monotonic() - began
        return printed

    def copy_record(self, folder: Path) -> None:
        """Copy the study's file, storage and checkpoints to a folder, as after a run without MLflow."""
        (folder / "mlruns").mkdir()
        shutil.copy(self.folder / "determinism.yaml", folder)
        databases = [sqlite3.connect(place / "mlruns" / "optuna.db") for place in (self.folder, folder)]
        with contextlib.closing(databases[0]), contextlib.closing(databases[1]):
            databases[0].backup(databases[1])
        shutil.copytree(self.folder / "mlruns" / "checkpoints", folder / "mlruns" / "checkpoints")

    @cached_property
    def champion(self) -> Path:
        """The champions folder after an undisturbed `retrain` with one seed."""
        self._call(self.folder, "retrain", "determinism", "--seeds", "1")
        kept = self.folder / "champions-with-one-seed"
        shutil.copytree(self.folder / "mlruns" / "champions", kept)
        return kept

    @cached_property
    def test_accuracies(self) -> list[float]:
        """The test accuracies after an undisturbed `retrain` with two seeds."""
        _ = self.champion
        self._call(self.folder, "retrain", "determinism", "--seeds", "2")
        return test_accuracies(self.folder / "mlruns" / "champions")

    @cached_property
    def page(self) -> bytes:
        """The report of the study without a champion."""
        with tempfile.TemporaryDirectory(prefix="mnist-hpo-attack-") as folder:
            self.copy_record(Path(folder))
            self._call(Path(folder), "report", "determinism", "-o", "page.html")
            return (Path(folder) / "page.html").read_bytes()

    @cached_property
    def sync_s(self) -> float:
        """The seconds that an undisturbed `sync` into an empty store takes."""
        with tempfile.TemporaryDirectory(prefix="mnist-hpo-attack-") as folder:
            self.copy_record(Path(folder))
            self._call(Path(folder), "sync", "determinism")
        return self.durations_s["sync"]

    @cached_property
    def idx_files(self) -> Path:
        """A folder with MNIST's four files, rebuilt from the prepared dataset."""
        directory = prepare(dataset_info("mnist")).directory
        search, (test_images, test_labels) = load_search(directory, "standard"), load_test(directory, "standard")
        order = np.argsort(permutation(60_000, SPLIT_KEY))
        folder = self.folder / "idx"
        folder.mkdir()
        for name, array in {
            "train-images-idx3-ubyte": search.development_images[order].reshape(-1, 28, 28),
            "train-labels-idx1-ubyte": search.development_labels[order],
            "t10k-images-idx3-ubyte": np.asarray(test_images).reshape(-1, 28, 28),
            "t10k-labels-idx1-ubyte": np.asarray(test_labels),
        }.items():
            sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
            (folder / name).write_bytes(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())
        return folder

    @cached_property
    def dataset_digest(self) -> str:
        """The digest of MNIST prepared in a new folder, undisturbed."""
        with tempfile.TemporaryDirectory(prefix="mnist-hpo-attack-") as root:
            source = str(self.idx_files)
            printed = self._call(Path(root), "data", "--data-source", source, "--json", MNIST_HPO_DATA_DIR=root)
            return json.loads(printed)["digest"]


def test_accuracies(champions: Path) -> list[float]:
    """Return the champion's test accuracies by seed, and check that its models can be loaded."""
    in_place = [path for path in champions.glob("*/trial-*") if not is_temporary(path)]
    if len(in_place) != 1:
        raise CheckFailedError(f"champions in place: {[path.name for path in in_place]}")
    (folder,) = in_place
    try:
        accuracies = json.loads((folder / "report" / "champion.json").read_text())["test_accuracy"]
        for seed in range(len(accuracies)):
            load_bundle(folder / ("model" if seed == 0 else f"model-seed-{seed}"))
    except Exception as error:
        raise CheckFailedError(f"the champion in {folder} is damaged: {error!r}") from error
    return accuracies
