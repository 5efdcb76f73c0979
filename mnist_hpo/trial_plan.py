"""Everything that follows from a study and one of its trials: parameters, training, cost, checkpoint, job.

Whoever needs one of these asks here, so that the scheduler, the analysis and the re-training agree.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mnist_hpo.data.registry import DATASETS
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.training import cost
from mnist_hpo.training.config import TrainingConfig
from mnist_hpo.training.hyperparameters import Program, complete, split


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


def program_of(study: Study, searched: ParameterSet) -> Program:
    """The static configuration that a trial's epochs are compiled for."""
    dataset = DATASETS[study.dataset]
    parameters = {**study.fixed, **searched}
    program, _ = split(study.model, parameters, n_features=dataset.n_features, n_classes=dataset.n_classes)
    return program


def trial_costs(study: Study, searched: ParameterSet) -> dict[str, int]:
    """What is known of a trial before it is trained.

    Returns:
        n_parameters; flops (of one example's prediction); train_flops (of one epoch of training, without validation);
        epoch_cost (units of virtual time that an epoch takes).

    """
    program, plan = program_of(study, searched), DATASETS[study.dataset].splits[study.split]
    return {
        "n_parameters": program.n_parameters(),
        "flops": 2 * sum(program.multiply_adds()),
        "train_flops": cost.train_flops(program, plan.n_train),
        "epoch_cost": cost.epoch_cost(program, n_train=plan.n_train, n_valid=plan.n_valid),
    }


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
