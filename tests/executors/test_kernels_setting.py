"""`MNIST_HPO_KERNELS` decides whether workers train with the kernels or with their JAX reference implementations."""

from collections.abc import Callable

import numpy as np
import pytest

from mnist_hpo.executors.backends.local import LocalExecutor
from mnist_hpo.executors.job import Job
from mnist_hpo.executors.run_jobs import run_jobs

MakeJob = Callable[..., Job]


def valid_losses(job: Job) -> list[float]:
    executor = LocalExecutor(1)
    try:
        return [result.valid_loss for result in run_jobs(executor, [job])[job.key]]
    finally:
        executor.close()


def test_a_training_without_kernels_has_the_same_losses_up_to_rounding(
    make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {}
    for setting in ("on", "off"):
        monkeypatch.setenv("MNIST_HPO_KERNELS", setting)
        losses[setting] = valid_losses(make_job(2, key=setting))
    assert losses["on"][1] < losses["on"][0] < np.log(10)
    np.testing.assert_allclose(losses["off"], losses["on"], rtol=1e-2)
    # Equal losses would mean that the setting did not reach the worker.
    assert losses["off"] != losses["on"]
