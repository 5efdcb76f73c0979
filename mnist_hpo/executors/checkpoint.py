"""A training between two jobs, in one safetensors file that is either whole or not there."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mnist_hpo.executors.best_weights import PREFIX, best_weights
from mnist_hpo.executors.job import Job
from mnist_hpo.training.result import EpochResult
from mnist_hpo.training.trainer import Progress
from mnist_hpo.training.weights import named, unnamed


def save_checkpoint(path: Path, job: Job, progress: Progress) -> None:
    """Write a training's whole state: weights, moments, step, best weights and every epoch's result.

    Raises:
        OSError: the disk is full or the folder cannot be written.

    """
    tensors = {
        **_tensors("state", progress.state),
        **{PREFIX + name: weight for name, weight in named(progress.best_parameters).items()},
    }
    results = json.dumps([dataclasses.asdict(result) for result in progress.results])
    metadata = {"training": training_sha256(job), "results": results, "sha256": _sha256(results, tensors)}
    write_atomically(path, save(tensors, metadata=metadata))


def load_checkpoint(path: Path, job: Job, start: Progress) -> Progress | None:
    """Read the training that a job goes on with, or None where there is none, or it is damaged or another training's.

    Args:
        path: the checkpoint's file.
        job: the job that asks.
        start: the training before its first epoch, whose structure the checkpoint must have.

    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            if metadata.get("training") != training_sha256(job):
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (FileNotFoundError, SafetensorError):
        return None
    if metadata.get("sha256") != _sha256(metadata.get("results", ""), tensors):
        return None
    return Progress(
        state=_restore("state", start.state, tensors),
        best_parameters=unnamed(start.best_parameters, best_weights(tensors)),
        results=[EpochResult(**result) for result in json.loads(metadata["results"])],
    )


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


def _tensors(prefix: str, tree: Any) -> dict[str, NDArray[Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {prefix + jax.tree_util.keystr(path): np.asarray(leaf, order="C") for path, leaf in leaves}


def _restore(prefix: str, like: Any, tensors: dict[str, NDArray[Any]]) -> Any:
    paths, structure = jax.tree_util.tree_flatten_with_path(like)
    return structure.unflatten([tensors[prefix + jax.tree_util.keystr(path)] for path, _ in paths])
