"""Decide whether an answer is doubtful, from the detector and from how sure the model is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.doubt.networks import DIGIT, N_CLASSES, NETWORKS, OTHER
from mnist_hpo.learners.factory import make_predictor
from mnist_hpo.learners.protocol import Predictor
from mnist_hpo.learners.stored_weights import read_tensors
from mnist_hpo.spec.model import Tensors
from mnist_hpo.spec.tensor_layout import check_finite

SHARE = 0.013
"""The share of validation digits whose answers are doubtful. It leaves room below 2 % for digits of other writers."""
_HIGH = 0.98
"""Scores are scaled so that half of the validation digits are below 0, and this share below 1."""
SHARPNESS = 2.0
"""The sum of exp(sharpness · score) is large if one score is very high, or several are high."""
LEAST_ENTROPY = 1e-9
_IMAGE_SHAPE = (28, 28, 1)


@dataclass(frozen=True)
class Detector:
    """The trained networks of the detector."""

    networks: tuple[Tensors, ...]
    """The tensors of each of `NETWORKS`."""

    def scores(self, images: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return f64[k, n] for images u8[n, 784]: each network's log-odds that an image shows no digit."""
        shaped = images.reshape(-1, *_IMAGE_SHAPE)
        answers = np.stack([predictor(shaped) for predictor in self._predictors]).astype(np.float64)
        return answers[:, :, OTHER] - answers[:, :, DIGIT]

    def tensors(self) -> Tensors:
        """Return the tensors of all networks, with the network's number before each name."""
        networks = enumerate(self.networks)
        return {f"{k}/{name}": array for k, tensors in networks for name, array in tensors.items()}

    @classmethod
    def load(cls, content: bytes) -> Detector:
        """Return the detector from the content of a safetensors file with what `tensors` returned.

        Raises:
            ValueError: the tensors are not those of the networks.
            SafetensorError: it is no such file.

        """
        tensors = read_tensors(content)
        check_finite(tensors)
        detector = cls(
            tuple(
                {name.removeprefix(f"{k}/"): array for name, array in tensors.items() if name.startswith(f"{k}/")}
                for k in range(len(NETWORKS))
            )
        )
        if len(detector._predictors) != len(NETWORKS) or detector.tensors().keys() != tensors.keys():
            raise ValueError("the tensors are not those of the detector's networks")
        return detector

    @cached_property
    def _predictors(self) -> list[Predictor]:
        return [
            make_predictor(model, parameters, _IMAGE_SHAPE, N_CLASSES, tensors)
            for (model, parameters), tensors in zip(NETWORKS, self.networks, strict=True)
        ]


@dataclass(frozen=True)
class Doubt:
    """Decides whether answers are doubtful."""

    detector: Detector
    centres: tuple[float, ...]
    """Of each score (each network's, then that of the entropy): the median over validation digits."""
    scales: tuple[float, ...]
    """Of each score: its quantile `_HIGH` over validation digits, minus the median."""
    threshold: float
    """Answers with a higher sum are doubtful."""

    @classmethod
    def fit(cls, detector: Detector, images: NDArray[np.uint8], log_probabilities: NDArray[np.float32]) -> Doubt:
        """Fit scales and threshold to digits that neither the detector nor the model has been trained on.

        Args:
            detector: the trained detector.
            images: u8[n, 784].
            log_probabilities: the model's answers for the images, f32[n, n_classes].

        """
        scores = _scores(detector, images, log_probabilities)
        centres = np.median(scores, axis=1)
        scales = np.maximum(np.quantile(scores, _HIGH, axis=1) - centres, 1e-6)
        threshold = float(np.quantile(_sum(scores, centres, scales), 1 - SHARE))
        return cls(detector, tuple(centres.tolist()), tuple(scales.tolist()), threshold)

    def doubtful(self, images: NDArray[np.uint8], log_probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return bool[n] for images u8[n, 784] and the model's answers f32[n, n_classes]."""
        scores = _scores(self.detector, images, log_probabilities)
        return _sum(scores, np.array(self.centres), np.array(self.scales)) > self.threshold

    def fields(self) -> dict[str, Any]:
        """Return all but the tensors as plain JSON."""
        return {"centres": list(self.centres), "scales": list(self.scales), "threshold": self.threshold}

    @classmethod
    def load(cls, fields: Mapping[str, Any], detector: Detector) -> Doubt:
        """Return what `fields` returned.

        Raises:
            KeyError, TypeError, ValueError: the fields are not those of a `Doubt`.

        """
        n_scores = len(NETWORKS) + 1
        centres, scales = (tuple(float(number) for number in fields[name]) for name in ("centres", "scales"))
        threshold = float(fields["threshold"])
        if len(centres) != n_scores or len(scales) != n_scores or not min(scales) > 0:
            raise ValueError(f"the detector needs {n_scores} scores with positive scales")
        if not all(map(math.isfinite, (*centres, *scales, threshold))):
            raise ValueError("the detector's numbers are not finite")
        return cls(detector, centres, scales, threshold)


def _scores(
    detector: Detector, images: NDArray[np.uint8], log_probabilities: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return f64[k + 1, n]: the detector's scores, and that of the entropy."""
    return np.concatenate([detector.scores(images), _entropy_score(log_probabilities)[None]])


def _entropy_score(log_probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the logarithm of the entropy, f64[n]: the entropy of most digits is near 0."""
    logs = log_probabilities.astype(np.float64)
    return np.log(np.maximum(-np.where(np.isfinite(logs), np.exp(logs) * logs, 0).sum(axis=1), LEAST_ENTROPY))


def _sum(scores: NDArray[np.float64], centres: NDArray[np.float64], scales: NDArray[np.float64]) -> NDArray[np.float64]:
    scaled = (scores - centres[:, None]) / scales[:, None]
    return np.exp(np.minimum(SHARPNESS * scaled, 50)).sum(axis=0)
