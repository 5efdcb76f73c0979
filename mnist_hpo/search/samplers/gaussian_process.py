"""A Gaussian process with a Matérn 5/2 kernel and a length scale for each coordinate.

Rasmussen and Williams, "Gaussian Processes for Machine Learning" (2006), algorithm 2.1 and equation 5.9.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mnist_hpo.search.samplers.coordinates import Points, Vector

Array = NDArray[np.float64]

_ROOT_5 = math.sqrt(5)
_JITTER = 1e-8
_SAME = 1e-18
"""The squared distance of two coordinates of the same choice; two choices are more than 1e-3 apart."""
_BOUNDS = {"length": (0.01, 100.0), "variance": (0.05, 20.0), "noise": (1e-5, 1.0)}
_N_ITERATIONS = 40


@dataclass(frozen=True)
class _Kernel:
    """The kernel's parameters."""

    lengths: Vector
    """Shape (d,): the distance in each coordinate over which values are alike."""
    variance: float
    noise: float

    @classmethod
    def of(cls, logarithms: Vector) -> _Kernel:
        values = np.exp(logarithms)
        return cls(values[:-2], float(values[-2]), float(values[-1]))

    def between(self, squares: Array) -> Array:
        """Return the covariances of points, without noise, from their squared distances by coordinate (d, n, m)."""
        distances = _ROOT_5 * np.sqrt(np.tensordot(self.lengths**-2, squares, 1))
        return self.variance * (1 + distances + distances**2 / 3) * np.exp(-distances)


class GaussianProcess:
    """A model of values (shape (n,), mean 0 and variance 1) at points (shape (n, d)).

    The kernel's parameters have the largest posterior density of those found by L-BFGS-B from two starts. Their priors
    are log-normal, for lengths that of Hvarfner et al., "Vanilla Bayesian Optimization Performs Great in High
    Dimensions" (2024). Two choices of a categorical coordinate have the distance 1.
    """

    def __init__(self, points: Points, values: Vector, is_categorical: NDArray[np.bool_]) -> None:
        self._is_categorical = is_categorical
        self._kernel = _fitted(self._squares(points, points), values)
        self._condition(points, values)

    def with_expected_values_at(self, points: Points) -> GaussianProcess:
        """Return the model as if these points (shape (k, d)) had been evaluated to the mean that it predicts.

        Ginsbourger et al., "Kriging Is Well-Suited to Parallelize Optimization" (2010): the Kriging believer.
        """
        believer = object.__new__(GaussianProcess)
        believer._is_categorical, believer._kernel = self._is_categorical, self._kernel
        values = np.concatenate([self._values, self.predict(points)[0]])
        believer._condition(np.concatenate([self._points, points]), values)
        return believer

    def predict(self, points: Points) -> tuple[Vector, Vector]:
        """Return the mean and the standard deviation (shapes (m,)) of the values at points, without noise."""
        from scipy.linalg import solve_triangular

        cross = self._kernel.between(self._squares(self._points, points))
        explained = solve_triangular(self._root, cross, lower=True, check_finite=False)
        variances = self._kernel.variance - (explained**2).sum(axis=0)
        return cross.T @ self._weights, np.sqrt(np.maximum(variances, 1e-12))

    def _condition(self, points: Points, values: Vector) -> None:
        from scipy.linalg import cho_solve

        self._points, self._values = points, values
        covariances = self._kernel.between(self._squares(points, points))
        self._root = np.linalg.cholesky(covariances + (self._kernel.noise + _JITTER) * np.eye(len(points)))
        self._weights: Vector = cho_solve((self._root, True), values, check_finite=False)

    def _squares(self, first: Points, second: Points) -> Array:
        """Return the squared distances of points by coordinate (shape (d, n, m))."""
        squares = (first.T[:, :, None] - second.T[:, None, :]) ** 2
        squares[self._is_categorical] = squares[self._is_categorical] > _SAME
        return squares


def _fitted(squares: Array, values: Vector) -> _Kernel:
    from scipy.optimize import minimize

    d = len(squares)
    log_bounds = {name: (math.log(low), math.log(high)) for name, (low, high) in _BOUNDS.items()}
    bounds = [log_bounds["length"]] * d + [log_bounds["variance"], log_bounds["noise"]]
    best: Any = None
    for length in (0.3 * math.sqrt(d), 1.5 * math.sqrt(d)):
        start = np.log(np.array([length] * d + [1.0, 1e-2]))
        options = {"maxiter": _N_ITERATIONS}
        found: Any = minimize(_loss, start, (squares, values), "L-BFGS-B", jac=True, bounds=bounds, options=options)
        if best is None or found.fun < best.fun:
            best = found
    return _Kernel.of(best.x)


def _loss(logarithms: Vector, squares: Array, values: Vector) -> tuple[float, Vector]:
    """Return the negative logarithm of the posterior density of a kernel's parameters, and its gradient."""
    from scipy.linalg import cho_solve

    kernel, n = _Kernel.of(logarithms), len(values)
    scaled = squares / (kernel.lengths**2)[:, None, None]
    distances = _ROOT_5 * np.sqrt(scaled.sum(axis=0))
    decay = kernel.variance * np.exp(-distances)
    covariances = decay * (1 + distances + distances**2 / 3)
    root = np.linalg.cholesky(covariances + (kernel.noise + _JITTER) * np.eye(n))
    inverse: Array = cho_solve((root, True), np.eye(n), check_finite=False)
    weights = inverse @ values
    # The gradient by an entry of the covariance matrix.
    by_entry = (inverse - np.outer(weights, weights)) / 2
    by_length = np.tensordot(scaled, by_entry * decay * (1 + distances) * 5 / 3, 2)
    by_variance, by_noise = (by_entry * covariances).sum(), kernel.noise * np.trace(by_entry)
    d = len(kernel.lengths)
    means = np.array([math.sqrt(2) + math.log(d) / 2] * d + [0.0, -5.0])
    deviations = np.array([math.sqrt(3)] * d + [1.0, 1.5])
    z = (logarithms - means) / deviations
    loss = values @ weights / 2 + np.log(np.diag(root)).sum() + (z**2).sum() / 2
    return float(loss), np.array([*by_length, by_variance, by_noise]) + z / deviations
