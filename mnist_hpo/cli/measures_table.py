"""The test measures of a champion or an ensemble as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from mnist_hpo.analysis.words import mean_and_std

_SHARES = ("accuracy", "macro_precision", "macro_recall", "macro_f1")


def measures_table(title: str, figures: Mapping[str, Any], n_seeds: int) -> Table:
    """Return a table of `test_<measure>_mean` and `test_<measure>_std` over the seeds."""
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    table.add_column("one seed" if n_seeds == 1 else f"mean ± std over {n_seeds} seeds", justify="right")
    for name in (*_SHARES, "log_loss", "ece"):
        std = None if n_seeds == 1 else figures[f"test_{name}_std"]
        text = mean_and_std(figures[f"test_{name}_mean"], std, percent=name in _SHARES)
        table.add_row("calibration error" if name == "ece" else name.replace("_", " "), text)
    return table
