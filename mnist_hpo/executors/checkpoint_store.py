"""The checkpoints of a study's trainings: one file each in one folder. Loads no JAX, so that the coordinator can."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file

from mnist_hpo.spec.model import Tensors

KEPT_PREFIX = "best/"
"""Before the names of the weights of the kept epoch's model, in a checkpoint."""
_SUFFIX = ".safetensors"
_PARTIAL_SUFFIX = ".tmp"


@dataclass(frozen=True)
class CheckpointStore:
    """Checkpoints by the name of their training. Whoever runs a search deletes them here and nowhere else."""

    folder: Path

    def path(self, name: str) -> Path:
        """Return the path of a checkpoint, whether it exists or not."""
        return self.folder / f"{name}{_SUFFIX}"

    def delete(self, name: str) -> None:
        """Delete a checkpoint if it exists."""
        self.path(name).unlink(missing_ok=True)

    def delete_partial(self) -> None:
        """Delete the files that killed workers left half-written. Only when no worker runs."""
        for partial in self.folder.glob(f"*{_PARTIAL_SUFFIX}"):
            partial.unlink(missing_ok=True)

    def load_kept_model(self, name: str) -> Tensors:
        """Return the weights of the kept epoch's model, by name.

        Raises:
            FileNotFoundError: there is no such checkpoint.

        """
        return kept_model(load_file(self.path(name)))


def kept_model(tensors: Tensors) -> Tensors:
    """Return the weights of the kept epoch's model from the tensors of a checkpoint."""
    return {name.removeprefix(KEPT_PREFIX): value for name, value in tensors.items() if name.startswith(KEPT_PREFIX)}


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that at any time either the old or the new content is there, and never a part of it.

    Raises:
        OSError: it could not be written; the partial file has been deleted.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{_PARTIAL_SUFFIX}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
