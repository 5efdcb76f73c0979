"""A list of trainings to time, each `{depth, width, batch_size, learning_rate, dropout, l2, epochs}`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mnist_hpo.data.registry import dataset_info
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.cost import describe
from mnist_hpo.spec.errors import UserError, first_line
from mnist_hpo.spec.seeds import seed_of

DATASET, SPLIT = dataset_info("mnist"), "standard"


class Training(BaseModel):
    """One entry of a list."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    depth: int = Field(ge=1, le=16)
    width: int = Field(ge=1, le=8192)
    batch_size: int = Field(ge=1, le=DATASET.splits[SPLIT].n_train)
    learning_rate: float = Field(gt=0)
    dropout: float = Field(ge=0, lt=0.95)
    l2: float = Field(ge=0)
    epochs: int = Field(ge=1)

    def config(self, index: int, seed: int, precision: str) -> TrainingConfig:
        """Return the platform's configuration for it: an MLP with ReLU and Adam."""
        parameters = self.model_dump(exclude={"epochs"}) | {"precision": precision}
        return TrainingConfig("mlp", parameters, seed_of(seed, "replay", index), max_epochs=self.epochs)

    def flops(self) -> int:
        """Return the model FLOPs of training over all epochs, without validation."""
        parameters = self.model_dump(exclude={"epochs"})
        return self.epochs * describe("mlp", parameters, DATASET.shape(SPLIT)).train_flops


def read_trainings(path: Path) -> list[Training]:
    """Read a list of trainings.

    Raises:
        UserError: the file is missing or is not JSON, or an entry is invalid.

    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(Annotated[list[Training], Field(min_length=1)]).validate_python(entries)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = f"entry {'.'.join(map(str, first['loc']))}: " if first["loc"] else ""
        raise UserError(f"{path}: {where}{first['msg']}, not {first['input']!r}") from None
    except (ValueError, RecursionError) as error:
        # The file is not UTF-8, has a number of thousands of digits, or is nested too deeply.
        raise UserError(f"{path}: not a list of trainings: {first_line(error)}") from None
