"""Low-discrepancy sequences.

SciPy's module is imported when a point is drawn: that takes half a second, which other samplers need not wait for.
"""

from __future__ import annotations

import warnings

import numpy as np

from mnist_hpo.search.samplers.coordinates import Points


def sobol_points(n_axes: int, generator: np.random.Generator, first: int, n: int, *, scramble: bool = True) -> Points:
    """Return points number `first` to `first + n - 1` of Sobol's sequence (shape (n, n_axes)).

    Sobol', "Distribution of points in a cube and approximate evaluation of integrals" (1967), with the directions of
    Joe and Kuo (2008). The scrambling is by Matoušek (1998) and depends on the generator.
    """
    from scipy.stats import qmc

    with warnings.catch_warnings():
        # Ignore that the number of points is not a power of 2.
        warnings.simplefilter("ignore")
        sequence = qmc.Sobol(n_axes, scramble=scramble, rng=generator)
        # SciPy fails to skip no points.
        return (sequence.fast_forward(first) if first else sequence).random(n)


def halton_point(n_axes: int, generator: np.random.Generator, number: int, *, scramble: bool) -> Points:
    """Return one point (shape (1, n_axes)) of Halton's sequence.

    Halton, "On the efficiency of certain quasi-random sequences of points" (1960). The scrambling is by Owen (2017).
    """
    from scipy.stats import qmc

    return qmc.Halton(n_axes, scramble=scramble, rng=generator).fast_forward(number).random(1)
