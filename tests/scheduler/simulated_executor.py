"""An executor that simulates training, and delays, reorders, repeats and loses events.

A job's results are a pure function of the job. `choose` makes all other decisions. If it always returns 0, every event
is delivered at once, in order and exactly once.
"""

import dataclasses
import hashlib
import heapq
import json
import math
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from mnist_hpo.executors.checkpoint_store import CheckpointStore
from mnist_hpo.executors.job import DataRef, Job
from mnist_hpo.executors.messages import EpochDone, Event, Halted, JobDone, JobLost
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.result import EpochResult
from mnist_hpo.learners.stopping import best_epoch, has_ended
from mnist_hpo.scheduler import Scheduler
from mnist_hpo.search.make_policy import make_policy
from mnist_hpo.search.policy import Resume, Start
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.provenance import fingerprint
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.storage.study_storage import StudyStorage
from mnist_hpo.trial_plan import training_config, trial_costs

Choose = Callable[[int], int]
"""Returns a number with 0 ≤ choose(n) < n."""

OUT_OF_MEMORY = "3 workers died of it: out of memory"
"""The reason of `JobLost` for a training that never succeeds on this machine."""
SIGKILLED = "3 workers died of it: killed by SIGKILL"
"""The reason of `JobLost` for a training that succeeds when it is tried again."""
DATA = DataRef("nowhere", "standard", 10)

SPACE = {
    "learning_rate": {"type": "float", "low": 1e-4, "high": 0.1, "log": True},
    "width": {"type": "categorical", "choices": [32, 64, 128]},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5},
}
GRID = SPACE | {
    "learning_rate": {"type": "categorical", "choices": [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.1]},
    "dropout": {"type": "float", "low": 0.0, "high": 0.5, "step": 0.25},
}


TWO_OBJECTIVES = {"objectives": [{"metric": "valid_loss"}, {"metric": "n_parameters"}]}
ASHA = {"policy": {"name": "asha", "reduction_factor": 2}, "pruner": {"name": "none"}}
POLICIES: dict[str, dict[str, object]] = {
    "asha": ASHA,
    "asha, two objectives": ASHA | TWO_OBJECTIVES,
    "successive_halving, two objectives": TWO_OBJECTIVES
    | {"pruner": {"name": "successive_halving", "min_resource": 1, "reduction_factor": 2}},
}
"""Study-file fields that replace the pruner, by the name that `study_of` accepts as `pruner`."""


MEDIAN = {"n_startup_trials": 2, "n_warmup_steps": 2}
OPTIONS: dict[str, dict[str, object]] = {
    "tpe": {"n_startup_trials": 3},
    "gp": {"n_startup_trials": 3, "n_candidates": 32},
    "cmaes": {"population_size": 3},
    "genetic": {"population_size": 3},
    "nsgaii": {"population_size": 3},
    "nsgaiii": {"population_size": 3},
    "median": MEDIAN,
    "percentile": {"n_startup_trials": 2, "percentile": 30.0},
    "threshold": {"upper": 0.9, "n_warmup_steps": 2},
    "successive_halving": {"min_resource": 1, "reduction_factor": 2},
    "wilcoxon": {"p_threshold": 0.3},
    "patient": {"patience": 1},
    "patient, median": {"patience": 1, "wraps": {"name": "median", **MEDIAN}},
}
"""Options with which a sampler learns and a pruner prunes within a few trials."""


def study_of(sampler: str, pruner: str, **fields: object) -> Study:
    base = {
        "name": "simulated",
        "budget": {"n_trials": 8, "max_epochs": 9},
        "slots": 3,
        "sampler": {"name": sampler, **OPTIONS.get(sampler, {})},
        "pruner": {"name": pruner.split(",")[0], **OPTIONS.get(pruner, {})},
        "space": GRID if sampler == "grid" else SPACE,
        "enqueue": [{"learning_rate": 0.001, "width": 64, "dropout": 0.25}],
    }
    return Study.model_validate(base | POLICIES.get(pruner, {}) | fields)


def simulated_result(training: TrainingConfig, epoch: int) -> EpochResult | str:
    """Return an epoch's result, which may have diverged, or the reason why the training kills its worker."""
    rate, dropout = float(training.parameters["learning_rate"]), float(training.parameters["dropout"])
    width = int(training.parameters["width"])
    if rate > 0.03 and epoch >= 1 + training.seed % 4:
        loss = math.nan
    elif dropout > 0.3 and width == 128 and epoch >= 2:
        return OUT_OF_MEMORY
    else:
        noise = hashlib.sha256(f"{training.seed} {epoch}".encode()).digest()[0] / 256
        loss = abs(math.log10(rate) + 2.5) / 3 + dropout / 5 + 1 / width + 1 / (1 + epoch) + noise / 5
    measures = {"epoch": epoch, "train_loss": loss, "valid_loss": loss, "valid_accuracy": 1 / (1 + loss)}
    return EpochResult(**{field.name: 0.0 for field in dataclasses.fields(EpochResult)} | measures)


def job_events(job: Job) -> list[Event]:
    """Return the events of a job that is not disturbed."""
    events: list[Event] = []
    losses: list[float] = []
    for epoch in range(1, job.last_epoch + 1):
        result = simulated_result(job.training, epoch)
        if isinstance(result, str):
            return [*events, JobLost(job.key, result)]
        events.append(EpochDone(job.key, result, fingerprint()))
        assert result.valid_loss is not None
        losses.append(result.valid_loss)
        patience = job.training.patience_epochs
        if result.diverged or has_ended(losses, max_epochs=job.training.max_epochs, patience_epochs=patience):
            break
    return [*events, JobDone(job.key, len(events))]


class SimulatedExecutor:
    """An `Executor` without workers.

    Args:
        choose: makes the executor's decisions.
        halt_after: report `Halted` from each `wait` after this many calls.

    """

    def __init__(self, choose: Choose = lambda n: 0, *, halt_after: int | None = None) -> None:
        self._choose, self._halt_after = choose, halt_after
        self._queue: list[tuple[tuple[int, int], Job]] = []
        self._reports: list[list[Event]] = []
        """The events of each running job that have not been delivered; `JobLost` comes last."""
        self.jobs: list[tuple[tuple[int, int], Job]] = []
        """All jobs that have been submitted, with their urgency."""
        self.n_jobs_at_each_wait: list[int] = []

    def submit(self, job: Job, *, urgency: tuple[int, int]) -> None:
        self.jobs.append((urgency, job))
        self._queue.append((urgency, job))

    def cancel(self, key: str) -> None:
        if not self._choose(2):  # Otherwise the job has started already and keeps reporting.
            self._queue = [(urgency, job) for urgency, job in self._queue if job.key != key]

    def wait(self, timeout_s: float) -> Sequence[Event]:
        self.n_jobs_at_each_wait.append(len(self.jobs))
        if self._halt_after is not None:
            self._halt_after -= 1
            if self._halt_after < 0:
                return [Halted("the disk is full")]
        assert self._queue or self._reports, "the scheduler waits although no job is queued or running"
        for _ in range(1 + self._choose(3)):
            if self._queue:
                self._start(self._queue.pop(self._choose(len(self._queue)))[1])
        if self._choose(4) == 1:
            return []
        delivered: list[Event] = []
        while self._reports and len(delivered) < 1 + self._choose(8):
            report = self._reports[self._choose(len(self._reports))]
            delivered.append(report.pop(0))
            if self._choose(6) == 1 and not isinstance(delivered[-1], JobLost):
                self._reports.append([delivered[-1]])  # Deliver it again later.
            self._reports = [report for report in self._reports if report]
        return delivered

    def close(self) -> None:
        self._queue, self._reports = [], []

    def _start(self, job: Job) -> None:
        events = job_events(job)
        if self._choose(4) == 1:
            # The worker dies, and another one continues from a checkpoint or from the start.
            died, resumed = self._choose(len(events)), self._choose(len(events))
            events = events[:died] + events[min(died, resumed) :]
        if self._choose(8) == 1 and not isinstance(events[-1], JobLost):
            events = [*events[: self._choose(len(events))], JobLost(job.key, SIGKILLED)]
        if self._choose(4) == 1 and not isinstance(events[-1], JobLost):
            events.insert(self._choose(len(events)), events.pop())  # Deliver the last event early.
        self._reports.append(events)


def virtual_history(study: Study) -> tuple[TrialRecord, ...]:
    """Return the study's history, computed sequentially from the definition of virtual time."""
    policy = make_policy(study)
    history: dict[int, TrialRecord] = {}
    heap: list[tuple[int, int, int]] = []
    n_free = study.slots

    def change(number: int, **fields: object) -> None:
        history[number] = dataclasses.replace(history[number], **fields)  # type: ignore[arg-type]

    def schedule(number: int, now: int) -> None:
        cost = trial_costs(study, history[number].parameters)["epoch_cost"]
        heapq.heappush(heap, (now + cost, number, len(history[number].epochs) + 1))

    def fill_slots(now: int) -> None:
        nonlocal n_free
        while n_free:
            match policy.next():
                case Start(parameters):
                    number = len(history)
                    history[number] = TrialRecord(number, "running", parameters)
                case Resume(number):
                    assert history[number].state == "paused"
                    change(number, state="running")
                case _:
                    return
            n_free -= 1
            schedule(number, now)

    fill_slots(0)
    while heap:
        now, number, epoch = heapq.heappop(heap)
        trial = history[number]
        result = simulated_result(training_config(study, number, trial.parameters), epoch)
        if isinstance(result, str) or result.diverged:
            policy.on_failure(number, epoch)
            # A trial is given up only after it has halted the run, so it fails at this epoch.
            reason = given_up(number) if isinstance(result, str) else f"diverged at epoch {epoch}"
            change(number, state="failed", reason=reason)
        else:
            change(number, epochs={**trial.epochs, epoch: result})
            losses = list(history[number].valid_loss.values())
            advice = policy.on_epoch(number, epoch, measures(study, trial, result))
            budget = study.budget
            if has_ended(losses, max_epochs=budget.max_epochs, patience_epochs=budget.patience_epochs):
                best = measures(study, trial, history[number].epochs[best_epoch(losses)])
                values = {objective.metric: best[objective.metric] for objective in study.objectives}
                policy.on_complete(number, values)
                first, *others = values.values()
                change(number, state="complete", value=first, other_values=tuple(others))
            elif advice == "stop":
                policy.on_stop(number)
                change(number, state="pruned")
            elif advice == "pause":
                change(number, state="paused", paused_after=(*trial.paused_after, epoch))
            else:
                schedule(number, now)
                fill_slots(now)
                continue
        n_free += 1
        fill_slots(now)
    return tuple(history[number] for number in sorted(history))


def measures(study: Study, trial: TrialRecord, result: EpochResult) -> dict[str, float]:
    """Return the metrics that objectives can use, by name."""
    assert result.valid_loss is not None
    assert result.valid_accuracy is not None
    costs = trial_costs(study, trial.parameters)
    known = {name: float(costs[name]) for name in ("n_parameters", "flops")}
    return {"valid_loss": result.valid_loss, "valid_accuracy": result.valid_accuracy, **known}


def given_up(number: int) -> str:
    """Return the recorded reason of a trial that was given up."""
    return f"given up: asked for by --give-up-trial {number}"


def lost_trial(error: UserError) -> int | None:
    """Return the number of the trial that cannot be trained according to the error, or None for any other error."""
    found = re.match(r"trial (\d+) cannot be trained on this machine: ", str(error))
    return int(found[1]) if found else None


def run_and_give_up(
    study: Study,
    storage: StudyStorage,
    executor: SimulatedExecutor,
    *,
    checkpoints: Path,
    give_up: Collection[int] = (),
    never: Collection[int] = (),
    **options: object,
) -> None:
    """Run a study, and give up every trial that the machine cannot train, except those in `never`."""
    while True:
        try:
            scheduler = Scheduler(
                study,
                storage,
                executor,
                data=DATA,
                checkpoints=CheckpointStore(checkpoints),
                give_up=give_up,
                **options,
            )  # type: ignore[arg-type]
            return scheduler.run()
        except UserError as error:
            number = lost_trial(error)
            if number is None or number in never:
                raise
            assert number not in give_up
            give_up = [number]
            executor.close()


def reproducible(trial: TrialRecord) -> str:
    """Return everything in a trial except times, which must be the same in every run, as JSON."""
    epochs = [(epoch, float(loss).hex()) for epoch, loss in trial.valid_loss.items()]
    value = None if trial.value is None else trial.value.hex()
    more = trial.other_values, trial.paused_after
    return json.dumps([trial.number, trial.state, sorted(trial.parameters.items()), epochs, value, trial.reason, more])
