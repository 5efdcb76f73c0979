"""What `mnist-hpo retrain` has written of a study's tests."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnist_hpo.spec.errors import UserError

_FILES = "trial-*/report/champion.json"


class ChampionTest(BaseModel):
    """A re-trained trial's figures on the test split: what the report shows of a champion.json."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    trial: int
    reproduced: str
    """`exact`, or how far the re-trained curve is from the recorded one."""
    best_epoch: int
    n_seeds: int
    test_accuracy_mean: float
    test_accuracy_std: float
    test_macro_f1_mean: float
    test_macro_f1_std: float
    test_log_loss_mean: float
    test_log_loss_std: float
    confusion_matrix: tuple[tuple[int, ...], ...] = Field(min_length=1)
    """[true class, guessed class]: test examples, of the first seed's model."""


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
