"""Train the members of an ensemble, choose their weights on the validation examples, and test it once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.bundle.bundle import load_bundle
from mnist_hpo.bundle.combination import Combination, Method, combine
from mnist_hpo.bundle.writing import ModelDescription, write_ensemble
from mnist_hpo.champion.combining import boosting_round, choose_weights
from mnist_hpo.champion.measures import TestMeasures, measure, summarize
from mnist_hpo.data.arrays import SearchArrays, load_search
from mnist_hpo.data.held_out import load_test
from mnist_hpo.data.prepared import PreparedDataset
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.executors.protocol import Executor
from mnist_hpo.executors.run_jobs import run_jobs
from mnist_hpo.learners.factory import make_predictor
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.trial_plan import model_description, training_config, training_job

_MODEL = "model"


@dataclass(frozen=True)
class Member:
    """A trial's configuration, trained with one of several seeds."""

    study: Study
    trial: TrialRecord
    copy: int
    """Counted from 0. Copy 0 has the trial's own seed where it is trained on train alone."""

    @property
    def name(self) -> str:
        """The member's name, such as `mlp #12` or `mlp #12, copy 2`."""
        return f"{self.study.name} #{self.trial.number}" + (f", copy {self.copy}" if self.copy else "")

    @property
    def model(self) -> ModelDescription:
        """The description of its model."""
        return model_description(self.study, self.trial.parameters)

    def seed(self, *purpose: int | str) -> int:
        """Return a seed for one purpose."""
        return seed_of(self.study.seed, "ensemble", self.trial.number, self.copy, *purpose)


@dataclass(frozen=True)
class Ensemble:
    """A tested ensemble."""

    method: Method
    members: tuple[Member, ...]
    """All candidates, also those of weight 0."""
    weights: tuple[float, ...]
    """By member, summing to 1; for stacking all equal, as it has a coefficient for each class."""
    valid: tuple[TestMeasures, ...]
    """The measures of each member on the validation examples, when trained on train alone."""
    valid_combined: TestMeasures
    """The ensemble's, likewise. Weights that were chosen on these examples make it optimistic."""
    measures: tuple[TestMeasures, ...]
    """The ensemble's measures on the test examples, by seed, trained on train + valid."""
    member_measures: tuple[TestMeasures, ...]
    """Those of all its members, for comparison."""
    train_s: tuple[float, ...]
    """By seed: the seconds of all its members' epochs, without compiling. They depend on the machine."""
    log_probabilities: NDArray[np.float32]
    """f32[n_test, n_classes] of the first seed, whose model is kept."""
    predictions: NDArray[np.uint8]
    """u8[n_seeds, n_test]"""
    labels: NDArray[np.uint8]
    """u8[n_test]"""
    images: NDArray[np.uint8]
    """u8[n_test, n_features]"""
    example: NDArray[np.uint8]
    """u8[1, n_features]: a training image, as an example of the model's input."""
    dataset_digest: str
    folder: Path
    """The folder of its files."""

    @property
    def bundle(self) -> Path:
        """The folder of the model of the first seed."""
        return self.folder / _MODEL

    @property
    def report(self) -> Path:
        """The folder of its figures and pictures."""
        return self.folder / "report"

    def figures(self) -> dict[str, Any]:
        """Return the figures as plain JSON."""
        members = [
            {
                "study": member.study.name,
                "trial": member.trial.number,
                "copy_number": member.copy,
                "weight": weight,
                "valid_loss": valid.log_loss,
                "valid_accuracy": valid.accuracy,
            }
            for member, weight, valid in zip(self.members, self.weights, self.valid, strict=True)
        ]
        of_members = summarize(self.member_measures)
        return {
            "method": self.method,
            "members": members,
            "valid_loss": self.valid_combined.log_loss,
            "valid_accuracy": self.valid_combined.accuracy,
            "n_seeds": len(self.measures),
            "train_s_mean": sum(self.train_s) / len(self.train_s),
            **summarize(self.measures),
            "test_accuracy": [one.accuracy for one in self.measures],
            "members_test_accuracy_mean": of_members["test_accuracy_mean"],
            "members_test_accuracy_std": of_members["test_accuracy_std"],
            "confusion_matrix": self.measures[0].confusion.tolist(),
        }


def check_members(members: Sequence[Member]) -> None:
    """Check that the members learn from the same examples.

    Raises:
        UserError: they do not, or there is none.

    """
    if not members:
        raise UserError("no trial to make an ensemble of: no study has a complete trial")
    first = members[0].study
    for member in members:
        other = member.study
        if (other.dataset, other.split) != (first.dataset, first.split):
            raise UserError(
                f"{first.name} learns from {first.dataset_name}, split {first.split}, and {other.name} from "
                f"{other.dataset_name}, split {other.split}; an ensemble's members must learn from the same examples"
            )


def train_ensemble(
    members: Sequence[Member],
    method: Method,
    *,
    n_seeds: int,
    dataset: PreparedDataset,
    executor: Executor,
    folder: Path,
    on_epoch: Callable[[], None] = lambda: None,
) -> Ensemble:
    """Train, combine and test an ensemble.

    The members are trained on train and predict valid, from which the weights are chosen. Then those with a weight are
    trained on train + valid, `n_seeds` times. Only then is the test split read.

    Args:
        members: the candidates; see `check_members`.
        method: how to combine them.
        n_seeds: how often to train the ensemble for the test.
        dataset: the studies' prepared dataset.
        executor: runs the trainings.
        folder: an empty folder for checkpoints and the model.
        on_epoch: called after each epoch.

    Raises:
        UserError: a training cannot be finished or has diverged.

    """
    arrays = load_search(dataset.directory, members[0].study.split)
    trainer = _Trainer(method, dataset, arrays, executor, CheckpointStore(folder), on_epoch)
    trained, votes = trainer.train(members, "search", 0)
    valid = np.stack(
        [_predict(member, tensors, arrays.valid_images) for member, tensors in zip(members, trained, strict=True)]
    )
    valid_labels = np.asarray(arrays.valid_labels)
    combination = choose_weights(method, valid, valid_labels, votes)
    used = [index for index, weight in enumerate(_shares(combination, len(members))) if weight > 0]

    runs: list[tuple[list[Tensors], Combination]] = []
    train_s: list[float] = []
    for seed in range(n_seeds):
        before_s = trainer.train_s
        chosen = [members[index] for index in used]
        trained, votes = trainer.train(chosen, "development", seed)
        runs.append((trained, {"weights": votes} if method == "boosting" else _restricted(combination, used)))
        train_s.append(trainer.train_s - before_s)

    # All training and selection is done. Only now is the test split read.
    images, labels = load_test(dataset.directory, members[0].study.split)
    bundle = folder / _MODEL
    provenance = {"members": [member.name for member in members], "dataset_digest": dataset.digest}
    models = [members[index].model for index in used]
    write_ensemble(bundle, list(zip(models, runs[0][0], strict=True)), method, runs[0][1], provenance)
    log_probabilities = [load_bundle(bundle).log_probabilities(images)]
    singles: list[NDArray[np.float32]] = []
    for number, (trained, numbers) in enumerate(runs):
        single = [_predict(members[i], tensors, images) for i, tensors in zip(used, trained, strict=True)]
        singles += single
        if number > 0:
            log_probabilities.append(combine(method, numbers, np.stack(single)))
    return Ensemble(
        method=method,
        members=tuple(members),
        weights=tuple(_shares(combination, len(members))),
        valid=tuple(_measured(valid_labels, one) for one in valid),
        valid_combined=_measured(valid_labels, combine(method, combination, valid)),
        measures=tuple(_measured(labels, one) for one in log_probabilities),
        member_measures=tuple(_measured(labels, one) for one in singles),
        train_s=tuple(train_s),
        log_probabilities=log_probabilities[0],
        predictions=np.array([one.argmax(axis=1) for one in log_probabilities], np.uint8),
        labels=labels,
        images=images,
        example=np.array(arrays.train_images[:1]),
        dataset_digest=dataset.digest,
        folder=folder,
    )


class _Trainer:
    """Trains members on train, or on train + valid."""

    def __init__(
        self,
        method: Method,
        dataset: PreparedDataset,
        arrays: SearchArrays,
        executor: Executor,
        checkpoints: CheckpointStore,
        on_epoch: Callable[[], None],
    ) -> None:
        self._method, self._dataset, self._arrays = method, dataset, arrays
        self._executor, self._checkpoints, self._on_epoch = executor, checkpoints, on_epoch
        self.train_s = 0.0
        """Seconds of all epochs so far, without compiling."""

    def train(self, members: Sequence[Member], portion: str, seed: int) -> tuple[list[Tensors], NDArray[np.float64]]:
        """Return the members' models, and the votes f64[M] that boosting gives them (1 for other methods)."""
        if self._method == "boosting":
            return self._boost(members, portion, seed)
        n_examples = len(self._labels(portion))
        rows = [_bootstrap(member, n_examples, seed) if self._method == "bagging" else None for member in members]
        jobs = [self._job(*each, portion, seed) for each in zip(members, rows, strict=True)]
        return self._run(jobs), np.ones(len(members))

    def _boost(self, members: Sequence[Member], portion: str, seed: int) -> tuple[list[Tensors], NDArray[np.float64]]:
        """Train one member after the other, each on examples drawn by the weights that the ones before it left."""
        labels = self._labels(portion)
        images = self._arrays.train_images if portion == "search" else self._arrays.development_images
        weights = np.full(len(labels), 1 / len(labels))
        models: list[Tensors] = []
        votes: list[float] = []
        for member in members:
            random = np.random.Generator(np.random.Philox(key=member.seed("boosting", seed)))
            rows = random.choice(len(labels), len(labels), p=weights)
            models += self._run([self._job(member, rows, portion, seed)])
            is_right = _predict(member, models[-1], images).argmax(axis=1) == labels
            vote, weights = boosting_round(weights, is_right, member.model.n_classes)
            votes.append(vote)
        if not any(votes):
            raise UserError("boosting: no member is better than chance on its weighted examples; use another method")
        return models, np.array(votes)

    def _labels(self, portion: str) -> NDArray[np.uint8]:
        arrays = self._arrays
        return np.asarray(arrays.train_labels if portion == "search" else arrays.development_labels)

    def _job(self, member: Member, rows: NDArray[np.int64] | None, portion: str, seed: int) -> Job:
        study, trial = member.study, member.trial
        key = f"{member.name}, {portion}, seed {seed}"
        name = f"{study.name}-{trial.number}-{member.copy}-{portion}-{seed}"
        info = dataset_info(study.dataset)
        data = DataRef(str(self._dataset.directory), study.split, info.n_classes)
        config = training_config(study, trial.number, trial.parameters)
        if rows is not None:
            path = self._checkpoints.folder / f"{name}.rows.npy"
            np.save(path, rows)
            data = replace(data, rows=str(path))
        if portion == "search":
            if member.copy:
                config = replace(config, seed=member.seed("search"))
            return training_job(key, name, config, data, config.max_epochs, self._checkpoints)
        kept_epoch = trial.kept_epoch or 1
        config = replace(
            config,
            seed=member.seed("development", seed),
            max_epochs=kept_epoch,
            patience_epochs=None,
            schedule_epochs=study.budget.max_epochs,
        )
        data = replace(data, portion="development")
        return training_job(key, name, config, data, kept_epoch, self._checkpoints)

    def _run(self, jobs: Sequence[Job]) -> list[Tensors]:
        curves = run_jobs(self._executor, jobs, on_epoch=lambda _key, _result: self._on_epoch())
        for key, results in curves.items():
            self.train_s += sum(result.total_s - result.compile_s for result in results)
            if any(result.diverged for result in results):
                raise UserError(f"the training {key} has diverged; make the ensemble of other trials")
        return [self._checkpoints.load_kept_model(Path(job.checkpoint).stem) for job in jobs]


def _bootstrap(member: Member, n_examples: int, seed: int) -> NDArray[np.int64]:
    """Return as many rows as there are examples, drawn with replacement (Breiman, "Bagging Predictors", 1996)."""
    random = np.random.Generator(np.random.Philox(key=member.seed("bagging", seed)))
    return random.integers(0, n_examples, n_examples)


def _predict(member: Member, tensors: Tensors, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = member.model
    predict = make_predictor(model.model, model.parameters, model.image_shape, model.n_classes, tensors)
    return predict(images.reshape(len(images), *model.image_shape))


def _shares(combination: Combination, n_members: int) -> list[float]:
    weights = combination.get("weights", np.ones(n_members))
    return (weights / weights.sum()).tolist()


def _restricted(combination: Combination, used: Sequence[int]) -> Combination:
    """Return the combination of the members that have a weight."""
    return {"weights": combination["weights"][list(used)]} if "weights" in combination else combination


def _measured(labels: NDArray[np.uint8], log_probabilities: NDArray[np.float32]) -> TestMeasures:
    found = measure(labels, log_probabilities)
    if found is None:
        raise UserError("a member's predictions are not finite; make the ensemble of other trials")
    return found
