"""What the coordinator and the process that writes MLflow tell each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord


@dataclass(frozen=True)
class Subject:
    """What is projected, and where to; the first that the process is told."""

    tracking_uri: str
    study: Study
    study_file: str
    uid: str
    """Tells a study from an earlier one of the same name."""
    context: Mapping[str, str]
    """What else the results depend on; the dataset's digest is in it."""
    replaced_uids: tuple[str, ...] = ()
    """Of the study before it was changed without results; MLflow must not show those runs any more."""


@dataclass(frozen=True)
class Ending:
    """There will be no more trials; the last that the process is told."""

    bundle: tuple[int, Path] | None
    """The best trial's number, and its model."""
    timeout_s: float


Message = list[TrialRecord] | Ending
"""After the subject: trials as they are now, or the end."""
Answer = str | bool
"""A warning for the user; or, last, whether MLflow holds all of it."""
