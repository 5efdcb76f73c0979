"""Where the results come from: the history's hash, the versions, the study file."""

from __future__ import annotations

from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.report.blocks import Section, Source, Table
from mnist_hpo.storage.records import history_sha256


def provenance(view: StudyView) -> Section:
    """The last section."""
    lead = "Results are a function of the study file, the dataset's digest, the versions and the kind of CPU."
    rows = [["history_sha256", history_sha256(view.trials)], *([name, value] for name, value in view.context.items())]
    return Section(
        "Where it comes from", lead, [Table(["what", "value"], rows), Source("The study file", view.study_file)]
    )
