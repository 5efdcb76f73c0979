"""One study in the durable storage: what the coordinator writes there event by event, and reads as its memo."""

from __future__ import annotations

import dataclasses
import difflib
import io
import json
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState
from ruamel.yaml import YAML

from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import nearest
from mnist_hpo.spec.study import ParameterValue, Study
from mnist_hpo.storage.connect import open_storage, told_clearly
from mnist_hpo.storage.records import TrialRecord, TrialState
from mnist_hpo.training.result import EpochResult

_STATES: Mapping[TrialState, OptunaState] = {
    "running": OptunaState.RUNNING,
    "complete": OptunaState.COMPLETE,
    "pruned": OptunaState.PRUNED,
    "failed": OptunaState.FAIL,
}
_EPOCH_KEY = "epoch:"
_IDENTITY_KEY, _FILE_KEY, _CONTEXT_KEY = "mnist_hpo:study", "mnist_hpo:study_file", "mnist_hpo:context"
_UID_KEY, _REASON_KEY = "mnist_hpo:uid", "reason"


class StudyStorage:
    """A study's part of an Optuna storage.

    Use `create` to run a study and `load` to look at one.
    """

    def __init__(self, url: str, storage: BaseStorage, name: str, study_id: int) -> None:
        self.url, self.name = url, name
        self._storage, self._study_id = storage, study_id
        self._trial_ids: dict[int, int] = {}
        self._records: dict[int, TrialRecord] = {}

    @classmethod
    def create(cls, url: str, study: Study, *, study_file: str, context: Mapping[str, str]) -> StudyStorage:
        """Open a study to run it, or make it.

        Args:
            url: the storage's.
            study: what the file says now.
            study_file: the file's text, kept for whoever looks at the study later.
            context: what else results depend on (dataset digest, versions), recorded when the study starts.

        Raises:
            UserError: the storage cannot be opened, or holds a study of this name that was started otherwise.

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
                storage.set_study_user_attr(study_id, _CONTEXT_KEY, dict(context))
                storage.set_study_user_attr(study_id, _UID_KEY, uuid.uuid4().hex)
                storage.set_study_user_attr(study_id, _IDENTITY_KEY, study.identity())
            else:
                _refuse_change(study, found[_IDENTITY_KEY])
                _refuse_other_data(study.name, found.get(_CONTEXT_KEY, {}), context)
                _refuse_shrinking(study, storage.get_n_trials(study_id))
            if found.get(_FILE_KEY) != study_file:
                storage.set_study_user_attr(study_id, _FILE_KEY, study_file)
        return cls(url, storage, study.name, study_id)

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
        return cls(url, storage, name, study_id)

    @property
    def uid(self) -> str:
        """Tells this study from another of the same name, in another storage or before it was deleted."""
        with told_clearly(self.url):
            return str(self._storage.get_study_user_attrs(self._study_id)[_UID_KEY])

    @property
    def folder_name(self) -> str:
        """What a folder with this study's files is called; another study of the same name has another."""
        return f"{self.name}-{self.uid[:8]}"

    @property
    def study_file(self) -> str:
        """The text of the study file as it was last run."""
        with told_clearly(self.url):
            return str(self._storage.get_study_user_attrs(self._study_id)[_FILE_KEY])

    @property
    def context(self) -> dict[str, str]:
        """What else the results depend on, as recorded when the study started."""
        with told_clearly(self.url):
            return dict(self._storage.get_study_user_attrs(self._study_id).get(_CONTEXT_KEY, {}))

    def trials(self) -> list[TrialRecord]:
        """All trials, by number."""
        with told_clearly(self.url):
            found = self._storage.get_all_trials(self._study_id, deepcopy=False)
        self._trial_ids = {trial.number: trial._trial_id for trial in found}  # pyright: ignore[reportPrivateUsage]
        self._records = {trial.number: _record(trial) for trial in sorted(found, key=lambda trial: trial.number)}
        return list(self._records.values())

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
        with told_clearly(self.url):
            trial_id = self._storage.create_new_trial(self._study_id, template)
        self._trial_ids[number] = trial_id
        self._records[number] = _record(template)
        return self._records[number]

    def add_epoch(self, number: int, result: EpochResult) -> TrialRecord:
        """Record an epoch's result; return the trial as it stands now."""
        trial_id = self._trial_ids[number]
        assert result.valid_loss is not None
        with told_clearly(self.url):
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
        with told_clearly(self.url):
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


def study_names(url: str) -> list[str]:
    """The names of all studies in a storage."""
    with told_clearly(url):
        return sorted(study.study_name for study in open_storage(url, read_only=True).get_all_studies())


def _record(trial: FrozenTrial) -> TrialRecord:
    states: dict[OptunaState, TrialState] = {theirs: ours for ours, theirs in _STATES.items()}
    if trial.state not in states:
        raise _damaged(trial, f"its state is {trial.state.name}, which mnist-hpo never writes")
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


def _epoch_result(trial: FrozenTrial, epoch: int) -> EpochResult:
    try:
        result = EpochResult(**trial.user_attrs[f"{_EPOCH_KEY}{epoch}"])
    except (KeyError, TypeError):
        raise _damaged(trial, f"epoch {epoch} has a valid_loss, but its other measures are missing") from None
    valid_loss = trial.intermediate_values[epoch]
    if (result.epoch, result.valid_loss) != (epoch, valid_loss):
        found = f"epoch {result.epoch} with valid_loss {result.valid_loss!r}"
        raise _damaged(trial, f"epoch {epoch} has valid_loss {valid_loss!r}, but its other measures are of {found}")
    return result


def _damaged(trial: FrozenTrial, what: str) -> UserError:
    return UserError(
        f"trial {trial.number}: the record is damaged: {what}. "
        "Restore the storage from a copy, or start a new study under another name"
    )


def _refuse_change(study: Study, recorded: dict[str, Any]) -> None:
    # By way of JSON: that is how the record came back.
    now = json.loads(json.dumps(study.identity()))
    if now == recorded:
        return
    lines = difflib.unified_diff(_yaml(recorded), _yaml(now), "as it was started", "as the file says now", lineterm="")
    raise UserError(
        f"the study {study.name!r} was started with another study file:\n"
        + "\n".join(lines)
        + "\nOnly budget.n_trials may change in a study that has begun. Take the change back, or give it another name."
    )


def _refuse_shrinking(study: Study, n_recorded: int) -> None:
    """Trials beyond the budget would never end."""
    if study.budget.n_trials < n_recorded:
        raise UserError(
            f"budget.n_trials is {study.budget.n_trials}, and {n_recorded} trials of the study {study.name!r} are "
            f"recorded already; make it {n_recorded} or more, or give the study another name"
        )


def _refuse_other_data(name: str, recorded: Mapping[str, str], now: Mapping[str, str]) -> None:
    key = "dataset_digest"
    if recorded.get(key) != now.get(key):
        raise UserError(
            f"the study {name!r} was started on a dataset with digest {recorded.get(key)}, "
            f"and the one prepared here has {now.get(key)}"
        )


def _yaml(document: dict[str, Any]) -> Sequence[str]:
    text = io.StringIO()
    yaml = YAML()
    yaml.width = 10_000
    yaml.dump(document, text)
    return text.getvalue().splitlines()
