"""Split hyperparameters into a static program and dynamic numbers, which never cause a new compilation.

Imports no JAX: the coordinator uses the program to count FLOPs and to find a worker that has compiled it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

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
    "schedule": Choice("constant", ("constant", "linear", "cosine", "one_cycle")),
    # The share of the steps before `linear` decays.
    "decay_start": Number(float, default=0.5, low=0, high=1),
    # The share of the steps in which the learning rate rises from 0, with any schedule.
    "warmup": Number(float, default=0.0, low=0, high=1),
    "initializer": Choice("he", ("he", "xavier")),
    "input_dropout": Number(float, default=0.0, low=0, high=_LARGEST_RATE),
    "input_noise": Number(float, default=0.0, low=0, high=10),
    "noise": Number(float, default=0.0, low=0, high=10),
    "max_norm": Number(float, default=0.0, low=0, high=1e6),
    "mixup": Number(float, default=0.0, low=0, high=100),
    "averaging": Choice("none", ("none", "ema", "swa")),
    "ema_decay": Number(float, default=0.999, low=0, high=1),
    # The share of the steps before `swa` averages.
    "swa_start": Number(float, default=0.75, low=0, high=1),
    "rotation": Number(float, default=0.0, low=0, high=180),
    "translation": Number(float, default=0.0, low=0, high=100),
    "scaling": Number(float, default=0.0, low=0, high=0.9),
    "shear": Number(float, default=0.0, low=0, high=80),
    "elastic": Number(float, default=0.0, low=0, high=10_000),
    "elastic_sigma": Number(float, default=4.0, low=0.3, high=100),
    "erasing": Number(float, default=0.0, low=0, high=1),
}
"""The hyperparameters of training any Flax model, beside the model's own. docs/hyperparameters.md explains each."""

AUGMENTATION = ("rotation", "translation", "scaling", "shear", "elastic", "erasing")
"""The hyperparameters that change images and are off at 0."""

INPUT_CHANGES = (*AUGMENTATION, "mixup", "input_noise", "input_dropout")
"""The hyperparameters that change what a training step passes to the module, and are off at 0."""

OPTIONAL = ("dropout", "noise", "max_norm", *INPUT_CHANGES)
"""The hyperparameters that are off at 0. A compiled program computes only those that are on."""

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
    active: tuple[str, ...] = ()
    """Those of the hyperparameters in `OPTIONAL` that are on."""
    image_shape: tuple[int, int, int] = (1, 1, 1)
    """Height, width and channels of an image, which augmentation needs."""
    averaging: bool = False
    """Whether predictions use an average of the weights."""
    learning_rate_factors: tuple[float, float] = (1.0, 1.0)
    """The factors of the learning rate: of the last layer, and of the others; see `transfer`."""

    @property
    def n_features(self) -> int:
        """The number of values of an image."""
        return math.prod(self.input_shape)


@dataclass(frozen=True)
class Hyperparameters:
    """The dynamic configuration: arguments of the compiled epoch, and what the host computes arguments from."""

    schedule: str
    """The name of the schedule. The host computes the learning rate of each step from it."""
    initializer: str
    averaging: str
    learning_rate: float
    decay_start: float
    warmup: float
    ema_decay: float
    swa_start: float
    dropout: float
    l1: float
    l2: float
    label_smoothing: float
    momentum: float
    input_dropout: float
    input_noise: float
    noise: float
    max_norm: float
    mixup: float
    rotation: float
    translation: float
    scaling: float
    shear: float
    elastic: float
    elastic_sigma: float
    erasing: float


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
        active=tuple(name for name in OPTIONAL if float(values[name]) > 0),
        image_shape=image_shape,
        averaging=values["averaging"] != "none",
    )
    kinds = {field.name: OPTIMIZATION[field.name] for field in fields(Hyperparameters)}
    dynamic: dict[str, Any] = {
        name: values[name] if isinstance(kind, Choice) else float(values[name]) for name, kind in kinds.items()
    }
    return program, Hyperparameters(**dynamic)
