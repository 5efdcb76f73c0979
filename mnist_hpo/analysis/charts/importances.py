"""Charts of hyperparameter importances and rank correlations."""

from __future__ import annotations

from mnist_hpo.analysis.charts.figure import INK, Chart, Json, rounded
from mnist_hpo.analysis.importance import SIGNIFICANT_P, Correlation, Importance
from mnist_hpo.analysis.words import signed


def importances(importance: Importance) -> Chart:
    """Draw both importances of each hyperparameter, the most important on top."""
    names = list(reversed(importance.ranking()))
    # The first trace is drawn at the bottom of each pair.
    kinds = [
        ("PED-ANOVA", importance.ped_anova, "var(--second)"),
        ("fANOVA", importance.fanova, "var(--first)"),
    ]
    traces: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": title,
            "y": [name for name in names if name in shares],
            "x": rounded(shares[name] for name in names if name in shares),
            "text": [f"{100 * shares[name]:.0f} %" for name in names if name in shares],
            "textposition": "outside",
            "cliponaxis": False,
            "marker": {"color": colour},
            "hovertemplate": f"%{{y}}: %{{x:.1%}} by {title}<extra></extra>",
        }
        for title, shares, colour in kinds
        if shares
    ]
    longest = max(max(shares.values()) for _, shares, _ in kinds if shares)
    layout = {
        "barmode": "group",
        "bargap": 0.3,
        # Leave room for the label of the longest bar.
        "xaxis": {"title": {"text": "share"}, "tickformat": ".0%", "range": [0, 1.2 * longest]},
        "yaxis": {"automargin": True, "type": "category"},
        "legend": {"traceorder": "reversed"},
    }
    return Chart("Hyperparameter importances", traces, layout, 110 + 48 * len(names))


def correlations(found: dict[str, Correlation]) -> Chart:
    """Draw Spearman's rank correlation of each hyperparameter with valid_loss; insignificant ones are pale."""
    names = sorted(found, key=lambda name: abs(found[name].rho))
    # The figures are beside the names, since they would not fit at the bars' ends on a phone.
    labels = [f"{name}<br>{signed(found[name].rho)} (p {found[name].p_value:.2g})" for name in names]
    bars: Json = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "x": rounded(found[name].rho for name in names),
        "marker": {
            "color": "var(--first)",
            "opacity": [1.0 if found[name].p_value < SIGNIFICANT_P else 0.35 for name in names],
        },
        "hovertemplate": "%{y}: ρ = %{x:.2f}<extra></extra>",
    }
    layout = {
        "xaxis": {
            "title": {"text": "Spearman's ρ"},
            "range": [-1.05, 1.05],
            "tickvals": [-1, -0.5, 0, 0.5, 1],
            "zerolinecolor": INK,
        },
        "yaxis": {"automargin": True, "type": "category", "tickvals": names, "ticktext": labels},
        "showlegend": False,
    }
    return Chart("Rank correlations with valid_loss", [bars], layout, 80 + 42 * len(names))
