"""A study's trials as a typed table, one row a trial: for the terminal, for files and for notebooks."""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from mnist_hpo.data.registry import DATASETS
from mnist_hpo.learners.cost import describe
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.outputs import TrialOutput
from mnist_hpo.spec.reader import nearest, parse_study
from mnist_hpo.spec.study import CategoricalSpace, FloatSpace, Space, Study, TrialState
from mnist_hpo.storage import DEFAULT_STORAGE
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.storage.study_storage import StudyStorage

STATES: tuple[TrialState, ...] = ("complete", "pruned", "failed", "running")

_TIME = pd.DatetimeTZDtype("us", "UTC")
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
    "started_at": _TIME,
    "finished_at": _TIME,
}
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_FILTER = re.compile(rf"\s*(\w+)\s*({'|'.join(_COMPARISONS)})\s*(.*\S)\s*")


def load_trials(study: str, *, storage: str | None = None) -> pd.DataFrame:
    """Load a study's trials into a pandas DataFrame, one row a trial, by number.

    Columns, in this order:

    - `number` (Int64), counted from 0; `state` (categorical: complete, pruned, failed, running); `reason` (string) of
      a failure;
    - each searched hyperparameter by its name: float64, Int64, boolean, or categorical where its choices are texts;
    - `valid_loss` and `valid_accuracy` (float64, from 0 to 1) at the best epoch, `best_epoch` and `n_epochs` (Int64);
    - `seconds` and `compile_s` (float64): worker seconds of all its epochs, and of these in compiling;
    - `n_parameters` of the model and `train_flops` so far (Int64);
    - `started_at` and `finished_at` (timestamps in UTC).

    What is not there (the loss of a trial without an epoch) is missing: NaN, NA or NaT.

    Args:
        study: the study's name.
        storage: the Optuna storage's URL; by default the environment's `MNIST_HPO_STORAGE`, else the one in ./mlruns.

    Raises:
        UserError: there is no such storage or study.

    Example:
        >>> trials = mnist_hpo.load_trials("quickstart")
        >>> trials[trials["state"] == "complete"].nsmallest(3, "valid_loss")

    """
    record = StudyStorage.load(storage or os.environ.get("MNIST_HPO_STORAGE") or DEFAULT_STORAGE, study)
    file = parse_study(record.study_file, Path(f"{record.name}.yaml"))
    return trials_frame(file.study, record.trials())


def trial_output(study: Study, trial: TrialRecord) -> TrialOutput:
    """A trial's results, without what depends on time."""
    data = DATASETS[study.dataset].shape(study.split)
    described = describe(study.model, {**study.fixed, **trial.parameters}, data)
    best = None if trial.best_epoch is None else trial.epochs[trial.best_epoch]
    return TrialOutput(
        number=trial.number,
        state=trial.state,
        reason=trial.reason,
        given_up=trial.was_given_up,
        params=dict(trial.parameters),
        value=trial.value,
        valid_loss=trial.valid_loss,
        best_valid_loss=best and best.valid_loss,
        best_valid_accuracy=best and best.valid_accuracy,
        best_epoch=trial.best_epoch,
        n_epochs=len(trial.epochs),
        n_parameters=described.n_parameters,
        train_flops=described.train_flops * len(trial.epochs),
    )


def trials_frame(study: Study, trials: Sequence[TrialRecord]) -> pd.DataFrame:
    """The table that `load_trials` describes, with a row for each of these trials."""
    dtypes = {**_BEFORE, **{name: _dtype(space) for name, space in study.space.items()}, **_AFTER}
    rows = [_row(study, trial) for trial in trials]
    return pd.DataFrame({name: _column(rows, name, dtype) for name, dtype in dtypes.items()})


def choose(
    frame: pd.DataFrame,
    *,
    states: Sequence[TrialState] = (),
    where: Sequence[str] = (),
    sort: str | None = None,
    descending: bool = False,
    top: int | None = None,
) -> pd.DataFrame:
    """Some of a table's rows, in some order.

    Args:
        frame: a table as `load_trials` makes it.
        states: keep trials of these states; none given: of any.
        where: conditions such as `learning_rate<0.01` or `optimizer=adam`, all of which must hold; what is missing
            fulfils none.
        sort: the column to sort by; what is missing comes last, and equals stay in the order of their numbers.
        descending: the greatest first.
        top: keep so many of the first rows; by valid_loss where `sort` does not say otherwise.

    Raises:
        UserError: there is no such column, or a condition is none.

    """
    if states:
        frame = frame.loc[frame["state"].isin(states)]
    for condition in where:
        frame = frame.loc[_fulfils(frame, condition)]
    if sort is None and top is not None:
        sort = "valid_loss"
    if sort is not None:
        _check_column(frame, sort, f"--sort {sort!r}")
        frame = frame.sort_values(sort, ascending=not descending, kind="stable", na_position="last")
    elif descending:
        frame = frame.iloc[::-1]
    return frame if top is None else frame.head(top)


def _row(study: Study, trial: TrialRecord) -> dict[str, Any]:
    output = trial_output(study, trial)
    return {
        **output.model_dump(
            include={"number", "state", "reason", "best_epoch", "n_epochs", "n_parameters", "train_flops"}
        ),
        **output.params,
        "valid_loss": output.best_valid_loss,
        "valid_accuracy": output.best_valid_accuracy,
        "seconds": sum(result.total_s for result in trial.epochs.values()),
        "compile_s": sum(result.compile_s for result in trial.epochs.values()),
        "started_at": _utc(trial.started_unix_s or None),
        "finished_at": _utc(trial.finished_unix_s),
    }


def _column(rows: Sequence[Mapping[str, Any]], name: str, dtype: Any) -> pd.Series:
    values = [row.get(name) for row in rows]
    if dtype is _TIME:
        return pd.Series(pd.to_datetime(values, utc=True), dtype=_TIME)
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


def _fulfils(frame: pd.DataFrame, condition: str) -> pd.Series:
    """Which rows fulfil a condition."""
    found = _FILTER.fullmatch(condition)
    if found is None:
        raise UserError(f"--where {condition!r}: no condition; write COLUMN<VALUE with one of < <= > >= = !=")
    name, sign, text = found.groups()
    _check_column(frame, name, f"--where {condition!r}")
    column: pd.Series = frame.loc[:, name]
    value = _value_for(column, text, sign, condition)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("string")
    holds = _COMPARISONS[sign](column, value)
    return holds.fillna(False).astype(bool) & column.notna()


def _value_for(column: pd.Series, text: str, sign: str, condition: str) -> Any:
    """A condition's value as something that the column can be compared with."""
    ordered = sign not in ("=", "==", "!=")
    if pd.api.types.is_bool_dtype(column.dtype) or isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype):
        if ordered:
            raise UserError(f"--where {condition!r}: {column.name} has no order; use = or !=")
        if not pd.api.types.is_bool_dtype(column.dtype):
            return _known_text(column, text, condition)
        if text.lower() not in ("true", "false"):
            raise UserError(f"--where {condition!r}: {column.name} is true or false, not {text!r}")
        return text.lower() == "true"
    is_time = column.dtype == _TIME
    try:
        return pd.to_datetime(text, utc=True) if is_time else float(text)
    except ValueError:
        kind = "a time such as 2026-11-23T12:00" if is_time else "a number"
        raise UserError(f"--where {condition!r}: {column.name} is compared with {kind}, not {text!r}") from None


def _known_text(column: pd.Series, text: str, condition: str) -> str:
    if isinstance(column.dtype, pd.CategoricalDtype):
        known: list[str] = list(column.dtype.categories)
        if text not in known:
            choices = ", ".join(known)
            raise UserError(
                f"--where {condition!r}: {column.name} is never {text!r}{nearest(text, known)}; there are {choices}"
            )
    return text


def _check_column(frame: pd.DataFrame, name: str, asked: str) -> None:
    columns = [str(column) for column in frame.columns]
    if name not in columns:
        raise UserError(f"{asked}: no column {name!r}{nearest(name, columns)}; there are {', '.join(columns)}")


def _utc(unix_s: float | None) -> datetime | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)
