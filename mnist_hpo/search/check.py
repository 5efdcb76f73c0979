"""Checks of a study file that need the datasets, the models and Optuna."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

from mnist_hpo.data.registry import DATASETS, dataset_info
from mnist_hpo.learners.catalog import MODELS
from mnist_hpo.learners.hyperparameters import complete, parameters_of
from mnist_hpo.search.make_policy import POLICIES, make_policy
from mnist_hpo.search.make_sampler import SAMPLERS, SINGLE_OBJECTIVE_SAMPLERS, make_sampler
from mnist_hpo.search.options import OptionError
from mnist_hpo.search.pruners import PARETO_PRUNERS, PRUNERS, check_effective, make_pruner
from mnist_hpo.search.rehearsal import find_cause, rehearse
from mnist_hpo.search.space import corners, holds, n_grid_values, same_value
from mnist_hpo.spec.errors import first_line, shown
from mnist_hpo.spec.parameter import Number
from mnist_hpo.spec.reader import Location, StudyFile, nearest
from mnist_hpo.spec.study import FloatSpace, ParameterValue, Study

_LARGEST_GRID = 100_000
"""Optuna lists all points of a grid each time it proposes one."""


def check_study(file: StudyFile) -> None:
    """Check all that the schema alone cannot check.

    Raises:
        UserError: the study cannot be run. The message names the file, the line, the value and a fix.

    """
    study = file.study
    if isinstance(study.dataset, str):
        _known(file, ("dataset",), "dataset", study.dataset, DATASETS.names)
    _known(file, ("split",), f"split of {study.dataset_name}", study.split, dataset_info(study.dataset).splits)
    _known(file, ("model",), "model", study.model, MODELS.names)
    _known(file, ("sampler", "name"), "sampler", study.sampler.name, SAMPLERS)
    _known(file, ("pruner", "name"), "pruner", study.pruner.name, PRUNERS)
    _check_objectives(file)
    _check_parameters(file)
    _check_sizes(file)
    _check_conditions(file)
    _check_enqueue(file)
    if study.sampler.name == "grid":
        _check_grid(file)
    _check_options(file, "sampler", lambda: make_sampler(study, 0))
    _check_options(file, "pruner", lambda: make_pruner(study))
    _check_options(file, "pruner", lambda: check_effective(study))
    if study.policy is not None:
        _known(file, ("policy", "name"), "policy", study.policy.name, POLICIES.names)
        _check_options(file, "policy", lambda: make_policy(study))
    _check_rehearsal(file)


def _known(file: StudyFile, location: Location, what: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        names = list(known)
        file.fail(location, f"unknown {what} {shown(name)}{nearest(name, names)}; known are {', '.join(names)}")


def _check_objectives(file: StudyFile) -> None:
    """Check that the sampler and the pruner support the study's objectives."""
    study = file.study
    if len(study.objectives) > 1 and study.sampler.name in SINGLE_OBJECTIVE_SAMPLERS:
        others = [name for name in SAMPLERS if name not in SINGLE_OBJECTIVE_SAMPLERS]
        file.fail(
            ("sampler",),
            f"{study.sampler.name} optimises one objective; with several, use {', '.join(others[:-1])} or {others[-1]}",
        )
    # Optuna's pruners compare a single value.
    if len(study.objectives) > 1 and study.pruner.name not in PARETO_PRUNERS:
        file.fail(
            ("pruner",),
            f"{study.pruner.name} compares one objective; with several, use {' or '.join(PARETO_PRUNERS)}, or a policy",
        )
    values = [objective.metric for objective in study.objectives if objective.metric.startswith("valid_")]
    if study.pruner.name != "none" and not values:
        file.fail(("pruner",), "prunes by valid_loss or valid_accuracy; name one of them as an objective")


def _check_conditions(file: StudyFile) -> None:
    space = file.study.space
    for name, entry in space.items():
        for other, values in (entry.when or {}).items():
            for value in values:
                if not holds(space[other], value):
                    file.fail(
                        ("space", name, "when", other),
                        f"{shown(value)} is outside the search space of {other}; widen space.{other} or change it",
                    )


def _check_parameters(file: StudyFile) -> None:
    study, parameters = file.study, parameters_of(file.study.model)
    sections: dict[str, dict[str, tuple[ParameterValue, ...]]] = {
        "space": {name: corners(entry) for name, entry in study.space.items()},
        "fixed": {name: (value,) for name, value in study.fixed.items()},
    }
    for section, entries in sections.items():
        for name, values in entries.items():
            _known(file, (section, name), f"hyperparameter of the model {study.model}:", name, parameters)
            if section == "space" and isinstance(study.space[name], FloatSpace):
                parameter = parameters[name]
                if isinstance(parameter, Number) and parameter.kind is int:
                    file.fail((section, name), f"{name} is a whole number; use type: int")
            for value in values:
                problem = parameters[name].problem(value)
                if problem:
                    file.fail((section, name), problem)


def _check_sizes(file: StudyFile) -> None:
    """Check that no trial needs more examples than there are, or a batch larger than its number of examples."""
    study = file.study
    n_examples = dataset_info(study.dataset).splits[study.split].n_train
    batches, sizes = _sizes(study, "batch_size"), _sizes(study, "n_train")
    for location, value in batches:
        if value > n_examples:
            file.fail(location, f"a batch of {value} is more than the {n_examples} training examples of {study.split}")
    for location, value in sizes:
        if value > n_examples:
            file.fail(location, f"{value} is more than the {n_examples} training examples of {study.split}")
    if "batch_size" not in parameters_of(study.model):
        return
    largest = max((value for _, value in batches), default=int(complete(study.model, {})["batch_size"]))
    if largest > n_examples:
        problem = f"{n_examples} training examples in the split {study.split} do not fill a batch of {largest}"
        file.fail(("dataset",), f"{problem}, the default; set a lower batch_size in fixed")
    for location, value in sizes:
        if value < largest:
            problem = f"{value} training examples do not fill a batch of {largest}"
            file.fail(location, f"{problem}; raise n_train or lower batch_size")


def _sizes(study: Study, name: str) -> list[tuple[Location, int]]:
    """Return the smallest and the largest value of a hyperparameter, with their location in the file."""
    if name in study.space:
        found = {("space", name): corners(study.space[name])}
    else:
        found = {("fixed", name): (study.fixed[name],)} if name in study.fixed else {}
    return [(location, value) for location, values in found.items() for value in values if isinstance(value, int)]


def _check_enqueue(file: StudyFile) -> None:
    study = file.study
    for index, parameters in enumerate(study.enqueue):
        for name, value in parameters.items():
            location = ("enqueue", index, name)
            if name in study.fixed:
                if not same_value(study.fixed[name], value):
                    file.fail(location, f"is fixed at {shown(study.fixed[name])}, but is {shown(value)} here")
            elif name not in study.space:
                names = list(study.space)
                file.fail(location, f"not in the search space{nearest(name, names)}; it has {', '.join(names)}")
            elif not holds(study.space[name], value):
                file.fail(
                    location,
                    f"{shown(value)} is outside the search space of {name}; widen space.{name} or change it",
                )
            elif not study.space[name].is_active(parameters):
                file.fail(location, f"space.{name}.when does not hold for these values; leave {name} out here")


def _check_grid(file: StudyFile) -> None:
    study = file.study
    sizes: list[int] = []
    for name, entry in study.space.items():
        if entry.when is not None:
            file.fail(("space", name, "when"), "the grid sampler searches every point; use another sampler")
        size = n_grid_values(entry)
        if size is None:
            file.fail(
                ("space", name), "the grid sampler needs a step or choices here; give them, or use another sampler"
            )
        sizes.append(size)
    for index, parameters in enumerate(study.enqueue):
        missing = [name for name in study.space if name not in parameters]
        if missing:
            file.fail(("enqueue", index), f"the grid sampler cannot fill in {', '.join(missing)}; give it here")
    if math.prod(sizes) > _LARGEST_GRID:
        largest = max(zip(sizes, study.space, strict=True))[1]
        file.fail(
            ("space", largest),
            f"the grid has {math.prod(sizes):,} points, but the grid sampler supports at most {_LARGEST_GRID:,}; "
            "widen the step, or use another sampler",
        )
    n_points = math.prod(sizes) + len(study.enqueue)
    if study.budget.n_trials > n_points:
        file.fail(
            ("budget", "n_trials"), f"the grid has only {n_points} points, fewer than {study.budget.n_trials} trials"
        )


def _check_options(file: StudyFile, section: str, make: Callable[[], object]) -> None:
    try:
        make()
    except OptionError as error:
        file.fail((section, *error.location), str(error))


def _check_rehearsal(file: StudyFile) -> None:
    try:
        rehearse(file.study)
    except Exception as error:  # Optuna raises anything, from ZeroDivisionError to AssertionError.
        location = find_cause(file.study)
        file.fail(location, f"Optuna cannot search with this: {first_line(error)}")
