"""Bad input on the command line: one clear message, exit code 2, and no file is changed."""

import gzip
import sqlite3
from pathlib import Path

import numpy as np
import optuna
import pytest
from command import Folder, assert_refused
from numpy.typing import NDArray

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.permutation import permutation
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.data.splits import SPLIT_KEY

MISTAKES = {
    "broken YAML": (["{n_trials: 8, max_epochs: 3}", "{n_trials: 8, max_epochs: 3"], ["line 5, column 6", "not valid"]),
    "a duplicate key": (["slots: 3", "seed: 4"], ["line 5, column 1", "'seed'", "repeated here"]),
    "an unknown key": (["sampler:", "smapler:"], ["line 6", "smapler", "did you mean 'sampler'?"]),
    "an unknown key further in": (["max_epochs", "max_epoch"], ["budget.max_epoch", "did you mean 'max_epochs'?"]),
    "low > high": (["low: 1.0e-7", "low: 1"], ["line 11", "space.l2", "low (1)", "high (0.001)"]),
    "log with low 0": (["low: 1.0e-7", "low: 0"], ["line 11", "space.l2", "log", "low is 0"]),
    "an unknown sampler": (["name: tpe", "name: tp"], ["line 6", "sampler 'tp'", "did you mean 'tpe'?"]),
    "an unknown option of a sampler": (["n_startup_trials: 3", "n_startup: 3"], ["sampler.n_startup", "n_startup_tr"]),
    "an option that Optuna refuses only when it models": (
        ["n_startup_trials: 3", "prior_weight: -1"],
        ["line 6", "sampler.prior_weight", "from 0 to 1,000,000", "-1"],
    ),
    "an unknown pruner": (["name: median", "name: medium"], ["pruner 'medium'", "did you mean 'median'?"]),
    "an unknown model": (["slots: 3", "model: mpl"], ["model 'mpl'", "did you mean 'mlp'?"]),
    "an unknown dataset": (["slots: 3", "dataset: minst"], ["dataset 'minst'", "did you mean 'mnist'?"]),
    "an unknown split": (["slots: 3", "split: papers"], ["'papers'", "did you mean 'paper'?"]),
    "an unknown hyperparameter": (["  width: {", "  widht: {"], ["'widht'", "did you mean 'width'?"]),
    "a batch beyond the training set": (["batch_size: 512", "batch_size: 50001"], ["50001", "50000 training examples"]),
    "a first trial outside the space": (["{learning_rate: 0.05, width: 32}", "{width: 64}"], ["enqueue.0.width", "64"]),
    "a name that is none": (["name: small", "name: ../small"], ["'../small'"]),
    "no trials at all": (["n_trials: 8", "n_trials: 0"], ["budget.n_trials", "0"]),
}


@pytest.mark.parametrize(("changes", "fragments"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_in_the_study_file_is_refused(folder: Folder, changes: list[str], fragments: list[str]) -> None:
    folder.write_study(*changes)
    assert_refused(folder.call("run", "small.yaml"), "small.yaml", *fragments)
    assert folder.files() == []


def test_a_missing_study_file_is_refused(folder: Folder) -> None:
    assert_refused(folder.call("run", "studies/smal.yaml"), "studies/smal.yaml", "no such study file")
    assert folder.files() == []


@pytest.mark.parametrize("verb", ["status", "trials", "best", "report", "augment", "retrain", "sync", "run", "compare"])
def test_an_invalid_study_name_is_refused(finished: Folder, verb: str) -> None:
    beside = ["small"] if verb == "compare" else []
    for name in ("x" * 5000, "", "a\nb"):
        refused = finished.call(verb, *beside, name)
        assert_refused(refused)
        assert refused.err.count("\n") == 1
        assert len(refused.err) < 500


@pytest.mark.parametrize("option", ["--storage", "--tracking-uri"])
def test_a_url_that_is_not_utf_8_is_refused(folder: Folder, option: str) -> None:
    url = "sqlite:///\udcff.db"  # Python's representation of the byte 0xff.
    assert_refused(folder.call("sync", "small", option, url), "is not a URL in UTF-8")


@pytest.mark.parametrize("number", ["9" * 5000, "-1", "", "²"])
def test_an_invalid_trial_number_is_refused(folder: Folder, number: str) -> None:
    assert_refused(folder.call("compare", "--runs", "small:0", f"small:{number}"), "is not a trial; write STUDY:NUMBER")


@pytest.mark.parametrize("target", ["nan", "inf", "-inf"])
def test_an_invalid_target_loss_is_refused(finished: Folder, target: str) -> None:
    for options in ([], ["--json"]):
        refused = finished.call("compare", "--runs", "small:0", "small:1", "--target", target, *options)
        assert_refused(refused, f"target {target} is not a loss")


@pytest.mark.slow
def test_a_study_in_which_every_trial_fails_exits_with_code_1_and_advice(folder: Folder) -> None:
    folder.write_study("[0.001, 0.05, 0.2, 1.0e+6]", "[1.0e+6]", "{learning_rate: 0.05", "{learning_rate: 1.0e+6")
    outcome = folder.call("run", "small.yaml")
    assert outcome.code == 1
    assert "next:" not in outcome.out
    assert "no trial is complete" in outcome.err
    assert "failed: diverged at epoch 1" in outcome.err
    assert "lower values of learning_rate" in outcome.err


UNOPENABLE = {
    "sqlite:////proc/nowhere/optuna.db": ["/proc/nowhere", "No such file or directory"],
    "sqlite:////dev/null/optuna.db": ["/dev/null", "Not a directory"],
    "sqlite:///": ["sqlite:///FILE"],
    "journal:////proc/nowhere/journal.log": ["/proc/nowhere", "No such file or directory"],
    "optuna.db": ["optuna.db", "URL"],
    "foo://bar": ["foo://bar", "foo"],
    "postgresql+asyncpg://somebody:secret@localhost/studies": [
        "postgresql+asyncpg is not supported",
        "postgresql+psycopg://",
    ],
}


@pytest.mark.parametrize(("url", "fragments"), UNOPENABLE.items(), ids=UNOPENABLE.keys())
def test_a_storage_that_cannot_be_opened_is_refused(folder: Folder, url: str, fragments: list[str]) -> None:
    refused = folder.call("run", "small.yaml", "--storage", url)
    assert_refused(refused, *fragments)
    assert "secret" not in refused.err
    assert folder.files() == []


def test_a_storage_that_is_not_a_database_is_refused(folder: Folder) -> None:
    folder.storage.parent.mkdir()
    folder.storage.write_text("Dear diary, today I learned about databases. " * 9)
    for verb in ("run", "status"):
        assert_refused(folder.call(verb, "small.yaml"), "mlruns/optuna.db", "not a database")
    assert folder.storage.read_text().startswith("Dear diary")


def test_a_storage_that_is_not_readable_as_one_is_refused(finished: Folder, folder: Folder) -> None:
    finished.copy_record(folder)
    folder.storage.rename(folder.path / "newer.db")
    with sqlite3.connect(folder.path / "newer.db") as newer:
        newer.execute("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    with sqlite3.connect(folder.path / "theirs.db") as theirs:
        theirs.execute("CREATE TABLE plants (name TEXT)")
    (folder.path / "journal.log").write_text('{"op_code": 0}\n')
    fragments = {
        "sqlite:///newer.db": "no longer compatible",
        "sqlite:///theirs.db": "not an Optuna storage",
        "sqlite:///mlruns": "unable to open database file",
        "sqlite:///" + "x" * 5000: "File name too long",
        "journal:///journal.log": "a record of the study is missing",
        "journal:///mlruns": "Is a directory",
        "postgresql://localhost:port/studies": "not a storage URL",
    }
    for url, problem in fragments.items():
        refused = folder.call("status", "small", "--storage", url)
        assert_refused(refused, problem)
        assert refused.err.count("\n") == 1


def test_a_study_of_another_program_is_refused(folder: Folder) -> None:
    folder.storage.parent.mkdir()
    theirs = optuna.create_study(storage=f"sqlite:///{folder.storage}", study_name="small")
    theirs.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert_refused(folder.call("run", "small.yaml"), "'small'", "not mnist-hpo's", "rename")
    assert len(theirs.trials) == 1


def test_a_changed_study_file_is_refused_with_a_diff(finished: Folder, folder: Folder) -> None:
    finished.copy_record(folder)
    before = rows(folder.storage)
    folder.write_study("max_epochs: 3", "max_epochs: 4", "slots: 3", "slots: 2")
    refused = folder.call("run", "small.yaml")
    assert_refused(refused, "'small'", "another study file", "budget.n_trials")
    changed = {line for line in refused.err.splitlines() if line[0] in "-+" and line[:3] not in ("---", "+++")}
    assert changed == {"-  max_epochs: 3", "+  max_epochs: 4", "-slots: 3", "+slots: 2"}
    assert rows(folder.storage) == before


def test_a_corrupt_idx_file_is_refused(folder: Folder, idx_files: dict[str, bytes], tmp_path: Path) -> None:
    source = tmp_path / "idx"
    source.mkdir()
    damaged = bytearray(idx_files["train-labels-idx1-ubyte"])
    damaged[-1] ^= 1
    for name, content in (idx_files | {"train-labels-idx1-ubyte": bytes(damaged)}).items():
        (source / f"{name}.gz").write_bytes(gzip.compress(content, 1))
    refused = folder.call(
        "run", "small.yaml", "--data-source", str(source), MNIST_HPO_DATA_DIR=str(tmp_path / "prepared")
    )
    assert refused.code == 2
    assert "Traceback" not in refused.err
    message = refused.err[refused.err.index("error: ") :]
    assert "train-labels-idx1-ubyte" in message
    assert "train-images" not in message.splitlines()[0]
    assert "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5" in message, "the expected digest"
    assert folder.files() == []
    assert not (tmp_path / "prepared" / "mnist").exists()


@pytest.fixture
def idx_files(mnist: PreparedDataset) -> dict[str, bytes]:
    """MNIST's four original files, rebuilt from the prepared dataset."""
    search = load_search(mnist.directory, "standard")
    test_images, test_labels = load_test(mnist.directory, "standard")
    original_order = np.argsort(permutation(60_000, SPLIT_KEY))
    return {
        "train-images-idx3-ubyte": idx(search.development_images[original_order].reshape(-1, 28, 28)),
        "train-labels-idx1-ubyte": idx(search.development_labels[original_order]),
        "t10k-images-idx3-ubyte": idx(np.asarray(test_images).reshape(-1, 28, 28)),
        "t10k-labels-idx1-ubyte": idx(np.asarray(test_labels)),
    }


def idx(array: NDArray[np.uint8]) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def rows(database: Path) -> list[str]:
    with sqlite3.connect(database) as connection:
        return list(connection.iterdump())
