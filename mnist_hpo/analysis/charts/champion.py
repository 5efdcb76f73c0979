"""The chart of the champion's confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence

from mnist_hpo.analysis.charts.figure import INK, PAPER, Chart, Json


def confusion(matrix: Sequence[Sequence[int]], caption: str) -> Chart:
    """Draw a confusion matrix [true, predicted]; only the misclassifications are coloured."""
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
        # A text colour that is legible on the whole scale; plotly would choose a grey for each cell.
        "textfont": {"color": INK},
        "showscale": False,
        "xgap": 1,
        "ygap": 1,
        "hovertemplate": "true %{y}, predicted %{x}: %{text}<extra></extra>",
    }
    layout = {
        "xaxis": {"title": {"text": "predicted digit"}, "type": "category", "showgrid": False},
        "yaxis": {"title": {"text": "true digit"}, "type": "category", "autorange": "reversed", "showgrid": False},
        "margin": {"t": 16},
    }
    return Chart("Confusion matrix of the test", [heat], layout, 440, caption=caption)
