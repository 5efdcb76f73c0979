"""Charts over time: slots and workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mnist_hpo.analysis.charts.figure import BEST, HOVER, PAPER, STATE_COLOURS, Chart, Json, rounded
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.timeline import WorkerSpan
from mnist_hpo.analysis.virtual_time import SlotSpan
from mnist_hpo.storage.records import TrialState

_ROW_PX = 30
_MAX_LABELS = 150
"""With more bars, they are too narrow for a number."""
_MAX_OUTLINED_IN_ROW = 300
"""With more bars in a row, they are so narrow that an outline would hide them."""


def slots(view: StudyView, spans: Sequence[SlotSpan]) -> Chart:
    """Draw the trials in each slot, in virtual time."""
    bars = [(f"slot {span.slot}", span.number, span.start_units / 1e9, span.end_units / 1e9, "") for span in spans]
    return _timeline(view, bars, "Slots in virtual time", "virtual time, 10⁹ units")


def workers(view: StudyView, spans: Sequence[WorkerSpan]) -> Chart:
    """Draw the trials on each worker, by running time."""
    longest_s = max(span.end_s for span in spans)
    unit, unit_s = next((name, s) for name, s in (("h", 3600), ("min", 60), ("s", 1)) if longest_s > 2 * s or s == 1)
    bars = [
        (
            f"worker {span.worker}",
            span.number,
            span.start_s / unit_s,
            span.end_s / unit_s,
            f"<i>epochs {span.first_epoch} to {span.last_epoch}, {span.end_s - span.start_s:.1f} s</i>",
        )
        for span in spans
    ]
    return _timeline(view, bars, "Workers by the clock", f"running time, {unit}")


_Bar = tuple[str, int, float, float, str]
"""Row, trial number, start, end, additional hover text."""


def _timeline(view: StudyView, bars: Sequence[_Bar], title: str, axis: str) -> Chart:
    rows = sorted({bar[0] for bar in bars}, key=lambda row: -int(row.split()[1]))
    groups: dict[Literal["best"] | TrialState, list[_Bar]] = {}
    for bar in bars:
        trial = view.trials[bar[1]]
        groups.setdefault("best" if view.is_best(trial) else trial.state, []).append(bar)
    colours: dict[Literal["best"] | TrialState, str] = {"best": BEST, **STATE_COLOURS}
    with_labels = len(bars) <= _MAX_LABELS
    outline_px = 1.0 if with_labels else 0.4 if len(bars) <= _MAX_OUTLINED_IN_ROW * len(rows) else 0.0
    traces: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": "best" if group == "best" else view.state_name(group),
            "y": [row for row, *_ in members],
            "base": rounded(start for _, _, start, _, _ in members),
            "x": rounded(end - start for _, _, start, end, _ in members),
            "trials": [number for _, number, *_ in members],
            "more": [more for *_, more in members],
            "hovertemplate": HOVER,
            "marker": {"color": colours[group], "line": {"color": PAPER, "width": outline_px}},
            "text": [f"#{number}" for _, number, *_ in members] if with_labels else [],
            "textposition": "inside",
            "insidetextanchor": "middle",
            "textangle": 0,
            "insidetextfont": {"color": "var(--on-colour)"},
        }
        for group, members in sorted(groups.items(), key=lambda item: item[0] == "best")
    ]
    layout = {
        "barmode": "overlay",
        "uniformtext": {"minsize": 10, "mode": "hide"},
        "bargap": 0.18,
        "xaxis": {"title": {"text": axis}, "tickformat": "~g", "zeroline": False},
        "yaxis": {"automargin": True, "type": "category", "categoryorder": "array", "categoryarray": rows},
    }
    return Chart(title, traces, layout, 120 + _ROW_PX * len(rows))
