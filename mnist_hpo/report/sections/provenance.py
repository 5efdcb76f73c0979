"""The provenance of the results: the history's hash, the versions, the study file."""

from __future__ import annotations

from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.report.blocks import Section, Source, Table
from mnist_hpo.storage.records import history_sha256


def provenance(view: StudyView) -> Section:
    """Show the hash, the versions and the study file."""
    lead = "Results are a function of the study file, the dataset's digest, the versions and the CPU's features."
    init_from = view.study.init_from
    if init_from is not None:
        lead += f" Each trial starts from the weights of {init_from.source}."
    rows = [["history_sha256", history_sha256(view.trials)], *([name, value] for name, value in view.context.items())]
    return Section("Provenance", lead, [Table(["what", "value"], rows), Source("The study file", view.study_file)])
