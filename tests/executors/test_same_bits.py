"""Workers compute the same bits as `Training` in this process, whatever the user's environment."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mnist_hpo.data.arrays import load_search
from mnist_hpo.executors.backends.local import LocalExecutor
from mnist_hpo.executors.job import Job
from mnist_hpo.executors.messages import JobDone
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.learners.training import Training
from mnist_hpo.spec.study import ParameterValue
from mnist_hpo.testing.listener import Listener, same

MakeJob = Callable[..., Job]


def test_environment_variables_of_the_user_do_not_change_results(
    make_job: MakeJob, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener.executor.submit(make_job(2), urgency=(0, 0))
    listener.until_ended()
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    monkeypatch.setenv("JAX_ENABLE_X64", "1")
    monkeypatch.setenv("JAX_DEFAULT_MATMUL_PRECISION", "bfloat16")
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    executor = LocalExecutor(1)
    with_variables = Listener(executor)
    try:
        executor.submit(make_job(2, key="with variables"), urgency=(0, 0))
        with_variables.until_ended("with variables")
    finally:
        executor.close()
    assert same(with_variables.results("with variables"), listener.results())


def test_a_worker_computes_the_same_results_as_this_process(make_job: MakeJob, listener: Listener) -> None:
    job = make_job(3)
    listener.executor.submit(job, urgency=(0, 0))
    listener.until_ended()
    arrays = load_search(Path(job.data.directory), job.data.split)
    train = Examples(arrays.train_images.reshape(-1, 28, 28, 1), arrays.train_labels)
    valid = Examples(arrays.valid_images.reshape(-1, 28, 28, 1), arrays.valid_labels)
    training = Training(job.training, LearnerFactory().make(job.training, train, n_classes=10), valid)
    progress = training.start()
    assert same(listener.results(), [training.advance(progress) for _ in range(3)])


OPTIONS: dict[str, ParameterValue] = {
    "normalization": "batch",
    "residual": "yes",
    "schedule": "linear",
    "warmup": 0.2,
    "initializer": "xavier",
    "averaging": "swa",
    "swa_start": 0.1,
    "noise": 0.1,
    "max_norm": 2.0,
    "mixup": 0.4,
    "input_noise": 0.1,
    "input_dropout": 0.1,
    "rotation": 10,
    "translation": 1,
    "elastic": 10,
    "erasing": 0.1,
}


def test_a_worker_that_continues_from_a_checkpoint_computes_the_bits_of_one_that_never_stopped(
    make_job: MakeJob, listener: Listener
) -> None:
    """With the optional hyperparameters on, whose averages and random numbers are part of the training."""
    listener.executor.submit(make_job(3, key="whole", **OPTIONS), urgency=(0, 0))
    listener.until_ended("whole")
    for n_jobs, last_epoch in ((1, 1), (2, 3)):
        listener.executor.submit(make_job(last_epoch, key="parts", **OPTIONS), urgency=(0, 0))
        listener.until(
            lambda events, n=n_jobs: sum(isinstance(event, JobDone) and event.key == "parts" for event in events) == n
        )
    assert same(listener.results("parts"), listener.results("whole"))
