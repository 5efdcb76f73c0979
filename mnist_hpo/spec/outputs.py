"""What the verbs print with `--json`: one model a verb, from which `docs/schemas/` is written.

A field that is not named here cannot be printed, so a schema is never behind its verb.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, RootModel

from mnist_hpo.spec.bench_outputs import (
    BenchOverheadOutput,
    BenchPeersOutput,
    BenchReplayOutput,
    BenchRooflineOutput,
)
from mnist_hpo.spec.output import Output
from mnist_hpo.spec.study import ParameterValue, TrialState


class StateCounts(Output):
    """How many trials stand how."""

    complete: int
    pruned: int
    failed: int
    running: int

    def by_state(self) -> dict[TrialState, int]:
        """The counts by the states' names."""
        return {"complete": self.complete, "pruned": self.pruned, "failed": self.failed, "running": self.running}


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
    """The complete trial of the lowest valid_loss."""

    number: int
    value: float
    """Its lowest valid_loss."""
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


class TrialOutput(Output):
    """A trial's results: a function of the study file. What depends on time is in the table (`trials --csv`) alone."""

    number: int
    """Counted from 0."""
    state: TrialState
    reason: str | None
    """Why it failed; null for any other state."""
    given_up: bool
    """Whether it failed because the machine could not train it, rather than because its training diverged."""
    params: dict[str, ParameterValue]
    """The searched hyperparameters."""
    value: float | None
    """The lowest valid_loss of a complete trial; null for any other state."""
    valid_loss: dict[int, float]
    """By epoch, counted from 1."""
    best_valid_loss: float | None
    """The lowest of them; null before the first epoch has ended."""
    best_valid_accuracy: float | None
    """At the best epoch, from 0 to 1."""
    best_epoch: int | None
    """The epoch of the lowest valid_loss."""
    n_epochs: int
    """Epochs that have ended."""
    n_parameters: int
    """Numbers that the model learns."""
    train_flops: int
    """Model FLOPs of the training so far, without validation."""


class TrialsOutput(RootModel[list[TrialOutput]]):
    """The trials that were asked for, in the order that was asked for."""


class BestOutput(TrialOutput):
    """The best trial in full: `params` has the fixed hyperparameters and the defaults too."""

    valid_accuracy: dict[int, float | None]
    """By epoch, from 0 to 1."""
    machine_dependent: bool
    """Whether another trial of its study was given up because the machine could not train it."""


class RetrainOutput(Output):
    """A re-trained trial and its test.

    `mean` and `std` (the sample's deviation; 0 for one seed) are over the seeds that did not diverge. Where all of them
    diverged there is no test and no model.
    """

    study: str
    trial: int
    """The trial's number."""
    params: dict[str, ParameterValue]
    """All hyperparameters of its training."""
    valid_loss: float
    """The recorded one, at the best epoch."""
    reproduced: str
    """`exact`, or by how much the re-trained valid_loss differs from the recorded one."""
    machine_dependent: bool
    """Whether a trial of the study was given up with --give-up-trial."""
    best_epoch: int
    """The number of epochs that the tested models were trained."""
    n_seeds: int
    n_diverged: int
    """How many of the seeds diverged: their loss, in training or on test, is not finite."""
    registered_seed: int | None
    """The first seed, counted from 0, that did not diverge; its model is registered. Null where all diverged."""
    test_accuracy_mean: float | None
    test_accuracy_std: float | None
    test_log_loss_mean: float | None
    """Mean cross-entropy in nats."""
    test_log_loss_std: float | None
    test_ece_mean: float | None
    """Expected calibration error."""
    test_ece_std: float | None
    test_macro_precision_mean: float | None
    test_macro_precision_std: float | None
    test_macro_recall_mean: float | None
    test_macro_recall_std: float | None
    test_macro_f1_mean: float | None
    test_macro_f1_std: float | None
    test_accuracy: list[float | None]
    """By seed; null for one that diverged."""
    confusion_matrix: list[list[int]] | None
    """[true class][guessed class]: test examples, of `registered_seed`."""
    run_id: str
    """The champion's run in MLflow."""
    model_name: str | None
    """The registered model's name in MLflow."""
    model_version: str | None
    champion_version: str | None
    """The version that has the alias champion now: this one where the trial is the study's best. Null for none."""
    report: str
    """The folder of its figures and pictures."""
    model: str | None
    """The folder of `registered_seed`'s model."""


class SplitOutput(Output):
    """A split of a dataset."""

    n_train: int
    n_valid: int
    n_test: int
    permutation_sha256: str
    """Of the permutation that drew the split, as little-endian int64."""
    class_counts: dict[str, list[int]]
    """By part (train, valid, test): examples of each class."""


class DataOutput(Output):
    """A prepared dataset."""

    dataset: str
    directory: str
    source: str
    """Where the files came from, in words."""
    digest: str
    """The dataset's one digest, which studies record."""
    file_sha256: dict[str, str]
    """Of each uncompressed file, by name."""
    splits: dict[str, SplitOutput]


class CostToTarget(Output):
    """What had been spent when a valid_loss was first reached, counted in the study's own order of events."""

    n_trials: int
    """Trials begun by then."""
    n_epochs: int
    """Epochs computed by then, over all trials."""
    worker_s: float
    """Worker seconds of these epochs."""


class AnytimePoint(CostToTarget):
    """An improvement of the best valid_loss so far."""

    valid_loss: float


class ChampionTest(Output):
    """What `mnist-hpo retrain` found on the test split."""

    trial: int
    n_seeds: int
    n_diverged: int
    """How many of the seeds diverged; the mean and the deviation are over the others, null where there are none."""
    accuracy_mean: float | None
    accuracy_std: float | None
    reproduced: str
    """`exact`, or by how much the re-trained valid_loss differs from the recorded one."""


class ComparedOutput(Output):
    """One of the studies or trials that are compared."""

    label: str
    """The study's name, or STUDY:NUMBER for a single trial."""
    study: str
    state: str
    """`complete` or `incomplete` for a study; a trial's state for a trial."""
    is_running: bool
    """Whether a process runs the study now. If none does, trials whose state is `running` were interrupted."""
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
    """The number of the best trial, or of the single one; null where no trial is complete."""
    valid_loss: float | None
    """That trial's lowest."""
    valid_accuracy: float | None
    """At that epoch, from 0 to 1."""
    best_epoch: int | None
    params: dict[str, ParameterValue]
    """All hyperparameters of that trial: searched, fixed and by default."""
    n_parameters: int | None
    """Numbers that its model learns."""
    test: ChampionTest | None
    """Of that trial; null until it is re-trained."""
    to_target: CostToTarget | None
    """Null where `target_valid_loss` was not reached."""
    anytime: list[AnytimePoint]
    """Every improvement of the best valid_loss so far, over all epochs of all trials."""


class SeedTest(Output):
    """McNemar's exact test of two models, on the same test examples."""

    seed_index: int
    n_only_first: int
    """Test examples that only the first one guesses right."""
    n_only_second: int
    p_value: float


class PairedTest(Output):
    """Two champions on the same test examples, one model a seed each."""

    first: str
    second: str
    """Labels."""
    seeds: list[SeedTest]
    p_value: float
    """Over the seeds: valid however the seeds' tests depend on each other."""


class CompareOutput(Output):
    """Studies or single trials beside each other."""

    comparable: bool
    """Whether their valid_loss means the same: same dataset digest, split and objective."""
    why: list[str]
    """Why not; empty where they are comparable."""
    notes: list[str]
    """What else a reader should know."""
    target_valid_loss: float | None
    """What `to_target` refers to; null where nothing was trained."""
    compared: list[ComparedOutput]
    paired_tests: list[PairedTest]
    """For each two whose champions keep their guesses; none where the test examples differ."""


OUTPUTS: Mapping[str, type[BaseModel]] = {
    "bench overhead": BenchOverheadOutput,
    "bench peers": BenchPeersOutput,
    "bench replay": BenchReplayOutput,
    "bench roofline": BenchRooflineOutput,
    "best": BestOutput,
    "compare": CompareOutput,
    "data": DataOutput,
    "retrain": RetrainOutput,
    "run": RunOutput,
    "status": StatusOutput,
    "trials": TrialsOutput,
}
"""By verb."""
