"""The language between the coordinator and whatever runs trainings: jobs one way, events the other, both plain JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.result import EpochResult


@dataclass(frozen=True)
class DataRef:
    """Which examples a training learns from."""

    directory: str
    """Where the dataset is prepared."""
    split: str
    n_classes: int
    portion: Literal["search", "development"] = "search"
    """search: learn from train, validate on valid. development: learn from both, validate on nothing."""


@dataclass(frozen=True)
class Job:
    """Advance one training up to an epoch, starting from its checkpoint if there is one."""

    key: str
    """Names the training among those of one executor."""
    training: TrainingConfig
    data: DataRef
    last_epoch: int
    """The job ends after this epoch, counted from 1, or before it where the training ends by itself."""
    checkpoint: str
    """The file that holds the training between jobs."""


@dataclass(frozen=True)
class EpochDone:
    """One epoch's result; a job reports all of its training's, also those that its checkpoint brought along."""

    key: str
    result: EpochResult


@dataclass(frozen=True)
class JobDone:
    """All epochs of a job have been sent, and its checkpoint is on disk."""

    key: str


@dataclass(frozen=True)
class JobLost:
    """A job that took its worker down again and again; it is not tried any more."""

    key: str
    reason: str


@dataclass(frozen=True)
class Halted:
    """Nothing can go on: a lack of the machine (a full disk) that a person must see to."""

    reason: str


Event = EpochDone | JobDone | JobLost | Halted


@dataclass(frozen=True)
class WorkerReady:
    """A worker has started and takes jobs; if it dies from here on, its job may be to blame."""


Message = Event | WorkerReady
"""What a worker sends."""

_MESSAGES: dict[str, type[Message]] = {
    message.__name__: message for message in (EpochDone, JobDone, JobLost, Halted, WorkerReady)
}


class Executor(Protocol):
    """Runs jobs and reports what came of them, in any order."""

    def submit(self, job: Job, *, urgency: tuple[int, int]) -> None:
        """Take a job on; of several that wait, the one with the lowest urgency value is the first to be needed."""
        ...

    def cancel(self, key: str) -> None:
        """Forget a training's waiting job; one that runs already may still report."""
        ...

    def wait(self, timeout_s: float) -> Sequence[Event]:
        """Return what has happened since the last call; wait up to a time where nothing has."""
        ...

    def close(self) -> None:
        """Stop at once and free everything; jobs under way are lost."""
        ...


def encode_job(job: Job) -> bytes:
    """A job as JSON."""
    return json.dumps(dataclasses.asdict(job)).encode()


def decode_job(message: bytes) -> Job:
    """The job that `encode_job` was given."""
    fields = json.loads(message)
    fields["training"] = TrainingConfig(**fields["training"])
    fields["data"] = DataRef(**fields["data"])
    return Job(**fields)


def encode_message(message: Message) -> bytes:
    """What a worker sends, as JSON."""
    return json.dumps({"message": type(message).__name__, **dataclasses.asdict(message)}).encode()


def decode_message(encoded: bytes) -> Message:
    """The message that `encode_message` was given."""
    fields = json.loads(encoded)
    kind = _MESSAGES[fields.pop("message")]
    if kind is EpochDone:
        fields["result"] = EpochResult(**fields["result"])
    return kind(**fields)
