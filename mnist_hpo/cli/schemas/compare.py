"""What `compare` prints."""

from __future__ import annotations

from mnist_hpo.analysis.anytime import AnytimePoint, Spent
from mnist_hpo.analysis.significance import PairedTest
from mnist_hpo.cli.schemas.output import Output
from mnist_hpo.cli.schemas.study import StateCounts, TrialBudget
from mnist_hpo.spec.study import ParameterValue


class ChampionTest(Output):
    """What `mnist-hpo retrain` found on the test split."""

    trial: int
    n_seeds: int
    n_diverged: int
    """How many of the seeds diverged; the mean and the deviation are over the others, null if there are none."""
    accuracy_mean: float | None
    accuracy_std: float | None
    reproduced: str
    """`exact`, or by how much the re-trained valid_loss differs from the recorded one."""


class ComparedOutput(Output):
    """One of the compared studies or trials."""

    label: str
    """The study's name, or STUDY:NUMBER for a single trial."""
    study: str
    state: str
    """`complete` or `incomplete` for a study; a trial's state for a trial."""
    is_running: bool
    """Whether a process runs the study now. If not, trials whose state is `running` were interrupted."""
    machine_dependent: bool
    """Whether a trial of the study was given up because the machine could not train it."""
    sampler: str
    pruner: str
    budget: TrialBudget
    n_trials: StateCounts
    n_epochs: int
    worker_s: float
    compile_s: float
    trial: int | None
    """The number of the best trial, or of the single trial; null if no trial is complete."""
    valid_loss: float | None
    """The lowest of that trial."""
    valid_accuracy: float | None
    """At the best epoch, from 0 to 1."""
    best_epoch: int | None
    params: dict[str, ParameterValue]
    """All hyperparameters of that trial: searched, fixed and default ones."""
    n_parameters: int | None
    """Number of trainable parameters of its model."""
    test: ChampionTest | None
    """The test of that trial; null until it is re-trained."""
    to_target: Spent | None
    """Null if `target_valid_loss` was not reached."""
    anytime: list[AnytimePoint]
    """Every improvement of the best valid_loss so far, over all epochs of all trials."""


class CompareOutput(Output):
    """A comparison of studies or of single trials."""

    comparable: bool
    """Whether their valid_loss is comparable: same dataset digest, split and objective."""
    why: list[str]
    """Why they are not comparable; empty if they are."""
    notes: list[str]
    """What else a reader should know."""
    target_valid_loss: float | None
    """The loss that `to_target` refers to; null if nothing was trained."""
    compared: list[ComparedOutput]
    paired_tests: list[PairedTest]
    """One per pair of champions with stored predictions; none if the test examples differ."""
