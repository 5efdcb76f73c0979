"""What `mnist-hpo retrain` has written of a study's tests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnist_hpo.spec.errors import UserError

_LARGE = 1000
"""The losses of a model that has all but diverged are longer than a table is wide."""
_FILES = "trial-*/report/champion.json"


class ChampionTest(BaseModel):
    """A re-trained trial's figures on the test split: what the report shows of a champion.json."""

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


def seeds_in_words(n_seeds: int, n_diverged: int) -> str:
    """`3`, or `3 (1 diverged)`."""
    return f"{n_seeds} ({n_diverged} diverged)" if n_diverged else str(n_seeds)


def mean_and_std(mean: float | None, std: float | None, *, percent: bool = False) -> str:
    """`0.0512 ± 0.0003` or `98.49 ± 0.05 %`; a dash where every seed diverged."""
    if mean is None or std is None:
        return "–"
    if percent:
        return f"{100 * mean:.2f} ± {100 * std:.2f} %"
    return f"{mean:.4f} ± {std:.4f}" if max(mean, std) < _LARGE else f"{mean:.3g} ± {std:.3g}"


def read_champion_tests(folder: Path) -> list[ChampionTest]:
    """Read the tests of a study's re-trained trials, by trial.

    Args:
        folder: the study's, below mlruns/champions.

    Raises:
        UserError: a file cannot be read or is damaged.

    """
    return [_read(path) for path in sorted(folder.glob(_FILES))]


def _read(path: Path) -> ChampionTest:
    try:
        return ChampionTest.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        raise UserError(
            f"{path}: {place}: {problem['msg']}; make it anew with: mnist-hpo retrain, or remove the file"
        ) from None
