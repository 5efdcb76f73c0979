"""Sections on the timeline and on where the time went."""

from __future__ import annotations

from mnist_hpo.analysis import timeline as clock
from mnist_hpo.analysis.charts import time as charts
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.virtual_time import slot_spans
from mnist_hpo.analysis.words import duration
from mnist_hpo.report.blocks import Block, Missing, Part, Parts, Section
from mnist_hpo.report.sections.missing import nothing_measured, run_command


def timeline(view: StudyView) -> Section:
    """Show the slots in virtual time, and the workers in wall-clock time."""
    title = "Timeline"
    if not view.trials:
        return Section(title, "", [Missing("No trial has started yet.", run_command(view))])
    lead = (
        f"A study is scheduled in virtual time, in which an epoch takes as long as its number of operations: each of "
        f"{view.study.slots} slots runs one trial after the other, the same on any machine. The second chart shows "
        "which worker computed which trial, in wall-clock time."
    )
    slots = [span for span in slot_spans(view.study, view.trials) if span.end_units > span.start_units]
    by_worker = clock.worker_spans(view.trials)
    blocks: list[Block] = [charts.slots(view, slots)] if slots else [nothing_measured(view)]
    if by_worker:
        pauses = len(clock.sessions(view.trials)) - 1
        if pauses:
            left_out = "A pause between two runs is" if pauses == 1 else f"{pauses} pauses between runs are"
            lead += f" {left_out} left out."
        blocks.append(charts.workers(view, by_worker))
    elif slots:
        blocks.append(Missing("The workers of the epochs were not recorded: this study was run by an earlier version."))
    return Section(title, lead, blocks)


def time_spent(view: StudyView) -> Section:
    """Show the time of all workers by activity."""
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
            "while the study ran: waiting, starting, saving, and epochs that are not recorded (diverged, or computed "
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
        reason = "The workers' idle time is unknown: the workers of the epochs were not recorded."
        blocks.append(Missing(reason))
    return Section(title, "The time of all workers together.", blocks)
