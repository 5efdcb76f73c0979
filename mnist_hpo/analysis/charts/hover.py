"""The texts that charts show for a trial on hover."""

from __future__ import annotations

from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import kept_loss
from mnist_hpo.analysis.words import brief
from mnist_hpo.storage.records import TrialRecord


def hover_texts(view: StudyView) -> list[str]:
    """Return the text of each trial, in the order of `view.trials`, in plotly's subset of HTML."""
    return [_hover_text(view, trial) for trial in view.trials]


def _hover_text(view: StudyView, trial: TrialRecord) -> str:
    lines = [
        f"<b>trial #{trial.number}</b>: {view.state_name(trial.state)}"
        + (f" ({_escaped(trial.reason)})" if trial.reason else "")
    ]
    if view.is_best(trial):
        lines[0] += ", the best"
    loss = kept_loss(trial)
    if loss is not None:
        lines.append(f"valid_loss {loss:.5f} at epoch {trial.kept_epoch} of {len(trial.epochs)}")
    lines += [f"{name}: {_escaped(brief(value))}" for name, value in trial.parameters.items()]
    return "<br>".join(lines)


def _escaped(text: str) -> str:
    """Escape text for plotly, which interprets some HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
