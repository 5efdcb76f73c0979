"""What `ensemble` prints."""

from __future__ import annotations

from mnist_hpo.cli.schemas.output import Output


class EnsembleMember(Output):
    """A trial trained with one seed."""

    study: str
    trial: int
    """The trial's number."""
    copy_number: int
    """Which training of the trial, counted from 0; 0 has the trial's own seed."""
    weight: float
    """Its share in the ensemble; members of weight 0 are not tested. For stacking all are equal."""
    valid_loss: float
    """Of the member trained on train."""
    valid_accuracy: float


class EnsembleOutput(Output):
    """An ensemble and its test. `mean` and `std` (the sample standard deviation; 0 for one seed) are over the seeds."""

    name: str
    """The registered model's name."""
    method: str
    members: list[EnsembleMember]
    valid_loss: float
    """Of the ensemble of members trained on train. Weights are chosen on these examples, so it is optimistic."""
    valid_accuracy: float
    n_seeds: int
    """How often the ensemble was trained on train + valid."""
    train_s_mean: float
    """Seconds of training all members once, without compiling: the mean over the seeds. Depends on the machine."""
    test_accuracy_mean: float
    test_accuracy_std: float
    test_log_loss_mean: float
    """Mean cross-entropy in nats."""
    test_log_loss_std: float
    test_ece_mean: float
    """Expected calibration error."""
    test_ece_std: float
    test_macro_precision_mean: float
    test_macro_precision_std: float
    test_macro_recall_mean: float
    test_macro_recall_std: float
    test_macro_f1_mean: float
    test_macro_f1_std: float
    test_accuracy: list[float]
    """By seed."""
    members_test_accuracy_mean: float
    """Of the single members, over all of them and all seeds, for comparison."""
    members_test_accuracy_std: float
    confusion_matrix: list[list[int]]
    """[true class][predicted class]: number of test examples, for the first seed."""
    run_id: str
    """The ensemble's run in MLflow."""
    model_name: str
    model_version: str
    report: str
    """The folder of the test's figures and pictures."""
    model: str
    """The folder of the first seed's model."""
