"""Everything that follows from a study and one of its trials: hyperparameters, training, model, costs, checkpoint, job.

It is computed in this one place, so that the scheduler, the analysis and the re-training agree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from mnist_hpo.bundle.writing import ModelDescription
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.learners.affinity import affinity
from mnist_hpo.learners.config import InitialWeights, TrainingConfig
from mnist_hpo.learners.cost import describe
from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import TrialRecord


def all_parameters(study: Study, searched: ParameterSet) -> dict[str, ParameterValue]:
    """Return all hyperparameters of a trial: searched, fixed and default ones."""
    return complete(study.model, {**study.fixed, **searched})


def training_config(study: Study, number: int, searched: ParameterSet) -> TrainingConfig:
    """Return the training of a trial. It follows from the study and the trial's number and hyperparameters."""
    return TrainingConfig(
        model=study.model,
        parameters={**study.fixed, **searched},
        seed=seed_of(study.seed, "training", number),
        max_epochs=study.budget.max_epochs,
        patience_epochs=study.budget.patience_epochs,
        initial=_initial_weights(study),
        keep=study.budget.keep,
    )


def _initial_weights(study: Study) -> InitialWeights | None:
    init_from = study.init_from
    if init_from is None:
        return None
    return InitialWeights(
        str(init_from.place), init_from.source.sha256, init_from.layers, init_from.learning_rate_factor
    )


def model_description(study: Study, searched: ParameterSet) -> ModelDescription:
    """Return the description of a trial's model for its bundle."""
    data = dataset_info(study.dataset).shape(study.split)
    return ModelDescription(study.model, all_parameters(study, searched), data.image_shape, data.n_classes)


def trial_costs(study: Study, searched: ParameterSet) -> dict[str, int]:
    """Return what is known about a trial before it is trained: the fields of `Description`."""
    described = describe(study.model, {**study.fixed, **searched}, dataset_info(study.dataset).shape(study.split))
    return dataclasses.asdict(described)


def recorded_costs(study: Study, trial: TrialRecord) -> Mapping[str, int]:
    """Return the `trial_costs` recorded when the trial started; older records lack them, and they are computed."""
    return trial.costs or trial_costs(study, trial.parameters)


def checkpoint_name(number: int) -> str:
    """Return the name of a trial's checkpoint."""
    return f"trial-{number:05d}"


def training_job(
    key: str, name: str, config: TrainingConfig, data: DataRef, last_epoch: int, checkpoints: CheckpointStore
) -> Job:
    """Return the job that brings a training to an epoch.

    Args:
        key: identifies the training in its executor.
        name: of its checkpoint.
        config: what to train.
        data: what to train on.
        last_epoch: the epoch, counted from 1.
        checkpoints: where its checkpoint is kept.

    """
    return Job(key, config, data, last_epoch, str(checkpoints.path(name)), affinity=affinity(config))


def trial_job(number: int, config: TrainingConfig, data: DataRef, last_epoch: int, checkpoints: CheckpointStore) -> Job:
    """Return the job that brings a trial to an epoch."""
    return training_job(str(number), checkpoint_name(number), config, data, last_epoch, checkpoints)
