"""The unit of work of an executor: advance one training to an epoch."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Literal

from mnist_hpo.learners.config import InitialWeights, TrainingConfig


@dataclass(frozen=True)
class DataRef:
    """The examples that a training learns from."""

    directory: str
    """Where the dataset is prepared."""
    split: str
    n_classes: int
    portion: Literal["search", "development"] = "search"
    """search: train on train, validate on valid. development: train on both, without validation."""
    rows: str | None = None
    """The path of an array i64[n] of the training examples to use, which may repeat; None for all, once each."""


@dataclass(frozen=True)
class Resources:
    """What a worker must have to run a job."""

    n_cores: int = 1
    n_gpus: int = 0

    def fits(self, available: Resources) -> bool:
        """Whether a worker with these resources can run the job."""
        return self.n_cores <= available.n_cores and self.n_gpus <= available.n_gpus

    def __str__(self) -> str:
        return f"{self.n_cores} cores and {self.n_gpus} GPUs"


@dataclass(frozen=True)
class Job:
    """Advance one training to an epoch, from its checkpoint if there is one."""

    key: str
    """Identifies the training among all that the executor runs."""
    training: TrainingConfig
    data: DataRef
    last_epoch: int
    """The job ends after this epoch, counted from 1, or earlier if the training ends by itself."""
    checkpoint: str
    """The path of the checkpoint: see `CheckpointStore`."""
    resources: Resources = Resources()
    affinity: str = ""
    """Jobs of equal affinity share compiled programs: a worker that ran one of them starts another sooner."""


def encode_job(job: Job) -> bytes:
    """Return a job as JSON."""
    return json.dumps(dataclasses.asdict(job)).encode()


def decode_job(message: bytes) -> Job:
    """Return the job that `encode_job` was given."""
    fields = json.loads(message)
    initial = fields["training"].pop("initial")
    fields["training"] = TrainingConfig(**fields["training"], initial=initial and InitialWeights(**initial))
    fields["data"] = DataRef(**fields["data"])
    fields["resources"] = Resources(**fields["resources"])
    return Job(**fields)
