"""Split hyperparameters into a static program and dynamic numbers, which never cause a new compilation.

Imports no JAX: the coordinator uses the program to count FLOPs and to find a worker that has compiled it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mnist_hpo.spec.model import FlaxModel
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
    "precision": Choice("bf16", ("bf16", "fp32")),
    "schedule": Choice("constant", ("constant", "cosine", "one_cycle")),
}
"""The hyperparameters of training any Flax model, beside the model's own."""

Architecture = tuple[tuple[str, ParameterValue], ...]
"""A model's own hyperparameters as sorted (name, value) pairs, which are hashable."""


@dataclass(frozen=True)
class Program:
    """The static configuration of the compiled epoch. Hashable; each value is compiled separately."""

    model: str
    input_shape: tuple[int, ...]
    """The shape of one image as the module takes it."""
    n_classes: int
    architecture: Architecture
    batch_size: int
    optimizer: str
    precision: str
    """The precision of the factors of products; all else is float32."""
    with_dropout: bool
    """Whether dropout masks are drawn; not for a rate of exactly 0."""

    @property
    def n_features(self) -> int:
        """The number of values of an image."""
        return math.prod(self.input_shape)


@dataclass(frozen=True)
class Hyperparameters:
    """The dynamic configuration: arguments of the compiled epoch."""

    learning_rate: float
    schedule: str
    """The name of the schedule. The host computes the learning rate of each step from it."""
    dropout: float
    l1: float
    l2: float
    label_smoothing: float
    momentum: float


def split(
    name: str, model: FlaxModel, values: ParameterSet, *, image_shape: tuple[int, int, int], n_classes: int
) -> tuple[Program, Hyperparameters]:
    """Split hyperparameters into the static and the dynamic configuration.

    Args:
        name: the model's name.
        model: the model.
        values: a value for each hyperparameter, as `complete` returns it.
        image_shape: height, width and channels.
        n_classes: the number of classes.

    """
    program = Program(
        model=name,
        input_shape=model.input_shape(image_shape),
        n_classes=n_classes,
        architecture=tuple(sorted((name, values[name]) for name in model.hyperparameters)),
        batch_size=int(values["batch_size"]),
        optimizer=str(values["optimizer"]),
        precision=str(values["precision"]),
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
