"""One study in the durable storage: what the coordinator writes there event by event, and reads as its memo."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
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
from mnist_hpo.spec.reader import StudyFile, nearest, parse_study
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.address import parse_address, without_password
from mnist_hpo.storage.byte_lock import file_id
from mnist_hpo.storage.connect import open_storage, told_clearly
from mnist_hpo.storage.generations import (
    CONTEXT_KEY,
    FOLDER_KEY,
    REPLACED_KEY,
    UID_KEY,
    check_format,
    find_generations,
    name_of_study,
    open_generations,
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
    """A study's part of an Optuna storage.

    Use `create` to run a study and `load` to look at one.
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
        with told_clearly(url):
            self._file_id = None if path is None else file_id(path)
            directions = storage.get_study_directions(self._study_id)
        self._signs = tuple(1 if direction is StudyDirection.MINIMIZE else -1 for direction in directions)

    @classmethod
    def create(
        cls, url: str, study: Study, *, study_file: str, context: Mapping[str, str], extends_in_place: bool = True
    ) -> StudyStorage:
        """Open a study to run it, or make it.

        A study that has no results yet may change in any way: it starts over, under another uid.

        Args:
            url: the storage's.
            study: what the file says now.
            study_file: the file's text, kept for whoever looks at the study later.
            context: what else results depend on (dataset digest, versions, CPU), recorded when the study starts.
            extends_in_place: whether trials can be added to the record. If not, a study with another `n_trials` than
                before starts a new generation, empty, beside those before: see `earlier_trials`.

        Raises:
            UserError: the storage cannot be opened, or holds results of a study of this name that was started
                otherwise.

        """
        storage = open_storage(url)
        with told_clearly(url):
            generations = open_generations(storage, url, study, context, extends_in_place=extends_in_place)
            if storage.get_study_user_attrs(generations[-1]).get(_FILE_KEY) != study_file:
                storage.set_study_user_attr(generations[-1], _FILE_KEY, study_file)
        return cls(url, storage, study.name, generations, parse_address(url).path)

    @classmethod
    def load(cls, url: str, name: str) -> StudyStorage:
        """Open a study to look at it.

        Raises:
            UserError: there is no such storage or study, or a newer version has recorded it.

        """
        storage = open_storage(url, read_only=True)
        names = study_names(url)
        if name not in names:
            known = f"; there are {', '.join(names)}" if names else "; it is empty"
            raise UserError(f"no study {name!r} in {url}{nearest(name, names)}{known}")
        with told_clearly(url):
            generations = find_generations(storage, name)
            found = storage.get_study_user_attrs(generations[-1])
        if {_FILE_KEY, UID_KEY} - found.keys():
            raise UserError(f"the study {name!r} in {without_password(url)} is not mnist-hpo's")
        check_format(name, found)
        return cls(url, storage, name, generations, parse_address(url).path)

    @property
    def uid(self) -> str:
        """Tells this study from another of the same name, in another storage or before it was deleted."""
        with self._using():
            return str(self._storage.get_study_user_attrs(self._study_id)[UID_KEY])

    @property
    def replaced_uids(self) -> tuple[str, ...]:
        """The uids that this study had before it was changed and started over."""
        with self._using():
            return tuple(self._storage.get_study_user_attrs(self._study_id).get(REPLACED_KEY, ()))

    @property
    def folder_name(self) -> str:
        """What a folder with this study's files is called; another study of the same name has another.

        All generations of a study share it.
        """
        with self._using():
            attributes = self._storage.get_study_user_attrs(self._study_id)
        return _folder_name(self.name, str(attributes.get(FOLDER_KEY, attributes[UID_KEY])))

    @property
    def replaced_folder_names(self) -> list[str]:
        """The folders of `replaced_uids` that belong to this study no longer."""
        return [name for uid in self.replaced_uids if (name := _folder_name(self.name, uid)) != self.folder_name]

    @property
    def study_file(self) -> str:
        """The text of the study file as it was last run."""
        with self._using():
            return str(self._storage.get_study_user_attrs(self._study_id)[_FILE_KEY])

    def read_study_file(self) -> StudyFile:
        """The study as it was last run; of a folder of images and labels, with what it held then."""
        file = parse_study(self.study_file, Path(f"{self.name}.yaml"))
        folder, content = file.study.dataset, self.context.get(CONTENT)
        if isinstance(folder, str) or content is None:
            return file
        return file.with_dataset(folder.with_content(FolderContent.from_json(content), None))

    @property
    def context(self) -> dict[str, str]:
        """What else the results depend on, as recorded when the study started."""
        with self._using():
            return dict(self._storage.get_study_user_attrs(self._study_id).get(CONTEXT_KEY, {}))

    def trials(self) -> list[TrialRecord]:
        """All trials, by number."""
        with self._using():
            found = self._storage.get_all_trials(self._study_id, deepcopy=False)
        self._trial_ids = {trial.number: trial._trial_id for trial in found}  # pyright: ignore[reportPrivateUsage]
        self._records = {trial.number: trial for trial in self._read(found)}
        return list(self._records.values())

    def earlier_trials(self) -> list[TrialRecord]:
        """The trials of earlier generations: their epochs need not be computed again; their decisions may differ."""
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
                records.append(_record(trial, self._signs))
            except (KeyError, ValueError) as error:
                raise UserError(
                    f"storage {without_password(self.url)}: the record of trial {trial.number} of the study "
                    f"{self.name!r} is damaged: {_damage(error)}; restore the storage from a copy"
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
        """Record a trial that has been asked for; trials come in the order of their numbers.

        Args:
            number: the trial's.
            parameters: the searched ones.
            distributions: of these, by name.
            costs: what is known before training. Virtual time follows the record from here on, whatever a later version
                of a library counts.
            at_units: when the trial starts, in virtual time.

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
        self._records[number] = _record(template, self._signs)
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

    def resume_trial(self, number: int, at_units: int) -> TrialRecord:
        """Record that a paused trial goes on, at this virtual time; return the trial as it stands now."""
        record = self._records[number]
        started = (*record.started_at_units, at_units)
        with self._using():
            self._storage.set_trial_user_attr(self._trial_ids[number], _STARTED_KEY, list(started))
        self._records[number] = replace(record, state="running", started_at_units=started)
        return self._records[number]

    def leave_paused(self, number: int) -> TrialRecord:
        """Record that a paused trial will not be resumed under this budget; return the trial as it stands now."""
        with self._using():
            self._storage.set_trial_user_attr(self._trial_ids[number], _LEFT_KEY, True)
        self._records[number] = replace(self._records[number], is_left_paused=True)
        return self._records[number]

    def pause_trial(self, number: int) -> TrialRecord:
        """Record that a trial is paused after its last epoch; return the trial as it stands now."""
        record = self._records[number]
        paused_after = (*record.paused_after, len(record.epochs))
        with self._using():
            self._storage.set_trial_user_attr(self._trial_ids[number], _PAUSED_KEY, list(paused_after))
        self._records[number] = replace(record, state="paused", paused_after=paused_after)
        return self._records[number]

    def finish_trial(
        self, number: int, state: TrialState, values: Sequence[float] = (), reason: str | None = None
    ) -> TrialRecord:
        """Record how a trial ended, with the objectives of a complete one; return the trial as it stands now."""
        trial_id = self._trial_ids[number]
        with self._using():
            if reason is not None:
                self._storage.set_trial_user_attr(trial_id, _REASON_KEY, reason)
            self._storage.set_trial_state_values(trial_id, _STATES[state], list(values) or None)
            # The storage has dated it: whoever reads it later must see the same time.
            self._records[number] = _record(self._storage.get_trial(trial_id), self._signs)
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


def _damage(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'an epoch'}: {first['msg']}, not {first['input']!r}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _record(trial: FrozenTrial, signs: tuple[int, ...]) -> TrialRecord:
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
    )
