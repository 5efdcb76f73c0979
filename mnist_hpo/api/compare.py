"""`mnist_hpo.compare`: compare studies or single trials."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from mnist_hpo.analysis import comparison
from mnist_hpo.analysis.comparison import Comparison
from mnist_hpo.analysis.reading import load_entry
from mnist_hpo.api.home import home_of
from mnist_hpo.api.process_state import keep_log_levels
from mnist_hpo.api.studies import study_name
from mnist_hpo.spec.errors import UserError


@keep_log_levels()
def compare(
    names: Sequence[str | Path],
    *,
    runs: bool = False,
    target: float | None = None,
    folder: str | Path | None = None,
    storage: str | None = None,
) -> Comparison:
    """Compare studies: cost, best trial, its test, the cost to reach a loss, and McNemar's exact test on champions.

    Args:
        names: at least two studies by name or file; with `runs`, single trials, each as "STUDY:NUMBER".
        runs: whether to compare single trials.
        target: report the cost to reach this valid_loss; by default the highest of the best losses.
        folder: the folder that contains mlruns/; by default the working folder.
        storage: the Optuna storage's URL, instead of `MNIST_HPO_STORAGE` in the environment or the one in mlruns/.

    Returns:
        The comparison; its `comparable` and `why` state whether the losses are comparable.

    Raises:
        UserError: a name is invalid, a study or trial does not exist, or a champion's file is damaged.

    """
    if target is not None and not math.isfinite(target):
        raise UserError(f"target {target} is not a loss; give a number such as 0.08")
    if len(names) < 2:
        beside = f" beside {str(names[0])!r}" if names else ""
        raise UserError(f"a comparison needs at least two; name another{beside}")
    chosen = [_trial_of(str(name)) if runs else (study_name(name), None) for name in names]
    for index, entry in enumerate(chosen):
        if entry in chosen[:index]:
            raise UserError(f"{str(names[index])!r} is listed twice; name another")
    home = home_of(folder, storage)
    entries = [load_entry(home.storage_url, name, number, home.folder / "champions") for name, number in chosen]
    return comparison.compare(entries, target)


def _trial_of(text: str) -> tuple[str, int]:
    name, separator, number = text.rpartition(":")
    if not separator or not re.fullmatch("[0-9]{1,9}", number):
        raise UserError(f"{text!r} is not a trial; write STUDY:NUMBER, such as quickstart:3")
    return study_name(name), int(number)
