"""From a parameter set to what the core takes: a static program, and dynamic numbers that never cause a compile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mnist_hpo.models.registry import MODELS, Architecture, MultiplyAdds
from mnist_hpo.spec.parameter import Choice, Number, Parameter, ParameterSet
from mnist_hpo.spec.study import ParameterValue

_LARGEST_RATE = 0.95

OPTIMIZATION: Mapping[str, Parameter] = {
    "learning_rate": Number(float, default=1e-3, low=0, high=1e6, low_open=True),
    "batch_size": Number(int, default=128, low=1, high=1_000_000),
    "dropout": Number(float, default=0.0, low=0, high=_LARGEST_RATE),
    "l1": Number(float, default=0.0, low=0, high=1e6),
    "l2": Number(float, default=0.0, low=0, high=1e6),
    "label_smoothing": Number(float, default=0.0, low=0, high=_LARGEST_RATE),
    "optimizer": Choice("adam", ("adam", "adamw", "sgd", "sgd_nesterov", "rmsprop")),
    "momentum": Number(float, default=0.9, low=0, high=0.9999),
    "schedule": Choice("constant", ("constant", "cosine", "one_cycle")),
}
"""What any model's training can be told, beside the model's own architecture."""


@dataclass(frozen=True)
class Program:
    """The static configuration: what shapes the compiled epoch. Hashable; another value is another compile."""

    model: str
    n_features: int
    n_classes: int
    architecture: Architecture
    batch_size: int
    optimizer: str
    with_dropout: bool
    """A training whose rate is exactly 0 draws no masks."""

    def multiply_adds(self) -> MultiplyAdds:
        """Multiply-adds of one example's forward pass."""
        return MODELS[self.model].multiply_adds(self.n_features, self.n_classes, dict(self.architecture))

    def n_parameters(self) -> int:
        """How many numbers training learns, counted without building the model."""
        return MODELS[self.model].n_parameters(self.n_features, self.n_classes, dict(self.architecture))


@dataclass(frozen=True)
class Hyperparameters:
    """The dynamic configuration: numbers that the compiled epoch takes as arguments."""

    learning_rate: float
    schedule: str
    """Dynamic too: the host turns it into the learning rate of each step."""
    dropout: float
    l1: float
    l2: float
    label_smoothing: float
    momentum: float


def parameters_of(model: str) -> dict[str, Parameter]:
    """All hyperparameters that a training of this model can be told, by name."""
    return {**MODELS[model].architecture, **OPTIMIZATION}


def complete(model: str, parameters: ParameterSet) -> dict[str, ParameterValue]:
    """The parameter set with the defaults of what it leaves out."""
    return {name: parameters.get(name, parameter.default) for name, parameter in parameters_of(model).items()}


def split(model: str, parameters: ParameterSet, *, n_features: int, n_classes: int) -> tuple[Program, Hyperparameters]:
    """Keep apart what shapes the program and what it is told while it runs."""
    values = complete(model, parameters)
    program = Program(
        model=model,
        n_features=n_features,
        n_classes=n_classes,
        architecture=tuple(sorted((name, values[name]) for name in MODELS[model].architecture)),
        batch_size=int(values["batch_size"]),
        optimizer=str(values["optimizer"]),
        with_dropout=float(values["dropout"]) > 0,
    )
    dynamic = Hyperparameters(
        learning_rate=float(values["learning_rate"]),
        schedule=str(values["schedule"]),
        dropout=float(values["dropout"]),
        l1=float(values["l1"]),
        l2=float(values["l2"]),
        label_smoothing=float(values["label_smoothing"]),
        momentum=float(values["momentum"]),
    )
    return program, dynamic
