"""`mnist_hpo.load_trials`: a study's trials as a table."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mnist_hpo.analysis.trials_table import trials_frame
from mnist_hpo.api.home import home_of
from mnist_hpo.api.process_state import keep_log_levels
from mnist_hpo.api.studies import recorded_study
from mnist_hpo.spec.study import Study


@keep_log_levels()
def load_trials(
    study: str | Path | Study, *, storage: str | None = None, folder: str | Path | None = None
) -> pd.DataFrame:
    """Load a study's trials into a pandas DataFrame with one row per trial, ordered by number.

    Columns, in this order:

    - `number` (Int64), counted from 0; `state` (categorical: complete, pruned, failed, running); `reason` (string) of
      a failure;
    - each searched hyperparameter by its name: float64, Int64, boolean, or categorical if its choices are strings;
    - `valid_loss` and `valid_accuracy` (float64, from 0 to 1) at the best epoch, `best_epoch` and `n_epochs` (Int64);
    - `seconds` and `compile_s` (float64): worker seconds of all its epochs, and the part of these spent compiling;
    - `n_parameters` (Int64), the number of the model's weights, and `train_flops` so far (Int64);
    - `started_at` and `finished_at` (timestamps in UTC).

    Absent values (the loss of a trial without an epoch, a hyperparameter that the trial does not have) are NaN, NA or
    NaT.

    Args:
        study: the study's name or file.
        storage: the Optuna storage's URL, instead of `MNIST_HPO_STORAGE` in the environment or the one in mlruns/.
        folder: the folder that contains mlruns/; by default the working folder.

    Raises:
        UserError: the storage or the study does not exist.

    Example:
        >>> trials = mnist_hpo.load_trials("quickstart")
        >>> trials[trials["state"] == "complete"].nsmallest(3, "valid_loss")

    """
    record, file = recorded_study(home_of(folder, storage).storage_url, study)
    return trials_frame(file.study, record.trials())
