"""Short text forms of values, shared by pages, pictures and tables."""

from __future__ import annotations

from mnist_hpo.spec.study import CategoricalSpace, ParameterValue, Space

_LARGE = 1000
"""Larger losses, of models that almost diverged, are abbreviated to fit into tables."""


def percent(share: float | None) -> str:
    """Format an accuracy as a percentage; a dash if there is none."""
    return "–" if share is None else f"{100 * share:.2f} %"


def brief(value: ParameterValue | None) -> str:
    """Format a hyperparameter's value; a dash if the trial has none."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def signed(value: float) -> str:
    """Format a correlation with its sign; the minus sign is as wide as a plus."""
    return f"{value:+.2f}".replace("-", "−")


def range_text(entry: Space) -> str:
    """Format the range or the choices of a hyperparameter."""
    if isinstance(entry, CategoricalSpace):
        return ", ".join(brief(choice) for choice in entry.choices)
    return f"{brief(entry.low)} to {brief(entry.high)}" + (" (log)" if entry.log else "")


def duration(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def seeds_in_words(n_seeds: int, n_diverged: int) -> str:
    """Format numbers of seeds as `3` or `3 (1 diverged)`."""
    return f"{n_seeds} ({n_diverged} diverged)" if n_diverged else str(n_seeds)


def mean_and_std(mean: float | None, std: float | None, *, percent: bool = False) -> str:
    """Format as `0.0512 ± 0.0003` or `98.49 ± 0.05 %`.

    Without a deviation, format the mean alone; without a mean, because every seed diverged, return a dash.
    """
    if mean is None:
        return "–"
    if std is None:
        return f"{100 * mean:.2f} %" if percent else f"{mean:.4f}" if mean < _LARGE else f"{mean:.3g}"
    if percent:
        return f"{100 * mean:.2f} ± {100 * std:.2f} %"
    return f"{mean:.4f} ± {std:.4f}" if max(mean, std) < _LARGE else f"{mean:.3g} ± {std:.3g}"
