"""What `predict` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mnist_hpo.bundle.bundle import Answers, Bundle
from mnist_hpo.cli.schemas.output import Output
from mnist_hpo.preprocessing.find import Digit


class Prediction(Output):
    """A digit that was read."""

    file: str
    """The picture."""
    box: tuple[int, int, int, int]
    """The digit's left, top, right and bottom edge in the picture, in pixels; zeros if nothing is written."""
    digit: int
    """The most probable class."""
    probabilities: list[float]
    """Of each class."""
    doubtful: bool
    """Whether the picture may not show a digit, or the digit may be another one."""


class PredictedBy(Output):
    """The model that read the digits."""

    kind: str
    study: str | None
    trial: int | None
    seed: int | None


class PredictOutput(Output):
    """The digits in the order of the pictures, and within a picture from left to right."""

    predictions: list[Prediction]
    model: PredictedBy

    @classmethod
    def of(cls, bundle: Bundle, found: Sequence[tuple[Path, Digit]], answers: Answers) -> PredictOutput:
        """Return the output for digits and the model's answers for them."""
        predictions = [
            Prediction(
                file=str(path),
                box=digit.box,
                digit=int(probabilities.argmax()),
                probabilities=probabilities.tolist(),
                doubtful=bool(doubtful),
            )
            for (path, digit), probabilities, doubtful in zip(
                found, answers.probabilities, answers.doubtful, strict=True
            )
        ]
        origin = {name: bundle.provenance.get(name) for name in ("study", "trial", "seed")}
        return cls(predictions=predictions, model=PredictedBy(kind=bundle.model.model, **origin))
