"""The reasons why a section has nothing to show, with the commands that would change it."""

from __future__ import annotations

from mnist_hpo.analysis.importance import MIN_TRIALS
from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.trial_figures import objective_value, with_parameters
from mnist_hpo.report.blocks import Missing


def run_command(view: StudyView) -> str:
    """Return the command that continues the study."""
    return f"mnist-hpo run studies/{view.study.name}.yaml"


def is_measured(view: StudyView) -> bool:
    """Return whether any trial has finished an epoch."""
    return any(trial.epochs for trial in view.trials)


def nothing_measured(view: StudyView) -> Missing:
    """Return the reason for a study that is not `is_measured`."""
    return Missing("No trial has finished an epoch yet: there is no valid_loss to draw.", run_command(view))


def too_few(view: StudyView, *names: str) -> Missing | None:
    """Return the reason if too few complete trials have these hyperparameters, else None."""
    n_complete = len(with_parameters(view.complete, *names))
    if n_complete >= MIN_TRIALS:
        return None
    conditional = [name for name in names if name in view.conditional]
    having = f" with {' and '.join(conditional)}" if conditional else ""
    n_found = f"{n_complete} trial{'' if n_complete == 1 else 's'}" if n_complete else "no trial"
    found = f"{n_found}{having} {'is' if n_complete < 2 else 'are'} complete"
    return Missing(f"This needs at least {MIN_TRIALS} complete trials{having}, and {found}.")


def no_effects(view: StudyView) -> Missing | None:
    """Return the reason why the hyperparameters' effects cannot be estimated, or None if they can."""
    if (few := too_few(view)) is not None:
        return few
    if objective_value(view.complete[0]) == objective_value(view.complete[-1]):
        return Missing("All complete trials have the same valid_loss: no hyperparameter made a difference.")
    return None
