"""The report as one self-contained HTML file, with all text from the study escaped."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from plotly.offline import get_plotlyjs

from mnist_hpo.analysis.champion_files import ChampionTest
from mnist_hpo.analysis.charts.figure import Chart
from mnist_hpo.analysis.charts.hover import hover_texts
from mnist_hpo.analysis.importance import assess
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.report.blocks import Block, Missing, Part, Parts, Points, Section, Source, Table, Tiles
from mnist_hpo.report.sections import make_sections
from mnist_hpo.storage.records import machine_dependence


def report_html(
    view: StudyView, tests: Sequence[ChampionTest], on_step: Callable[[str], None] = lambda _step: None
) -> str:
    """Return a study's report as HTML.

    Args:
        view: the study.
        tests: the test figures of its re-trained trials.
        on_step: a callback with the name of each step before it starts.

    """
    importance = assess(view, on_step)
    on_step("charts")
    return _page(view, make_sections(view, importance, tests))


def _page(view: StudyView, sections: Sequence[Section]) -> str:
    charts = [block for section in sections for block in section.blocks if isinstance(block, Chart)]
    theme, plotly, script = _asset("theme.js"), get_plotlyjs(), _asset("report.js")
    warning = machine_dependence(view.trials)
    dependence = f'<p class="missing">{escape(warning)}</p>' if warning else ""
    name, description = escape(view.study.name), escape(view.study.description)
    contents = "".join(f'<a href="#{_anchor(section)}">{escape(section.title)}</a>' for section in sections)
    # `_block` visits the charts in the same order and takes the next number for each.
    ids = iter(range(len(charts)))
    body = "".join(_section(section, ids) for section in sections)
    figures = {
        "trials": hover_texts(view),
        "charts": [{"data": chart.data, "layout": chart.layout} for chart in charts],
    }
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="mnist-hpo">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_policy(theme, plotly, script)}">
<title>{name}: report of a hyperparameter search</title>
<style>{_asset("report.css")}</style>
<script>{theme}</script>
</head>
<body>
<header>
<div><h1>{name}</h1><p>{description}</p>{dependence}</div>
<button id="theme" type="button" aria-label="Change between dark and light"></button>
</header>
<nav aria-label="Sections">{contents}</nav>
<noscript><p class="missing">The charts need JavaScript; the tables do not.</p></noscript>
<main>{body}</main>
<footer>Made by mnist-hpo report. This file is self-contained: it loads nothing from the network.</footer>
<script type="application/json" id="figures">{_json(figures)}</script>
<script>{plotly}</script>
<script>{script}</script>
</body>
</html>
"""


def _policy(*scripts: str) -> str:
    """Return a Content-Security-Policy that allows these scripts only, and no network access."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _asset(name: str) -> str:
    return files("mnist_hpo.report").joinpath("assets", name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """Return JSON with every `<` escaped, so that no text in it can close the script element."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


def _anchor(section: Section) -> str:
    return re.sub(r"[^a-z]+", "-", section.title.lower()).strip("-")


def _section(section: Section, ids: Any) -> str:
    anchor = _anchor(section)
    lead = f"<p>{escape(section.lead)}</p>" if section.lead else ""
    blocks = "".join(_block(block, ids) for block in section.blocks)
    return f'<section id="{anchor}"><h2>{escape(section.title)}</h2>{lead}<div class="blocks">{blocks}</div></section>'


def _block(block: Block, ids: Any) -> str:
    match block:
        case Chart():
            width = f"min-width:{block.min_width_px}px;" if block.min_width_px else ""
            style = f"height:{block.height_px}px;{width}"
            caption = f"<figcaption>{escape(block.caption)}</figcaption>" if block.caption else ""
            return (
                f'<figure>{caption}<div class="chart" data-chart="{next(ids)}" role="img" '
                f'aria-label="{escape(block.name)}" style="{style}"></div></figure>'
            )
        case Table():
            return _table(block)
        case Parts():
            return _parts(block.parts)
        case Tiles():
            tiles = (
                f"<div><dt>{escape(label)}</dt><dd>{escape(figure)}</dd><dd>{escape(more)}</dd></div>"
                for label, figure, more in block.figures
            )
            return f'<dl class="tiles">{"".join(tiles)}</dl>'
        case Points():
            return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in block.sentences)}</ul>"
        case Missing():
            command = f" <code>{escape(block.command)}</code>" if block.command else ""
            return f'<p class="missing">{escape(block.reason)}{command}</p>'
        case Source():
            return f"<details><summary>{escape(block.title)}</summary><pre>{escape(block.text)}</pre></details>"


def _table(table: Table) -> str:
    header = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in table.header)
    rows: list[str] = []
    for index, row in enumerate(table.rows):
        first, *others = row
        cells = f'<th scope="row">{escape(first)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in others)
        marked = ' class="best"' if index == table.highlighted else ""
        rows.append(f"<tr{marked}>{cells}</tr>")
    caption = f"<caption>{escape(table.caption)}</caption>" if table.caption else ""
    head, body = f"<thead><tr>{header}</tr></thead>", f"<tbody>{''.join(rows)}</tbody>"
    return f'<div class="wide"><table>{caption}{head}{body}</table></div>'


def _parts(parts: Sequence[Part]) -> str:
    segments = "".join(
        f'<i style="flex-grow:{part.share:.5f};background:{part.colour}" title="{escape(part.name)}"></i>'
        for part in parts
    )
    rows = "".join(
        f'<tr><th scope="row"><i style="background:{part.colour}"></i>{escape(part.name)}</th>'
        f"<td>{100 * part.share:.1f} %</td><td>{escape(part.figure)}</td><td>{escape(part.meaning)}</td></tr>"
        for part in parts
    )
    table = f'<div class="wide"><table class="parts"><tbody>{rows}</tbody></table></div>'
    return f'<div class="whole" aria-hidden="true">{segments}</div>{table}'
