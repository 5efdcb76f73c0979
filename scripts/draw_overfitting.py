"""Draw docs/overfitting.png: loss and accuracy on train and valid after each epoch, for the widths of the study.

Trains the first trial of each width in studies/overfitting.yaml again, because a record has no accuracy on train, and
its train_loss is a mean over an epoch in which the weights change.

Run:  .venv/bin/python scripts/draw_overfitting.py    (3 minutes of CPU time)
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from mnist_hpo.analysis.charts.figure import SERIES_COLOURS
from mnist_hpo.data.arrays import load_search
from mnist_hpo.data.prepare import prepare
from mnist_hpo.data.registry import dataset_info
from mnist_hpo.executors.environment import worker_environment
from mnist_hpo.learners.factory import LearnerFactory
from mnist_hpo.learners.protocol import Examples
from mnist_hpo.learners.subset import training_rows
from mnist_hpo.spec.reader import read_study
from mnist_hpo.spec.study import Study
from mnist_hpo.trial_plan import training_config

ROOT = Path(__file__).resolve().parents[1]
N_WIDTHS = 5
_LOWEST_PERCENT = 75
"""Lower accuracies, of the first epochs, are not drawn."""


def curves(study: Study, number: int) -> NDArray[np.float64]:
    """Train a trial, and return loss and accuracy on train and on valid after each epoch, f64[epochs, 2, 2]."""
    info = dataset_info(study.dataset)
    arrays = load_search(prepare(info).directory, study.split)
    train, valid = (
        Examples(images.reshape(-1, *arrays.image_shape), labels)
        for images, labels in (
            (arrays.train_images, arrays.train_labels),
            (arrays.valid_images, arrays.valid_labels),
        )
    )
    config = training_config(study, number, study.enqueue[number])
    learner = LearnerFactory().make(config, train, n_classes=info.n_classes)
    rows = training_rows(len(train), int(study.fixed["n_train"]), config.seed)
    used = Examples(train.images[rows], train.labels[rows])
    state, found = learner.start(), []
    for epoch in range(1, config.max_epochs + 1):
        state = learner.advance(state, epoch).state
        measured: list[tuple[float, float]] = []
        for examples in (used, valid):
            predicted = learner.predict(state, examples.images)
            loss = -predicted[np.arange(len(examples)), examples.labels].mean(dtype=np.float64)
            measured.append((float(loss), float((predicted.argmax(axis=1) == examples.labels).mean())))
        found.append(measured)
    return np.array(found)


def draw(study: Study) -> Figure:
    """Draw the curves of all widths, with a star at the lowest loss on valid."""
    figure = Figure(figsize=(10, 7.2), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True)
    for number, colour in zip(range(N_WIDTHS), SERIES_COLOURS, strict=False):
        found = curves(study, number)
        best = int(found[:, 1, 0].argmin())
        print(f"width {study.enqueue[number]['width']}: lowest loss on valid {found[best, 1, 0]:.4f} at {best + 1}")
        for (part, measure), panel in np.ndenumerate(panels.T):
            values = found[:, part, measure] * (100 if measure else 1)
            panel.plot(range(1, len(values) + 1), values, color=colour, label=f"width {study.enqueue[number]['width']}")
            panel.plot(best + 1, values[best], "*", color=colour, markersize=14, markeredgecolor="white")
    for (part, measure), panel in np.ndenumerate(panels.T):
        panel.set_title(f"{('loss', 'accuracy, %')[measure]} on {('train', 'valid')[part]}", fontsize=11)
        panel.grid(alpha=0.3)
        if measure == 0:
            panel.set_yscale("log")
        else:
            panel.set_ylim(_LOWEST_PERCENT, 100.5)
            panel.set_xlabel("epoch")
    panels[0, 1].yaxis.set_major_locator(FixedLocator([0.3, 0.4, 0.5, 0.7, 1, 1.5, 2]))
    panels[0, 1].yaxis.set_major_formatter("{x:g}")
    panels[0, 1].yaxis.set_minor_locator(NullLocator())
    panels[0, 1].legend(fontsize=9)
    figure.suptitle(
        "MLPs with two hidden layers on 2,000 digits; a star marks the lowest loss on valid: from there on they overfit"
    )
    return figure


def main() -> None:
    """Train and draw, as in a worker: XLA splits large products by the number of cores that it sees."""
    os.environ.update(worker_environment())
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    study = read_study(ROOT / "studies" / "overfitting.yaml").study
    draw(study).savefig(ROOT / "docs" / "overfitting.png", dpi=110)


if __name__ == "__main__":
    main()
