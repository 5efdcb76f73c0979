"""Filter, sort and truncate the table of trials."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from mnist_hpo.analysis.trials_table import TIME
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import nearest
from mnist_hpo.spec.study import TrialState

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


def choose(
    frame: pd.DataFrame,
    *,
    states: Sequence[TrialState] = (),
    where: Sequence[str] = (),
    sort: str | None = None,
    descending: bool = False,
    top: int | None = None,
) -> pd.DataFrame:
    """Return the selected rows of a table in the given order.

    Args:
        frame: a table as returned by `load_trials`.
        states: keep trials in these states; if empty, in any state.
        where: conditions such as `learning_rate<0.01` or `optimizer=adam`, all of which must hold. A missing value
            satisfies none.
        sort: the column to sort by. Missing values come last, and ties stay in the order of the trials' numbers.
        descending: sort in descending order.
        top: keep this many rows from the start; without `sort`, sorted by valid_loss.

    Raises:
        UserError: a column does not exist, or a condition is invalid.

    """
    if states:
        frame = frame.loc[frame["state"].isin(states)]
    for condition in where:
        frame = frame.loc[_matching_rows(frame, condition)]
    if sort is None and top is not None:
        sort = "valid_loss"
    if sort is not None:
        _check_column(frame, sort, f"--sort {sort!r}")
        frame = frame.sort_values(sort, ascending=not descending, kind="stable", na_position="last")
    elif descending:
        frame = frame.iloc[::-1]
    return frame if top is None else frame.head(top)


def _matching_rows(frame: pd.DataFrame, condition: str) -> pd.Series:
    """Return a mask of the rows that satisfy a condition."""
    found = _FILTER.fullmatch(condition)
    if found is None:
        raise UserError(f"--where {condition!r}: not a condition; write COLUMN<VALUE with one of < <= > >= = !=")
    name, sign, text = found.groups()
    _check_column(frame, name, f"--where {condition!r}")
    column: pd.Series = frame.loc[:, name]
    value = _parse_value(column, text, sign, condition)
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype("string")
    holds = _COMPARISONS[sign](column, value)
    return holds.fillna(False).astype(bool) & column.notna()


def _parse_value(column: pd.Series, text: str, sign: str, condition: str) -> Any:
    """Parse a condition's value to the type of the column."""
    ordered = sign not in ("=", "==", "!=")
    if pd.api.types.is_bool_dtype(column.dtype) or isinstance(column.dtype, pd.CategoricalDtype | pd.StringDtype):
        if ordered:
            raise UserError(f"--where {condition!r}: {column.name} has no order; use = or !=")
        if not pd.api.types.is_bool_dtype(column.dtype):
            return _check_text(column, text, condition)
        if text.lower() not in ("true", "false"):
            raise UserError(f"--where {condition!r}: {column.name} is true or false, not {text!r}")
        return text.lower() == "true"
    is_time = column.dtype == TIME
    try:
        return pd.to_datetime(text, utc=True) if is_time else float(text)
    except ValueError:
        kind = "a time such as 2026-11-23T12:00" if is_time else "a number"
        raise UserError(f"--where {condition!r}: {column.name} is compared with {kind}, not {text!r}") from None


def _check_text(column: pd.Series, text: str, condition: str) -> str:
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
