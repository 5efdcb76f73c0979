"""Charts over time: slots and workers, and where the time went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mnist_hpo.report.charts.figure import BEST, HOVER, PAPER, STATE_COLOURS, Chart, Json, rounded
from mnist_hpo.report.timeline import SlotSpan, TimeSpent, WorkerSpan
from mnist_hpo.report.view import StudyView

_MAX_LABELS = 150
"""More bars than this are too narrow for a number."""
_ROW_PX = 30


def slots(view: StudyView, spans: Sequence[SlotSpan]) -> Chart:
    """Which trial was in which slot, in virtual time."""
    bars = [(f"slot {span.slot}", span.number, span.start_units / 1e9, span.end_units / 1e9, "") for span in spans]
    return _timeline(view, bars, "Slots in virtual time", "virtual time, 10⁹ units")


def workers(view: StudyView, spans: Sequence[WorkerSpan]) -> Chart:
    """Which trial was on which worker, by the clock without the pauses."""
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


def time_parts(spent: TimeSpent) -> list[tuple[str, float, str]]:
    """The parts of the workers' time that are known: name, seconds, colour."""
    parts: list[tuple[str, float | None, str]] = [
        ("train", spent.train_s, "var(--train)"),
        ("compile", spent.compile_s, "var(--compile)"),
        ("evaluate", spent.evaluate_s, "var(--evaluate)"),
        ("host", spent.host_s, "var(--host)"),
        ("idle", spent.idle_s, "var(--idle)"),
    ]
    return [(name, seconds, colour) for name, seconds, colour in parts if seconds is not None]


def where_time_went(spent: TimeSpent) -> Chart:
    """The parts of the workers' time as one bar."""
    parts = time_parts(spent)
    total = sum(seconds for _, seconds, _ in parts) or 1.0
    traces: list[Json] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": f"{name} {100 * seconds / total:.1f} %",
            "x": rounded([seconds / total]),
            "y": [""],
            "marker": {"color": colour, "line": {"color": PAPER, "width": 1}},
            "hovertemplate": f"{name}: {seconds:,.1f} worker seconds, %{{x:.1%}}<extra></extra>",
        }
        for name, seconds, colour in parts
    ]
    layout = {
        "barmode": "stack",
        "xaxis": {"tickformat": ".0%", "range": [0, 1]},
        "yaxis": {"visible": False},
        "margin": {"l": 16, "r": 24},
        "legend": {"traceorder": "normal"},
    }
    return Chart("Where the workers' time went", traces, layout, 150)


_Bar = tuple[str, int, float, float, str]
"""Row, trial's number, start, end, more to tell on hover."""


def _timeline(view: StudyView, bars: Sequence[_Bar], title: str, axis: str) -> Chart:
    rows = sorted({bar[0] for bar in bars}, key=lambda row: -int(row.split()[1]))
    with_labels = len(bars) <= _MAX_LABELS
    groups: dict[str, list[_Bar]] = {}
    for bar in bars:
        trial = view.trials[bar[1]]
        groups.setdefault("best" if view.is_best(trial) else trial.state, []).append(bar)
    traces: list[Json] = []
    for group, members in sorted(groups.items(), key=lambda item: item[0] == "best"):
        colours: dict[str, str] = {"best": BEST, **STATE_COLOURS}
        trace: dict[str, Any] = {
            "type": "bar",
            "orientation": "h",
            "name": group,
            "y": [row for row, *_ in members],
            "base": rounded(start for _, _, start, _, _ in members),
            "x": rounded(end - start for _, _, start, end, _ in members),
            "trials": [number for _, number, *_ in members],
            "more": [more for *_, more in members],
            "hovertemplate": HOVER,
            "marker": {"color": colours[group], "line": {"color": PAPER, "width": 1 if with_labels else 0.4}},
        }
        if with_labels:
            trace |= {
                "text": [f"#{number}" for _, number, *_ in members],
                "textposition": "inside",
                "insidetextanchor": "middle",
                "textangle": 0,
                "insidetextfont": {"color": "var(--on-colour)"},
            }
        traces.append(trace)
    layout = {
        "barmode": "overlay",
        "uniformtext": {"minsize": 10, "mode": "hide"},
        "bargap": 0.18,
        "xaxis": {"title": {"text": axis}, "tickformat": "~g", "zeroline": False},
        "yaxis": {"automargin": True, "type": "category", "categoryorder": "array", "categoryarray": rows},
    }
    return Chart(title, traces, layout, 120 + _ROW_PX * len(rows))
