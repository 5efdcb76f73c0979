"""What `retrain` prints."""

from __future__ import annotations

from mnist_hpo.cli.schemas.output import Output
from mnist_hpo.spec.study import ParameterValue


class RetrainOutput(Output):
    """A re-trained trial and its test.

    `mean` and `std` (the sample standard deviation; 0 for one seed) are over the seeds that did not diverge. If all
    seeds diverged, there is no test and no model.
    """

    study: str
    trial: int
    """The trial's number."""
    params: dict[str, ParameterValue]
    """All hyperparameters of the trial: searched, fixed and default ones."""
    valid_loss: float
    """The recorded one, at the best epoch."""
    reproduced: str
    """`exact`, or by how much the re-trained valid_loss differs from the recorded one."""
    machine_dependent: bool
    """Whether a trial of the study was given up with --give-up-trial."""
    best_epoch: int
    """The number of epochs for which the tested models were trained."""
    n_seeds: int
    n_diverged: int
    """How many of the seeds diverged: their loss, in training or on test, is not finite."""
    registered_seed: int | None
    """The first seed, counted from 0, that did not diverge; its model is registered. Null if all seeds diverged."""
    train_s_mean: float
    """Seconds of a training on train + valid, without compiling: the mean over the seeds. Depends on the machine."""
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
    """[true class][predicted class]: number of test examples, for the model of `registered_seed`."""
    run_id: str
    """The champion's run in MLflow."""
    model_name: str | None
    """The registered model's name in MLflow."""
    model_version: str | None
    champion_version: str | None
    """The version that has the alias champion now: this one if the trial is the study's best. Null if none has."""
    report: str
    """The folder of the trial's test figures and pictures."""
    model: str | None
    """The folder of `registered_seed`'s model."""
