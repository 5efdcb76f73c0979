"""Pictures of a champion's test."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mnist_hpo.champion.calibration import Calibration
from mnist_hpo.storage.records import TrialRecord

_N_A_LINE, _N_SHOWN = 10, 100


def confusion_picture(confusion: NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix [true, predicted]; only the misclassifications are coloured."""
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    axes = figure.add_subplot()
    mistakes = confusion - np.diag(np.diag(confusion))
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=max(int(mistakes.max()), 1))
    for (true, predicted), n in np.ndenumerate(confusion):
        if n:
            colour = "white" if true != predicted and n > mistakes.max() * 0.6 else "black"
            axes.text(predicted, true, str(n), ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted digit")
    axes.set_ylabel("true digit")
    axes.set_title(title, fontsize=11)
    return figure


def mistakes_picture(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    log_probabilities: NDArray[np.float32],
    image_shape: tuple[int, int, int],
) -> Figure:
    """Draw up to 100 misclassified digits with label, prediction and confidence, the most confident first.

    Args:
        images: u8[n, n_features].
        labels: u8[n].
        log_probabilities: f32[n, n_classes].
        image_shape: height, width and channels of an image. Three channels are drawn as red, green and blue, any
            other number as their mean.

    """
    rows = mistakes(labels, log_probabilities)
    shown = rows[:_N_SHOWN]
    n_lines = max(math.ceil(len(shown) / _N_A_LINE), 1)
    figure = Figure(figsize=(1.0 * _N_A_LINE, 1.22 * n_lines + 0.7), layout="constrained")
    for cell, axes in enumerate(figure.subplots(n_lines, _N_A_LINE, squeeze=False).flat):
        axes.set_axis_off()
        if cell < len(shown):
            row = shown[cell]
            guess = int(log_probabilities[row].argmax())
            axes.imshow(_drawn(images[row].reshape(image_shape)), cmap="gray_r", vmin=0, vmax=255)
            axes.set_title(f"{labels[row]} as {guess}: {np.exp(log_probabilities[row, guess]):.0%}", fontsize=8)
    figure.suptitle(
        f"{len(rows)} of {len(labels):,} test digits misclassified, the most confident first"
        + (f" ({len(shown)} of them)" if len(shown) < len(rows) else "")
        + ": label as prediction, confidence",
        fontsize=10,
    )
    return figure


def _drawn(image: NDArray[np.uint8]) -> NDArray[np.uint8] | NDArray[np.float64]:
    """What Matplotlib draws of an image u8[H, W, C]: [H, W] or, in colours, [H, W, 3]."""
    return image if image.shape[-1] == 3 else image.mean(axis=-1)


def mistakes(labels: NDArray[np.uint8], log_probabilities: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the rows whose prediction is not the label, the most confident first."""
    wrong = np.flatnonzero(log_probabilities.argmax(axis=1) != labels)
    return wrong[np.argsort(-log_probabilities[wrong].max(axis=1), kind="stable")]


def reliability_picture(calibration: Calibration, title: str) -> Figure:
    """Draw accuracy by confidence with the diagonal of a calibrated model, and below it the examples of each bin."""
    figure = Figure(figsize=(6.0, 6.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    width = 1 / len(calibration.n_examples)
    left = np.arange(len(calibration.n_examples)) * width
    filled = calibration.n_examples > 0
    bars = {"width": width, "align": "edge", "edgecolor": "white"}
    above.bar(left[filled], calibration.accuracy[filled], color="tab:blue", label="accuracy", **bars)
    above.scatter(
        calibration.confidence[filled],
        calibration.accuracy[filled],
        color="tab:orange",
        zorder=3,
        label="at the bin's mean confidence",
    )
    above.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfect calibration")
    above.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="accuracy")
    above.set_title(title, fontsize=11)
    above.legend(fontsize=8, loc="upper left")
    below.bar(left, calibration.n_examples, color="grey", **bars)
    below.set(yscale="symlog", xlabel="confidence", ylabel="digits")
    return figure


def learning_curves_picture(trial: TrialRecord, train_losses: Sequence[Sequence[float]], title: str) -> Figure:
    """Draw the trial's losses and accuracy by epoch, and the train_loss of each training on train + valid."""
    epochs = sorted(trial.epochs)
    results = [trial.epochs[epoch] for epoch in epochs]
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    losses, accuracy = figure.subplots(1, 2)
    for index, seed in enumerate(train_losses):
        label = "train_loss, train + valid, each seed" if index == 0 else None
        losses.plot(range(1, len(seed) + 1), seed, color="grey", lw=0.8, label=label)
    losses.plot(epochs, [result.train_loss for result in results], color="tab:blue", label="train_loss")
    valid_loss = [result.valid_loss or math.nan for result in results]
    losses.plot(epochs, valid_loss, color="tab:orange", label="valid_loss")
    losses.set(xlabel="epoch", ylabel="loss (nats)", yscale="log")
    valid_accuracy = [100 * (result.valid_accuracy or math.nan) for result in results]
    accuracy.plot(epochs, valid_accuracy, color="tab:orange", label="valid_accuracy")
    accuracy.set(xlabel="epoch", ylabel="valid_accuracy (%)")
    for axes in (losses, accuracy):
        axes.axvline(trial.kept_epoch or 0, color="black", linestyle=":", lw=1, label="kept epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize=8)
    figure.suptitle(title, fontsize=11)
    return figure


def error_against_time(rows: Sequence[tuple[str, float, float, float]]) -> Figure:
    """Draw test error against time to train.

    Args:
        rows: for each method its name, the seconds to train, the mean test error (0 to 1) and its standard deviation.

    """
    figure = Figure(figsize=(7.6, 5.0), layout="constrained")
    axes = figure.add_subplot()
    for name, train_s, error, deviation in rows:
        axes.errorbar(max(train_s, 1e-2), 100 * error, yerr=100 * deviation, fmt="o", capsize=3)
        axes.annotate(name, (max(train_s, 1e-2), 100 * error), textcoords="offset points", xytext=(7, 5), fontsize=9)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("seconds to train")
    axes.set_ylabel("test error in %, mean ± standard deviation over seeds")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.margins(x=0.25)
    return figure
