"""The locations of a user's records and files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.storage.study_storage import StudyStorage


@dataclass(frozen=True)
class Home:
    """The locations of a user's records: the storage, the tracking store, and the folder for everything else."""

    storage_url: str
    tracking_uri: str
    folder: Path

    def checkpoints(self, storage: StudyStorage) -> CheckpointStore:
        """Return a study's checkpoints. Another study of the same name has its own."""
        return CheckpointStore(self.folder / "checkpoints" / storage.folder_name)

    def best_bundle(self, storage: StudyStorage, number: int) -> Path:
        """Return the folder of the model of a study's best trial."""
        return self.checkpoints(storage).folder / f"best-{number:05d}"

    def weights(self, sha256: str) -> Path:
        """Return the path of the initial weights with this digest. The file may not exist."""
        return self.folder / "weights" / f"{sha256}.safetensors"
