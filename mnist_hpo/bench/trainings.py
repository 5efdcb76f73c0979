"""A list of trainings to time.

An entry has `epochs`, `batch_size`, `learning_rate`, `dropout` and `l2`. `model` is mlp (the default), cnn, rnn or
transformer. An MLP has `depth` and `width`; the other models have their own hyperparameters, with the defaults of a
study file. `n_train` is optional: the number of training examples to use.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from mnist_hpo.data.registry import dataset_info
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.cost import describe
from mnist_hpo.learners.hyperparameters import complete, parameters_of
from mnist_hpo.spec.errors import UserError, first_line, shown
from mnist_hpo.spec.parameter import Choice, Number, Parameter, ParameterSet
from mnist_hpo.spec.reader import nearest
from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import ParameterValue

DATASET, SPLIT = dataset_info("mnist"), "standard"

_N_EXAMPLES = DATASET.splits[SPLIT].n_train
_COMMON = ("batch_size", "learning_rate", "dropout", "l2")
_OWN: Mapping[str, tuple[str, ...]] = {
    "mlp": ("depth", "width"),
    "cnn": ("architecture", "channels", "kernel_size", "activation"),
    "rnn": ("cell", "depth", "width", "direction", "readout"),
    "transformer": ("patch_size", "overlap", "width", "n_heads", "depth", "mlp_ratio", "readout"),
}
"""The models, with those of their hyperparameters that every contender supports."""
_EPOCHS = Number(int, default=None, low=1, high=1_000_000)
_MODEL = Choice("mlp", tuple(_OWN))


@dataclass(frozen=True)
class Training:
    """One entry of a list: a model with its defaults, trained by Adam at a constant learning rate."""

    model: str
    parameters: ParameterSet
    """The hyperparameters that the entry sets."""
    epochs: int

    def config(self, index: int, seed: int, precision: str) -> TrainingConfig:
        """Return the platform's configuration for it."""
        parameters = {**self.parameters, "precision": precision}
        return TrainingConfig(self.model, parameters, seed_of(seed, "replay", index), max_epochs=self.epochs)

    def values(self) -> dict[str, ParameterValue]:
        """Return its hyperparameters completed with the defaults of those that are missing."""
        return complete(self.model, self.parameters)

    def flops(self) -> int:
        """Return the model FLOPs of training over all epochs, without validation."""
        return self.epochs * describe(self.model, self.parameters, DATASET.shape(SPLIT)).train_flops

    def entry(self) -> dict[str, ParameterValue]:
        """Return it as an entry of a list."""
        return {"model": self.model, **self.parameters, "epochs": self.epochs}


def read_trainings(path: Path) -> list[Training]:
    """Read a list of trainings.

    Raises:
        UserError: the file is missing or is not JSON, or an entry is invalid. The message names the file, the entry,
            the key and the valid values.

    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}, column {error.colno}: not valid JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        # The file is not UTF-8, has a number of thousands of digits, or is nested too deeply.
        raise UserError(f"{path}: not a list of trainings: {first_line(error)}") from None
    if not isinstance(entries, list):
        raise UserError(f"{path}: must be a list of trainings, not {shown(entries)}")
    if not entries:
        raise UserError(f"{path}: a list of trainings needs at least 1 item")
    return [_Reader(path, index).read(entry) for index, entry in enumerate(entries)]


@dataclass(frozen=True)
class _Reader:
    """Checks one entry of a list."""

    path: Path
    index: int

    def read(self, entry: Any) -> Training:
        if not isinstance(entry, dict):
            raise UserError(f"{self.path}: entry {self.index}: must be an object, not {shown(entry)}")
        model = entry.get("model", _MODEL.default)
        self._check("model", _MODEL, model)
        known = self._known(model)
        for key, value in entry.items():
            if key not in known:
                names = ", ".join(known)
                self._fail(key, f"unknown key for the model {model}{nearest(key, list(known))}; known are {names}")
            self._check(key, known[key], value)
        for key in (*(_OWN["mlp"] if model == "mlp" else ()), *_COMMON, "epochs"):
            if key not in entry:
                self._fail(key, "Field required")
        self._check_sizes(entry)
        parameters = {key: value for key, value in entry.items() if key not in ("model", "epochs")}
        return Training(model, parameters, entry["epochs"])

    def _known(self, model: str) -> dict[str, Parameter]:
        """Return the keys of a model's entries."""
        platform = parameters_of(model)
        names = (*_OWN[model], *_COMMON, "n_train")
        return {"model": _MODEL, **{name: platform[name] for name in names}, "epochs": _EPOCHS}

    def _check(self, key: str, parameter: Parameter, value: Any) -> None:
        problem = parameter.problem(value)
        if problem:
            self._fail(key, problem)

    def _check_sizes(self, entry: Mapping[str, Any]) -> None:
        n_train = entry.get("n_train", _N_EXAMPLES)
        if n_train > _N_EXAMPLES:
            self._fail("n_train", f"must be from 1 to {_N_EXAMPLES}, the training examples, not {n_train}")
        if entry["batch_size"] > n_train:
            self._fail("batch_size", f"must be from 1 to {n_train}, the training examples, not {entry['batch_size']}")

    def _fail(self, key: str, problem: str) -> NoReturn:
        raise UserError(f"{self.path}: entry {self.index}.{key}: {problem}")
