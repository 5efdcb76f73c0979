"""One study in the durable storage: what the coordinator writes there event by event, and reads as its memo."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import uuid
from collections.abc import Generator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState
from pydantic import TypeAdapter, ValidationError

from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import nearest
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.address import parse_address, without_password
from mnist_hpo.storage.byte_lock import file_id
from mnist_hpo.storage.connect import open_storage, told_clearly
from mnist_hpo.storage.continuing import why_not
from mnist_hpo.storage.records import TrialRecord, TrialState

_STATES: Mapping[TrialState, OptunaState] = {
    "running": OptunaState.RUNNING,
    "complete": OptunaState.COMPLETE,
    "pruned": OptunaState.PRUNED,
    "failed": OptunaState.FAIL,
}
_EPOCH_KEY = "epoch:"
_IDENTITY_KEY, _FILE_KEY, _CONTEXT_KEY = "mnist_hpo:study", "mnist_hpo:study_file", "mnist_hpo:context"
_UID_KEY, _REPLACED_KEY, _REASON_KEY = "mnist_hpo:uid", "mnist_hpo:replaced_uids", "reason"
_EPOCH_RESULT = TypeAdapter(EpochResult)


class StudyStorage:
    """A study's part of an Optuna storage.

    Use `create` to run a study and `load` to look at one.
    """

    def __init__(self, url: str, storage: BaseStorage, name: str, study_id: int, path: Path | None = None) -> None:
        self.url, self.name = url, name
        self._storage, self._study_id = storage, study_id
        self._trial_ids: dict[int, int] = {}
        self._records: dict[int, TrialRecord] = {}
        self._path = path
        """The storage's file, if it is one."""
        with told_clearly(url):
            self._file_id = None if path is None else file_id(path)

    @classmethod
    def create(cls, url: str, study: Study, *, study_file: str, context: Mapping[str, str]) -> StudyStorage:
        """Open a study to run it, or make it.

        A study that has no results yet may change in any way: it starts over, under another uid.

        Args:
            url: the storage's.
            study: what the file says now.
            study_file: the file's text, kept for whoever looks at the study later.
            context: what else results depend on (dataset digest, versions, CPU), recorded when the study starts.

        Raises:
            UserError: the storage cannot be opened, or holds results of a study of this name that was started
                otherwise.

        """
        storage = open_storage(url)
        with told_clearly(url):
            try:
                study_id = storage.create_new_study([StudyDirection.MINIMIZE], study.name)
            except DuplicatedStudyError:
                study_id = storage.get_study_id_from_name(study.name)
            found = storage.get_study_user_attrs(study_id)
            if _IDENTITY_KEY not in found:
                if storage.get_n_trials(study_id):
                    raise UserError(f"{url} holds a study {study.name!r} that is not mnist-hpo's; rename yours")
                _begin(storage, study_id, study, context)
            elif problem := why_not(
                study,
                context,
                recorded_identity=found[_IDENTITY_KEY],
                recorded_context=found.get(_CONTEXT_KEY, {}),
                n_recorded=storage.get_n_trials(study_id),
            ):
                if _has_results(storage, study_id):
                    raise UserError(problem)
                study_id, found = _start_over(storage, study_id, study, found, context), {}
            if found.get(_FILE_KEY) != study_file:
                storage.set_study_user_attr(study_id, _FILE_KEY, study_file)
        return cls(url, storage, study.name, study_id, parse_address(url).path)

    @classmethod
    def load(cls, url: str, name: str) -> StudyStorage:
        """Open a study to look at it.

        Raises:
            UserError: there is no such storage or study.

        """
        storage = open_storage(url, read_only=True)
        with told_clearly(url):
            names = [found.study_name for found in storage.get_all_studies()]
        if name not in names:
            known = f"; there are {', '.join(sorted(names))}" if names else "; it is empty"
            raise UserError(f"no study {name!r} in {url}{nearest(name, names)}{known}")
        with told_clearly(url):
            study_id = storage.get_study_id_from_name(name)
            missing = {_FILE_KEY, _UID_KEY} - storage.get_study_user_attrs(study_id).keys()
        if missing:
            raise UserError(f"the study {name!r} in {without_password(url)} is not mnist-hpo's")
        return cls(url, storage, name, study_id, parse_address(url).path)

    @property
    def uid(self) -> str:
        """Tells this study from another of the same name, in another storage or before it was deleted."""
        with self._using():
            return str(self._storage.get_study_user_attrs(self._study_id)[_UID_KEY])

    @property
    def replaced_uids(self) -> tuple[str, ...]:
        """The uids that this study had before it was changed and started over."""
        with self._using():
            return tuple(self._storage.get_study_user_attrs(self._study_id).get(_REPLACED_KEY, ()))

    @property
    def folder_name(self) -> str:
        """What a folder with this study's files is called; another study of the same name has another."""
        return _folder_name(self.name, self.uid)

    @property
    def replaced_folder_names(self) -> list[str]:
        """`folder_name` for each of `replaced_uids`."""
        return [_folder_name(self.name, uid) for uid in self.replaced_uids]

    @property
    def study_file(self) -> str:
        """The text of the study file as it was last run."""
        with self._using():
            return str(self._storage.get_study_user_attrs(self._study_id)[_FILE_KEY])

    @property
    def context(self) -> dict[str, str]:
        """What else the results depend on, as recorded when the study started."""
        with self._using():
            return dict(self._storage.get_study_user_attrs(self._study_id).get(_CONTEXT_KEY, {}))

    def trials(self) -> list[TrialRecord]:
        """All trials, by number."""
        with self._using():
            found = self._storage.get_all_trials(self._study_id, deepcopy=False)
        self._trial_ids = {trial.number: trial._trial_id for trial in found}  # pyright: ignore[reportPrivateUsage]
        records: dict[int, TrialRecord] = {}
        for trial in sorted(found, key=lambda trial: trial.number):
            try:
                records[trial.number] = _record(trial)
            except (KeyError, ValueError) as error:
                raise UserError(
                    f"storage {without_password(self.url)}: the record of trial {trial.number} of the study "
                    f"{self.name!r} is damaged: {_damage(error)}; restore the storage from a copy"
                ) from error
        self._records = records
        return list(records.values())

    def start_trial(
        self,
        number: int,
        parameters: Mapping[str, ParameterValue],
        distributions: Mapping[str, BaseDistribution],
    ) -> TrialRecord:
        """Record a trial that has been asked for; trials come in the order of their numbers."""
        template = FrozenTrial(
            number=number,
            trial_id=-1,
            state=OptunaState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params=dict(parameters),
            distributions=dict(distributions),
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        with self._using():
            trial_id = self._storage.create_new_trial(self._study_id, template)
        self._trial_ids[number] = trial_id
        self._records[number] = _record(template)
        return self._records[number]

    def add_epoch(self, number: int, result: EpochResult) -> TrialRecord:
        """Record an epoch's result; return the trial as it stands now."""
        trial_id = self._trial_ids[number]
        assert result.valid_loss is not None
        with self._using():
            self._storage.set_trial_user_attr(trial_id, f"{_EPOCH_KEY}{result.epoch}", dataclasses.asdict(result))
            # Last: an epoch counts as recorded from here on.
            self._storage.set_trial_intermediate_value(trial_id, result.epoch, result.valid_loss)
        record = self._records[number]
        self._records[number] = replace(record, epochs={**record.epochs, result.epoch: result})
        return self._records[number]

    def finish_trial(
        self, number: int, state: TrialState, value: float | None, reason: str | None = None
    ) -> TrialRecord:
        """Record how a trial ended; return the trial as it stands now."""
        trial_id = self._trial_ids[number]
        with self._using():
            if reason is not None:
                self._storage.set_trial_user_attr(trial_id, _REASON_KEY, reason)
            self._storage.set_trial_state_values(trial_id, _STATES[state], None if value is None else [value])
            # The storage has dated it: whoever reads it later must see the same time.
            self._records[number] = _record(self._storage.get_trial(trial_id))
        return self._records[number]

    def close(self) -> None:
        """Let go of the connection."""
        with told_clearly(self.url):
            self._storage.remove_session()

    @contextlib.contextmanager
    def _using(self) -> Generator[None]:
        """Turn errors of the storage into a `UserError`, also where its file is no longer the one that was opened."""
        self._refuse_another_file()
        try:
            with told_clearly(self.url):
                yield
        except UserError:
            self._refuse_another_file()
            raise

    def _refuse_another_file(self) -> None:
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if file_id(self._path) == self._file_id:
                return
        raise UserError(
            f"storage {self.url}: {self._path} was deleted or replaced while it was in use; put the file back, or "
            "start over with what is there now, by the same command"
        )


def study_names(url: str) -> list[str]:
    """The names of all studies in a storage."""
    with told_clearly(url):
        return sorted(study.study_name for study in open_storage(url, read_only=True).get_all_studies())


def _folder_name(name: str, uid: str) -> str:
    return f"{name}-{uid[:8]}"


def _begin(storage: BaseStorage, study_id: int, study: Study, context: Mapping[str, str]) -> None:
    storage.set_study_user_attr(study_id, _CONTEXT_KEY, dict(context))
    storage.set_study_user_attr(study_id, _UID_KEY, uuid.uuid4().hex)
    # Last: a study counts as begun from here on.
    storage.set_study_user_attr(study_id, _IDENTITY_KEY, study.identity())


def _has_results(storage: BaseStorage, study_id: int) -> bool:
    """Whether any trial has a finished epoch, or has ended without one."""
    trials = storage.get_all_trials(study_id, deepcopy=False)
    return any(trial.intermediate_values or trial.state.is_finished() for trial in trials)


def _start_over(
    storage: BaseStorage, study_id: int, study: Study, found: Mapping[str, Any], context: Mapping[str, str]
) -> int:
    """Replace a study without results by what its file says now; return its new id."""
    storage.delete_study(study_id)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], study.name)
    storage.set_study_user_attr(study_id, _REPLACED_KEY, [*found.get(_REPLACED_KEY, []), found[_UID_KEY]])
    _begin(storage, study_id, study, context)
    return study_id


def _epoch_result(trial: FrozenTrial, epoch: int) -> EpochResult:
    result = _EPOCH_RESULT.validate_python(trial.user_attrs[f"{_EPOCH_KEY}{epoch}"])
    if result.epoch != epoch or result.valid_loss != trial.intermediate_values[epoch]:
        raise ValueError(
            f"epoch {epoch} has valid_loss {trial.intermediate_values[epoch]} in one place, and valid_loss "
            f"{result.valid_loss} of epoch {result.epoch} in another"
        )
    return result


def _damage(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'an epoch'}: {first['msg']}, not {first['input']!r}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _record(trial: FrozenTrial) -> TrialRecord:
    states: dict[OptunaState, TrialState] = {theirs: ours for ours, theirs in _STATES.items()}
    if trial.state not in states:
        raise ValueError(f"its state is {trial.state.name}, which mnist-hpo never records")
    complete = trial.state is OptunaState.COMPLETE
    return TrialRecord(
        number=trial.number,
        state=states[trial.state],
        parameters=dict(trial.params),
        epochs={epoch: _epoch_result(trial, epoch) for epoch in sorted(trial.intermediate_values)},
        value=trial.value if complete and trial.value is not None and math.isfinite(trial.value) else None,
        reason=trial.user_attrs.get(_REASON_KEY),
        started_unix_s=trial.datetime_start.timestamp() if trial.datetime_start else 0.0,
        finished_unix_s=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
    )
