"""Generations: the Optuna studies that a study consists of.

A study has one generation, or one per budget if its policy may change earlier decisions when the budget grows. The
first generation has the study's name, the next ones NAME@2, NAME@3 and so on. The last one is the current record; the
others hold results that need not be computed again.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection

from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.study import Keep, Study
from mnist_hpo.storage.continuing import why_not_continuable

CONTEXT_KEY, FOLDER_KEY = "mnist_hpo:context", "mnist_hpo:folder"
UID_KEY, REPLACED_KEY = "mnist_hpo:uid", "mnist_hpo:replaced_uids"
_IDENTITY_KEY, _BUDGET_KEY, _FORMAT_KEY = "mnist_hpo:study", "mnist_hpo:n_trials", "mnist_hpo:format"
_FORMAT = 2
"""Format of a study's record. Format 1 has no format number, no costs, one objective and no paused trials."""
_SEPARATOR = "@"
"""Separates a study's name and the number of a generation. No study's name contains it."""


def open_generations(
    storage: BaseStorage, url: str, study: Study, context: Mapping[str, str], *, extends_in_place: bool
) -> list[int]:
    """Find the generations of a study, or create the first; see `StudyStorage.create`.

    Returns:
        The ids of the Optuna studies, the current one last.

    Raises:
        UserError: the storage holds results of a different study of this name.

    """
    generations = find_generations(storage, study.name) or [_new_study(storage, study, study.name)]
    study_id = generations[-1]
    found = storage.get_study_user_attrs(study_id)
    if _IDENTITY_KEY not in found:
        if storage.get_n_trials(study_id):
            raise UserError(f"{url} holds a study {study.name!r} that is not mnist-hpo's; rename yours")
        _set_attributes(storage, study_id, study, context)
    elif problem := _reason_not_continuable(storage, study_id, study, context, found):
        if any(_has_results(storage, generation) for generation in generations):
            raise UserError(problem)
        generations[-1] = _recreate(storage, study_id, study, found, context)
    elif not extends_in_place and found[_BUDGET_KEY] != study.budget.n_trials:
        generations.append(_new_generation(storage, len(generations) + 1, study, found, context))
    return generations


def name_of_study(name: str) -> str:
    """Return the name of the study that the Optuna study of this name belongs to."""
    return name.partition(_SEPARATOR)[0]


def find_generations(storage: BaseStorage, name: str) -> list[int]:
    """Return the ids of a study's generations, the current one last, without one whose creation was interrupted."""
    first = _study_id(storage, name)
    found = [] if first is None else [first]
    while found and (study_id := _study_id(storage, f"{name}{_SEPARATOR}{len(found) + 1}")) is not None:
        if _IDENTITY_KEY not in storage.get_study_user_attrs(study_id):
            break
        found.append(study_id)
    return found


def _study_id(storage: BaseStorage, name: str) -> int | None:
    try:
        return storage.get_study_id_from_name(name)
    except KeyError:
        return None


def _new_study(storage: BaseStorage, study: Study, name: str) -> int:
    directions = [StudyDirection.MINIMIZE if o.sign > 0 else StudyDirection.MAXIMIZE for o in study.objectives]
    try:
        return storage.create_new_study(directions, name)
    except DuplicatedStudyError:
        return storage.get_study_id_from_name(name)


def _reason_not_continuable(
    storage: BaseStorage, study_id: int, study: Study, context: Mapping[str, str], found: Mapping[str, Any]
) -> str | None:
    """See `continuing.why_not_continuable`."""
    check_format(study.name, found)
    return why_not_continuable(
        study,
        context,
        recorded_identity=found[_IDENTITY_KEY],
        recorded_context=found.get(CONTEXT_KEY, {}),
        n_recorded=storage.get_n_trials(study_id),
    )


def recorded_keep(found: Mapping[str, Any]) -> Keep:
    """Return which epoch's model the trials of a study keep, from the study's attributes."""
    return found.get(_IDENTITY_KEY, {}).get("budget", {}).get("keep", "best")


def check_format(name: str, found: Mapping[str, Any]) -> None:
    """Check that this version can read a study's record.

    Args:
        name: the study's name.
        found: the study's user attributes.

    Raises:
        UserError: the record's format is newer than this version can read.

    """
    number = found.get(_FORMAT_KEY, 1)
    if number > _FORMAT:
        raise UserError(
            f"the study {name!r} has a record of format {number}, from a newer mnist-hpo; this version reads up to "
            f"{_FORMAT}: upgrade mnist-hpo"
        )


def _new_generation(
    storage: BaseStorage, number: int, study: Study, found: Mapping[str, Any], context: Mapping[str, str]
) -> int:
    """Create the next generation of a study."""
    study_id = _new_study(storage, study, f"{study.name}{_SEPARATOR}{number}")
    storage.set_study_user_attr(study_id, REPLACED_KEY, [*found.get(REPLACED_KEY, []), found[UID_KEY]])
    storage.set_study_user_attr(study_id, FOLDER_KEY, found.get(FOLDER_KEY, found[UID_KEY]))
    _set_attributes(storage, study_id, study, context)
    return study_id


def _set_attributes(storage: BaseStorage, study_id: int, study: Study, context: Mapping[str, str]) -> None:
    storage.set_study_user_attr(study_id, CONTEXT_KEY, dict(context))
    storage.set_study_user_attr(study_id, UID_KEY, uuid.uuid4().hex)
    storage.set_study_user_attr(study_id, _FORMAT_KEY, _FORMAT)
    storage.set_study_user_attr(study_id, _BUDGET_KEY, study.budget.n_trials)
    # Last, because a study with this attribute is fully created.
    storage.set_study_user_attr(study_id, _IDENTITY_KEY, study.identity())


def _has_results(storage: BaseStorage, study_id: int) -> bool:
    """Return whether any trial has a finished epoch, or has ended without one."""
    trials = storage.get_all_trials(study_id, deepcopy=False)
    return any(trial.intermediate_values or trial.state.is_finished() for trial in trials)


def _recreate(
    storage: BaseStorage, study_id: int, study: Study, found: Mapping[str, Any], context: Mapping[str, str]
) -> int:
    """Replace a study without results by the current study, and return its new id."""
    name = storage.get_study_name_from_id(study_id)
    storage.delete_study(study_id)
    study_id = _new_study(storage, study, name)
    if FOLDER_KEY in found:
        storage.set_study_user_attr(study_id, FOLDER_KEY, found[FOLDER_KEY])
    storage.set_study_user_attr(study_id, REPLACED_KEY, [*found.get(REPLACED_KEY, []), found[UID_KEY]])
    _set_attributes(storage, study_id, study, context)
    return study_id
