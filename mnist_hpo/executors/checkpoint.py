"""A training between two jobs, in one safetensors file that is either whole or not there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mnist_hpo.executors.best_model import PREFIX, best_model
from mnist_hpo.executors.job import Job
from mnist_hpo.learners.protocol import Learner
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.learners.training import Progress

_STATE = "state."
"""In front of the names of the learner's state."""


FORMAT = 2
"""Goes up when an older version could misread a checkpoint. Those without a number are of format 1, which is the same
but for the number."""


def save_checkpoint(job: Job, learner: Learner, progress: Progress) -> None:
    """Write a training's whole state: the learner's, the best model, and every epoch's result.

    Raises:
        OSError: the disk is full or the folder cannot be written.

    """
    tensors = {
        **{_STATE + name: tensor for name, tensor in learner.save(progress.state).items()},
        **{PREFIX + name: tensor for name, tensor in progress.best_model.items()},
    }
    results = json.dumps([dataclasses.asdict(result) for result in progress.results])
    metadata = {
        "format": str(FORMAT),
        "training": training_sha256(job),
        "results": results,
        "sha256": _sha256(results, tensors),
    }
    write_atomically(Path(job.checkpoint), save(tensors, metadata=metadata))


def load_checkpoint(job: Job, learner: Learner) -> Progress | None:
    """Read the training that a job goes on with.

    Returns:
        None where there is no checkpoint, or it is damaged, another training's, or of a newer format. The training then
        starts anew, with the same results.

    """
    try:
        with safe_open(job.checkpoint, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("training") != training_sha256(job) or not _is_readable(metadata.get("format", "1")):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (FileNotFoundError, SafetensorError):
        return None
    if metadata.get("sha256") != _sha256(metadata.get("results", ""), tensors):
        return None
    state = {name.removeprefix(_STATE): tensor for name, tensor in tensors.items() if name.startswith(_STATE)}
    return Progress(
        state=learner.load(state),
        best_model=best_model(tensors),
        results=[EpochResult(**result) for result in json.loads(metadata["results"])],
    )


def _is_readable(number: str) -> bool:
    return number.isdecimal() and 1 <= int(number) <= FORMAT


def training_sha256(job: Job) -> str:
    """What tells one training from another: its configuration and its data, not where they lie."""
    data = {"split": job.data.split, "portion": job.data.portion}
    identity = {"training": dataclasses.asdict(job.training), "data": data}
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _sha256(results: str, tensors: Mapping[str, NDArray[Any]]) -> str:
    """A disk that returns other bits than it was given must not change a result."""
    digest = hashlib.sha256(results.encode())
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ravel(tensors[name]).view(np.uint8).data)
    return digest.hexdigest()


def write_atomically(path: Path, content: bytes) -> None:
    """Put a file in place whole, or leave what was there, whatever happens in between.

    Raises:
        OSError: it could not be written; nothing is left behind.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
