"""What `mnist-hpo bench` prints with `--json`."""

from __future__ import annotations

from typing import Literal

from pydantic import RootModel

from mnist_hpo.cli.schemas.output import Output


class ReplaySeconds(Output):
    """How the workers spent their time: seconds, summed over all workers."""

    compile: float
    train: float
    evaluate: float
    transfer: float
    """The part of an epoch outside the compiled program: shuffling, copies, bookkeeping."""
    idle: float
    """Startup, waiting and shutdown."""


class BenchReplayOutput(Output):
    """The speed of a list of trainings, run once through the workers that studies use."""

    wall_s: float
    """From the start of the process to the last result."""
    n_workers: int
    precision: Literal["bf16", "fp32"]
    worker_s: ReplaySeconds
    tflop: float
    """Model FLOPs of training, in 10¹²; validation is not counted."""
    gflops: float
    """10⁹ FLOP/s over the whole wall time."""
    sgemm_peak_gflops: float
    """10⁹ FLOP/s of fp32 sgemm on all cores that were used, measured in the same run."""
    fraction_of_peak: float
    valid_accuracy: list[float]
    """Of each training, after its last epoch."""
    mean_valid_accuracy: float


class Contender(Output):
    """The speed of one contender."""

    median_wall_s: float
    """Of a whole process, over the rounds."""
    wall_s: list[float]
    gflops: float
    fraction_of_peak: float
    times_fastest_pytorch: float
    """Speed relative to the fastest PyTorch mode."""
    mean_valid_accuracy: float
    """Over the list and the rounds."""


class BenchPeersOutput(Output):
    """mnist-hpo and other libraries, taking turns on one list of trainings."""

    tflop: float
    n_rounds: int
    sgemm_peak_gflops: float
    """10⁹ FLOP/s: the highest of the measurements between the rounds."""
    contenders: dict[str, Contender]
    """On the whole list: the seconds are sums over its models."""
    models: dict[str, dict[str, Contender]]
    """By model, then by contender, on the trainings of that model."""


class OverheadOutput(Output):
    """The overhead of a study whose trainings take no time. Milliseconds are CPU time."""

    sampler: str
    n_trials: int
    cpu_ms_per_trial: float
    """Of the coordinator: ask, report, prune, tell, record, and sending messages to the process that writes MLflow."""
    ask_cpu_ms_per_trial: float
    """The part of it that the sampler takes."""
    first_tenth_cpu_ms_per_trial: float
    """Of the coordinator, over the first tenth of the trials."""
    last_tenth_cpu_ms_per_trial: float
    growth: float
    """The last tenth's time divided by the first tenth's."""
    mlflow_cpu_ms_per_trial: float
    """Of the process that writes MLflow, from start to exit; the search does not wait for it."""
    search_wall_s: float
    """Until the last trial has ended."""
    wall_s: float
    """Until everything is in MLflow."""
    grown_bytes: int
    """Growth of the coordinator's peak memory after the first tenth of the trials."""


class BenchOverheadOutput(Output):
    """The platform's overhead."""

    help_s: float
    """Wall time of `mnist-hpo --help`."""
    first_epoch_s: float
    """From the start of `mnist-hpo run` to the first epoch's result, with a warm compilation cache."""
    studies: list[OverheadOutput]


class RooflinePoint(Output):
    """The speed for one shape on one core, in 10⁹ model FLOP/s."""

    width: int
    batch_size: int
    sgemm: float
    """Only the matrix products of a step."""
    fp32: float
    """A whole epoch in fp32."""
    bf16: float
    """A whole epoch in bf16."""


class BenchRooflineOutput(RootModel[list[RooflinePoint]]):
    """The speed of epochs and of plain matrix products of the same shapes."""
