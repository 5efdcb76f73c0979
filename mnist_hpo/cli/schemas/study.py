"""What `status` and `run` print about a study."""

from __future__ import annotations

from mnist_hpo.cli.schemas.output import Output
from mnist_hpo.spec.study import ParameterValue, TrialState


class StateCounts(Output):
    """The number of trials in each state."""

    complete: int
    pruned: int
    failed: int
    running: int
    paused: int
    """Waiting to be resumed; in a complete study they stay paused."""

    def by_state(self) -> dict[TrialState, int]:
        """Return the counts by state."""
        return {
            "complete": self.complete,
            "pruned": self.pruned,
            "failed": self.failed,
            "running": self.running,
            "paused": self.paused,
        }


class TrialBudget(Output):
    """The budget of a study."""

    n_trials: int
    max_epochs: int
    """Maximum number of epochs of each trial."""


class WorkerSeconds(Output):
    """Seconds of work, summed over all workers."""

    total: float
    train: float
    compile: float
    """Compiling programs, or loading compiled ones."""


class BestTrial(Output):
    """The best complete trial by the first objective, which is valid_loss by default."""

    number: int
    metric: str
    """The metric of the first objective."""
    value: float
    """Its value of this metric."""
    params: dict[str, ParameterValue]
    """The searched hyperparameters."""


class StatusOutput(Output):
    """The progress of a study."""

    study: str
    description: str
    state: str
    """`complete` if every trial of the budget has ended, else `incomplete`."""
    is_running: bool
    """Whether a process runs the study now. If not, trials whose state is `running` were interrupted."""
    budget: TrialBudget
    n_trials: StateCounts
    best: BestTrial | None
    """Null if no trial is complete yet."""
    machine_dependent: bool
    """Whether a trial was given up because the machine could not train it: the results may differ on another one."""
    history_sha256: str
    """Over all results and nothing that depends on time: two runs of one study file give the same hash."""
    n_epochs: int
    worker_s: WorkerSeconds
    storage: str
    """The storage's URL."""


class RunOutput(StatusOutput):
    """The study's status at the end of a run, and the duration of this run."""

    seconds: float
    """Wall time of this run alone."""
