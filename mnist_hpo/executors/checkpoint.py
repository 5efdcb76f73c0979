"""The state of a training between two jobs, as one safetensors file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mnist_hpo.executors.checkpoint_store import KEPT_PREFIX, kept_model, write_atomically
from mnist_hpo.executors.job import Job
from mnist_hpo.learners.protocol import Learner
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.learners.training import Progress
from mnist_hpo.spec.provenance import CPU, KERNELS, fingerprint

_STATE = "state."
"""Before the names of the tensors of the learner's state."""

FORMAT = 3
"""Increased when an older version could misread a checkpoint. Format 1 lacks the number, 1 and 2 lack the machine."""


def save_checkpoint(job: Job, learner: Learner, progress: Progress) -> None:
    """Write the state of a training: the learner's state, the kept epoch's model, and the results of all epochs.

    Raises:
        OSError: the disk is full or the folder cannot be written.

    """
    tensors = {
        **{_STATE + name: tensor for name, tensor in learner.save(progress.state).items()},
        **{KEPT_PREFIX + name: tensor for name, tensor in progress.kept_model.items()},
    }
    results = json.dumps([dataclasses.asdict(result) for result in progress.results])
    metadata = {
        "format": str(FORMAT),
        "training": training_sha256(job),
        "machine": _machine(),
        "results": results,
        "sha256": _sha256(results, tensors),
    }
    write_atomically(Path(job.checkpoint), save(tensors, metadata=metadata))


def load_checkpoint(job: Job, learner: Learner) -> Progress | None:
    """Read the state from which a job continues.

    Returns:
        None if there is no checkpoint, or if it is damaged, of another training or of a newer format, or was written
        on another kind of machine. The training then starts over, with the same results.

    """
    try:
        with safe_open(job.checkpoint, framework="np") as file:
            metadata = file.metadata() or {}
            if not _can_continue(job, metadata):
                return None
            tensors = {name: file.get_tensor(name) for name in file.offset_keys()}
    except (FileNotFoundError, SafetensorError):
        return None
    if metadata.get("sha256") != _sha256(metadata.get("results", ""), tensors):
        return None
    state = {name.removeprefix(_STATE): tensor for name, tensor in tensors.items() if name.startswith(_STATE)}
    return Progress(
        state=learner.load(state),
        kept_model=kept_model(tensors),
        results=[EpochResult(**result) for result in json.loads(metadata["results"])],
    )


def _can_continue(job: Job, metadata: Mapping[str, str]) -> bool:
    number = metadata.get("format", "1")
    is_readable = number.isdecimal() and 1 <= int(number) <= FORMAT
    # A worker reports the epochs of a checkpoint as its own, so they must be what it would have computed.
    is_of_this_kind = metadata.get("machine", _machine()) == _machine()
    return is_readable and is_of_this_kind and metadata.get("training") == training_sha256(job)


def _machine() -> str:
    """Return the kind of CPU and whether the kernels are used. Versions may change: the replay checks the results."""
    return "; ".join(fingerprint()[name] for name in (CPU, KERNELS))


def training_sha256(job: Job) -> str:
    """Return a digest of what identifies a training: its configuration, its split and its portion of the data."""
    training = dataclasses.asdict(job.training)
    if job.training.initial is None:
        del training["initial"]  # Earlier versions did not have it.
    else:
        del training["initial"]["path"]
    if job.training.keep == "best":
        del training["keep"]  # Earlier versions did not have it.
    data = {"split": job.data.split, "portion": job.data.portion}
    identity = {"training": training, "data": data}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _sha256(results: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """Return a digest of a checkpoint's content: a faulty disk must not change a result."""
    digest = hashlib.sha256(results.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ravel(tensors[name]).view(np.uint8).data)
    return digest.hexdigest()
