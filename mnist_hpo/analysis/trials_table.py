"""A study's trials as a typed table with one row per trial, for the terminal, files and notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from mnist_hpo.analysis.trial_figures import trial_figures
from mnist_hpo.spec.study import CategoricalSpace, FloatSpace, Space, Study, TrialState
from mnist_hpo.storage.records import TrialRecord

STATES: tuple[TrialState, ...] = ("complete", "pruned", "failed", "running", "paused")

TIME = pd.DatetimeTZDtype("us", "UTC")
_BEFORE: Mapping[str, Any] = {"number": "Int64", "state": pd.CategoricalDtype(STATES), "reason": "string"}
_AFTER: Mapping[str, Any] = {
    "valid_loss": "float64",
    "valid_accuracy": "float64",
    "best_epoch": "Int64",
    "n_epochs": "Int64",
    "seconds": "float64",
    "compile_s": "float64",
    "n_parameters": "Int64",
    "train_flops": "Int64",
    "started_at": TIME,
    "finished_at": TIME,
}


def trials_frame(study: Study, trials: Sequence[TrialRecord]) -> pd.DataFrame:
    """Return the table that `mnist_hpo.load_trials` documents, with a row for each of these trials."""
    dtypes = {**_BEFORE, **{name: _dtype(space) for name, space in study.space.items()}, **_AFTER}
    rows = [_row(study, trial) for trial in trials]
    return pd.DataFrame({name: _column(rows, name, dtype) for name, dtype in dtypes.items()})


def _row(study: Study, trial: TrialRecord) -> dict[str, Any]:
    figures = trial_figures(study, trial)
    return {
        **trial.parameters,
        "number": trial.number,
        "state": trial.state,
        "reason": trial.reason,
        "valid_loss": figures.best_valid_loss,
        "valid_accuracy": figures.best_valid_accuracy,
        "best_epoch": figures.best_epoch,
        "n_epochs": figures.n_epochs,
        "seconds": figures.seconds,
        "compile_s": figures.compile_s,
        "n_parameters": figures.n_parameters,
        "train_flops": figures.train_flops,
        "started_at": _utc(trial.started_unix_s or None),
        "finished_at": _utc(trial.finished_unix_s),
    }


def _column(rows: Sequence[Mapping[str, Any]], name: str, dtype: Any) -> pd.Series:
    values = [row.get(name) for row in rows]
    if dtype is TIME:
        return pd.Series(pd.to_datetime(values, utc=True), dtype=TIME)
    if isinstance(dtype, pd.CategoricalDtype):
        values = [None if value is None else str(value) for value in values]
    return pd.Series(values, dtype=dtype)


def _dtype(space: Space) -> Any:
    if isinstance(space, FloatSpace):
        return "float64"
    if not isinstance(space, CategoricalSpace):
        return "Int64"
    kinds = {type(choice) for choice in space.choices}
    if kinds == {bool}:
        return "boolean"
    if kinds == {int}:
        return "Int64"
    if kinds <= {int, float}:
        return "float64"
    return pd.CategoricalDtype([str(choice) for choice in space.choices])


def _utc(unix_s: float | None) -> datetime | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)
