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
    """Load a study's trials into a pandas DataFrame, one row a trial, by number.

    Columns, in this order:

    - `number` (Int64), counted from 0; `state` (categorical: complete, pruned, failed, running); `reason` (string) of
      a failure;
    - each searched hyperparameter by its name: float64, Int64, boolean, or categorical where its choices are texts;
    - `valid_loss` and `valid_accuracy` (float64, from 0 to 1) at the best epoch, `best_epoch` and `n_epochs` (Int64);
    - `seconds` and `compile_s` (float64): worker seconds of all its epochs, and of these in compiling;
    - `n_parameters` of the model and `train_flops` so far (Int64);
    - `started_at` and `finished_at` (timestamps in UTC).

    What is not there (the loss of a trial without an epoch, a hyperparameter that the trial does not have) is missing:
    NaN, NA or NaT.

    Args:
        study: the study's name or file.
        storage: the Optuna storage's URL, if it is not the one in mlruns/ or of the environment's `MNIST_HPO_STORAGE`.
        folder: the folder that holds mlruns/; by default the working folder.

    Raises:
        UserError: there is no such storage or study.

    Example:
        >>> trials = mnist_hpo.load_trials("quickstart")
        >>> trials[trials["state"] == "complete"].nsmallest(3, "valid_loss")

    """
    record, file = recorded_study(home_of(folder, storage).storage_url, study)
    return trials_frame(file.study, record.trials())
