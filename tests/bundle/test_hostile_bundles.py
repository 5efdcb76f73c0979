"""Whatever a bundle contains, loading it gives a model that answers, or a refusal that names the file."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_bundles import Edit, Folder, edits, make_bundles, with_correct_digests
from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.numpy import load, save

from mnist_hpo.bundle.writing import DESCRIPTION, WEIGHTS
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepared import PreparedDataset

_PROGRAM = Path(__file__).parents[1] / "load_program.py"
_MAX_GROWTH_BYTES = 200_000_000
_N_EXAMPLES, _N_EXAMPLES_SLOW = 25, 5_000
KINDS = (
    *("mlp", "logistic", "forest", "knn", "svm", "linear svm", "int8", "bf16", "average", "stacking"),
    *("with a detector", "format 2"),
)


class Loader:
    """A process that loads bundles; see `load_program`. A new one is started if it ends.

    It has loaded each kind of bundle once, so that what is imported once counts for no later load.
    """

    def __init__(self, bundles: dict[str, Folder], folder: Path) -> None:
        self.bundles, self._folder, self._n_loads = bundles, folder, 0
        self._process = self._start()
        self._load_all()

    def _load_all(self) -> None:
        for files in self.bundles.values():
            assert self.load(files)["outcome"] == "answered"

    def load(self, files: Folder) -> dict[str, Any]:
        """Write a bundle, load it, and return the document about it."""
        self._n_loads += 1
        directory = self._folder / f"bundle{self._n_loads}"
        self.write(directory, files)
        found = self.load_folder(directory)
        shutil.rmtree(directory)
        return found

    @staticmethod
    def write(directory: Path, files: Folder) -> None:
        directory.mkdir()
        for name, content in files.items():
            (directory / name).write_bytes(content)

    def load_folder(self, directory: Path) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{directory}\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._process = self._start()
            self._load_all()
            pytest.fail(f"the process that loads {directory} ended with code {code}")
        return json.loads(line) | {"directory": str(directory)}

    def stop(self) -> None:
        self._process.communicate()

    @staticmethod
    def _start() -> subprocess.Popen[str]:
        command = [sys.executable, str(_PROGRAM)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def loader(mnist: PreparedDataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loader]:
    arrays = load_search(mnist.directory, "standard")
    bundles = make_bundles(np.array(arrays.train_images[:100]), np.array(arrays.train_labels[:100]))
    assert bundles.keys() == set(KINDS)
    loader = Loader(bundles, tmp_path_factory.mktemp("hostile"))
    yield loader
    loader.stop()


def check_edits(loader: Loader, kind: str, changes: list[tuple[str, Edit]], fits: bool) -> None:
    changed = dict(loader.bundles[kind])
    for name, edit in changes:
        note(name)
        edit(changed)
    if fits:
        with_correct_digests(changed)
    found = loader.load(changed)
    assert found["outcome"] in ("answered", "refused"), found["message"]
    assert found["growth_bytes"] < _MAX_GROWTH_BYTES, found
    if found["outcome"] == "refused":
        assert found["message"].startswith(found["directory"]), found["message"]


_EDITED = {
    "kind": st.sampled_from(KINDS),
    "changes": st.lists(edits(), min_size=1, max_size=3),
    "fits": st.sampled_from([True, True, True, False]),
}
_SETTINGS = settings(suppress_health_check=list(HealthCheck), phases=set(Phase) - {Phase.explain}, deadline=None)


@settings(_SETTINGS, max_examples=_N_EXAMPLES)
@given(**_EDITED)
def test_changed_bundles_answer_or_are_refused(
    loader: Loader, kind: str, changes: list[tuple[str, Edit]], fits: bool
) -> None:
    check_edits(loader, kind, changes, fits)


@pytest.mark.slow
@settings(_SETTINGS, max_examples=_N_EXAMPLES_SLOW)
@given(**_EDITED)
def test_many_changed_bundles_answer_or_are_refused(
    loader: Loader, kind: str, changes: list[tuple[str, Edit]], fits: bool
) -> None:
    check_edits(loader, kind, changes, fits)


def with_tensors(files: Folder, change: Callable[[dict[str, NDArray[Any]]], None], name: str = WEIGHTS) -> Folder:
    tensors = {name: np.array(array) for name, array in load(files[name]).items()}
    change(tensors)
    return files | {name: save(tensors)}


def with_fields(files: Folder, change: Callable[[dict[str, Any]], None]) -> Folder:
    description = json.loads(files[DESCRIPTION])
    change(description)
    return files | {DESCRIPTION: json.dumps(description).encode()}


TENSORS: dict[str, tuple[str, Callable[[dict[str, NDArray[Any]]], None], str]] = {
    "NaN": ("mlp", lambda t: t["logits.bias"].fill(np.nan), "logits.bias has values that are not finite"),
    "Infinity": ("svm", lambda t: t["intercepts"].fill(np.inf), "intercepts has values that are not finite"),
    "infinite after scaling": ("int8", lambda t: t["logits.kernel:scale"].fill(3e38), "logits.kernel has values that"),
    "huge": ("mlp", lambda t: t["logits.kernel"].fill(3e38), "the model's probabilities are not numbers"),
    "another type": ("mlp", lambda t: t.update({"logits.bias": np.zeros(10, np.int64)}), "int64, not float32"),
    "endless comparisons": ("forest", lambda t: t["n_levels"].fill(2**62), "n_levels has values outside 0 to"),
    "a child outside the tree": ("forest", lambda t: t["children"].fill(10**9), "children has values outside 0 to"),
    "a feature outside the image": ("forest", lambda t: t["feature"].fill(784), "feature has values outside 0 to 783"),
    "a tree twice": ("forest", lambda t: t["roots"].fill(0), "two trees have the same root"),
    "labels without a class": ("knn", lambda t: t["labels"].fill(10), "labels has values outside 0 to 9"),
    "many classes": ("knn", lambda t: t["n_classes"].fill(10**9), "n_classes has values outside 10 to 10"),
    "no temperature": ("logistic", lambda t: t["inverse_temperature"].fill(0), "inverse_temperature is not positive"),
    "negative weights": ("average", lambda t: t["combination/weights"].fill(-1), "negative, or all zero"),
}
"""Kind of the bundle, change of its tensors, and the reason of the refusal."""


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_a_model_cannot_compute_with_are_refused(loader: Loader, case: str) -> None:
    kind, change, reason = TENSORS[case]
    files = with_tensors(loader.bundles[kind], change)
    assert_refused(loader, files, reason)


FIELDS: dict[str, tuple[str, Callable[[dict[str, Any]], None], str]] = {
    "huge images": ("forest", lambda d: d.update(image_shape=[4096, 4096, 4096]), "n_features has 68719476736"),
    "huge old images": (
        "format 2",
        lambda d: d["program"].update(n_features=10**18),
        "n_features has 1000000",
    ),
    "other classes": ("forest", lambda d: d.update(n_classes=9), "shares has the shape"),
    "no provenance object": ("mlp", lambda d: d.update(provenance=["study"]), "the provenance is not a JSON object"),
    "an unknown method": ("average", lambda d: d["parameters"].update(method="eval"), "an ensemble by 'eval'"),
    "no members": ("average", lambda d: d.update(members=[]), "an ensemble of 0 members"),
    "a newer format": ("mlp", lambda d: d.update(format=6), "upgrade mnist-hpo"),
}
"""Kind of the bundle, change of its description, and the reason of the refusal."""


@pytest.mark.parametrize("case", FIELDS)
def test_descriptions_of_no_possible_model_are_refused(loader: Loader, case: str) -> None:
    kind, change, reason = FIELDS[case]
    assert_refused(loader, with_fields(loader.bundles[kind], change), reason)


def test_a_large_header_is_refused_before_it_is_parsed(loader: Loader) -> None:
    """Each of its many empty tensors would take a hundred times as much memory as in the file."""
    entry = '"{}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    header = ("{" + ",".join(entry.format(number) for number in range(100_000)) + "}").encode()
    files = loader.bundles["mlp"] | {WEIGHTS: len(header).to_bytes(8, "little") + header}
    assert_refused(loader, files, "its header has")


def assert_refused(loader: Loader, files: Folder, reason: str) -> None:
    changed = dict(files)
    with_correct_digests(changed)
    found = loader.load(changed)
    assert found["outcome"] == "refused", found
    assert reason in found["message"]
    assert found["growth_bytes"] < _MAX_GROWTH_BYTES


@pytest.mark.parametrize("kind", ["mlp", "format 2"])
@pytest.mark.parametrize("replace", ["link", "pipe", "folder"])
def test_weights_that_are_no_regular_file_are_refused(loader: Loader, tmp_path: Path, kind: str, replace: str) -> None:
    directory = tmp_path / "model"
    loader.write(directory, loader.bundles[kind])
    weights = next(directory.glob("*.safetensors"))
    weights.rename(tmp_path / "elsewhere")
    if replace == "link":
        weights.symlink_to(tmp_path / "elsewhere")
    elif replace == "pipe":
        os.mkfifo(weights)
    else:
        weights.mkdir()
    found = loader.load_folder(directory)
    assert found["outcome"] == "refused", found
    assert f"{weights.name} is not a regular file" in found["message"]


@pytest.mark.parametrize("kind", ["mlp", "format 2"])
def test_a_file_more_is_refused(loader: Loader, kind: str) -> None:
    found = loader.load(loader.bundles[kind] | {"model.py": b"print('not run')"})
    assert (found["outcome"], "'model.py' does not belong to the model" in found["message"]) == ("refused", True)
