"""Re-train a trial: first exactly as recorded, then on train + valid with several seeds, which are tested once."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.bundle.writing import write_bundle
from mnist_hpo.champion.measures import TestMeasures, measure, summarize
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.job import DataRef
from mnist_hpo.executors.protocol import Executor
from mnist_hpo.executors.run_jobs import run_jobs
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.init_from import source_context
from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, best_of
from mnist_hpo.trial_plan import all_parameters, model_description, training_config, training_job

_MODEL = "model"

OnEpoch = Callable[[str, EpochResult], None]


@dataclass(frozen=True)
class Champion:
    """A re-trained trial with its test results."""

    study: Study
    trial: TrialRecord
    reproduced: str
    """`exact`, or by how much the re-trained curve differs from the recorded one."""
    measures: Mapping[int, TestMeasures]
    """By seed, counted from 0; seeds that diverged are left out."""
    train_losses: tuple[tuple[float, ...], ...]
    """By seed, then by epoch; not finite where the training diverged."""
    train_s: tuple[float, ...]
    """By seed: the seconds of its epochs, without compiling. They depend on the machine and on what else it does."""
    log_probabilities: NDArray[np.float32] | None
    """f32[n_test, n_classes] of `registered_seed`; None if every seed diverged."""
    predictions: NDArray[np.uint8]
    """u8[n_measured, n_test]: the most probable classes, one row for each of `measures`."""
    labels: NDArray[np.uint8]
    """u8[n_test]"""
    images: NDArray[np.uint8]
    """u8[n_test, n_features]"""
    example: NDArray[np.uint8]
    """u8[1, n_features]: a training image, as an example of the model's input."""
    dataset_digest: str
    machine_dependent: bool
    """Whether a trial of the study was given up: see `is_machine_dependent`."""
    folder: Path
    """The folder of its files."""

    @property
    def n_seeds(self) -> int:
        """Number of seeds trained."""
        return len(self.train_losses)

    @property
    def n_diverged(self) -> int:
        """Number of seeds that diverged."""
        return self.n_seeds - len(self.measures)

    @property
    def registered_seed(self) -> int | None:
        """The first seed that did not diverge; its model is registered."""
        return min(self.measures, default=None)

    @property
    def bundle(self) -> Path | None:
        """The folder of the model of `registered_seed`; None if every seed diverged."""
        return None if self.registered_seed is None else self.folder / _MODEL

    @property
    def report(self) -> Path:
        """The folder of its figures and pictures."""
        return self.folder / "report"

    def figures(self) -> dict[str, Any]:
        """Return the figures as plain JSON."""
        seed = self.registered_seed
        return {
            "study": self.study.name,
            "trial": self.trial.number,
            "params": all_parameters(self.study, self.trial.parameters),
            "valid_loss": self.trial.valid_loss[self.trial.kept_epoch or 1],
            "reproduced": self.reproduced,
            "machine_dependent": self.machine_dependent,
            "best_epoch": self.trial.kept_epoch,
            "n_seeds": self.n_seeds,
            "n_diverged": self.n_diverged,
            "registered_seed": seed,
            "train_s_mean": sum(self.train_s) / self.n_seeds,
            **summarize(self.measures.values()),
            "test_accuracy": [
                self.measures[index].accuracy if index in self.measures else None for index in range(self.n_seeds)
            ],
            "confusion_matrix": None if seed is None else self.measures[seed].confusion.tolist(),
        }


def choose_trial(trials: Sequence[TrialRecord], number: int | None) -> TrialRecord:
    """Return the trial with this number, or the best one if None.

    Raises:
        UserError: there is no such trial, or it has no finished epoch to reproduce.

    """
    if number is None:
        best = best_of(trials)
        if best is None:
            raise UserError("no trial of this study is complete; run it first: mnist-hpo run STUDY.yaml")
        return best
    by_number = {trial.number: trial for trial in trials}
    if number not in by_number:
        raise UserError(f"no trial {number}; the study has {len(trials)} trials, counted from 0")
    if not by_number[number].epochs:
        reason = by_number[number].reason
        raise UserError(
            f"trial {number} has no finished epoch ({reason or 'it was interrupted'}); "
            + ("choose another trial" if reason else "continue the study first: mnist-hpo run STUDY.yaml")
        )
    return by_number[number]


def retrain(
    study: Study,
    trial: TrialRecord,
    *,
    n_seeds: int,
    machine_dependent: bool = False,
    dataset: PreparedDataset,
    executor: Executor,
    checkpoints: CheckpointStore,
    folder: Path,
    on_epoch: OnEpoch = lambda _key, _result: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Champion:
    """Re-train a trial and test it.

    A seed may diverge although the trial did not. It then has no test measures and no model.

    Args:
        study: the study.
        trial: the trial to re-train.
        n_seeds: the number of trainings on train + valid.
        machine_dependent: whether a trial of the study was given up; recorded with the models.
        dataset: the study's prepared dataset.
        executor: runs the trainings.
        checkpoints: may have checkpoints of an earlier call that was interrupted; its trainings are continued.
        folder: an empty folder for the model.
        on_epoch: a callback for each epoch, with the training's name (`again` or `seed K`).
        should_stop: see `run_jobs`.

    Raises:
        UserError: a training cannot be finished.
        KeyboardInterrupt: `should_stop` returned True.

    """
    info = dataset_info(study.dataset)
    data = DataRef(str(dataset.directory), study.split, info.n_classes)
    config = training_config(study, trial.number, trial.parameters)
    again = training_job("again", "again", config, data, len(trial.epochs), checkpoints)
    results = run_jobs(executor, [again], on_epoch=on_epoch, should_stop=should_stop)["again"]
    reproduced = compare_curves(trial, results)

    kept_epoch = trial.kept_epoch
    assert kept_epoch is not None
    seeds = [
        training_job(
            key=f"seed {index}",
            name=_checkpoint_name(index),
            config=replace(
                config,
                seed=seed_of(study.seed, "champion", trial.number, index),
                max_epochs=kept_epoch,
                patience_epochs=None,
                schedule_epochs=study.budget.max_epochs,
            ),
            data=replace(data, portion="development"),
            last_epoch=kept_epoch,
            checkpoints=checkpoints,
        )
        for index in range(n_seeds)
    ]
    curves = run_jobs(executor, seeds, on_epoch=on_epoch, should_stop=should_stop)

    # All training and selection is done. Only now is the test split read.
    images, labels = load_test(dataset.directory, study.split)
    model = model_description(study, trial.parameters)
    source = {
        "study": study.name,
        "trial": trial.number,
        "epochs": kept_epoch,
        "dataset_digest": dataset.digest,
        "machine_dependent": machine_dependent,
        **source_context(study.init_from),
    }
    measures: dict[int, TestMeasures] = {}
    predictions: list[NDArray[np.intp]] = []
    first: NDArray[np.float32] | None = None
    for index, job in enumerate(seeds):
        if any(result.diverged for result in curves[job.key]):
            continue
        bundle = folder / (f"{_MODEL}-seed-{index}" if measures else _MODEL)
        weights = checkpoints.load_kept_model(_checkpoint_name(index))
        write_bundle(bundle, model, weights, {**source, "seed": job.training.seed})
        log_probabilities = load_bundle(bundle).log_probabilities(images)
        found = measure(labels, log_probabilities)
        if found is None:
            shutil.rmtree(bundle)
            continue
        measures[index] = found
        predictions.append(log_probabilities.argmax(axis=1))
        first = log_probabilities if first is None else first
    return Champion(
        study=study,
        trial=trial,
        reproduced=reproduced,
        measures=measures,
        train_losses=tuple(tuple(result.train_loss for result in curves[job.key]) for job in seeds),
        train_s=tuple(sum(result.total_s - result.compile_s for result in curves[job.key]) for job in seeds),
        log_probabilities=first,
        predictions=np.array(predictions, np.uint8).reshape(-1, len(labels)),
        labels=labels,
        images=images,
        example=np.array(load_search(dataset.directory, study.split).train_images[:1]),
        dataset_digest=dataset.digest,
        machine_dependent=machine_dependent,
        folder=folder,
    )


def _checkpoint_name(seed_index: int) -> str:
    return f"seed-{seed_index}"


def compare_curves(trial: TrialRecord, results: Sequence[EpochResult]) -> str:
    """Return `exact`, or how far a re-trained valid_loss curve differs from the recorded one."""
    again = {result.epoch: result.valid_loss for result in results if result.valid_loss is not None}
    recorded = trial.valid_loss
    differing = [epoch for epoch in recorded if epoch not in again or again[epoch].hex() != recorded[epoch].hex()]
    if not differing:
        return "exact"
    gaps = [abs(again[epoch] - recorded[epoch]) for epoch in differing if epoch in again]
    largest = f"{max(gaps):.3g}" if gaps else "unknown"
    return f"differs from epoch {differing[0]} on, valid_loss by at most {largest}"
