"""The deterministic event loop: all decisions are made in virtual time.

Each slot advances one trial epoch by epoch until the trial ends or the policy pauses it. The policy then assigns the
free slot. The cost of an epoch in virtual time is an integer that follows from the trial's static configuration. Events
are handled strictly in the order (virtual finish, trial number), in whatever order their results arrive. A new, a
killed, a finished and an extended study all run this loop from trial 0; results that the storage contains are not
computed again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.fingerprint_check import check_fingerprint
from mnist_hpo.executors.job import DataRef
from mnist_hpo.executors.messages import EpochDone, Halted, JobLost
from mnist_hpo.executors.protocol import Executor
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.learners.stopping import has_ended, kept_epoch
from mnist_hpo.search.make_policy import make_policy
from mnist_hpo.search.policy import Advice, Finished, Resume, Start, Wait
from mnist_hpo.search.space import distributions_of
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, divergence_reason
from mnist_hpo.storage.replay import (
    Decision,
    check_decision,
    check_parameters,
    check_record,
    check_result,
    check_resume,
)
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.trial_plan import checkpoint_name, recorded_costs, training_config, trial_costs, trial_job

_POLL_S = 0.25
"""The interval at which a wait polls `should_stop`."""
_ACTIONS: Mapping[Advice, Literal["continue", "pause", "pruned"]] = {
    "continue": "continue",
    "pause": "pause",
    "stop": "pruned",
}


class Observer(Protocol):
    """Receives the progress of a study: the display and the tracking do."""

    def trial_changed(self, trial: TrialRecord) -> None:
        """Receive a trial that has started, has finished another epoch or has ended. It has been recorded."""
        ...


class Interrupted(Exception):  # noqa: N818 (not an error)
    """The run was stopped on request. The record is consistent, and the same call continues the study."""


@dataclass
class _Trial:
    """A trial in a slot, or one that is paused."""

    number: int
    config: TrainingConfig
    costs: Mapping[str, int]
    memo: TrialRecord | None
    """The trial as it was recorded when this run started."""
    earlier: Mapping[int, EpochResult | str]
    """By epoch, the records of earlier generations of the study: a result, or the reason if the training diverged."""
    valid_losses: list[float] = field(default_factory=list[float])
    """By epoch, in the order of virtual time."""
    results: dict[int, EpochResult] = field(default_factory=dict[int, EpochResult])
    """All results so far by epoch, also those that arrived before their turn."""
    n_resumed: int = 0
    submitted_epoch: int = 0
    """The last epoch of the latest job."""
    lost: str | None = None
    """The reason if the executor has given up the trial's job."""


class Scheduler:
    """Runs one study to its budget.

    Args:
        study: the study.
        storage: its record, which is read at the start and then written event by event.
        executor: runs the trainings.
        data: the prepared dataset and its split.
        checkpoints: the trials' checkpoints.
        observers: called for each change of a trial, after it has been recorded.
        give_up: the numbers of trials that this machine cannot train. Each is recorded as failed at its first epoch
            that is not recorded.
        should_stop: polled; when it returns True, `run` raises `Interrupted`.

    """

    def __init__(
        self,
        study: Study,
        storage: StudyStorage,
        executor: Executor,
        *,
        data: DataRef,
        checkpoints: CheckpointStore,
        observers: Sequence[Observer] = (),
        give_up: Collection[int] = (),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._study, self._storage, self._executor = study, storage, executor
        self._data, self._checkpoints = data, checkpoints
        self._observers, self._give_up, self._should_stop = observers, frozenset(give_up), should_stop
        self._policy = make_policy(study)
        self._decisions = sorted({*self._policy.decision_epochs, study.budget.max_epochs})
        self._memo = {trial.number: trial for trial in storage.trials()}
        self._earlier = storage.earlier_trials()
        self._events: list[tuple[int, int, int]] = []
        self._live: dict[int, _Trial] = {}
        self._paused: dict[int, _Trial] = {}
        self._n_started, self._n_free_slots = 0, study.slots
        self._best: tuple[float, int] | None = None

    def run(self) -> None:
        """Run until every trial of the budget has ended.

        Raises:
            Interrupted: `should_stop` returned True.
            UserError: the replay differs from the record, the storage fails, the machine lacks something or cannot
                train a trial, a worker's fingerprint is not that of this process, or a trial to give up has ended.

        """
        check_record(self._study.name, list(self._memo.values()), self._study.budget.n_trials)
        for number in self._give_up & self._memo.keys():
            _refuse_if_ended(self._study.name, self._memo[number])
        self._checkpoints.delete_partial()
        self._fill_slots(0)
        while self._events:
            now, number, epoch = heapq.heappop(self._events)
            trial = self._live[number]
            outcome = self._outcome(trial, epoch)
            decision = self._decide(trial, epoch, outcome)
            if trial.memo is not None:
                check_decision(self._study.name, trial.memo, epoch, decision)
            self._record(trial, outcome, decision)
            if decision.action == "continue":
                self._schedule(trial, epoch + 1, now)
            else:
                self._release(trial, epoch, decision)
            # Even if no slot has become free: the policy may have made a free slot wait for this epoch.
            self._fill_slots(now)
        for number, trial in sorted(self._paused.items()):
            if trial.memo is None or not trial.memo.is_left_paused:
                self._notify(self._storage.leave_paused(number))

    def _fill_slots(self, now: int) -> None:
        """Ask the policy what each free slot does next."""
        while self._n_free_slots:
            match self._policy.next():
                case Start(parameters):
                    self._schedule(self._start(parameters, now), 1, now)
                case Resume(number):
                    trial = self._live[number] = self._paused.pop(number)
                    self._resume(trial, now)
                    self._schedule(trial, len(trial.valid_losses) + 1, now)
                case Wait() | Finished():
                    return
            self._n_free_slots -= 1

    def _resume(self, trial: _Trial, now: int) -> None:
        trial.n_resumed += 1
        if trial.memo is None or len(trial.memo.started_at_units) <= trial.n_resumed:
            self._notify(self._storage.resume_trial(trial.number, now))
        else:
            check_resume(self._study.name, trial.memo, trial.n_resumed, now)

    def _start(self, parameters: ParameterSet, now: int) -> _Trial:
        number = self._n_started
        self._n_started += 1
        memo = self._memo.pop(number, None)
        if memo is None:
            costs = trial_costs(self._study, parameters)
            found = distributions_of(parameters, self._study.space)
            self._notify(self._storage.start_trial(number, parameters, found, costs, now))
        else:
            check_parameters(self._study.name, memo, parameters)
            costs = recorded_costs(self._study, memo)
        earlier = [trial for trial in self._earlier if trial.number == number and trial.parameters == parameters]
        trial = self._live[number] = _Trial(
            number,
            training_config(self._study, number, parameters),
            costs,
            memo,
            {epoch: outcome for trial in earlier for epoch, outcome in _computed(trial).items()},
        )
        return trial

    def _schedule(self, trial: _Trial, epoch: int, now: int) -> None:
        """Schedule a trial's next epoch in virtual time, and submit a job if its result is not known."""
        finish = now + trial.costs["epoch_cost"]
        heapq.heappush(self._events, (finish, trial.number, epoch))
        if trial.number in self._give_up or self._known(trial, epoch) is not None:
            return
        if epoch > trial.submitted_epoch:
            trial.submitted_epoch = next(decision for decision in self._decisions if decision >= epoch)
            job = trial_job(trial.number, trial.config, self._data, trial.submitted_epoch, self._checkpoints)
            self._executor.submit(job, urgency=(finish, trial.number))

    def _recorded(self, trial: _Trial, epoch: int) -> EpochResult | str | None:
        """Return an epoch as it was recorded when this run started: its result, or the reason if it failed."""
        if trial.memo is None:
            return None
        if trial.memo.state == "failed" and epoch > len(trial.memo.epochs):
            return trial.memo.reason
        return trial.memo.epochs.get(epoch)

    def _known(self, trial: _Trial, epoch: int) -> EpochResult | str | None:
        """Return an epoch as this generation of the study or an earlier one has recorded it, or None."""
        return self._recorded(trial, epoch) or trial.earlier.get(epoch)

    def _outcome(self, trial: _Trial, epoch: int) -> EpochResult | str:
        """Wait for an epoch; return its result, or the reason if it failed."""
        known = self._known(trial, epoch)
        if known is not None:
            return known
        if trial.number in self._give_up:
            return f"given up: asked for by --give-up-trial {trial.number}"
        while epoch not in trial.results:
            if trial.lost is not None:
                raise _cannot_train(trial, epoch, trial.lost)
            if self._should_stop():
                raise Interrupted
            self._collect()
        result = trial.results[epoch]
        return divergence_reason(epoch) if result.diverged else result

    def _collect(self) -> None:
        """Receive events of the executor. Results that arrive early are kept in their trial until their turn."""
        for event in self._executor.wait(_POLL_S):
            match event:
                case Halted(reason):
                    raise UserError(f"{reason}; nothing is lost: put this right, then run the same command again")
                case JobLost(key, reason) if int(key) in self._live:
                    self._live[int(key)].lost = reason
                case EpochDone(key, result) if int(key) in self._live:
                    check_fingerprint(event)
                    self._keep(self._live[int(key)], result)
                case _:
                    pass  # The end of a job, or a late event of a trial that has ended.

    def _keep(self, trial: _Trial, result: EpochResult) -> None:
        known = self._known(trial, result.epoch) or trial.results.get(result.epoch)
        if isinstance(known, EpochResult):
            check_result(self._study.name, trial.number, known, result)
        trial.results[result.epoch] = result

    def _decide(self, trial: _Trial, epoch: int, outcome: EpochResult | str) -> Decision:
        """Report an epoch to the policy; return what happens to the trial next."""
        if isinstance(outcome, str):
            return Decision("failed", reason=outcome)
        assert outcome.valid_loss is not None
        trial.valid_losses.append(outcome.valid_loss)
        trial.results[epoch] = outcome
        advice = self._policy.on_epoch(trial.number, epoch, _measures(trial, epoch))
        budget = self._study.budget
        if has_ended(trial.valid_losses, max_epochs=budget.max_epochs, patience_epochs=budget.patience_epochs):
            return Decision("complete", tuple(self._values(trial).values()))
        return Decision(_ACTIONS[advice])

    def _values(self, trial: _Trial) -> dict[str, float]:
        """Return the objectives of a complete trial by metric."""
        kept = _measures(trial, kept_epoch(trial.valid_losses, self._study.budget.keep))
        return {objective.metric: kept[objective.metric] for objective in self._study.objectives}

    def _record(self, trial: _Trial, outcome: EpochResult | str, decision: Decision) -> None:
        """Write what the storage does not contain yet."""
        if isinstance(outcome, EpochResult) and self._recorded(trial, outcome.epoch) is None:
            self._notify(self._storage.add_epoch(trial.number, outcome))
        match decision.action:
            case "continue":
                pass
            case "pause":
                if trial.memo is None or len(trial.valid_losses) not in trial.memo.paused_after:
                    self._notify(self._storage.pause_trial(trial.number))
            case ended:
                if trial.memo is None or trial.memo.state in ("running", "paused"):
                    self._notify(self._storage.finish_trial(trial.number, ended, decision.values, decision.reason))

    def _release(self, trial: _Trial, epoch: int, decision: Decision) -> None:
        """Free the slot of a trial that was paused or has ended; report the end to the policy."""
        del self._live[trial.number]
        self._n_free_slots += 1
        if decision.action == "pause":
            self._paused[trial.number] = trial
            return
        self._executor.cancel(str(trial.number))
        match decision.action:
            case "complete":
                self._policy.on_complete(trial.number, self._values(trial))
            case "pruned":
                self._policy.on_stop(trial.number)
            case _:
                self._policy.on_failure(trial.number, epoch)
        value = decision.values[0] * self._study.objectives[0].sign if decision.values else None
        self._keep_best_checkpoint(trial.number, value)

    def _keep_best_checkpoint(self, number: int, value: float | None) -> None:
        """Delete the checkpoint of a trial that has ended, or of the best one so far if this one is better.

        Args:
            number: the trial's number.
            value: its first objective, negated if higher is better; None if the trial is not complete.

        """
        unneeded: int | None = number
        if value is not None and (self._best is None or (value, number) < self._best):
            unneeded = None if self._best is None else self._best[1]
            self._best = value, number
        if unneeded is not None:
            self._checkpoints.delete(checkpoint_name(unneeded))

    def _notify(self, trial: TrialRecord) -> None:
        for observer in self._observers:
            observer.trial_changed(trial)


def _computed(trial: TrialRecord) -> dict[int, EpochResult | str]:
    """Return the results of a training by epoch, with the reason for the epoch at which it diverged."""
    has_diverged = trial.state == "failed" and not trial.was_given_up
    diverged = {len(trial.epochs) + 1: trial.reason} if has_diverged and trial.reason is not None else {}
    return {**trial.epochs, **diverged}


def _measures(trial: _Trial, epoch: int) -> dict[str, float]:
    """Return the metrics that objectives can name, after an epoch."""
    result = trial.results[epoch]
    assert result.valid_loss is not None
    assert result.valid_accuracy is not None
    known = {name: float(trial.costs[name]) for name in ("n_parameters", "flops")}
    return {"valid_loss": result.valid_loss, "valid_accuracy": result.valid_accuracy, **known}


def check_give_up(study: Study, numbers: Collection[int]) -> None:
    """Refuse numbers of trials to give up that are not in the study's budget.

    Raises:
        UserError: a number is not that of a trial.

    """
    n_trials = study.budget.n_trials
    for number in numbers:
        if not 0 <= number < n_trials:
            raise UserError(
                f"--give-up-trial {number}: {study.name!r} has no such trial; its trials are 0 to {n_trials - 1}"
            )


def _refuse_if_ended(study_name: str, trial: TrialRecord) -> None:
    """Refuse to give up a trial that has ended, unless it was given up: the same command is repeated after a stop."""
    if trial.state not in ("running", "paused") and not trial.was_given_up:
        raise UserError(
            f"--give-up-trial {trial.number}: trial {trial.number} of {study_name!r} has already ended "
            f"({trial.state}); leave the option out"
        )


def _cannot_train(trial: _Trial, epoch: int, reason: str) -> UserError:
    parameters = ", ".join(f"{name}={value}" for name, value in trial.config.parameters.items())
    return UserError(
        f"trial {trial.number} cannot be trained on this machine: epoch {epoch}: {reason}. Its parameters: "
        f"{parameters}. Nothing recorded is lost. Run the same command again on a better machine, or add "
        f"--give-up-trial {trial.number} to record the trial as failed; the study is then marked machine_dependent"
    )
