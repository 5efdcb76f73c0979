"""A study's plots for its parent run: `plots.html`, interactive without a network, and `plots.png`.

Both use the same analysis as the report. Importing this module loads plotly, matplotlib and scikit-learn, which takes a
second or two, so import it only for a finished study.
"""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from plotly.io import to_html

from mnist_hpo.analysis.charts.figure import Chart
from mnist_hpo.analysis.charts.hover import hover_texts
from mnist_hpo.analysis.charts.importances import importances
from mnist_hpo.analysis.charts.parallel import parallel_coordinates
from mnist_hpo.analysis.charts.slices import slice_of
from mnist_hpo.analysis.charts.trials import history, learning_curves
from mnist_hpo.analysis.importance import MIN_TRIALS, Importance, assess
from mnist_hpo.analysis.scale import is_single
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord
from mnist_hpo.tracking.picture import draw_picture

_COLOURS = {
    "--paper": "#ffffff",
    "--ink": "#222222",
    "--muted": "#5b6472",
    "--grid": "#e4e7ec",
    "--complete": "#4477aa",
    "--pruned": "#9aa1ab",
    "--failed": "#dd5566",
    "--running": "#228833",
    "--paused": "#997700",
    "--best": "#aa3377",
    "--first": "#37506e",
    "--second": "#a9b8ca",
}
"""The charts' colours by name, on a white background like MLflow's pages."""
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 1rem auto; padding: 0 1rem; color: #222;
background: #fff; }}
h1 {{ font-size: 1.3rem; }} h2 {{ font-size: 1.1rem; margin: 2rem 0 0; }} p {{ margin: 0; color: #555; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{description}</p>
{sections}
</body>
</html>
"""


def write_plots(study: Study, trials: Sequence[TrialRecord], folder: Path) -> None:
    """Write `plots.html` and `plots.png` to a folder. The same trials give the same files."""
    view = StudyView(study, "", {}, tuple(sorted(trials, key=lambda trial: trial.number)), is_running=False)
    importance = assess(view)
    (folder / "plots.html").write_text(_page(view, importance), encoding="utf-8")
    draw_picture(view, importance).savefig(folder / "plots.png", dpi=110)


_Section = tuple[str, str, list[Chart]]
"""Heading, caption and charts."""


def _page(view: StudyView, importance: Importance) -> str:
    texts = {trial.number: text for trial, text in zip(view.trials, hover_texts(view), strict=True)}
    n_embedded = 0
    sections: list[str] = []
    for title, lead, charts in _sections(view, importance):
        sections.append(f"<h2>{title}</h2>\n<p>{lead}</p>")
        for chart in charts:
            sections.append(_embedded(chart, texts, f"chart-{n_embedded}", with_library=n_embedded == 0))
            n_embedded += 1
    title = f"{view.study.name}: {len(view.trials)} trials"
    return _PAGE.format(title=title, description=html.escape(view.study.description), sections="\n".join(sections))


def _sections(view: StudyView, importance: Importance) -> Iterator[_Section]:
    if not any(trial.epochs for trial in view.trials):
        yield "Optimisation history", "No trial has finished an epoch: there is no valid_loss to draw.", []
        return
    lead = "Each point is the valid_loss of a trial; the line is the best complete trial so far."
    yield "Optimisation history", lead, [history(view)]
    if importance.ranking():
        lead = (
            "The share of the variance of valid_loss that each hyperparameter alone explains (fANOVA), and how much "
            f"each distinguishes the best {importance.n_top} complete trials from all trials (PED-ANOVA)."
        )
        yield "Hyperparameter importances", lead, [importances(importance)]
    else:
        lead = f"Importances need at least {MIN_TRIALS} complete trials of different valid_loss."
        yield "Hyperparameter importances", lead, []
    ranking = importance.ranking()
    names = [*ranking, *(name for name in view.study.space if name not in ranking)]
    lead = "One line per trial, through its hyperparameters to its valid_loss."
    yield "Parallel coordinates", lead, [parallel_coordinates(view, names)[0]]
    searched = [name for name in names if not is_single(view.study.space[name])]
    lead = "Each trial's valid_loss against each hyperparameter. The star is the best trial."
    yield "Slices", lead, [slice_of(view, name) for name in searched]
    lead = "valid_loss by epoch, including pruned trials."
    yield "Learning curves", lead, [learning_curves(view)[0]]


def _embedded(chart: Chart, texts: dict[int, str], div_id: str, *, with_library: bool) -> str:
    axis = {"gridcolor": _COLOURS["--grid"], "zerolinecolor": _COLOURS["--grid"], "automargin": True}
    layout: dict[str, Any] = {
        "height": chart.height_px,
        "font": {"family": "system-ui, sans-serif", "color": _COLOURS["--ink"]},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "itemsizing": "constant"},
        "margin": {"l": 64, "r": 32, "t": 16, "b": 44},
        "hovermode": "closest",
        "hoverlabel": {"align": "left", "bgcolor": _COLOURS["--paper"]},
    }
    for name, value in chart.layout.items():
        layout[name] = {**layout.get(name, {}), **value} if name in ("legend", "margin") else value
    for name in ("xaxis", "yaxis"):
        layout[name] = {**axis, **chart.layout.get(name, {})}
    figure = {"data": [_with_texts(trace, texts) for trace in chart.data], "layout": layout}
    # A fixed id: plotly's are random, and the same study must give the same file.
    return to_html(
        _coloured(figure),
        full_html=False,
        include_plotlyjs=with_library,
        div_id=div_id,
        config={"displaylogo": False, "responsive": True},
        validate=False,
    )


def _with_texts(trace: dict[str, Any], texts: dict[int, str]) -> dict[str, Any]:
    """Return a trace whose points show their trials' hover texts."""
    if "trials" not in trace:
        return trace
    hover = ["" if number is None else texts[number] for number in trace["trials"]]
    return {**{name: value for name, value in trace.items() if name != "trials"}, "customdata": hover}


def _coloured(value: Any) -> Any:
    """Return a copy of a figure's JSON with each `var(--name)` replaced by its colour."""
    if isinstance(value, str):
        return _COLOURS[value[4:-1]] if value.startswith("var(") else value
    if isinstance(value, list):
        return [_coloured(item) for item in value]
    if isinstance(value, dict):
        return {name: _coloured(item) for name, item in value.items()}
    return value
