"""Pictures of a champion's test."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray


def confusion_picture(confusion: NDArray[np.int64], classes: Sequence[str], title: str) -> Figure:
    """Draw a confusion matrix [true, guessed]: the diagonal is left pale so that the mistakes stand out."""
    figure = Figure(figsize=(6.4, 6.0), layout="constrained")
    axes = figure.add_subplot()
    mistakes = confusion - np.diag(np.diag(confusion))
    axes.imshow(mistakes, cmap="Oranges", vmin=0, vmax=max(int(mistakes.max()), 1))
    for (truth, guess), n in np.ndenumerate(confusion):
        if n:
            on_dark = truth != guess and n > mistakes.max() * 0.6
            axes.text(guess, truth, str(n), ha="center", va="center", fontsize=9, color="white" if on_dark else "black")
    axes.set_xticks(range(len(classes)), classes)
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("guessed digit")
    axes.set_ylabel("true digit")
    axes.set_title(title, fontsize=11)
    return figure
