"""Checkpoints of this and of other versions; see `test_damaged_checkpoints` for damaged ones."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from mnist_hpo.data.arrays import load_search
from mnist_hpo.executors.checkpoint import FORMAT, load_checkpoint, save_checkpoint
from mnist_hpo.executors.job import Job
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples, Learner
from mnist_hpo.learners.training import Progress, Training

MakeJob = Callable[..., Job]

WEIGHTS = [f"{layer}.{part}" for layer in ("hidden.0", "hidden.1", "logits") for part in ("bias", "kernel")]
PATHS = [
    f"{layer}['{part}']" for layer in ("['hidden'][0]", "['hidden'][1]", "['logits']") for part in ("bias", "kernel")
]


@pytest.fixture
def saved(make_job: MakeJob, few_digits: Path) -> tuple[Job, Learner, Progress]:
    """A training of two epochs, with its checkpoint."""
    job = make_job(2, batch_size=1000)
    arrays = load_search(few_digits, "standard")
    train = Examples(arrays.train_images.reshape(-1, 28, 28, 1), arrays.train_labels)
    learner = LearnerFactory().make(job.training, train, n_classes=10)
    training = Training(job.training, learner, None)
    progress = training.start()
    for _ in range(2):
        training.advance(progress)
    save_checkpoint(job, learner, progress)
    return job, learner, progress


def read(path: str) -> tuple[dict[str, str], dict[str, object]]:
    with safe_open(path, framework="np") as file:
        return file.metadata(), {name: file.get_tensor(name) for name in file.offset_keys()}


def change_metadata(path: str, **changes: str | None) -> None:
    metadata, tensors = read(path)
    save_file(tensors, path, {name: value for name, value in (metadata | changes).items() if value is not None})


def test_the_names_of_the_tensors_are_fixed(saved: tuple[Job, Learner, Progress]) -> None:
    metadata, tensors = read(saved[0].checkpoint)
    assert metadata["format"] == str(FORMAT)
    moments = [f"state.optimizer_state.{moment}{path}" for moment in ("mean", "square") for path in PATHS]
    counters = ["state.step", "state.optimizer_state.n_updates"]
    weights = [f"state.parameters{path}" for path in PATHS] + [f"best/{name}" for name in WEIGHTS]
    assert sorted(tensors) == sorted(moments + counters + weights)


def test_a_checkpoint_of_the_previous_version_is_continued(saved: tuple[Job, Learner, Progress]) -> None:
    job, learner, progress = saved
    change_metadata(job.checkpoint, format=None)
    loaded = load_checkpoint(job, learner)
    assert loaded is not None
    assert loaded.results == progress.results
    again, kept = learner.save(loaded.state), learner.save(progress.state)
    assert all(again[name].tobytes() == kept[name].tobytes() for name in kept)
    assert all(loaded.kept_model[name].tobytes() == weight.tobytes() for name, weight in progress.kept_model.items())


@pytest.mark.parametrize("number", [str(FORMAT + 1), "0", "two", ""])
def test_a_checkpoint_of_another_format_is_ignored(saved: tuple[Job, Learner, Progress], number: str) -> None:
    """The training then starts from the beginning, with the same results."""
    job, learner, _ = saved
    change_metadata(job.checkpoint, format=number)
    assert load_checkpoint(job, learner) is None


def test_a_checkpoint_from_another_kind_of_cpu_is_ignored(saved: tuple[Job, Learner, Progress]) -> None:
    """Otherwise the worker would report epochs of the other CPU as its own."""
    job, learner, _ = saved
    machine = read(job.checkpoint)[0]["machine"]
    change_metadata(job.checkpoint, machine=f"{machine} avx1024")
    assert load_checkpoint(job, learner) is None
    change_metadata(job.checkpoint, machine=None, format="2")
    assert load_checkpoint(job, learner) is not None


def test_a_checkpoint_of_another_training_is_ignored(saved: tuple[Job, Learner, Progress]) -> None:
    job, learner, _ = saved
    assert load_checkpoint(job, learner) is not None
    other = dataclasses.replace(job.training, seed=job.training.seed + 1)
    assert load_checkpoint(dataclasses.replace(job, training=other), learner) is None
