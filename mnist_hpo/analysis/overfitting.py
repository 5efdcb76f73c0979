"""Where trainings begin to overfit, and what early stopping would have saved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mnist_hpo.learners.catalog import find_model
from mnist_hpo.learners.stopping import best_epoch, has_ended
from mnist_hpo.spec.model import FlaxModel
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.trial_plan import recorded_costs

PATIENCE_EPOCHS = 5
"""The patience of the early stopping that the trainings are compared with."""


@dataclass(frozen=True)
class Overfitting:
    """A training that went on after its lowest valid_loss: valid_loss rose while train_loss still fell."""

    trial: TrialRecord
    n_parameters: int
    best_epoch: int
    """The epoch of the lowest valid_loss, after which the training overfits."""
    stop_epoch: int
    """The last epoch with early stopping."""
    seconds: float
    """Worker seconds of all epochs, without compiling."""
    saved_s: float
    """Of these, those after `stop_epoch`."""

    @property
    def n_epochs(self) -> int:
        """The epochs of the training."""
        return len(self.trial.epochs)

    @property
    def kept_epoch(self) -> int:
        """The epoch of the lowest valid_loss until `stop_epoch`: early stopping keeps its weights."""
        return self.stop_epoch - PATIENCE_EPOCHS

    @property
    def kept_loss(self) -> float:
        """The valid_loss of `kept_epoch`."""
        return self.trial.valid_loss[self.kept_epoch]

    @property
    def n_saved(self) -> int:
        """The epochs after `stop_epoch`."""
        return self.n_epochs - self.stop_epoch

    @property
    def lowest_loss(self) -> float:
        """The lowest valid_loss."""
        return self.trial.valid_loss[self.best_epoch]

    @property
    def last_loss(self) -> float:
        """The valid_loss of the last epoch."""
        return self.trial.valid_loss[self.n_epochs]


def overfitting_trials(study: Study, trials: Iterable[TrialRecord]) -> list[Overfitting]:
    """Return the trainings that overfit, from the fewest to the most parameters, then by number.

    A training overfits if it went on for at least `PATIENCE_EPOCHS` epochs after its lowest valid_loss, and ended with
    a higher valid_loss and a lower train_loss than it had there. Trainings whose epochs are growing shares of the data
    are left out: those of scikit-learn models.
    """
    if not isinstance(find_model(study.model), FlaxModel):
        return []
    found = [_overfitting(study, trial) for trial in trials if _overfits(trial)]
    return sorted(found, key=lambda entry: (entry.n_parameters, entry.trial.number))


def spread(found: Sequence[Overfitting], n: int) -> list[Overfitting]:
    """Return at most n of the trainings, evenly spaced, with different hyperparameters as far as possible."""
    distinct: dict[tuple[object, ...], Overfitting] = {}
    for entry in found:
        distinct.setdefault(tuple(sorted(entry.trial.parameters.items())), entry)
    kept = list(distinct.values())
    if len(kept) <= n:
        return kept
    return [kept[i * (len(kept) - 1) // (n - 1)] for i in range(n)]


def _overfits(trial: TrialRecord) -> bool:
    last = len(trial.epochs)
    if last == 0:
        return False
    best = best_epoch(list(trial.valid_loss.values()))
    if last - best < PATIENCE_EPOCHS:
        return False
    first, end = trial.epochs[best], trial.epochs[last]
    return trial.valid_loss[last] > trial.valid_loss[best] and end.train_loss < first.train_loss


def _overfitting(study: Study, trial: TrialRecord) -> Overfitting:
    losses = list(trial.valid_loss.values())
    n_epochs = len(losses)
    stop_epoch = next(
        epoch
        for epoch in range(1, n_epochs + 1)
        if has_ended(losses[:epoch], max_epochs=n_epochs, patience_epochs=PATIENCE_EPOCHS)
    )
    seconds = {epoch: result.total_s - result.compile_s for epoch, result in trial.epochs.items()}
    return Overfitting(
        trial,
        n_parameters=recorded_costs(study, trial)["n_parameters"],
        best_epoch=best_epoch(losses),
        stop_epoch=stop_epoch,
        seconds=sum(seconds.values()),
        saved_s=sum(epoch_s for epoch, epoch_s in seconds.items() if epoch > stop_epoch),
    )
