"""Jobs whose training starts from stored weights."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from mnist_hpo.data.arrays import load_search
from mnist_hpo.executors.checkpoint import load_checkpoint, training_sha256
from mnist_hpo.executors.job import Job, decode_job, encode_job
from mnist_hpo.executors.messages import EpochDone, Halted, Message
from mnist_hpo.executors.run_job import JobRunner
from mnist_hpo.learners.config import InitialWeights
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples, Learner
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.learners.stored_weights import weights_sha256

MakeJob = Callable[..., Job]


@pytest.fixture
def job(make_job: MakeJob, tmp_path: Path) -> Job:
    """A job of two epochs that starts from the weights of a training of one epoch."""
    job = make_job(2, batch_size=1000)
    learner = learner_of(job)
    tensors = learner.model(learner.advance(learner.start(), 1).state)
    path = tmp_path / "weights.safetensors"
    save_file(dict(tensors), path)
    return with_initial(job, InitialWeights(str(path), weights_sha256(tensors), "all_but_last", 0.1))


def with_initial(job: Job, initial: InitialWeights) -> Job:
    return dataclasses.replace(job, training=dataclasses.replace(job.training, initial=initial))


def initial_of(job: Job) -> InitialWeights:
    assert job.training.initial is not None
    return job.training.initial


def test_the_job_is_decoded_as_it_was_encoded(job: Job) -> None:
    assert decode_job(encode_job(job)) == job


def test_without_initial_weights_a_training_is_identified_as_before(make_job: MakeJob) -> None:
    """Otherwise the checkpoints of existing studies would be ignored."""
    job = make_job(2)
    fields = ("model", "parameters", "seed", "max_epochs", "patience_epochs", "schedule_epochs")
    training = {name: getattr(job.training, name) for name in fields}
    identity = {"training": training, "data": {"split": "standard", "portion": "search"}}
    assert training_sha256(job) == hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def test_a_training_is_identified_by_its_initial_weights_but_not_by_their_path(job: Job, make_job: MakeJob) -> None:
    initial, found = initial_of(job), training_sha256(job)
    assert training_sha256(with_initial(job, dataclasses.replace(initial, path="/elsewhere"))) == found
    changes = ({"sha256": "0" * 64}, {"layers": "all"}, {"learning_rate_factor": 0.2})
    others = [with_initial(job, dataclasses.replace(initial, **change)) for change in changes]
    digests = {found, *map(training_sha256, [*others, make_job(2, batch_size=1000)])}
    assert len(digests) == 5


def test_a_training_that_continues_from_its_checkpoint_has_the_same_results(job: Job, tmp_path: Path) -> None:
    at_once = run(job)
    run(dataclasses.replace(job, last_epoch=1, checkpoint=str(tmp_path / "other")))
    # Now the checkpoint holds all that the training needs.
    moved = with_initial(job, dataclasses.replace(initial_of(job), path="/elsewhere"))
    twice = run(dataclasses.replace(moved, checkpoint=str(tmp_path / "other")))
    assert [result.valid_loss for result in epochs(at_once)] == [result.valid_loss for result in epochs(twice)]
    assert len(epochs(twice)) == 2
    assert load_checkpoint(job, learner_of(job)) is not None


def test_missing_weights_halt_the_run_and_are_named(job: Job) -> None:
    Path(initial_of(job).path).unlink()
    (message,) = run(job)
    assert isinstance(message, Halted)
    assert message.reason.startswith(f"{initial_of(job).path}: the initial weights are missing")


def run(job: Job) -> list[Message]:
    messages: list[Message] = []
    assert JobRunner(messages.append, 0).run(job)
    return messages


def epochs(messages: list[Message]) -> list[EpochResult]:
    return [message.result for message in messages if isinstance(message, EpochDone)]


def learner_of(job: Job) -> Learner:
    arrays = load_search(Path(job.data.directory), "standard")
    train = Examples(arrays.train_images.reshape(-1, 28, 28, 1), arrays.train_labels)
    return LearnerFactory().make(job.training, train, n_classes=10)
