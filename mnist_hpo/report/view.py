"""What a report looks at: a study's record, read once, with the questions that several sections ask of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from mnist_hpo.learners.hyperparameters import complete
from mnist_hpo.spec.parameter import ParameterSet
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.records import TrialRecord, TrialState, best_of, state_name


@dataclass(frozen=True)
class StudyView:
    """A study as its storage holds it."""

    study: Study
    study_file: str
    """The text of the study file as it was last run."""
    context: Mapping[str, str]
    """What else the results depend on: dataset digest, versions."""
    trials: tuple[TrialRecord, ...]
    """By number, without gaps."""
    is_running: bool = True
    """Whether a coordinator runs the study now."""

    @cached_property
    def complete(self) -> list[TrialRecord]:
        """The complete trials, the best one first."""
        found = [trial for trial in self.trials if trial.state == "complete" and trial.value is not None]
        return sorted(found, key=lambda trial: (trial.value, trial.number))

    @cached_property
    def best(self) -> TrialRecord | None:
        """The best trial, as everywhere in the product."""
        return best_of(self.trials)

    def is_best(self, trial: TrialRecord) -> bool:
        """Whether this is the best trial."""
        return self.best is not None and trial.number == self.best.number

    def state_name(self, state: TrialState) -> str:
        """A state in words: the running trials of a study that no coordinator runs are interrupted."""
        return state_name(state, is_running=self.is_running)

    def all_parameters(self, trial: TrialRecord) -> ParameterSet:
        """Searched, fixed and by default: all that a trial's training was told."""
        return complete(self.study.model, {**self.study.fixed, **trial.parameters})

    def hover_texts(self) -> list[str]:
        """What the charts tell of each trial, by number, in plotly's own HTML."""
        return [self._hover_text(trial) for trial in self.trials]

    def _hover_text(self, trial: TrialRecord) -> str:
        lines = [
            f"<b>trial #{trial.number}</b>: {self.state_name(trial.state)}"
            + (f" ({_escaped(trial.reason)})" if trial.reason else "")
        ]
        if self.is_best(trial):
            lines[0] += ", the best"
        loss = lowest_loss(trial)
        if loss is not None:
            lines.append(f"valid_loss {loss:.5f} at epoch {trial.best_epoch} of {len(trial.epochs)}")
        lines += [f"{name}: {_escaped(brief(value))}" for name, value in trial.parameters.items()]
        return "<br>".join(lines)


def lowest_loss(trial: TrialRecord) -> float | None:
    """The lowest valid_loss that a trial reached, whatever became of it; None before its first epoch's end."""
    return None if trial.best_epoch is None else trial.valid_loss[trial.best_epoch]


def best_accuracy(trial: TrialRecord) -> float | None:
    """A trial's valid_accuracy at the epoch of its lowest valid_loss; None where there is none."""
    return None if trial.best_epoch is None else trial.epochs[trial.best_epoch].valid_accuracy


def percent(share: float | None) -> str:
    """An accuracy, for people."""
    return "–" if share is None else f"{100 * share:.2f} %"


def brief(value: ParameterValue | None) -> str:
    """A hyperparameter's value in few characters."""
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def signed(value: float) -> str:
    """A correlation, with a sign that is as wide as a plus."""
    return f"{value:+.2f}".replace("-", "−")


def _escaped(text: str) -> str:
    """For plotly, which reads a little HTML in its texts."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
