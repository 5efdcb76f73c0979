"""A comparison as one self-contained HTML file with tables and the anytime curves."""

from __future__ import annotations

import html
import json

from plotly.offline import get_plotlyjs

from mnist_hpo.analysis.charts.anytime import anytime_axes, anytime_figure
from mnist_hpo.analysis.comparison import Comparison
from mnist_hpo.report.comparison_rows import comparison_rows, paired_test_sentence


def comparison_page(comparison: Comparison) -> str:
    """Return the HTML file's text."""
    names = " and ".join(_text(entry.label) for entry in comparison.compared)
    figure = anytime_figure(comparison)
    return _PAGE.format(
        title=f"{names}, compared",
        verdict=_verdict(comparison),
        tables="".join(_table(comparison)),
        tests=_tests(comparison),
        plotlyjs=get_plotlyjs(),
        figure=figure.to_json(),
        axes=json.dumps([title for _, title in anytime_axes(comparison)]),
    )


def _verdict(comparison: Comparison) -> str:
    lines = [f"<li>{_text(note)}</li>" for note in comparison.notes]
    notes = f'<ul class="notes">{"".join(lines)}</ul>' if lines else ""
    if comparison.comparable:
        return f"<p>Comparable: same dataset, split and objective.</p>{notes}"
    reasons = "".join(f"<li>{_text(reason)}</li>" for reason in comparison.why)
    return f'<div class="warning"><strong>Not comparable.</strong><ul>{reasons}</ul></div>{notes}'


def _table(comparison: Comparison) -> list[str]:
    heads = "".join(f"<th scope=col>{_text(entry.label)}</th>" for entry in comparison.compared)
    parts = [f'<div class="wide"><table><thead><tr><td></td>{heads}</tr></thead>']
    for heading, rows in comparison_rows(comparison):
        span = 1 + len(comparison.compared)
        parts.append(f"<tbody><tr><th class=section colspan={span} scope=rowgroup>{_text(heading)}</th></tr>")
        for name, cells in rows:
            differs = " class=differs" if len(set(cells)) > 1 else ""
            shown = "".join(f"<td>{_text(cell)}</td>" for cell in cells)
            parts.append(f"<tr{differs}><th scope=row>{_text(name)}</th>{shown}</tr>")
        parts.append("</tbody>")
    return [*parts, "</table></div>"]


def _tests(comparison: Comparison) -> str:
    if not comparison.paired_tests:
        return "<p>No two have predictions on the same test examples; <code>mnist-hpo retrain</code> saves them.</p>"
    return "".join(f"<p>{_text(paired_test_sentence(test))}.</p>" for test in comparison.paired_tests)


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
<p class="dim">Each epoch of any trial counts when it ends. Epochs are in the order of the study's virtual time, which
does not depend on the machine or on the number of workers; seconds are summed over the workers.</p>
<h2>Champions on the same test examples</h2>
{tests}
<p class="dim">McNemar's exact test (Psychometrika 12, 1947), two-sided, for each seed's pair of models. The p-values
are combined over the seeds by Rüger's rule (Metrika 25, 1978), which is valid under any dependence between
them.</p>
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
