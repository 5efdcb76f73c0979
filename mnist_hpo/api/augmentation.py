"""The training images of a study as its training steps change them.

The process must have a worker's environment before JAX starts, so that the images are those of the workers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.analysis.words import brief
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepare import Log, prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.flax.program import INPUT_CHANGES, split
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import CategoricalSpace, ParameterValue, Space, Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.trial_plan import all_parameters

N_COPIES = 8
"""Changed copies of each digit."""
_MAX_DIGITS = 10

_LEVELS = {"weakest": 0.0, "middle": 0.5, "strongest": 1.0}
"""Positions in the range of each searched strength."""
_SHOWN = (*INPUT_CHANGES, "elastic_sigma")
"""The hyperparameters that decide how images are changed."""


@dataclass(frozen=True)
class Strengths:
    """Hyperparameters with which images are changed."""

    title: str
    parameters: ParameterSet
    """All hyperparameters of a training."""

    @property
    def text(self) -> str:
        """The values of the hyperparameters that change images, such as `rotation 15, translation 2`."""
        texts: list[str] = []
        for name in INPUT_CHANGES:
            if float(self.parameters[name]) > 0:
                smoothing = f" (elastic_sigma {brief(self.parameters['elastic_sigma'])})" if name == "elastic" else ""
                texts.append(f"{name} {brief(self.parameters[name])}{smoothing}")
        return ", ".join(texts) or "no change"


@dataclass(frozen=True)
class Block:
    """Digits, and copies of them that were changed with the same strengths."""

    strengths: Strengths
    originals: NDArray[np.float32]
    """f32[E, H, W, C], from 0 to 1."""
    copies: NDArray[np.float32]
    """f32[E, N_COPIES, H, W, C], from 0 to 1 before noise is added."""


def strengths_of(study: Study) -> list[Strengths]:
    """Return a study's strengths: the weakest, the middle and the strongest of the searched ranges, or the fixed ones.

    The middle is that of the scale that is searched, linear or logarithmic. A smaller `elastic_sigma` counts as
    stronger, because it smooths the distortion less.

    Raises:
        UserError: the study does not change images.

    """
    _check_model(study)
    searched = {name: study.space[name] for name in _SHOWN if name in study.space}
    if not searched:
        found = [Strengths("fixed strengths", all_parameters(study, {}))]
    else:
        found = [
            Strengths(level, all_parameters(study, {name: _at(name, entry, at) for name, entry in searched.items()}))
            for level, at in _LEVELS.items()
        ]
    if not any(_changes_images(strengths.parameters) for strengths in found):
        raise UserError(
            f"{study.name}: its trainings change no image, since it sets none of {', '.join(INPUT_CHANGES)} above 0; "
            "add one, for example fixed: {rotation: 15, translation: 2}"
        )
    return found


def strengths_of_trial(study: Study, trial: TrialRecord) -> list[Strengths]:
    """Return a trial's strengths, as a list of one.

    Raises:
        UserError: the trial does not change images.

    """
    _check_model(study)
    parameters = all_parameters(study, trial.parameters)
    if not _changes_images(parameters):
        raise UserError(
            f"trial {trial.number} of {study.name} changes no image: its {', '.join(INPUT_CHANGES)} are all 0; "
            "choose another trial, or leave --trial out to see the searched ranges"
        )
    return [Strengths(f"trial {trial.number}", parameters)]


def augmented(study: Study, found: list[Strengths], *, seed: int, log: Log) -> list[Block]:
    """Change one training digit of each class, at most ten classes, with each of the strengths.

    Args:
        study: the study.
        found: the strengths.
        seed: chooses the digits and all random changes.
        log: a function to report the preparation of the dataset to.

    Raises:
        UserError: the dataset cannot be prepared.

    """
    from mnist_hpo.learners.flax.preview import changed_images

    model = find_model(study.model)
    assert isinstance(model, FlaxModel)
    prepared = prepare(dataset_info(study.dataset), log=log)
    arrays = load_search(prepared.directory, study.split)
    images = np.asarray(arrays.train_images[_one_of_each(arrays.train_labels, seed)])
    shape = arrays.image_shape
    originals = images.reshape(-1, *shape).astype(np.float32) / np.float32(255)
    blocks: list[Block] = []
    for strengths in found:
        n_classes = dataset_info(study.dataset).n_classes
        program, dynamic = split(study.model, model, strengths.parameters, image_shape=shape, n_classes=n_classes)
        copies = changed_images(program, dynamic, images, N_COPIES, seed_of(seed, "augment"))
        blocks.append(Block(strengths, originals, copies.swapaxes(0, 1).reshape(len(images), N_COPIES, *shape)))
    return blocks


def _check_model(study: Study) -> None:
    if not isinstance(find_model(study.model), FlaxModel):
        raise UserError(f"{study.name}: the model {study.model} trains on unchanged images; only Flax models augment")


def _changes_images(parameters: Mapping[str, ParameterValue]) -> bool:
    return any(float(parameters[name]) > 0 for name in INPUT_CHANGES)


def _at(name: str, entry: Space, share: float) -> ParameterValue:
    """Return the value at a share of the way from the weakest to the strongest of a searched strength."""
    if name == "elastic_sigma":
        share = 1 - share
    if isinstance(entry, CategoricalSpace):
        choices = sorted(entry.choices, key=float)
        return choices[math.floor(share * (len(choices) - 1) + 0.5)]
    low, high = float(entry.low), float(entry.high)
    value = low * (high / low) ** share if entry.log else low + share * (high - low)
    if entry.step:
        value = entry.low + math.floor((value - entry.low) / entry.step + 0.5) * entry.step
    return round(value) if entry.type == "int" else value


def _one_of_each(labels: NDArray[np.uint8], seed: int) -> NDArray[np.int64]:
    """Return the row of a random example of each of the first classes, in the order of the classes."""
    random = np.random.Generator(np.random.Philox(key=seed_of(seed, "digits")))
    order = random.permutation(len(labels))
    _, first = np.unique(labels[order], return_index=True)
    return order[first][:_MAX_DIGITS]
