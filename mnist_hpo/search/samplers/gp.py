"""Bayesian optimisation with a Gaussian process."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np

from mnist_hpo.search.samplers.asked import Asked
from mnist_hpo.search.samplers.coordinates import Points, Vector
from mnist_hpo.search.samplers.gaussian_process import GaussianProcess
from mnist_hpo.search.samplers.one_thread import one_thread
from mnist_hpo.search.samplers.point_sampler import PointSampler
from mnist_hpo.search.samplers.seen_trials import SeenTrial, best_first
from mnist_hpo.search.samplers.sobol import sobol_points

_N_ROUNDS = 6
"""Rounds in which the best candidates are varied, by half as much in each round as in the one before."""
_N_BEST = 8
"""Candidates that are varied in a round."""


class GpSampler(PointSampler):
    """Proposes the point of the largest expected improvement that a search from many candidates finds.

    The value of a complete trial is its objective; that of a pruned or paused trial is its last one. A failed trial has
    the worst value seen, and a running trial the value that the model predicts for it. The first trials are points of a
    scrambled Sobol sequence.
    """

    def __init__(
        self, asked: Asked, *, n_startup_trials: int = 10, n_candidates: int = 1024, max_points: int = 200
    ) -> None:
        super().__init__(asked)
        self._n_startup_trials, self._n_candidates, self._max_points = n_startup_trials, n_candidates, max_points

    def propose(self, trials: Sequence[SeenTrial]) -> Vector:
        """See `PointSampler`."""
        ended = [trial for trial in trials if trial.state != "running"]
        values = [trial.values[0] if trial.values else trial.last_value for trial in ended]
        if self.asked.number < self._n_startup_trials or sum(map(math.isfinite, values)) < 2:
            return self.first_point()
        points = self.cube.snapped(np.stack([trial.point for trial in ended]))
        running = [trial.point for trial in trials if trial.state == "running"]
        known = set(self.cube.keys(np.stack([trial.point for trial in trials])))
        with one_thread():
            kept = _kept(ended, self._max_points)
            model = GaussianProcess(points[kept], warped(np.array(values))[kept], self.cube.is_categorical)
            lowest = float(model.predict(points[kept])[0].min())
            if running:
                model = model.with_expected_values_at(self.cube.snapped(np.stack(running)))
            return self._best_candidate(model, lowest, known)

    def _best_candidate(self, model: GaussianProcess, lowest: float, known: Collection[bytes]) -> Vector:
        """Return the candidate of the largest expected improvement on the lowest mean, a known one only if all are."""
        generator = self.asked.generator()
        candidates = sobol_points(self.cube.n_axes, generator, 0, self._n_candidates)
        best = self._best(candidates, self._scores(model, lowest, candidates, known))
        scale = 0.2
        for _ in range(_N_ROUNDS):
            candidates = np.concatenate([best, self._varied(best, scale, generator)])
            best = self._best(candidates, self._scores(model, lowest, candidates, known))
            scale /= 2
        return best[0]

    def _scores(self, model: GaussianProcess, lowest: float, candidates: Points, known: Collection[bytes]) -> Vector:
        means, deviations = model.predict(self.cube.snapped(candidates))
        scores = log_expected_improvement((lowest - means) / deviations) + np.log(deviations)
        repeats = [key in known for key in self.cube.keys(candidates)]
        return np.where(repeats, -np.inf, scores)

    def _best(self, candidates: Points, scores: Vector) -> Points:
        return candidates[np.argsort(-scores, kind="stable")[:_N_BEST]]

    def _varied(self, points: Points, scale: float, generator: np.random.Generator) -> Points:
        """Return points near these: some coordinates have moved by a normal step, and some choices are others."""
        shape = (self._n_candidates // (2 * len(points)) + 1, *points.shape)
        steps = scale * generator.standard_normal(shape)
        moved = np.abs(1 - np.abs(1 - (points + steps) % 2))
        moved = np.where(self.cube.is_categorical, generator.random(shape), moved)
        # One coordinate at least, so that a candidate differs from the point that it is near.
        moves = generator.random(shape) < generator.random((*shape[:2], 1))
        moves |= np.arange(shape[2]) == generator.integers(shape[2], size=(*shape[:2], 1))
        return np.where(moves, moved, points).reshape(-1, shape[2])


def _kept(trials: Sequence[SeenTrial], most: int) -> list[int]:
    """Return the indices of the trials that the model learns from: the best ones for a half, then the latest."""
    if len(trials) <= most:
        return list(range(len(trials)))
    index_of = {trial.number: index for index, trial in enumerate(trials)}
    best = [index_of[trial.number] for trial in best_first(trials)[: most // 2]]
    others = [index for index in range(len(trials)) if index not in set(best)]
    return sorted([*best, *others[-(most - len(best)) :]])


def warped(values: Vector) -> Vector:
    """Return values (shape (n,), lower is better) with mean 0 and variance 1, of which bad ones are pulled in.

    Values above the median become normal quantiles of their ranks, with the deviation of those below it, so that a few
    huge or infinite ones leave differences between good ones visible. Song et al., "The Vizier Gaussian Process Bandit
    Algorithm" (2024): half-rank warping.
    """
    from scipy.special import ndtri

    median = np.median(values)
    below = values[values <= median] if np.isfinite(median) else values[np.isfinite(values)]
    center = below.max()
    deviation = math.sqrt(float(np.mean((below - center) ** 2))) or 1.0
    ranks = np.array([(np.sum(values < value) + np.sum(values <= value)) / 2 for value in values]) / len(values)
    z = np.where(values > center, np.maximum(ndtri(np.minimum(ranks, 1 - 0.5 / len(values))), 0.0), 0.0)
    found = np.where(values > center, center + deviation * z, values)
    spread = float(found.std())
    return (found - found.mean()) / (spread if spread > 0 else 1.0)


def log_expected_improvement(z: Vector) -> Vector:
    """Return log(phi(z) + z Phi(z)), phi and Phi being the normal density and distribution; exact for very negative z.

    Ament et al., "Unexpected Improvements to Expected Improvement for Bayesian Optimization" (2023), equation 9.
    """
    from scipy.special import erfcx, log_ndtr

    near = np.maximum(z, -1.0)
    direct = np.log(np.exp(-(near**2) / 2) / math.sqrt(2 * math.pi) + near * np.exp(log_ndtr(near)))
    far = np.minimum(z, -1.0)
    ratio = math.sqrt(math.pi / 2) * erfcx(-far / math.sqrt(2)) * -far
    tail = np.where(far > -1e6, np.log1p(-np.minimum(ratio, 1 - 1e-16)), -2 * np.log(-far))
    return np.where(z > -1.0, direct, -(far**2) / 2 - math.log(2 * math.pi) / 2 + tail)
