"""The messages between the coordinator and the process that writes MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord


@dataclass(frozen=True)
class Subject:
    """The study to write and the tracking store to write it to: part of the first message to the writer."""

    tracking_uri: str
    study: Study
    study_file: str
    uid: str
    """Identifies this study; an earlier study of the same name has another uid."""
    context: Mapping[str, str]
    """What the results depend on beside the study file, such as the dataset's digest."""
    replaced_uids: tuple[str, ...] = ()
    """Uids of earlier versions of the study, which was changed before it had results. Their runs are deleted."""


@dataclass(frozen=True)
class SearchEnded:
    """The search has ended: the last message to the writer."""

    bundle: tuple[int, Path] | None
    """The best trial's number and its model."""


@dataclass(frozen=True, order=True)
class Progress:
    """How much of the study is in MLflow."""

    n_runs: int
    """Trials whose run is up to date."""
    n_final_steps: int = 0
    """Completed steps of those after the trials: the summary, the model, the plots."""


@dataclass(frozen=True)
class WriterDone:
    """The last message of the writer."""

    missing: str | None
    """What is missing in MLflow and why; None if nothing is."""


Message = list[TrialRecord] | SearchEnded
"""A message to the writer after the first one: trials that have changed, or the end of the search."""
Reply = str | Progress | WriterDone
"""A message from the writer; a string is a warning for the user."""
