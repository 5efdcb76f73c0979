"""The deterministic event loop: which trial does what next is decided in virtual time, and by nothing else.

Each slot advances one trial epoch by epoch. An epoch costs an integer of virtual time that follows from the trial's
static configuration; events are handled strictly in the order (virtual finish, trial number), whatever order their
results arrive in. A new, a killed, a finished and an extended study all run this loop from trial 0, with what the
storage holds already as its memo.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from mnist_hpo.data.registry import DATASETS
from mnist_hpo.executors.job import DataRef, EpochDone, Executor, Halted, Job, JobLost
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.cost import describe
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.learners.stopping import has_ended
from mnist_hpo.search.ask_tell import AskTell
from mnist_hpo.search.pruners import decision_epochs
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.seeds import seed_of
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, divergence_reason
from mnist_hpo.storage.replay import Decision, check_decision, check_parameters, check_record, check_result
from mnist_hpo.storage.study_storage import StudyStorage

_POLL_S = 0.25
"""How often a wait looks whether it should stop."""


class Observer(Protocol):
    """Whoever wants to know what is new: the progress display, the tracking."""

    def trial_changed(self, trial: TrialRecord) -> None:
        """A trial has begun, has one more epoch, or has ended; it is in the storage already."""
        ...


class Interrupted(Exception):  # noqa: N818 (a wish, not an error)
    """The run was asked to stop; what is recorded is whole, and the same call goes on from there."""


def training_config(study: Study, number: int, searched: ParameterSet) -> TrainingConfig:
    """What a trial trains: a function of the study file and the trial's number and parameters."""
    return TrainingConfig(
        model=study.model,
        parameters={**study.fixed, **searched},
        seed=seed_of(study.seed, "training", number),
        max_epochs=study.budget.max_epochs,
        patience_epochs=study.budget.patience_epochs,
    )


def virtual_epoch_cost(study: Study, config: TrainingConfig) -> int:
    """Units of virtual time that an epoch of a trial takes."""
    return describe(config.model, config.parameters, DATASETS[study.dataset].shape(study.split)).epoch_cost


def checkpoint_path(directory: Path, number: int) -> Path:
    """Where a trial's training is kept between jobs."""
    return directory / f"trial-{number:05d}.safetensors"


def trial_job(number: int, config: TrainingConfig, data: DataRef, last_epoch: int, checkpoints: Path) -> Job:
    """The job that brings a trial up to an epoch."""
    path = checkpoint_path(checkpoints, number)
    return Job(key=str(number), training=config, data=data, last_epoch=last_epoch, checkpoint=str(path))


@dataclass
class _Trial:
    """A trial in a slot."""

    number: int
    config: TrainingConfig
    epoch_cost: int
    memo: TrialRecord | None
    """The trial as the storage had it when this run started."""
    valid_losses: list[float] = field(default_factory=list[float])
    results: dict[int, EpochResult] = field(default_factory=dict[int, EpochResult])
    """Those that have arrived, by epoch, in turn or early."""
    submitted_epoch: int = 0
    """The last epoch of the latest job."""
    lost: str | None = None
    """Why no more results will come."""


class Scheduler:
    """Runs one study to its budget.

    Args:
        study: what the file says.
        storage: the study's durable record: memo at the start, written event by event.
        executor: where trainings run.
        data: the prepared dataset and the split that trials learn from.
        checkpoints: the folder for the trials' checkpoints.
        observers: told of every new fact, after it has been recorded.
        give_up: the numbers of trials to record as failed at their first epoch that is not recorded, without
            training them: the machine cannot.
        should_stop: asked often; once it says yes, `run` raises `Interrupted`.

    """

    def __init__(
        self,
        study: Study,
        storage: StudyStorage,
        executor: Executor,
        *,
        data: DataRef,
        checkpoints: Path,
        observers: Sequence[Observer] = (),
        give_up: Collection[int] = (),
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._study, self._storage, self._executor = study, storage, executor
        self._data, self._checkpoints = data, checkpoints
        self._observers, self._give_up, self._should_stop = observers, frozenset(give_up), should_stop
        self._ask_tell = AskTell(study)
        self._decisions = sorted(decision_epochs(study) | {study.budget.max_epochs})
        self._memo = {trial.number: trial for trial in storage.trials()}
        self._events: list[tuple[int, int, int]] = []
        self._live: dict[int, _Trial] = {}
        self._best: tuple[float, int] | None = None

    def run(self) -> None:
        """Run until every trial of the budget has ended.

        Raises:
            Interrupted: `should_stop` said so.
            UserError: the record does not replay, the storage fails, the machine lacks something or cannot train a
                trial, or a trial to give up has ended.

        """
        check_record(self._study.name, list(self._memo.values()), self._study.budget.n_trials)
        for number in self._give_up & self._memo.keys():
            _refuse_if_ended(self._study.name, self._memo[number])
        for half_written in self._checkpoints.glob("*.tmp"):  # by workers that were killed
            half_written.unlink(missing_ok=True)
        for _ in range(self._study.slots):
            self._start_next(0)
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
                self._end(trial, epoch, decision)
                self._start_next(now)

    def _start_next(self, now: int) -> None:
        """Fill a slot with the study's next trial."""
        if self._ask_tell.n_asked >= self._study.budget.n_trials:
            return
        proposal = self._ask_tell.ask()
        memo = self._memo.pop(proposal.number, None)
        if memo is None:
            self._tell(self._storage.start_trial(proposal.number, proposal.parameters, proposal.distributions))
        else:
            check_parameters(self._study.name, memo, proposal.parameters)
        config = training_config(self._study, proposal.number, proposal.parameters)
        trial = _Trial(proposal.number, config, virtual_epoch_cost(self._study, config), memo)
        self._live[proposal.number] = trial
        self._schedule(trial, 1, now)

    def _schedule(self, trial: _Trial, epoch: int, now: int) -> None:
        """Put a trial's next epoch on the virtual clock, and have it computed where nobody knows it yet."""
        finish = now + trial.epoch_cost
        heapq.heappush(self._events, (finish, trial.number, epoch))
        if trial.number in self._give_up or self._recorded(trial, epoch) is not None:
            return
        if epoch > trial.submitted_epoch:
            trial.submitted_epoch = next(decision for decision in self._decisions if decision >= epoch)
            job = trial_job(trial.number, trial.config, self._data, trial.submitted_epoch, self._checkpoints)
            self._executor.submit(job, urgency=(finish, trial.number))

    def _recorded(self, trial: _Trial, epoch: int) -> EpochResult | str | None:
        """What the storage knew of an epoch when this run started: its result, or the reason why it failed."""
        if trial.memo is None:
            return None
        if trial.memo.state == "failed" and epoch > len(trial.memo.epochs):
            return trial.memo.reason
        return trial.memo.epochs.get(epoch)

    def _outcome(self, trial: _Trial, epoch: int) -> EpochResult | str:
        """Wait for an epoch's result, or the reason why there is none."""
        recorded = self._recorded(trial, epoch)
        if recorded is not None:
            return recorded
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
        """Take what the executor has; results that are early wait in their trial for their turn."""
        for event in self._executor.wait(_POLL_S):
            match event:
                case Halted(reason):
                    raise UserError(f"{reason}; nothing is lost: make room, then run the same command again")
                case JobLost(key, reason) if int(key) in self._live:
                    self._live[int(key)].lost = reason
                case EpochDone(key, result) if int(key) in self._live:
                    self._keep(self._live[int(key)], result)
                case _:
                    pass  # A job's end, or a late word of a trial that has ended.

    def _keep(self, trial: _Trial, result: EpochResult) -> None:
        known = self._recorded(trial, result.epoch) or trial.results.get(result.epoch)
        if isinstance(known, EpochResult):
            check_result(self._study.name, trial.number, known, result)
        trial.results[result.epoch] = result

    def _decide(self, trial: _Trial, epoch: int, outcome: EpochResult | str) -> Decision:
        """Report an epoch to the pruner; decide what follows it."""
        if isinstance(outcome, str):
            return Decision("failed", reason=outcome)
        assert outcome.valid_loss is not None
        trial.valid_losses.append(outcome.valid_loss)
        should_prune = self._ask_tell.report(trial.number, epoch, outcome.valid_loss)
        budget = self._study.budget
        if has_ended(trial.valid_losses, max_epochs=budget.max_epochs, patience_epochs=budget.patience_epochs):
            return Decision("complete", min(trial.valid_losses))
        return Decision("pruned" if should_prune else "continue")

    def _record(self, trial: _Trial, outcome: EpochResult | str, decision: Decision) -> None:
        """Write what the storage does not hold yet."""
        if isinstance(outcome, EpochResult) and self._recorded(trial, outcome.epoch) is None:
            self._tell(self._storage.add_epoch(trial.number, outcome))
        if decision.action != "continue" and (trial.memo is None or trial.memo.state == "running"):
            ended = self._storage.finish_trial(trial.number, decision.action, decision.value, decision.reason)
            self._tell(ended)

    def _end(self, trial: _Trial, epoch: int, decision: Decision) -> None:
        """Tell the sampler how a trial has ended; free its slot and its checkpoint."""
        del self._live[trial.number]
        self._executor.cancel(str(trial.number))
        match decision.action:
            case "complete":
                assert decision.value is not None
                self._ask_tell.complete(trial.number, decision.value)
            case "pruned":
                self._ask_tell.prune(trial.number)
            case _:
                self._ask_tell.fail(trial.number, epoch)
        self._keep_best_checkpoint(trial.number, decision.value)

    def _keep_best_checkpoint(self, number: int, value: float | None) -> None:
        """Delete the checkpoint of a trial that has ended, or of the best one so far if this one is better."""
        unneeded: int | None = number
        if value is not None and (self._best is None or (value, number) < self._best):
            unneeded = None if self._best is None else self._best[1]
            self._best = value, number
        if unneeded is not None:
            checkpoint_path(self._checkpoints, unneeded).unlink(missing_ok=True)

    def _tell(self, trial: TrialRecord) -> None:
        for observer in self._observers:
            observer.trial_changed(trial)


def check_give_up(study: Study, numbers: Collection[int]) -> None:
    """Refuse numbers that no trial of the budget has.

    Raises:
        UserError: there is such a number.

    """
    n_trials = study.budget.n_trials
    for number in numbers:
        if not 0 <= number < n_trials:
            raise UserError(
                f"--give-up-trial {number}: {study.name!r} has no such trial; its trials are 0 to {n_trials - 1}"
            )


def _refuse_if_ended(study_name: str, trial: TrialRecord) -> None:
    """A trial that was given up before may be named again, as the same command does after an interruption."""
    if trial.state != "running" and not trial.was_given_up:
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
