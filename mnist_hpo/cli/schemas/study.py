"""What `status` and `run` print of a study."""

from __future__ import annotations

from mnist_hpo.cli.schemas.output import Output
from mnist_hpo.spec.study import ParameterValue, TrialState


class StateCounts(Output):
    """How many trials stand how."""

    complete: int
    pruned: int
    failed: int
    running: int
    paused: int
    """They wait to be resumed, or stay paused where the study is complete."""

    def by_state(self) -> dict[TrialState, int]:
        """The counts by the states' names."""
        return {
            "complete": self.complete,
            "pruned": self.pruned,
            "failed": self.failed,
            "running": self.running,
            "paused": self.paused,
        }


class TrialBudget(Output):
    """What a study may compute."""

    n_trials: int
    max_epochs: int
    """Of each trial."""


class WorkerSeconds(Output):
    """Seconds of work, added up over all workers."""

    total: float
    train: float
    compile: float
    """Compiling, or loading a compiled program."""


class BestTrial(Output):
    """The complete trial that is best by the first objective, by default valid_loss."""

    number: int
    value: float
    """Of the first objective."""
    params: dict[str, ParameterValue]
    """The searched hyperparameters."""


class StatusOutput(Output):
    """How far a study is."""

    study: str
    description: str
    state: str
    """`complete` once every trial of the budget has ended, else `incomplete`."""
    is_running: bool
    """Whether a process runs the study now. If none does, trials whose state is `running` were interrupted."""
    budget: TrialBudget
    n_trials: StateCounts
    best: BestTrial | None
    """Null until a trial is complete."""
    machine_dependent: bool
    """Whether a trial was given up because the machine could not train it: the results may differ on another one."""
    history_sha256: str
    """Over what was computed and nothing that depends on time: two runs of one study file agree on it."""
    n_epochs: int
    worker_s: WorkerSeconds
    storage: str
    """The storage's URL."""


class RunOutput(StatusOutput):
    """The study's status when its run has ended, and how long this run took."""

    seconds: float
    """By the clock, of this run alone."""
