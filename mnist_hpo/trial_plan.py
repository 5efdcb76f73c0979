"""Everything that follows from a study and one of its trials: parameters, training, model, costs, checkpoint, job.

Whoever needs one of these asks here, so that the scheduler, the analysis and the re-training agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from mnist_hpo.bundle.writing import ModelDescription
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.cost import describe
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import TrialRecord


def all_parameters(study: Study, searched: ParameterSet) -> dict[str, ParameterValue]:
    """All hyperparameters that a trial's training is told: searched, fixed and by default."""
    return complete(study.model, {**study.fixed, **searched})


def training_config(study: Study, number: int, searched: ParameterSet) -> TrainingConfig:
    """What a trial trains: a function of the study file and the trial's number and parameters."""
    return TrainingConfig(
        model=study.model,
        parameters={**study.fixed, **searched},
        seed=seed_of(study.seed, "training", number),
        max_epochs=study.budget.max_epochs,
        patience_epochs=study.budget.patience_epochs,
    )


def model_description(study: Study, searched: ParameterSet) -> ModelDescription:
    """What a trial's model is, for its bundle."""
    data = dataset_info(study.dataset).shape(study.split)
    return ModelDescription(study.model, all_parameters(study, searched), data.image_shape, data.n_classes)


def trial_costs(study: Study, searched: ParameterSet) -> dict[str, int]:
    """What is known of a trial before it is trained: the fields of `Description`."""
    described = describe(study.model, {**study.fixed, **searched}, dataset_info(study.dataset).shape(study.split))
    return dataclasses.asdict(described)


def recorded_costs(study: Study, trial: TrialRecord) -> Mapping[str, int]:
    """`trial_costs` as they were recorded when the trial started, or counted now where they were not."""
    return trial.costs or trial_costs(study, trial.parameters)


def checkpoint_path(directory: Path, number: int) -> Path:
    """Where a trial's training is kept between jobs."""
    return directory / f"trial-{number:05d}.safetensors"


def trial_job(number: int, config: TrainingConfig, data: DataRef, last_epoch: int, checkpoints: Path) -> Job:
    """The job that brings a trial up to an epoch."""
    path = checkpoint_path(checkpoints, number)
    return Job(key=str(number), training=config, data=data, last_epoch=last_epoch, checkpoint=str(path))
