"""What the verbs of `mnist-hpo bench` print with `--json`."""

from __future__ import annotations

from typing import Literal

from pydantic import RootModel

from mnist_hpo.cli.schemas.output import Output


class ReplaySeconds(Output):
    """Where the workers' time went, in seconds added up over all of them."""

    compile: float
    train: float
    evaluate: float
    transfer: float
    """The host's share of an epoch: the order of the rows, copies, bookkeeping."""
    idle: float
    """Starting, waiting, ending."""


class BenchReplayOutput(Output):
    """A list of trainings, run once through the workers that studies use."""

    wall_s: float
    """From the start of the process to the last result."""
    n_workers: int
    precision: Literal["bf16", "fp32"]
    worker_s: ReplaySeconds
    tflop: float
    """Model arithmetic of training, in 10¹² FLOPs; validation is not counted."""
    gflops: float
    """10⁹ FLOP/s over the whole wall clock."""
    sgemm_peak_gflops: float
    """fp32 sgemm of all cores that were used, measured in the same run."""
    fraction_of_peak: float
    valid_accuracy: list[float]
    """Each training's, after its last epoch."""
    mean_valid_accuracy: float


class Contender(Output):
    """One contender of the race."""

    median_wall_s: float
    """Of whole processes, over the rounds."""
    wall_s: list[float]
    gflops: float
    fraction_of_peak: float
    times_fastest_pytorch: float
    """How many times as fast as the fastest of PyTorch's modes."""
    mean_valid_accuracy: float
    """Over the list and the rounds."""


class BenchPeersOutput(Output):
    """Ours and its peers on one list of trainings, taking turns."""

    tflop: float
    n_rounds: int
    sgemm_peak_gflops: float
    """The highest measured between the rounds."""
    contenders: dict[str, Contender]


class OverheadOutput(Output):
    """The work for a study whose trainings take no time. Milliseconds are of CPU time."""

    sampler: str
    n_trials: int
    cpu_ms_per_trial: float
    """All of the coordinator's: ask, report, prune, tell, record, and telling the process that writes MLflow."""
    ask_cpu_ms_per_trial: float
    """Of that, the sampler's."""
    first_tenth_cpu_ms_per_trial: float
    """The coordinator's over the first tenth of the trials."""
    last_tenth_cpu_ms_per_trial: float
    growth: float
    """How many times the first tenth's cost the last tenth's is."""
    mlflow_cpu_ms_per_trial: float
    """Of the process that writes MLflow, from its start to its end; the search does not wait for it."""
    search_wall_s: float
    """Until the last trial has ended."""
    wall_s: float
    """Until MLflow has it all."""
    grown_bytes: int
    """By how much the coordinator's peak memory has grown since a tenth of the trials had ended."""


class BenchOverheadOutput(Output):
    """What the platform costs beside training."""

    help_s: float
    """`mnist-hpo --help`."""
    first_epoch_s: float
    """From the start of `mnist-hpo run` to the first epoch's result, compiled before."""
    studies: list[OverheadOutput]


class RooflinePoint(Output):
    """One shape, on one core, in 10⁹ FLOP/s of model arithmetic."""

    width: int
    batch_size: int
    sgemm: float
    """The products of a step, bare."""
    fp32: float
    """The whole epoch."""
    bf16: float


class BenchRooflineOutput(RootModel[list[RooflinePoint]]):
    """Epochs against bare matrix products of the same shapes."""
