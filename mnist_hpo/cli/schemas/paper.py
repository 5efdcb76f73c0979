"""What `paper` prints."""

from __future__ import annotations

from mnist_hpo.cli.schemas.output import Output


class PaperRow(Output):
    """One method of the comparison. Accuracies are on test, of models trained on train + valid."""

    method: str
    split: str
    """standard, or the 60/20/20 % of the paper."""
    test_accuracy_mean: float
    test_accuracy_std: float
    """The sample standard deviation over the seeds; 0 for one seed."""
    n_seeds: int
    macro_precision: float
    macro_recall: float
    macro_f1: float
    train_s: float
    """Seconds of one training, without compiling; for an ensemble, of all its members. Depends on the machine."""
    predict_us: float
    """Microseconds to predict one image, in batches, without compiling. Depends on the machine."""
    n_parameters: int
    n_trials: int
    """The number of trials of the search."""
    search_s: float
    """Worker seconds of the search."""
    study: str
    study_file: str
    """In a clone of the repository."""


class PaperOutput(Output):
    """The comparison."""

    rows: list[PaperRow]
