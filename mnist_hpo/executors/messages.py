"""What workers and executors report, and its encoding as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from mnist_hpo.learners.result import EpochResult


@dataclass(frozen=True)
class EpochDone:
    """The result of one epoch. A job reports all epochs of its training, also those that its checkpoint contains."""

    key: str
    result: EpochResult
    fingerprint: Mapping[str, str]
    """`provenance.fingerprint` of the worker that computed it: results depend on its CPU and its libraries."""


@dataclass(frozen=True)
class JobDone:
    """A job has reported all of its epochs, and its checkpoint has been written."""

    key: str
    last_epoch: int
    """The last epoch that the job reported."""


@dataclass(frozen=True)
class JobLost:
    """Several workers in a row have failed at this job; the executor does not retry it."""

    key: str
    reason: str


@dataclass(frozen=True)
class Halted:
    """The machine lacks something, a full disk for example, that a person must provide before any job can go on."""

    reason: str


Event = EpochDone | JobDone | JobLost | Halted


@dataclass(frozen=True)
class WorkerReady:
    """A worker has started. If it dies later, its job may be the cause."""


Message = Event | WorkerReady
"""What a worker process sends."""

_MESSAGES: dict[str, type[Message]] = {
    message.__name__: message for message in (EpochDone, JobDone, JobLost, Halted, WorkerReady)
}


def encode_message(message: Message) -> bytes:
    """Return a message as JSON."""
    return json.dumps({"message": type(message).__name__, **dataclasses.asdict(message)}).encode()


def decode_message(encoded: bytes) -> Message:
    """Return the message that `encode_message` was given."""
    fields = json.loads(encoded)
    kind = _MESSAGES[fields.pop("message")]
    if kind is EpochDone:
        fields["result"] = EpochResult(**fields["result"])
    return kind(**fields)
