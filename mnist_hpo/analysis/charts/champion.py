"""The champion's confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.analysis.charts.figure import INK, PAPER, Chart, Json


def confusion(matrix: Sequence[Sequence[int]], caption: str) -> Chart:
    """A confusion matrix [true, guessed]: colour is for the mistakes, the diagonal stays pale."""
    n_classes = len(matrix)
    labels = [str(label) for label in range(n_classes)]
    mistakes = [[0 if i == j else matrix[i][j] for j in range(n_classes)] for i in range(n_classes)]
    heat: Json = {
        "type": "heatmap",
        "x": labels,
        "y": labels,
        "z": mistakes,
        "text": [[str(n) if n else "" for n in row] for row in matrix],
        "texttemplate": "%{text}",
        "colorscale": [[0, PAPER], [1, "var(--confused)"]],
        # One colour that can be read on the whole scale; plotly's own choice for each cell is a grey.
        "textfont": {"color": INK},
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "true %{y}, guessed %{x}: %{text}<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": "guessed digit"}, "type": "category", "showgrid": False},
        "yaxis": {"title": {"text": "true digit"}, "type": "category", "autorange": "reversed", "showgrid": False},
        "margin": {"t": 16},
    }
    return Chart("Confusion matrix of the test", [heat], layout, 440, caption=caption)
