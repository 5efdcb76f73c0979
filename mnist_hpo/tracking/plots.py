"""A study's plots for its parent run: `plots.html`, to be explored without a network, and `plots.png`, to be shown.

Importing this loads plotly, matplotlib and scikit-learn, a second or two: only for a study that is finished.
"""

from __future__ import annotations

import html
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import optuna.visualization
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.importance import get_param_importances
from optuna.trial import TrialState

from mnist_hpo.search.importance import n_top, ped_anova
from mnist_hpo.search.space import distributions
from mnist_hpo.spec.study import Study
from mnist_hpo.storage.records import TrialRecord, best_of

_COLOURS = {"complete": "tab:blue", "pruned": "tab:orange", "failed": "tab:red"}
_INTRODUCTION = {
    "Optimisation history": "Each dot is a trial that went to its end; the line is the best so far.",
    "Parameter importances": "How much each tells the best {n_top} complete trials from all (PED-ANOVA, as in "
    "`mnist-hpo report`, which has fANOVA beside it).",
    "Parallel coordinates": "A line a trial: drag along an axis to pick some.",
    "Slices": "Each hyperparameter against valid_loss.",
    "Learning curves": "valid_loss by epoch of every trial, the pruned ones too.",
}
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 1rem auto; padding: 0 1rem; color: #222;
background: #fff; }}
h1 {{ font-size: 1.3rem; }} h2 {{ font-size: 1.1rem; margin: 2rem 0 0; }} p {{ margin: 0; color: #555; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{description}</p>
{sections}
</body>
</html>
"""


def write_plots(study: Study, trials: Sequence[TrialRecord], folder: Path) -> None:
    """Write `plots.html` and `plots.png` into a folder; the same trials give the same files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seen = _as_optuna(study, trials)
        (folder / "plots.html").write_text(_page(study, seen))
        _picture(study, trials, _importances(seen)).savefig(folder / "plots.png", dpi=110)


def _as_optuna(study: Study, trials: Sequence[TrialRecord]) -> optuna.Study:
    """The study as Optuna's own plots want it: in memory, so that nobody waits for the storage."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    seen = optuna.create_study(study_name=study.name, sampler=optuna.samplers.RandomSampler(seed=0))
    space = distributions(study.space)
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.state in states:
            seen.add_trial(
                optuna.trial.create_trial(
                    state=states[trial.state],
                    value=trial.value,
                    params=dict(trial.parameters),
                    distributions=space,
                    intermediate_values=trial.valid_loss,
                )
            )
    return seen


def _n_complete(seen: optuna.Study) -> int:
    return len(seen.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)))


def _importances(seen: optuna.Study) -> dict[str, float]:
    """By hyperparameter, the largest first; empty where too few trials are complete to tell."""
    n_complete = _n_complete(seen)
    return get_param_importances(seen, evaluator=ped_anova(n_complete)) if n_complete > 1 else {}


def _page(study: Study, seen: optuna.Study) -> str:
    draw = optuna.visualization
    curves = draw.plot_intermediate_values(seen)
    n_epochs = max((len(trial.intermediate_values) for trial in seen.get_trials(deepcopy=False)), default=1)
    curves.update_xaxes(title="epoch", tickvals=_whole_numbers(1, n_epochs))
    figures: dict[str, Any] = {"Learning curves": curves}
    if _n_complete(seen) > 1:
        history = draw.plot_optimization_history(seen, target_name="valid_loss")
        history.update_xaxes(tickvals=_whole_numbers(0, len(seen.trials) - 1))
        figures = {
            "Optimisation history": history,
            "Parameter importances": draw.plot_param_importances(
                seen, evaluator=ped_anova(_n_complete(seen)), target_name="valid_loss"
            ),
            "Parallel coordinates": draw.plot_parallel_coordinate(seen, target_name="valid_loss"),
            "Slices": draw.plot_slice(seen, target_name="valid_loss"),
            **figures,
        }
    introduced = {name: _INTRODUCTION[name].format(n_top=n_top(_n_complete(seen))) for name in figures}
    sections = [
        f"<h2>{name}</h2>\n<p>{introduced[name]}</p>\n{_embedded(figure, name, with_library=index == 0)}"
        for index, (name, figure) in enumerate(figures.items())
    ]
    title = f"{study.name}: {len(seen.trials)} trials"
    return _PAGE.format(title=title, description=html.escape(study.description), sections="\n".join(sections))


def _whole_numbers(low: int, high: int) -> list[int]:
    """Where an axis has its ticks: a few of the whole numbers, never what lies between two."""
    ticks = MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True).tick_values(low, max(high, low + 1))
    return [round(tick) for tick in ticks if low <= tick <= high]


def _embedded(figure: Any, name: str, *, with_library: bool) -> str:
    figure.update_layout(title=None, margin={"t": 30}, template="plotly_white")
    # An id of our own: plotly draws random ones, and the same study is to give the same file.
    return figure.to_html(
        full_html=False,
        include_plotlyjs=with_library,
        div_id=name.lower().replace(" ", "-"),
        config={"displaylogo": False, "responsive": True},
    )


def _picture(study: Study, trials: Sequence[TrialRecord], importances: dict[str, float]) -> Figure:
    figure = Figure(figsize=(12, 8.4), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_history(axes[0, 0], trials)
    _draw_importances(axes[0, 1], importances)
    _draw_curves(axes[1, 0], trials)
    _draw_parallel(axes[1, 1], study, trials)
    best = best_of(trials)
    ending = f", best valid_loss {best.value:.5f} (#{best.number:03d})" if best else ""
    figure.suptitle(f"{study.name}: {len(trials)} trials{ending}")
    return figure


def _draw_history(axes: Axes, trials: Sequence[TrialRecord]) -> None:
    axes.set_title("optimisation history")
    for state in ("complete", "pruned"):
        shown = [trial for trial in trials if trial.state == state and trial.valid_loss]
        lowest = [min(trial.valid_loss.values()) for trial in shown]
        axes.scatter([trial.number for trial in shown], lowest, s=16, color=_COLOURS[state], label=f"{state}, lowest")
    complete = [trial for trial in trials if trial.value is not None]
    if complete:
        best = np.minimum.accumulate([trial.value or math.inf for trial in complete])
        axes.step([trial.number for trial in complete], best, where="post", color="black", lw=1, label="best so far")
    axes.set(xlabel="trial", ylabel="valid_loss", yscale=_scale(trials))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)


def _scale(trials: Sequence[TrialRecord]) -> str:
    """Logarithmic, which matplotlib refuses for no losses at all."""
    return "log" if any(trial.valid_loss for trial in trials) else "linear"


def _draw_importances(axes: Axes, importances: dict[str, float]) -> None:
    axes.set_title("parameter importances (PED-ANOVA)")
    names = list(importances)[::-1]
    axes.barh(names, [importances[name] for name in names], color="tab:blue")
    axes.set(xlabel="share", xlim=(0, 1))


def _draw_curves(axes: Axes, trials: Sequence[TrialRecord]) -> None:
    axes.set_title("learning curves")
    best = best_of(trials)
    for trial in trials:
        if trial.valid_loss:
            epochs, losses = list(trial.valid_loss), list(trial.valid_loss.values())
            colour = _COLOURS.get(trial.state, "grey")
            axes.plot(epochs, losses, color=colour, lw=0.8, alpha=0.6, marker=".", ms=2)
    if best:
        axes.plot(
            list(best.valid_loss), list(best.valid_loss.values()), color="black", lw=2, label=f"#{best.number:03d}"
        )
        axes.legend(fontsize=8)
    axes.set(xlabel="epoch", ylabel="valid_loss", yscale=_scale(trials))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_parallel(axes: Axes, study: Study, trials: Sequence[TrialRecord]) -> None:
    """A line a complete trial through its place in each hyperparameter's range; the lower its loss, the darker."""
    axes.set_title("parallel coordinates (dark: low valid_loss)")
    ranked = sorted((trial for trial in trials if trial.value is not None), key=lambda trial: -(trial.value or 0.0))
    names = list(study.space)
    places = np.array([_places([trial.parameters[name] for trial in ranked], study, name) for name in names])
    for rank, line in enumerate(places.T):
        share = (rank + 1) / len(ranked)
        axes.plot(range(len(names)), line, color="tab:blue", alpha=0.1 + 0.9 * share**3, lw=0.5 + 1.5 * share**3)
    axes.set_xticks(range(len(names)), names, rotation=20, ha="right")
    axes.set_yticks([0, 1], ["low", "high"])


def _places(values: Sequence[Any], study: Study, name: str) -> list[float]:
    """Where values lie in a hyperparameter's range, from 0 to 1."""
    space = study.space[name]
    if space.type == "categorical":
        return [space.choices.index(value) / max(len(space.choices) - 1, 1) for value in values]
    low, high = space.low, space.high
    if low == high:
        return [0.5] * len(values)
    if space.log:
        return [math.log(value / low) / math.log(high / low) for value in values]
    return [(value - low) / (high - low) for value in values]
