"""Compare the decisions of a replay with the recorded ones, and raise an error with the difference if they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import ParameterValue
from mnist_hpo.storage.records import TrialRecord, divergence_reason

_HINT = (
    "Another version of mnist-hpo or of its libraries, another kind of CPU or a changed storage can cause this. "
    "Continue the study where it was recorded, or start a new one under another name"
)


@dataclass(frozen=True)
class Decision:
    """What happens to a trial after an epoch."""

    action: Literal["continue", "pause", "complete", "pruned", "failed"]
    values: tuple[float, ...] = ()
    """The objectives of a complete trial."""
    reason: str | None = None
    """Why a trial failed."""

    def __str__(self) -> str:
        match self.action:
            case "continue":
                return "the trial continues"
            case "pause":
                return "the trial is paused"
            case "complete":
                return f"the trial is complete with value {', '.join(map(repr, self.values))}"
            case "pruned":
                return "the trial is pruned"
            case "failed":
                return f"the trial fails ({self.reason})"


def check_record(study_name: str, trials: Sequence[TrialRecord], n_trials: int) -> None:
    """Check that a run of a study with this budget can have written the record.

    Raises:
        UserError: a trial or an epoch is missing, or there are too many trials.

    """
    numbers = sorted(trial.number for trial in trials)
    missing = sorted(set(range(len(numbers))) - set(numbers))
    if missing:
        raise _refusal(study_name, f"trial {missing[0]}", f"recorded: nothing, although trial {numbers[-1]} exists")
    if len(numbers) > n_trials:
        raise _refusal(study_name, f"trial {n_trials}", f"recorded, but the budget is {n_trials} trials")
    for trial in trials:
        _check_trial(study_name, trial)


def _check_trial(study_name: str, trial: TrialRecord) -> None:
    n_epochs = len(trial.epochs)
    missing = sorted(set(range(1, n_epochs + 1)) - set(trial.epochs))
    if missing:
        where = f"trial {trial.number}, epoch {missing[0]}"
        raise _refusal(study_name, where, f"recorded: nothing, although epoch {max(trial.epochs)} exists")
    if trial.state != "failed":
        return
    next_epoch = n_epochs + 1
    where = f"trial {trial.number}, epoch {next_epoch}"
    if trial.reason is None:
        raise _refusal(study_name, where, "recorded: the trial failed, but not why")
    if not trial.was_given_up and trial.reason != divergence_reason(next_epoch):
        now = f"its last epoch is {n_epochs}, so it can only have failed at epoch {next_epoch}"
        raise _refusal(study_name, where, f"recorded: the trial failed ({trial.reason}); now: {now}")


def check_parameters(study_name: str, recorded: TrialRecord, now: Mapping[str, ParameterValue]) -> None:
    """Compare a trial's hyperparameters with those that the sampler proposes in the replay.

    Raises:
        UserError: they differ.

    """
    names = dict.fromkeys([*now, *recorded.parameters])
    differences = [
        f"{name}: recorded {recorded.parameters.get(name)!r}, now {now.get(name)!r}"
        for name in names
        if recorded.parameters.get(name) != now.get(name)
    ]
    if differences:
        raise _refusal(study_name, f"trial {recorded.number}", "; ".join(differences))


def check_resume(study_name: str, recorded: TrialRecord, n_resumed: int, now_units: int) -> None:
    """Compare the virtual time at which a trial was resumed for the nth time with that in the replay.

    Raises:
        UserError: the times differ.

    """
    before = recorded.started_at_units[n_resumed]
    if before != now_units:
        where = f"trial {recorded.number}, after epoch {recorded.paused_after[n_resumed - 1]}"
        difference = f"recorded: resumed at {before} units of virtual time; now: at {now_units} units"
        raise _refusal(study_name, where, difference)


def check_decision(study_name: str, recorded: TrialRecord, epoch: int, now: Decision) -> None:
    """Compare the recorded decision after an epoch with that in the replay.

    Raises:
        UserError: they differ.

    """
    before = _recorded_decision(recorded, epoch)
    if before is not None and before != now:
        raise _refusal(
            study_name, f"trial {recorded.number}, epoch {epoch}", f"recorded: {before} here; now: {now} here"
        )


def check_result(study_name: str, number: int, known: EpochResult, now: EpochResult) -> None:
    """Compare a recorded epoch's result with that of the same epoch computed again.

    Raises:
        UserError: they differ.

    """
    if known.same_numbers(now):
        return
    differences = [
        f"{name}: recorded {getattr(known, name)!r}, computed again {getattr(now, name)!r}"
        for name in ("train_loss", "valid_loss", "valid_accuracy")
        if getattr(known, name) != getattr(now, name)
    ]
    raise _refusal(study_name, f"trial {number}, epoch {known.epoch}", "; ".join(differences))


def _recorded_decision(trial: TrialRecord, epoch: int) -> Decision | None:
    """Return the decision after an epoch; None if the record ends before it."""
    n_epochs = len(trial.epochs)
    if epoch in trial.paused_after:
        return Decision("pause")
    if epoch < n_epochs:
        return Decision("continue")
    if trial.state in ("running", "paused"):
        return None
    if trial.state == "failed":
        # It failed in the epoch after the last one that has a result.
        return Decision("failed", reason=trial.reason) if epoch > n_epochs else Decision("continue")
    return Decision(trial.state, trial.values)


def _refusal(study_name: str, where: str, difference: str) -> UserError:
    return UserError(f"the record of {study_name!r} does not replay: {where}: {difference}. {_HINT}")
