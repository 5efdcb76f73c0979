"""What `mnist-hpo retrain` has written of a study's tests: the figures, and each model's guesses."""

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

_FIGURES, _GUESSES = "champion.json", "predictions.npz"


class ChampionTest(BaseModel):
    """A re-trained trial's figures on the test split: what is shown of a champion.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trial: int
    reproduced: str
    """`exact`, or how far the re-trained curve is from the recorded one."""
    best_epoch: int
    n_seeds: int
    n_diverged: int = 0
    """Of the seeds; the means and deviations are over the others, None where there are none."""
    registered_seed: int | None = 0
    """The first seed that did not diverge."""
    test_accuracy_mean: float | None
    test_accuracy_std: float | None
    test_macro_f1_mean: float | None
    test_macro_f1_std: float | None
    test_log_loss_mean: float | None
    test_log_loss_std: float | None
    confusion_matrix: Annotated[tuple[tuple[int, ...], ...], Field(min_length=1)] | None
    """[true class, guessed class]: test examples, of `registered_seed`'s model."""


@dataclass(frozen=True)
class TestGuesses:
    """What a champion's models guess on the test examples."""

    __test__ = False  # Not a test, whatever pytest thinks of the name.

    by_seed: Mapping[int, NDArray[np.uint8]]
    """u8[n_test] each, without seeds that diverged."""
    labels: NDArray[np.uint8]
    """u8[n_test]"""


def trial_report(champions: Path, number: int) -> Path:
    """Where a re-trained trial's report lies in its study's folder below mlruns/champions."""
    return champions / f"trial-{number:05d}" / "report"


def read_champion_tests(champions: Path) -> list[ChampionTest]:
    """Read the tests of a study's re-trained trials, by trial.

    Args:
        champions: the study's folder, below mlruns/champions.

    Raises:
        UserError: a file cannot be read or is damaged.

    """
    reports = sorted(champions.glob("trial-*/report"))
    return [test for report in reports if (test := read_champion_test(report)) is not None]


def read_champion_test(report: Path) -> ChampionTest | None:
    """Read a re-trained trial's test; None where there is none yet.

    Args:
        report: the trial's, see `trial_report`.

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
        raise _damaged(path, f"{place}: {problem['msg']}") from None


def read_guesses(report: Path) -> TestGuesses | None:
    """Read what a re-trained trial's models guess; None where that was not kept.

    Args:
        report: the trial's, see `trial_report`.

    Raises:
        UserError: the file cannot be read or is damaged.

    """
    path = report / _GUESSES
    if not path.exists():
        return None
    try:
        with np.load(path) as kept:
            guesses, labels = kept["guesses"], kept["labels"]
            # Files of earlier versions have every seed.
            seeds = kept["seeds"].tolist() if "seeds" in kept else list(range(len(guesses)))
        if labels.ndim != 1 or guesses.shape[1:] != labels.shape or not len(guesses):
            raise ValueError(f"guesses of shape {guesses.shape}, labels of shape {labels.shape}")
        return TestGuesses(dict(zip(seeds, guesses, strict=True)), labels)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise _damaged(path, first_line(error)) from None


def _damaged(path: Path, problem: str) -> UserError:
    # In the folder champions/STUDY-UID/trial-NUMBER/report.
    study = path.parents[2].name.rpartition("-")[0]
    return UserError(f"{path}: damaged ({problem}); mnist-hpo retrain {study} writes a new one, or remove the file")
