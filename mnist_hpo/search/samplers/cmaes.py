"""CMA-ES: the covariance matrix adaptation evolution strategy.

Hansen, "The CMA Evolution Strategy: A Tutorial" (2016), with its default constants. Categorical hyperparameters have a
distribution of their own, which is adapted as in Hamano et al., "CatCMA: Stochastic Optimization for Mixed-Category
Problems" (2024), and the deviation of hyperparameters with steps has a lower bound, as in Hamano et al., "CMA-ES with
Margin" (2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.search.samplers.asked import Asked
from mnist_hpo.search.samplers.coordinates import Points, Vector
from mnist_hpo.search.samplers.one_thread import one_thread
from mnist_hpo.search.samplers.point_sampler import PointSampler
from mnist_hpo.search.samplers.seen_trials import SeenTrial, best_first

_N_TRIES = 100
"""A point outside the cube is drawn again this many times, then moved to the nearest one inside."""
_MARGIN = 0.3
"""The least deviation of a hyperparameter with steps, in steps."""
_CATEGORICAL_RATE = 0.3
"""How far a generation moves the probabilities of the choices."""


@dataclass(frozen=True)
class _Constants:
    """The constants of Hansen 2016, table 1, for a population and a number of numerical hyperparameters."""

    weights: Vector
    """Shape (mu,): of the better half of a generation, best first; their sum is 1."""
    mu_eff: float
    c_sigma: float
    d_sigma: float
    c_c: float
    c_1: float
    c_mu: float
    expected_norm: float
    """The expected length of a standard normal vector."""
    longest_step: float
    """Steps are cut to this length. Some are longer because a trial was proposed before the last generation ended.

    Hansen, "Injecting External Solutions Into CMA-ES" (2011), c_y.
    """

    @classmethod
    def of(cls, population_size: int, d: int) -> _Constants:
        n_parents = population_size // 2
        raw = math.log((population_size + 1) / 2) - np.log(np.arange(1, n_parents + 1))
        weights = raw / raw.sum()
        mu_eff = float(1 / (weights**2).sum())
        c_sigma = (mu_eff + 2) / (d + mu_eff + 5)
        c_1 = 2 / ((d + 1.3) ** 2 + mu_eff)
        return cls(
            weights=weights,
            mu_eff=mu_eff,
            c_sigma=c_sigma,
            d_sigma=1 + 2 * max(0.0, math.sqrt((mu_eff - 1) / (d + 1)) - 1) + c_sigma,
            c_c=(4 + mu_eff / d) / (d + 4 + 2 * mu_eff / d),
            c_1=c_1,
            c_mu=min(1 - c_1, 2 * (mu_eff - 2 + 1 / mu_eff) / ((d + 2) ** 2 + mu_eff)),
            expected_norm=math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d**2)),
            longest_step=math.sqrt(d) + 2 * d / (d + 2),
        )


@dataclass(frozen=True)
class _Gaussian:
    """The distribution of the d numerical hyperparameters after some generations."""

    mean: Vector
    sigma: float
    axes: NDArray[np.float64]
    """Shape (d, d): the eigenvectors of the covariance, as columns."""
    deviations: Vector
    """Shape (d,): the square roots of its eigenvalues."""
    path_sigma: Vector
    path_c: Vector
    n_generations: int = 0

    @classmethod
    def first(cls, d: int, sigma: float) -> _Gaussian:
        return cls(np.full(d, 0.5), sigma, np.eye(d), np.ones(d), np.zeros(d), np.zeros(d))

    def updated(self, points: Points, k: _Constants) -> _Gaussian:
        """Return the distribution after a generation, of which `points` (shape (mu, d)) are the better half."""
        d = len(self.mean)
        inverse_root = (self.axes / self.deviations) @ self.axes.T
        steps = (points - self.mean) / self.sigma
        lengths = np.linalg.norm(steps @ inverse_root, axis=1, keepdims=True)
        steps = steps * np.minimum(1, k.longest_step / np.maximum(lengths, 1e-300))
        step = k.weights @ steps
        path_sigma = (1 - k.c_sigma) * self.path_sigma
        path_sigma = path_sigma + math.sqrt(k.c_sigma * (2 - k.c_sigma) * k.mu_eff) * (inverse_root @ step)
        n_generations = self.n_generations + 1
        length = float(np.linalg.norm(path_sigma))
        expected = math.sqrt(1 - (1 - k.c_sigma) ** (2 * n_generations)) * (1.4 + 2 / (d + 1)) * k.expected_norm
        h_sigma = float(length < expected)
        path_c = (1 - k.c_c) * self.path_c + h_sigma * math.sqrt(k.c_c * (2 - k.c_c) * k.mu_eff) * step
        covariance = (self.axes * self.deviations**2) @ self.axes.T
        kept = 1 - k.c_1 - k.c_mu + (1 - h_sigma) * k.c_1 * k.c_c * (2 - k.c_c)
        covariance = kept * covariance + k.c_1 * np.outer(path_c, path_c) + k.c_mu * (steps.T * k.weights) @ steps
        eigenvalues, axes = np.linalg.eigh((covariance + covariance.T) / 2)
        return _Gaussian(
            mean=np.clip(self.mean + self.sigma * step, 0, 1),
            sigma=min(self.sigma * math.exp(k.c_sigma / k.d_sigma * (length / k.expected_norm - 1)), 1.0),
            axes=axes,
            deviations=np.sqrt(np.maximum(eigenvalues, 1e-12)),
            path_sigma=path_sigma,
            path_c=path_c,
            n_generations=n_generations,
        )

    def draw(self, generator: np.random.Generator, least_deviations: Vector) -> Vector:
        """Return a point in the cube; its coordinates deviate from the mean at least as much as given."""
        own = self.sigma * np.sqrt(((self.axes * self.deviations) ** 2).sum(axis=1))
        stretch = np.maximum(1, least_deviations / own)
        point = self.mean
        for _ in range(_N_TRIES):
            step = self.axes @ (self.deviations * generator.standard_normal(len(self.mean)))
            point = self.mean + stretch * self.sigma * step
            if ((point >= 0) & (point <= 1)).all():
                break
        return np.clip(point, 0, 1)


class CmaesSampler(PointSampler):
    """Draws the trials of a generation from a normal distribution, which the better half of each generation moves.

    Trial number n belongs to generation n // `population_size`. The distribution of a trial has been moved by the
    generations before its own, up to the first in which a trial has not ended yet.
    """

    def __init__(self, asked: Asked, *, population_size: int | None = None, sigma0: float = 0.25) -> None:
        super().__init__(asked)
        self._numerical = np.flatnonzero(~self.cube.is_categorical)
        self._categorical = np.flatnonzero(self.cube.is_categorical)
        self._population_size = population_size or 4 + int(3 * math.log(self.cube.n_axes))
        self._sigma0 = sigma0

    def propose(self, trials: Sequence[SeenTrial]) -> Vector:
        """See `PointSampler`."""
        generations = self._ended_generations(trials)
        generator = self.asked.generator()
        point = np.empty(self.cube.n_axes)
        if len(self._numerical):
            with one_thread():
                point[self._numerical] = self._draw_numbers(generations, generator)
        constants = _Constants.of(self._population_size, self.cube.n_axes)
        for index in self._categorical:
            point[index] = self._draw_choice(int(index), [g[:, index] for g in generations], constants, generator)
        return point

    def _ended_generations(self, trials: Sequence[SeenTrial]) -> list[Points]:
        """Return the points of the better half of each generation that may move the distribution, best first."""
        size, found = self._population_size, list[Points]()
        for first in range(0, self.asked.number - size + 1, size):
            generation = [trial for trial in trials[first : first + size] if trial.state != "running"]
            if len(generation) < size:
                break
            found.append(np.stack([trial.point for trial in best_first(generation)[: size // 2]]))
        return found

    def _draw_numbers(self, generations: Sequence[Points], generator: np.random.Generator) -> Vector:
        constants = _Constants.of(self._population_size, len(self._numerical))
        gaussian = _Gaussian.first(len(self._numerical), self._sigma0)
        for points in generations:
            gaussian = gaussian.updated(points[:, self._numerical], constants)
        axes = [self.cube.axes[index] for index in self._numerical]
        cells = [axis.cell_length(float(c)) for axis, c in zip(axes, gaussian.mean, strict=True)]
        return gaussian.draw(generator, _MARGIN * np.array(cells))

    def _draw_choice(
        self, index: int, generations: Sequence[Vector], constants: _Constants, generator: np.random.Generator
    ) -> float:
        """Return the coordinate of a choice, by probabilities that generations move towards their better half."""
        n = self.cube.axes[index].n_choices or 1
        least = (1 - 0.73 ** (1 / len(self._categorical))) / max(n - 1, 1)
        probabilities = np.full(n, 1 / n)
        for coordinates in generations:
            chosen = np.minimum((coordinates * n).astype(int), n - 1)
            frequencies = np.bincount(chosen, weights=constants.weights, minlength=n)
            probabilities = (1 - _CATEGORICAL_RATE) * probabilities + _CATEGORICAL_RATE * frequencies
            probabilities = np.maximum(probabilities, min(least, 1 / n))
            probabilities /= probabilities.sum()
        return (int(generator.choice(n, p=probabilities)) + 0.5) / n
