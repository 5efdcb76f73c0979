"""A comparison as one HTML file that needs no network: tables, and the anytime curves."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from mnist_hpo.report.charts.figure import whole_number_ticks
from mnist_hpo.report.compare import has_studies, paired_test_sentence, sections
from mnist_hpo.spec.outputs import AnytimePoint, ComparedOutput, CompareOutput

_COLOURS = ("#3b8fd6", "#e0803a", "#2fa57f", "#b56fc4", "#b8962a", "#8b95a3")
"""Apart for the colour-blind in this order (after Okabe and Ito), and of middling lightness, for dark and light."""
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_AXES = (("n_trials", "trials begun"), ("n_epochs", "epochs"), ("worker_s", "worker seconds"))


def comparison_page(output: CompareOutput) -> str:
    """The whole file."""
    names = " and ".join(_text(entry.label) for entry in output.compared)
    figure = anytime_figure(output.compared)
    return _PAGE.format(
        title=f"{names}, compared",
        verdict=_verdict(output),
        tables="".join(_table(output)),
        tests=_tests(output),
        plotlyjs=get_plotlyjs(),
        figure=figure.to_json(),
        axes=json.dumps([title for _, title in _axes(output.compared)]),
    )


def anytime_figure(compared: Sequence[ComparedOutput]) -> go.Figure:
    """The best valid_loss so far against trials (of studies), epochs and worker seconds, side by side."""
    axes = _axes(compared)
    figure = make_subplots(1, len(axes), shared_yaxes=True, horizontal_spacing=0.03)
    for index, entry in enumerate(compared):
        line = {"color": _COLOURS[index % len(_COLOURS)], "dash": _DASHES[index % len(_DASHES)], "width": 2.5}
        points = _to_the_end(entry)
        for column, (field, title) in enumerate(axes, start=1):
            curve = go.Scatter(
                x=[getattr(point, field) for point in points],
                y=[point.valid_loss for point in points],
                name=entry.label,
                legendgroup=entry.label,
                showlegend=column == 1,
                mode="lines+markers",
                marker={"size": 5},
                line={**line, "shape": "hv"},
                hovertemplate=f"%{{y:.5f}} after %{{x:,.4~g}} {title}<extra>{entry.label}</extra>",
            )
            figure.add_trace(curve, row=1, col=column)
    for column, (field, title) in enumerate(axes, start=1):
        figure.update_xaxes(title_text=title, rangemode="tozero", row=1, col=column)
        if field in ("n_trials", "n_epochs"):
            longest = max((getattr(point, field) for entry in compared for point in _to_the_end(entry)), default=0)
            # Half the ticks: three panels side by side are narrow.
            figure.update_xaxes(whole_number_ticks(0, 2 * longest), row=1, col=column)
    figure.update_yaxes(type="log", tickformat=".3~f", nticks=8)
    figure.update_yaxes(title_text="best valid loss so far", row=1, col=1)
    figure.update_layout(
        template="none",
        height=420,
        margin={"l": 70, "r": 15, "t": 45, "b": 55},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hoverlabel={"namelength": -1},
    )
    return figure


def _axes(compared: Sequence[ComparedOutput]) -> tuple[tuple[str, str], ...]:
    """The fields of a point with their names: what there is to count of studies, or of single trials."""
    return _AXES if has_studies(compared) else _AXES[1:]


def _to_the_end(entry: ComparedOutput) -> list[AnytimePoint]:
    """The improvements, and the last of them again at the end of what was spent."""
    if not entry.anytime:
        return []
    n_trials = sum(entry.n_trials.model_dump().values())
    spent = {"n_trials": n_trials, "n_epochs": entry.n_epochs, "worker_s": entry.worker_s}
    return [*entry.anytime, entry.anytime[-1].model_copy(update=spent)]


def _verdict(output: CompareOutput) -> str:
    lines = [f"<li>{_text(note)}</li>" for note in output.notes]
    notes = f'<ul class="notes">{"".join(lines)}</ul>' if lines else ""
    if output.comparable:
        return f"<p>Comparable: same dataset, split and objective.</p>{notes}"
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in output.why)
    return f'<div class="warning"><strong>Not comparable.</strong><ul>{reasons}</ul></div>{notes}'


def _table(output: CompareOutput) -> list[str]:
    heads = "".join(f"<th scope=col>{_text(entry.label)}</th>" for entry in output.compared)
    parts = [f'<div class="wide"><table><thead><tr><td></td>{heads}</tr></thead>']
    for heading, rows in sections(output):
        span = 1 + len(output.compared)
        parts.append(f"<tbody><tr><th class=section colspan={span} scope=rowgroup>{_text(heading)}</th></tr>")
        for name, cells in rows:
            differs = " class=differs" if len(set(cells)) > 1 else ""
            shown = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
            parts.append(f"<tr{differs}><th scope=row>{_text(name)}</th>{shown}</tr>")
        parts.append("</tbody>")
    return [*parts, "</table></div>"]


def _tests(output: CompareOutput) -> str:
    if not output.paired_tests:
        return (
            "<p>No two of them have guesses on the same test examples; <code>mnist-hpo retrain</code> keeps them.</p>"
        )
    return "".join(f"<p>{_text(paired_test_sentence(test))}.</p>" for test in output.paired_tests)


def _text(value: str) -> str:
    return html.escape(value)


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="mnist-hpo">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; --back: #fff; --text: #1d2329; --dim: #5c6670; --rule: #dde1e6; --warn: #fff2dc; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --back: #15191e; --text: #e4e8ec; --dim: #98a2ad; --rule: #323a43; --warn: #41320f; }}
}}
body {{ margin: 0 auto; padding: 1.2rem; max-width: 1100px; background: var(--back); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }}
h1 {{ font-size: 1.4rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
.wide {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .2rem .9rem .2rem 0; text-align: left; white-space: nowrap; }}
thead th {{ border-bottom: 2px solid var(--rule); }}
tbody th {{ font-weight: normal; color: var(--dim); }}
tbody th.section {{ padding-top: 1rem; font-weight: 600; color: var(--text); border-bottom: 1px solid var(--rule); }}
.differs td {{ font-weight: 600; }}
.warning {{ padding: .6rem 1rem; border-radius: 6px; background: var(--warn); }}
@media (max-width: 700px) {{ td {{ white-space: normal; }} }}
.notes, .dim {{ color: var(--dim); font-size: .9rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
{verdict}
<h2>Best valid loss so far</h2>
<div id="anytime"></div>
<p class="dim">An epoch of any trial counts as soon as it has ended. Epochs are in the order of the study's virtual
time, which does not depend on the machine or on the number of workers; seconds are the workers', added up.</p>
<h2>Champions on the same test examples</h2>
{tests}
<p class="dim">McNemar's exact test (Psychometrika 12, 1947), two-sided, a pair of models for each seed; one p-value
over the seeds by Rüger's rule (Metrika 25, 1978), which holds however the seeds depend on each other.</p>
<h2>Figures</h2>
{tables}
<script>{plotlyjs}</script>
<script>
const figure = {figure}, titles = {axes};
const dark = matchMedia("(prefers-color-scheme: dark)"), phone = matchMedia("(max-width: 700px)");
function layout() {{
  const style = getComputedStyle(document.documentElement), n = titles.length;
  const text = style.getPropertyValue("--text").trim(), rule = style.getPropertyValue("--rule").trim();
  const result = {{...figure.layout, font: {{color: text, family: "system-ui, sans-serif", size: 13}}}};
  result.height = phone.matches ? 330 * n : figure.layout.height;
  titles.forEach((title, i) => {{
    const key = i ? String(i + 1) : "";
    const x = {{...figure.layout["xaxis" + key], gridcolor: rule, zerolinecolor: rule, linecolor: rule}};
    const y = {{...figure.layout["yaxis" + key], gridcolor: rule, zerolinecolor: rule, linecolor: rule}};
    if (phone.matches) {{  // One below the other.
      x.domain = [0, 1];
      y.domain = [1 - (i + 0.72) / n, 1 - i / n];
      x.title = {{...x.title, standoff: 6}};
      y.showticklabels = true;
      y.title = figure.layout.yaxis.title;
    }}
    result["xaxis" + key] = x;
    result["yaxis" + key] = y;
  }});
  return result;
}}
function draw() {{
  Plotly.react("anytime", figure.data, layout(), {{responsive: true, displayModeBar: false}});
}}
draw();
dark.addEventListener("change", draw);
phone.addEventListener("change", draw);
</script>
</body>
</html>
"""
