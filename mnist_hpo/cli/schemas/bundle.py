"""What `export` and `bundle verify` print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mnist_hpo.cli.schemas.output import Output

_ORIGIN = ("study", "trial", "seed")


class FileOutput(Output):
    """A file of a model's folder."""

    n_bytes: int
    sha256: str


class BundleOutput(Output):
    """A model's folder."""

    folder: str
    format: int
    kind: str
    """The model's name in study files, or `ensemble`."""
    n_classes: int
    origin: dict[str, str | int | None]
    """The study, the trial's number and the seed of its training, as far as they are recorded."""
    test_accuracy_mean: float | None
    """The champion's accuracy on the test split, the mean over its seeds; null if it has not been tested."""
    files: dict[str, FileOutput]
    """All files but model.json, by name; empty for formats before 5."""

    @classmethod
    def of(cls, folder: Path, description: Mapping[str, Any]) -> BundleOutput:
        """Return the output for the content of a folder's `model.json`."""
        provenance = description["provenance"]
        return cls.model_validate(
            {
                "folder": str(folder),
                "format": description["format"],
                "kind": description.get("model", "mlp"),
                "n_classes": description.get("n_classes", 10),
                "origin": {name: provenance[name] for name in _ORIGIN if name in provenance},
                "test_accuracy_mean": description.get("test", {}).get("test_accuracy_mean"),
                "files": description.get("files", {}),
            }
        )
