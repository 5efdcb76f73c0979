"""One study in the storage: the coordinator writes every event there, and reads them back when it continues."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path

from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState
from pydantic import TypeAdapter, ValidationError

from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.folder_content import CONTENT, FolderContent
from mnist_hpo.spec.init_from import INIT_FROM, SourceWeights
from mnist_hpo.spec.reader import StudyFile, nearest, parse_study
from mnist_hpo.spec.study import Keep, ParameterValue, Study
from mnist_hpo.storage.address import parse_address, without_password
from mnist_hpo.storage.byte_lock import file_id
from mnist_hpo.storage.connect import open_storage, user_errors
from mnist_hpo.storage.generations import (
    CONTEXT_KEY,
    FOLDER_KEY,
    REPLACED_KEY,
    UID_KEY,
    check_format,
    find_generations,
    name_of_study,
    open_generations,
    recorded_keep,
)
from mnist_hpo.storage.records import TrialRecord, TrialState

_STATES: Mapping[TrialState, OptunaState] = {
    "running": OptunaState.RUNNING,
    "complete": OptunaState.COMPLETE,
    "pruned": OptunaState.PRUNED,
    "failed": OptunaState.FAIL,
}
_EPOCH_KEY = "epoch:"
_FILE_KEY, _REASON_KEY = "mnist_hpo:study_file", "reason"
_PAUSED_KEY, _STARTED_KEY = "mnist_hpo:paused_after", "mnist_hpo:started_at_units"
_COSTS_KEY, _LEFT_KEY = "mnist_hpo:costs", "mnist_hpo:left_paused"
_EPOCH_RESULT = TypeAdapter(EpochResult)


class StudyStorage:
    """The record of one study in an Optuna storage.

    Use `create` to run a study and `load` to read one.
    """

    def __init__(
        self, url: str, storage: BaseStorage, name: str, generations: Sequence[int], path: Path | None = None
    ) -> None:
        self.url, self.name = url, name
        self._storage, self._generations, self._study_id = storage, generations, generations[-1]
        self._trial_ids: dict[int, int] = {}
        self._records: dict[int, TrialRecord] = {}
        self._path = path
        """The storage's file, if it is one."""
        with user_errors(url):
            self._file_id = None if path is None else file_id(path)
            directions = storage.get_study_directions(self._study_id)
            keep = recorded_keep(storage.get_study_user_attrs(self._study_id))
        signs = tuple(1 if direction is StudyDirection.MINIMIZE else -1 for direction in directions)
        self._record = partial(_record, signs=signs, keep=keep)

    @classmethod
    def create(
        cls, url: str, study: Study, *, study_file: str, context: Mapping[str, str], extends_in_place: bool = True
    ) -> StudyStorage:
        """Open a study to run it, and create it if it does not exist.

        A study without results may change in any way: it is created again under a new uid.

        Args:
            url: the storage's URL.
            study: the current study.
            study_file: the text of the study file, which is stored for readers.
            context: what the results depend on beside the file (dataset digest, versions, CPU); recorded when the study
                is created.
            extends_in_place: whether trials can be added to the record. If not, a study whose `n_trials` has changed
                gets a new, empty generation; see `earlier_trials`.

        Raises:
            UserError: the storage cannot be opened, or holds results of a different study of this name.

        """
        storage = open_storage(url)
        with user_errors(url):
            generations = open_generations(storage, url, study, context, extends_in_place=extends_in_place)
            if storage.get_study_user_attrs(generations[-1]).get(_FILE_KEY) != study_file:
                storage.set_study_user_attr(generations[-1], _FILE_KEY, study_file)
        return cls(url, storage, study.name, generations, parse_address(url).path)

    @classmethod
    def load(cls, url: str, name: str) -> StudyStorage:
        """Open a study to read it.

        Raises:
            UserError: the storage or the study does not exist, or a newer version has written it.

        """
        storage = open_storage(url, read_only=True)
        names = study_names(url)
        if name not in names:
            known = f"; there are {', '.join(names)}" if names else "; it is empty"
            raise UserError(f"no study {name!r} in {url}{nearest(name, names)}{known}")
        with user_errors(url):
            generations = find_generations(storage, name)
            found = storage.get_study_user_attrs(generations[-1])
        if {_FILE_KEY, UID_KEY} - found.keys():
            raise UserError(f"the study {name!r} in {without_password(url)} is not mnist-hpo's")
        check_format(name, found)
        return cls(url, storage, name, generations, parse_address(url).path)

    @property
    def uid(self) -> str:
        """Identifies this study among others of the same name, in other storages or deleted ones."""
        with self._using():
            return str(self._storage.get_study_user_attrs(self._study_id)[UID_KEY])

    @property
    def replaced_uids(self) -> tuple[str, ...]:
        """The uids of earlier versions and generations of this study."""
        with self._using():
            return tuple(self._storage.get_study_user_attrs(self._study_id).get(REPLACED_KEY, ()))

    @property
    def folder_name(self) -> str:
        """The name of the folder for this study's files. All generations share it; another study has another."""
        with self._using():
            attributes = self._storage.get_study_user_attrs(self._study_id)
        return _folder_name(self.name, str(attributes.get(FOLDER_KEY, attributes[UID_KEY])))

    @property
    def replaced_folder_names(self) -> list[str]:
        """The names of the folders of `replaced_uids` that this study no longer uses."""
        return [name for uid in self.replaced_uids if (name := _folder_name(self.name, uid)) != self.folder_name]

    @property
    def study_file(self) -> str:
        """The text of the study file of the last run."""
        with self._using():
            return str(self._storage.get_study_user_attrs(self._study_id)[_FILE_KEY])

    def read_study_file(self) -> StudyFile:
        """The study as it was last run, with what a folder of images held then and which weights it started from."""
        file = parse_study(self.study_file, Path(f"{self.name}.yaml"))
        context = self.context
        folder, init_from = file.study.dataset, file.study.init_from
        if not isinstance(folder, str) and CONTENT in context:
            file = file.with_dataset(folder.with_content(FolderContent.from_json(context[CONTENT]), None))
        if init_from is not None and INIT_FROM in context:
            file = file.with_init_from(init_from.with_source(SourceWeights.from_json(context[INIT_FROM]), None))
        return file

    @property
    def context(self) -> dict[str, str]:
        """What the results depend on beside the study file, as recorded when the study was created."""
        with self._using():
            return dict(self._storage.get_study_user_attrs(self._study_id).get(CONTEXT_KEY, {}))

    def trials(self) -> list[TrialRecord]:
        """Return all trials in the order of their numbers."""
        with self._using():
            found = self._storage.get_all_trials(self._study_id, deepcopy=False)
        self._records = {trial.number: trial for trial in self._read(found)}
        return list(self._records.values())

    def _trial_id(self, number: int) -> int:
        """Return Optuna's id of a trial, which its storage functions take."""
        if number not in self._trial_ids:
            trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            self._trial_ids[number] = trial_id
        return self._trial_ids[number]

    def earlier_trials(self) -> list[TrialRecord]:
        """Return the trials of earlier generations. Their epochs can be reused; their decisions may differ."""
        with self._using():
            return [
                record
                for study_id in self._generations[:-1]
                for record in self._read(self._storage.get_all_trials(study_id, deepcopy=False))
            ]

    def _read(self, found: Iterable[FrozenTrial]) -> list[TrialRecord]:
        records: list[TrialRecord] = []
        for trial in sorted(found, key=lambda trial: trial.number):
            try:
                records.append(self._record(trial))
            except (KeyError, ValueError) as error:
                raise UserError(
                    f"storage {without_password(self.url)}: the record of trial {trial.number} of the study "
                    f"{self.name!r} is damaged: {_describe_damage(error)}; restore the storage from a backup"
                ) from error
        return records

    def start_trial(
        self,
        number: int,
        parameters: Mapping[str, ParameterValue],
        distributions: Mapping[str, BaseDistribution],
        costs: Mapping[str, int],
        at_units: int = 0,
    ) -> TrialRecord:
        """Record the start of a trial. Trials must be recorded in the order of their numbers.

        Args:
            number: the trial's number.
            parameters: the searched hyperparameters.
            distributions: the distributions of these, by name.
            costs: figures known before training. From now on virtual time uses the recorded ones, even if a later
                version of a library counts differently.
            at_units: when the trial starts, in virtual time.

        Returns:
            The new trial.

        """
        template = FrozenTrial(
            number=number,
            trial_id=-1,
            state=OptunaState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params=dict(parameters),
            distributions=dict(distributions),
            user_attrs={_COSTS_KEY: dict(costs), _STARTED_KEY: [at_units]},
            system_attrs={},
            intermediate_values={},
        )
        with self._using():
            trial_id = self._storage.create_new_trial(self._study_id, template)
        self._trial_ids[number] = trial_id
        self._records[number] = self._record(template)
        return self._records[number]

    def add_epoch(self, number: int, result: EpochResult) -> TrialRecord:
        """Record an epoch's result, and return the updated trial."""
        assert result.valid_loss is not None
        with self._using():
            trial_id = self._trial_id(number)
            self._storage.set_trial_user_attr(trial_id, f"{_EPOCH_KEY}{result.epoch}", dataclasses.asdict(result))
            # Last, because an epoch with this value is fully recorded.
            self._storage.set_trial_intermediate_value(trial_id, result.epoch, result.valid_loss)
        record = self._records[number]
        self._records[number] = replace(record, epochs={**record.epochs, result.epoch: result})
        return self._records[number]

    def resume_trial(self, number: int, at_units: int) -> TrialRecord:
        """Record that a paused trial is resumed at this virtual time, and return the updated trial."""
        record = self._records[number]
        started = (*record.started_at_units, at_units)
        with self._using():
            self._storage.set_trial_user_attr(self._trial_id(number), _STARTED_KEY, list(started))
        self._records[number] = replace(record, state="running", started_at_units=started)
        return self._records[number]

    def leave_paused(self, number: int) -> TrialRecord:
        """Record that a paused trial will not be resumed under this budget, and return the updated trial."""
        with self._using():
            self._storage.set_trial_user_attr(self._trial_id(number), _LEFT_KEY, True)
        self._records[number] = replace(self._records[number], is_left_paused=True)
        return self._records[number]

    def pause_trial(self, number: int) -> TrialRecord:
        """Record that a trial is paused after its last epoch, and return the updated trial."""
        record = self._records[number]
        paused_after = (*record.paused_after, len(record.epochs))
        with self._using():
            self._storage.set_trial_user_attr(self._trial_id(number), _PAUSED_KEY, list(paused_after))
        self._records[number] = replace(record, state="paused", paused_after=paused_after)
        return self._records[number]

    def finish_trial(
        self, number: int, state: TrialState, values: Sequence[float] = (), reason: str | None = None
    ) -> TrialRecord:
        """Record the end of a trial, with the objectives if it is complete, and return the updated trial."""
        with self._using():
            trial_id = self._trial_id(number)
            if reason is not None:
                self._storage.set_trial_user_attr(trial_id, _REASON_KEY, reason)
            self._storage.set_trial_state_values(trial_id, _STATES[state], list(values) or None)
            # Read the trial back, because the storage has set the time of its end.
            self._records[number] = self._record(self._storage.get_trial(trial_id))
        return self._records[number]

    def close(self) -> None:
        """Close the connection."""
        with user_errors(self.url):
            self._storage.remove_session()

    @contextlib.contextmanager
    def _using(self) -> Generator[None]:
        """Convert errors of the storage to a `UserError`. Raise one, too, if the storage's file has been replaced."""
        self._check_same_file()
        try:
            with user_errors(self.url):
                yield
        except UserError:
            self._check_same_file()
            raise

    def _check_same_file(self) -> None:
        if self._path is None:
            return
        with contextlib.suppress(OSError):
            if file_id(self._path) == self._file_id:
                return
        raise UserError(
            f"storage {self.url}: {self._path} was deleted or replaced while it was in use; put the file back, or "
            "run the same command again to start with the file that is there now"
        )


def study_names(url: str) -> list[str]:
    """Return the names of all studies in a storage."""
    with user_errors(url):
        found = open_storage(url, read_only=True).get_all_studies()
    return sorted({name_of_study(study.study_name) for study in found})


def _folder_name(name: str, uid: str) -> str:
    return f"{name}-{uid[:8]}"


def _epoch_result(trial: FrozenTrial, epoch: int) -> EpochResult:
    result = _EPOCH_RESULT.validate_python(trial.user_attrs[f"{_EPOCH_KEY}{epoch}"])
    if result.epoch != epoch or result.valid_loss != trial.intermediate_values[epoch]:
        raise ValueError(
            f"epoch {epoch} has valid_loss {trial.intermediate_values[epoch]} in one place, and valid_loss "
            f"{result.valid_loss} of epoch {result.epoch} in another"
        )
    return result


def _describe_damage(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'an epoch'}: {first['msg']}, not {first['input']!r}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _record(trial: FrozenTrial, signs: tuple[int, ...], keep: Keep) -> TrialRecord:
    states: dict[OptunaState, TrialState] = {theirs: ours for ours, theirs in _STATES.items()}
    if trial.state not in states:
        raise ValueError(f"its state is {trial.state.name}, which mnist-hpo never records")
    values = tuple(trial.values or ()) if trial.state is OptunaState.COMPLETE else ()
    is_finite = all(map(math.isfinite, values))
    epochs = {epoch: _epoch_result(trial, epoch) for epoch in sorted(trial.intermediate_values)}
    paused_after = tuple(trial.user_attrs.get(_PAUSED_KEY, ()))
    started_at_units = tuple(trial.user_attrs.get(_STARTED_KEY, ()))
    is_paused = trial.state is OptunaState.RUNNING and 0 < len(started_at_units) == len(paused_after)
    return TrialRecord(
        number=trial.number,
        state="paused" if is_paused else states[trial.state],
        parameters=dict(trial.params),
        epochs=epochs,
        value=values[0] if values and is_finite else None,
        other_values=values[1:] if is_finite else (),
        signs=signs,
        paused_after=paused_after,
        started_at_units=started_at_units,
        is_left_paused=bool(trial.user_attrs.get(_LEFT_KEY)),
        costs=trial.user_attrs.get(_COSTS_KEY),
        reason=trial.user_attrs.get(_REASON_KEY),
        started_unix_s=trial.datetime_start.timestamp() if trial.datetime_start else 0.0,
        finished_unix_s=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
        keep=keep,
    )
