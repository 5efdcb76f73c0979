"""The timeline of slots equals the scheduler's, that of workers the recorded times, and the total adds up."""

import dataclasses
from pathlib import Path

import pytest
from simulated_study import N_WORKERS, Journal, run_simulated, study_of

from mnist_hpo.analysis.study_view import StudyView
from mnist_hpo.analysis.timeline import sessions, time_spent, worker_spans
from mnist_hpo.analysis.virtual_time import slot_spans
from mnist_hpo.storage.records import TrialRecord


@pytest.fixture(scope="module")
def journal() -> Journal:
    return Journal()


@pytest.fixture(scope="module")
def view(journal: Journal, tmp_path_factory: pytest.TempPathFactory) -> StudyView:
    return run_simulated(tmp_path_factory.mktemp("timeline"), study_of(), journal)


def test_trials_end_in_the_schedulers_order(view: StudyView, journal: Journal) -> None:
    spans = slot_spans(view.study, view.trials)
    assert [span.number for span in spans] == [trial.number for trial in view.trials]
    by_end = sorted(spans, key=lambda span: (span.end_units, span.number))
    assert [span.number for span in by_end] == journal.ended
    assert {trial.state for trial in view.trials} == {"complete", "pruned", "failed"}


def test_a_slot_runs_one_trial_after_the_other_without_a_gap(view: StudyView) -> None:
    spans = slot_spans(view.study, view.trials)
    for slot in range(view.study.slots):
        own = [span for span in spans if span.slot == slot]
        assert own[0].start_units == 0
        assert [span.start_units for span in own[1:]] == [span.end_units for span in own[:-1]]


def test_a_running_trial_occupies_its_slot(tmp_path: Path) -> None:
    view = run_simulated(tmp_path, study_of(), stop_after=10)
    running = [trial.number for trial in view.trials if trial.state == "running"]
    assert running
    spans = slot_spans(view.study, view.trials)
    assert [span.number for span in spans] == [trial.number for trial in view.trials]
    for slot in range(view.study.slots):
        *ended, last = [span.number for span in spans if span.slot == slot]
        assert last in running
        assert not set(ended) & set(running)


def test_workers_are_shown_as_recorded(view: StudyView) -> None:
    spans = worker_spans(view.trials)
    assert {span.worker for span in spans} == set(range(N_WORKERS))
    shown = sorted((s.number, epoch) for s in spans for epoch in range(s.first_epoch, s.last_epoch + 1))
    assert shown == sorted((trial.number, epoch) for trial in view.trials for epoch in trial.epochs)
    for span in spans:
        last = view.trials[span.number].epochs[span.last_epoch]
        assert (last.worker, span.end_s) == (span.worker, pytest.approx(last.finished_unix_s - first_moment(view)))


def test_the_time_adds_up(view: StudyView) -> None:
    n_epochs = sum(len(trial.epochs) for trial in view.trials)
    spent = time_spent(view.trials)
    assert spent.train_s == pytest.approx(0.7 * n_epochs)
    assert spent.evaluate_s == pytest.approx(0.125 * n_epochs)
    assert spent.host_s == pytest.approx(0.05 * n_epochs)
    (session,) = sessions(view.trials)
    assert spent.idle_s == pytest.approx(N_WORKERS * session.seconds - 0.875 * n_epochs)


def test_time_between_two_runs_is_not_idle_time(view: StudyView) -> None:
    night_s = 40_000.0
    half = first_moment(view) + 40
    later = tuple(shifted(trial, half, night_s) for trial in view.trials)
    first, second = sessions(later)
    assert second.start_unix_s - first.end_unix_s > night_s - 10
    assert time_spent(later).idle_s == pytest.approx(time_spent(view.trials).idle_s, abs=10)
    assert max(span.end_s for span in worker_spans(later)) < night_s


def test_without_recorded_workers_the_idle_time_is_unknown(view: StudyView) -> None:
    old = [without_workers(trial) for trial in view.trials]
    assert worker_spans(old) == []
    assert time_spent(old).idle_s is None
    assert time_spent(old).train_s == time_spent(view.trials).train_s


def first_moment(view: StudyView) -> float:
    return min(trial.started_unix_s for trial in view.trials)


def shifted(trial: TrialRecord, after_unix_s: float, by_s: float) -> TrialRecord:
    epochs = {
        epoch: dataclasses.replace(r, finished_unix_s=r.finished_unix_s + by_s * (r.finished_unix_s > after_unix_s))
        for epoch, r in trial.epochs.items()
    }
    return dataclasses.replace(trial, epochs=epochs)


def without_workers(trial: TrialRecord) -> TrialRecord:
    return dataclasses.replace(
        trial, epochs={epoch: dataclasses.replace(r, worker=None) for epoch, r in trial.epochs.items()}
    )
