import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.dataset import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS, SplitPlan
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.permutation import permutation
from mnist_hpo.data.prepare import default_root, prepare
from mnist_hpo.data.prepared import load_prepared
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.data.splits import SPLIT_KEY
from mnist_hpo.spec.errors import UserError

FILES = [("images", TRAIN_IMAGES, TEST_IMAGES), ("labels", TRAIN_LABELS, TEST_LABELS)]


def test_tfds_reads_the_records_without_tensorflow(mnist, mnist_files):
    builder = tfds.builder_from_directory(mnist.directory / "records" / "mnist" / "1.0.0")
    for split, files in {"train": "train", "test": "t10k"}.items():
        records = builder.as_data_source(split)
        labels = mnist_files[f"{files}-labels-idx1-ubyte"]
        assert len(records) == len(labels)
        for row in (0, 1234, len(labels) - 1):
            assert np.array_equal(records[row]["image"], mnist_files[f"{files}-images-idx3-ubyte"][row])
            assert records[row]["label"] == labels[row]
    assert "tensorflow" not in sys.modules


def test_records_that_are_read_back_in_another_order_are_rejected(tiny, tiny_folder, tmp_path, monkeypatch):
    read = tfds.core.DatasetBuilder.as_data_source

    class Reversed(list):
        def __getitems__(self, rows):
            return [self[-1 - row] for row in rows]

    monkeypatch.setattr(tfds.core.DatasetBuilder, "as_data_source", lambda self, split: Reversed(read(self, split)))
    with pytest.raises(UserError, match="the records differ from train-images-idx3-ubyte"):
        prepare(tiny, source=tiny_folder, root=tmp_path)


def test_preparing_again_reads_only_the_metadata_logs_nothing_and_does_not_import_tfds(mnist):
    program = """if True:
        import sys
        from mnist_hpo.data.prepare import prepare
        from mnist_hpo.data.registry import dataset_info
        opened = []
        sys.addaudithook(lambda event, arguments: event == "open" and opened.append(str(arguments[0])))
        prepared = prepare(dataset_info("mnist"), log=print)
        print(prepared.digest, *(name for name in opened if name.startswith(str(prepared.directory))))
        print(*(name for name in sys.modules if "tensor" in name))
    """
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed == f"{mnist.digest} {mnist.directory / 'metadata.json'}\n\n"


def test_the_metadata_describes_the_prepared_dataset(tiny, tiny_folder, tmp_path):
    prepared = prepare(tiny, source=tiny_folder, root=tmp_path)
    assert prepared == load_prepared(tmp_path / tiny.name)
    assert prepared.name == tiny.name
    assert prepared.source == f"local folder {tiny_folder}"
    assert prepared.digest == tiny.digest
    assert prepared.file_sha256 == tiny.file_sha256
    assert {name: (split.n_train, split.n_valid, split.n_test) for name, split in prepared.splits.items()} == {
        "standard": (250, 50, 100),
        "paper": (240, 80, 80),
    }


@pytest.mark.parametrize(("split", "n_drawn"), [("standard", 300), ("paper", 400)])
def test_splits_follow_the_permutation(tiny, tiny_folder, tmp_path, mnist_files, split, n_drawn):
    prepared = prepare(tiny, source=tiny_folder, root=tmp_path)
    search, test = load_search(prepared.directory, split), load_test(prepared.directory, split)
    info = prepared.splits[split]
    order = permutation(n_drawn, SPLIT_KEY)
    assert info.permutation_sha256 == hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()

    rows_of = {name: np.concatenate([mnist_files[train][:300], mnist_files[test][:100]]) for name, train, test in FILES}
    order = np.concatenate([order, np.arange(n_drawn, 400)])  # `standard` does not permute the test files.
    parts = dict(zip(("train", "valid", "test"), np.split(order, np.cumsum([info.n_train, info.n_valid])), strict=True))
    images = {"train": search.train_images, "valid": search.valid_images, "test": test[0]}
    labels = {"train": search.train_labels, "valid": search.valid_labels, "test": test[1]}
    for part, rows in parts.items():
        assert np.array_equal(images[part], rows_of["images"][rows].reshape(-1, 784))
        assert np.array_equal(labels[part], rows_of["labels"][rows])
        assert info.class_counts[part] == [list(labels[part]).count(digit) for digit in range(10)]


def test_preparing_prints_nothing_and_leaves_no_temporary_files(tiny, tiny_folder, tmp_path, capfd, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    lines: list[str] = []
    prepare(tiny, source=tiny_folder, root=tmp_path, log=lines.append)
    assert capfd.readouterr() == ("", "")
    assert list((tmp_path / "tmp").iterdir()) == []
    assert any(str(tiny_folder) in line for line in lines)
    assert "prepared in" in lines[-1]


def test_a_prepared_dataset_takes_precedence_over_the_data_source_and_the_log_says_so(tiny, tiny_folder, tmp_path):
    prepare(tiny, source=tiny_folder, root=tmp_path)
    lines: list[str] = []
    prepared = prepare(tiny, source=tmp_path / "elsewhere", root=tmp_path, log=lines.append)
    assert prepared.source == f"local folder {tiny_folder}"
    assert lines == [
        f"tiny-mnist: prepared already, from local folder {tiny_folder}; {tmp_path / 'elsewhere'} is not read"
    ]


def test_a_prepared_dataset_may_be_moved(tiny, tiny_folder, tmp_path):
    prepare(tiny, source=tiny_folder, root=tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new", copy_function=shutil.copyfile)  # Modification times change.
    lines: list[str] = []
    assert prepare(tiny, root=tmp_path / "new", log=lines.append).directory == tmp_path / "new" / tiny.name
    assert lines == []


def flip_a_byte(directory: Path) -> Path:
    path = directory / "standard" / "search_images.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return path


def delete_labels(directory: Path) -> Path:
    path = directory / "paper" / "test_labels.npy"
    path.unlink()
    return path


def cut_labels(directory: Path) -> Path:
    """Truncate the file but keep its modification time, as a power failure can."""
    path = directory / "paper" / "test_labels.npy"
    stat = path.stat()
    path.write_bytes(path.read_bytes()[:-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return path


def cut_metadata(directory: Path) -> Path:
    path = directory / "metadata.json"
    path.write_text(path.read_text()[:100])
    return path


def empty_metadata(directory: Path) -> Path:
    path = directory / "metadata.json"
    path.write_text("{}")
    return path


def of_another_version(directory: Path) -> Path:
    path = directory / "metadata.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 0'))
    return directory


@pytest.mark.parametrize(
    "damage", [flip_a_byte, delete_labels, cut_labels, cut_metadata, empty_metadata, of_another_version]
)
def test_damage_is_named_and_the_dataset_is_prepared_again(tiny, tiny_folder, tmp_path, damage):
    first = prepare(tiny, source=tiny_folder, root=tmp_path)
    expected = np.array(load_search(first.directory, "standard").development_images)
    damaged = damage(first.directory)
    lines: list[str] = []
    again = prepare(tiny, source=tiny_folder, root=tmp_path, log=lines.append)
    assert lines[0].startswith(f"{damaged}: ")
    assert again == first
    assert np.array_equal(load_search(again.directory, "standard").development_images, expected)
    assert load_test(again.directory, "paper")[1].shape == (80,)


def test_a_dataset_is_prepared_again_if_its_splits_change(tiny, tiny_folder, tmp_path, monkeypatch):
    prepare(tiny, source=tiny_folder, root=tmp_path)
    monkeypatch.setitem(tiny.splits, "paper", SplitPlan("all", n_train=200, n_valid=100, n_test=100))
    assert prepare(tiny, source=tiny_folder, root=tmp_path).splits["paper"].n_train == 200


def test_a_dataset_is_prepared_again_if_its_digests_change(tiny, tiny_folder, tmp_path, monkeypatch):
    prepare(tiny, source=tiny_folder, root=tmp_path)
    monkeypatch.setitem(tiny.file_sha256, TEST_LABELS, "0" * 64)
    with pytest.raises(UserError, match=f"{TEST_LABELS}.gz: wrong digest"):
        prepare(tiny, source=tiny_folder, root=tmp_path)


def test_an_unwritable_root_is_reported_with_how_to_choose_another(tiny, tiny_folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be prepared in .*file.*\n.*MNIST_HPO_DATA_DIR"):
        prepare(tiny, source=tiny_folder, root=tmp_path / "file")


def test_a_broken_log_pipe_is_not_reported_as_an_unwritable_root(tiny, tiny_folder, tmp_path):
    def log(line: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        prepare(tiny, source=tiny_folder, root=tmp_path, log=log)


def test_the_directory_is_absolute_so_that_workers_may_run_in_another_folder(tiny, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_HPO_DATA_DIR", "here")
    assert prepare(tiny, source=Path("tiny-idx")).directory == tmp_path / "here" / tiny.name


@pytest.mark.parametrize(
    ("environment", "root"),
    [
        ({"MNIST_HPO_DATA_DIR": "/data", "XDG_CACHE_HOME": "/cache"}, "/data"),
        ({"MNIST_HPO_DATA_DIR": "~/data"}, "/home/ada/data"),
        ({"XDG_CACHE_HOME": "/cache"}, "/cache/mnist-hpo/datasets"),
        ({"MNIST_HPO_DATA_DIR": "", "XDG_CACHE_HOME": ""}, "/home/ada/.cache/mnist-hpo/datasets"),
    ],
)
def test_the_default_root_follows_the_environment(monkeypatch, environment, root):
    for name in ("MNIST_HPO_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in (environment | {"HOME": "/home/ada"}).items():
        monkeypatch.setenv(name, value)
    assert default_root() == Path(root)


def test_a_killed_process_leaves_no_dataset_and_concurrent_processes_prepare_it_once(start_prepare, tmp_path):
    """One process is killed while it prepares MNIST, a second starts again, and a third waits for the second."""
    root = tmp_path / "root"

    def partial_folders() -> set[Path]:
        return set(root.glob(".mnist.partial-*/mnist/records/mnist"))

    with start_prepare() as killed:
        left_behind = wait_for(partial_folders)
        killed.kill()
    assert partial_folders() == left_behind
    with pytest.raises(UserError, match="no prepared dataset here"):
        load_prepared(root / "mnist")

    with start_prepare() as first:
        wait_for(lambda: partial_folders() - left_behind)
        with start_prepare() as second:
            second_log = second.communicate(timeout=120)[0].splitlines()
        first_log = first.communicate(timeout=120)[0].splitlines()

    assert "no prepared dataset here; preparing" in first_log[0]
    assert "prepared in" in first_log[-2]
    assert second_log == [
        "mnist: another process is preparing it; waiting for it to finish",
        dataset_info("mnist").digest,
    ]
    assert first_log[-1] == second_log[-1]
    assert sorted(path.name for path in root.iterdir()) == ["mnist", "mnist.lock"]


def wait_for(condition, timeout_s: float = 60):
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.01)
    raise TimeoutError
