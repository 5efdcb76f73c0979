"""When what ran, and where the time went."""

from __future__ import annotations

from mnist_hpo.analysis import timeline as clock
from mnist_hpo.analysis.charts import time as charts
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.virtual_time import slot_spans
from mnist_hpo.analysis.words import duration
from mnist_hpo.report.blocks import Block, Missing, Part, Parts, Section
from mnist_hpo.report.sections.missing import nothing_measured, run_command


def timeline(view: StudyView) -> Section:
    """Slots in virtual time, and workers by the clock."""
    title = "Timeline"
    if not view.trials:
        return Section(title, "", [Missing("No trial has begun yet.", run_command(view))])
    lead = (
        f"A study decides in virtual time, in which an epoch costs what its arithmetic costs: {view.study.slots} slots "
        "each run one trial after the other, the same on any machine. Below, who really computed what, by the clock."
    )
    slots = [span for span in slot_spans(view.study, view.trials) if span.end_units > span.start_units]
    by_worker = clock.worker_spans(view.trials)
    blocks: list[Block] = [charts.slots(view, slots)] if slots else [nothing_measured(view)]
    if by_worker:
        pauses = len(clock.sessions(view.trials)) - 1
        if pauses:
            left_out = "A pause between two runs is" if pauses == 1 else f"{pauses} pauses between runs are"
            lead += f" {left_out} left out of the clock."
        blocks.append(charts.workers(view, by_worker))
    elif slots:
        blocks.append(Missing("Which worker computed what was not recorded: this study was run by an earlier version."))
    return Section(title, lead, blocks)


def time_spent(view: StudyView) -> Section:
    """The time of all workers by what it went into."""
    title = "Where the time went"
    spent = clock.time_spent(view.trials)
    seconds: list[tuple[str, float | None, str]] = [
        ("train", spent.train_s, "in the training call"),
        ("compile", spent.compile_s, "compiling, or loading compiled programs"),
        ("evaluate", spent.evaluate_s, "in the validation call"),
        ("host", spent.host_s, "the rest of an epoch: permutations, transfers"),
        (
            "idle",
            spent.idle_s,
            "while the study ran: waiting, starting up, saving, and epochs that are not in the record (diverged, or "
            "past a prune)",
        ),
    ]
    known = [(name, part_s, meaning) for name, part_s, meaning in seconds if part_s is not None]
    total_s = sum(part_s for _, part_s, _ in known)
    if total_s <= 0:
        return Section(title, "", [Missing("No epoch of this study has a recorded duration yet.", run_command(view))])
    parts = [
        Part(name, part_s / total_s, f"var(--{name})", duration(part_s), meaning) for name, part_s, meaning in known
    ]
    blocks: list[Block] = [Parts(parts)]
    if spent.idle_s is None:
        reason = "How long workers were idle cannot be told: which worker computed what was not recorded."
        blocks.append(Missing(reason))
    return Section(title, "The time of all workers together.", blocks)
