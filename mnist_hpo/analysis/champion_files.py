"""Read the files that `mnist-hpo retrain` writes: the test figures, and the predictions of each model."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnist_hpo.spec.errors import UserError, first_line

_FIGURES, _PREDICTIONS = "champion.json", "predictions.npz"


class ChampionTest(BaseModel):
    """The test figures of a re-trained trial: the fields of champion.json that are shown."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trial: int
    reproduced: str
    """`exact`, or how far the re-trained curve differs from the recorded one."""
    best_epoch: int
    n_seeds: int
    n_diverged: int = 0
    """Number of seeds that diverged. The means and deviations are over the others, None if all diverged."""
    registered_seed: int | None = 0
    """The first seed that did not diverge."""
    test_accuracy_mean: float | None
    test_accuracy_std: float | None
    test_macro_f1_mean: float | None
    test_macro_f1_std: float | None
    test_log_loss_mean: float | None
    test_log_loss_std: float | None
    confusion_matrix: Annotated[tuple[tuple[int, ...], ...], Field(min_length=1)] | None
    """[true class, predicted class]: number of test examples, for the model of `registered_seed`."""


@dataclass(frozen=True)
class TestPredictions:
    """The classes that a champion's models predict for the test examples."""

    __test__ = False  # Not a test case for pytest.

    by_seed: Mapping[int, NDArray[np.uint8]]
    """u8[n_test] for each seed that did not diverge."""
    labels: NDArray[np.uint8]
    """u8[n_test]"""


def trial_report(champions: Path, number: int) -> Path:
    """Return the report's path of a re-trained trial, in its study's folder in mlruns/champions."""
    return champions / f"trial-{number:05d}" / "report"


def read_champion_tests(champions: Path) -> list[ChampionTest]:
    """Read the test figures of a study's re-trained trials, in the order of the trials.

    Args:
        champions: the study's folder in mlruns/champions.

    Raises:
        UserError: a file cannot be read or is damaged.

    """
    reports = sorted(champions.glob("trial-*/report"))
    return [test for report in reports if (test := read_champion_test(report)) is not None]


def read_champion_test(report: Path) -> ChampionTest | None:
    """Read the test figures of a re-trained trial; None if there are none yet.

    Args:
        report: the trial's report, see `trial_report`.

    Raises:
        UserError: the file cannot be read or is damaged.

    """
    path = report / _FIGURES
    try:
        return ChampionTest.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        raise _damage_error(path, f"{place}: {problem['msg']}") from None


def read_predictions(report: Path) -> TestPredictions | None:
    """Read the predictions of a re-trained trial's models; None if they were not saved.

    Args:
        report: the trial's report, see `trial_report`.

    Raises:
        UserError: the file cannot be read or is damaged.

    """
    path = report / _PREDICTIONS
    if not path.exists():
        return None
    try:
        with np.load(path) as kept:
            predictions, labels = kept["guesses"], kept["labels"]
            # Files of earlier versions contain every seed.
            seeds = kept["seeds"].tolist() if "seeds" in kept else list(range(len(predictions)))
        if labels.ndim != 1 or predictions.shape[1:] != labels.shape or not len(predictions):
            raise ValueError(f"predictions of shape {predictions.shape}, labels of shape {labels.shape}")
        return TestPredictions(dict(zip(seeds, predictions, strict=True)), labels)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damage_error(path, first_line(error)) from None


def _damage_error(path: Path, problem: str) -> UserError:
    # The path is champions/STUDY-UID/trial-NUMBER/report/FILE.
    study = path.parents[2].name.rpartition("-")[0]
    return UserError(f"{path}: damaged ({problem}); mnist-hpo retrain {study} writes a new one, or remove the file")
