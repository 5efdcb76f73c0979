"""The messages between the coordinator and the process that writes MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord


@dataclass(frozen=True)
class Subject:
    """What is projected, and where to: part of the first message to the writer."""

    tracking_uri: str
    study: Study
    study_file: str
    uid: str
    """Differs from that of an earlier study of the same name."""
    context: Mapping[str, str]
    """What else the results depend on; the dataset's digest is in it."""
    replaced_uids: tuple[str, ...] = ()
    """Of the study before it was changed without results; MLflow must not show those runs any more."""


@dataclass(frozen=True)
class Ending:
    """There will be no more trials: the last message to the writer."""

    bundle: tuple[int, Path] | None
    """The best trial's number, and its model."""


@dataclass(frozen=True, order=True)
class Progress:
    """How much of the study MLflow holds."""

    n_runs: int
    """Trials whose run is up to date."""
    n_final_steps: int = 0
    """Of those that follow the trials: the summary, the model, the plots."""


@dataclass(frozen=True)
class Ended:
    """The last message of the writer."""

    missing: str | None
    """Why MLflow does not hold all of the study; None if it does."""


Message = list[TrialRecord] | Ending
"""To the writer, after the subject: trials as they are now, or the end."""
Answer = str | Progress | Ended
"""From the writer; a text is a warning for the user."""
