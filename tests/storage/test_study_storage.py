"""Records are read back bit for bit, and a study with results can be changed only by extending it."""

import dataclasses
import math
import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from policy_driver import Driver, Started

from mnist_hpo.learners.result import EpochResult
from mnist_hpo.spec.errors import UserError
from mnist_hpo.spec.reader import StudyFile
from mnist_hpo.storage.connect import open_storage
from mnist_hpo.storage.records import TrialRecord, best_of, count_states, history_sha256
from mnist_hpo.storage.study_storage import StudyStorage, study_names

StudyOf = Callable[..., StudyFile]

CONTEXT = {"dataset_digest": "c656", "version.jax": "0.10"}
ODD = [0.1, 1 / 3, math.pi * 1e-300, 5e-324, 1.7976931348623157e308, -0.0, 2.0**-1074, 123456789.123456789]


def result_of(epoch: int, loss: float) -> EpochResult:
    measures = {"epoch": epoch, "train_loss": loss, "valid_loss": loss, "valid_accuracy": loss}
    return EpochResult(**{field.name: 1 / 3 for field in dataclasses.fields(EpochResult)} | {"worker": 1} | measures)


def create(url: str, file: StudyFile, **context: str) -> StudyStorage:
    return StudyStorage.create(url, file.study, study_file=file.text, context=CONTEXT | context)


def propose(file: StudyFile, n: int) -> list[Started]:
    driver = Driver(file.study)
    return [driver.start() for _ in range(n)]


def write_all_states(storage: StudyStorage, file: StudyFile) -> list[TrialRecord]:
    """Write a complete, a pruned, a failed and a running trial; return them as written."""
    for proposal in propose(file, 4):
        storage.start_trial(proposal.number, proposal.parameters, proposal.distributions, proposal.costs)
    for epoch, loss in enumerate(ODD, start=1):
        storage.add_epoch(0, result_of(epoch, loss))
    storage.add_epoch(1, result_of(1, 0.7))
    last = storage.add_epoch(3, result_of(1, 0.3))
    return [
        storage.finish_trial(0, "complete", [5e-324]),
        storage.finish_trial(1, "pruned"),
        storage.finish_trial(2, "failed", reason="diverged at epoch 1"),
        last,
    ]


def without_end(trial: TrialRecord) -> TrialRecord:
    return dataclasses.replace(trial, finished_unix_s=None)


def test_trials_are_read_back_as_written(url: str, study_of: StudyOf) -> None:
    file = study_of()
    storage = create(url, file)
    began_unix_s = time.time()
    written = write_all_states(storage, file)
    ended_unix_s = time.time()
    storage.close()
    read = StudyStorage.load(url, "small").trials()
    # The storage records its own end time, slightly before `finish_trial` does.
    assert [without_end(trial) for trial in read] == [without_end(trial) for trial in written]
    for now, then in zip(read, written, strict=True):
        assert (now.finished_unix_s is None) == (then.finished_unix_s is None) == (now.state == "running")
        if now.finished_unix_s is not None:
            assert math.floor(began_unix_s) <= now.finished_unix_s <= ended_unix_s
    losses = list(read[0].valid_loss.values())
    assert [loss.hex() for loss in losses] == [loss.hex() for loss in ODD], "bit for bit, including the sign of zero"
    assert count_states(read) == {"complete": 1, "pruned": 1, "failed": 1, "running": 1, "paused": 0}
    assert best_of(read) == read[0]


def test_hyperparameters_keep_their_types_and_bits(url: str, study_of: StudyOf) -> None:
    file = study_of("n_trials: 4", "n_trials: 20")
    storage = create(url, file)
    proposals = propose(file, 20)
    for proposal in proposals:
        storage.start_trial(proposal.number, proposal.parameters, proposal.distributions, proposal.costs)
    for proposal, trial in zip(proposals, StudyStorage.load(url, "small").trials(), strict=True):
        assert repr(dict(sorted(trial.parameters.items()))) == repr(dict(sorted(proposal.parameters.items())))


def test_any_loss_is_read_back_bit_for_bit(url: str, study_of: StudyOf) -> None:
    file, draw = study_of(), random.Random(url)
    losses: list[float] = [loss for (loss,) in struct.iter_unpack("d", draw.randbytes(8 * 120)) if math.isfinite(loss)]
    storage = create(url, file)
    (proposal,) = propose(file, 1)
    storage.start_trial(0, proposal.parameters, proposal.distributions, proposal.costs)
    for epoch, loss in enumerate(losses, start=1):
        storage.add_epoch(0, result_of(epoch, loss))
    storage.finish_trial(0, "complete", [min(losses)])
    storage.close()
    (read,) = StudyStorage.load(url, "small").trials()
    assert [loss.hex() for loss in read.valid_loss.values()] == [loss.hex() for loss in losses]
    assert all(result.same_numbers(result_of(epoch, losses[epoch - 1])) for epoch, result in read.epochs.items())
    assert read.value is not None
    assert read.value.hex() == min(losses).hex()


def test_optuna_can_read_the_record(url: str, study_of: StudyOf) -> None:
    file = study_of()
    write_all_states(create(url, file), file)
    storage = url if url.startswith("sqlite") else None
    if storage is None:
        backend = optuna.storages.journal.JournalFileBackend(url.removeprefix("journal:///"))
        storage = optuna.storages.JournalStorage(backend)
    study = optuna.load_study(study_name="small", storage=storage)
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "PRUNED", "FAIL", "RUNNING"]
    assert study.best_trial.number == 0
    assert list(study.trials[0].intermediate_values.values()) == ODD
    assert study.trials[2].user_attrs["reason"] == "diverged at epoch 1"


def test_a_study_that_is_opened_again_continues(url: str, study_of: StudyOf) -> None:
    file = study_of()
    first = create(url, file)
    write_all_states(first, file)
    uid = first.uid
    first.close()
    again = create(url, file)
    assert again.uid == uid
    assert len(again.trials()) == 4
    again.add_epoch(3, result_of(2, 0.25))
    again.finish_trial(3, "complete", [0.25])
    assert best_of(StudyStorage.load(url, "small").trials()) == again.trials()[0]
    assert list(StudyStorage.load(url, "small").trials()[3].valid_loss.values()) == [0.3, 0.25]


@pytest.mark.parametrize(
    ("old", "new"), [("n_trials: 4", "n_trials: 400"), ("description: a search", "description: the search")]
)
def test_a_larger_budget_and_another_description_are_accepted(url: str, study_of: StudyOf, old: str, new: str) -> None:
    create(url, study_of()).close()
    after = study_of(old, new)
    storage = create(url, after)
    assert storage.study_file == after.text


def test_a_budget_below_the_recorded_trials_is_refused(url: str, study_of: StudyOf) -> None:
    file = study_of()
    write_all_states(create(url, file), file)
    with pytest.raises(UserError) as caught:
        create(url, study_of("n_trials: 4", "n_trials: 3"))
    assert str(caught.value) == (
        "budget.n_trials is 3, but 4 trials of the study 'small' are already recorded; "
        "make it 4 or more, or give the study another name"
    )
    assert len(create(url, file).trials()) == 4


def test_a_changed_file_is_refused_with_a_diff(url: str, study_of: StudyOf) -> None:
    file = study_of()
    write_all_states(create(url, file), file)
    changed = study_of("slots: 2", "slots: 3", "high: 0.5", "high: 0.75", "n_trials: 4", "n_trials: 8")
    with pytest.raises(UserError) as caught:
        create(url, changed)
    message = str(caught.value)
    assert message.startswith("the study 'small' was started with another study file:\n")
    lines = message.splitlines()
    assert [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")] == [
        "-slots: 2",
        "+slots: 3",
        "-    high: 0.5",
        "+    high: 0.75",
    ]
    assert lines[-1] == (
        "Only budget.n_trials may change in a study that has results. Revert the change, or rename the study."
    )
    assert len(create(url, file).trials()) == 4, "no trial is lost"
    assert StudyStorage.load(url, "small").study_file == file.text


def start_two_trials(storage: StudyStorage, file: StudyFile) -> None:
    for proposal in propose(file, 2):
        storage.start_trial(proposal.number, proposal.parameters, proposal.distributions, proposal.costs)


@pytest.mark.parametrize(
    "change", [("slots: 2", "slots: 3"), ("high: 0.5", "high: 0.75"), ("n_trials: 4", "n_trials: 1")]
)
def test_a_study_without_results_restarts_if_its_file_changes(
    url: str, study_of: StudyOf, change: tuple[str, str]
) -> None:
    before = create(url, study_of())
    start_two_trials(before, study_of())
    uid, folder_name = before.uid, before.folder_name
    before.close()
    after = study_of(*change)
    storage = create(url, after, dataset_digest="beef")
    assert storage.trials() == []
    assert storage.uid != uid
    assert storage.study_file == after.text
    assert storage.context["dataset_digest"] == "beef"
    assert storage.replaced_uids == (uid,)
    assert storage.replaced_folder_names == [folder_name]


def test_all_replaced_uids_are_recorded(url: str, study_of: StudyOf) -> None:
    uids = [create(url, study_of("seed: 1", f"seed: {seed}")).uid for seed in range(3)]
    storage = StudyStorage.load(url, "small")
    assert (*storage.replaced_uids, storage.uid) == tuple(uids)
    assert study_names(url) == ["small"]


def test_a_study_without_results_continues_if_its_file_is_unchanged(url: str, study_of: StudyOf) -> None:
    storage = create(url, study_of())
    start_two_trials(storage, study_of())
    again = create(url, study_of())
    assert (again.uid, len(again.trials()), again.replaced_uids) == (storage.uid, 2, ())


@pytest.mark.parametrize("ended", [False, True])
def test_one_epoch_or_one_diverged_trial_counts_as_a_result(url: str, study_of: StudyOf, ended: bool) -> None:
    storage = create(url, study_of())
    start_two_trials(storage, study_of())
    if ended:
        storage.finish_trial(1, "failed", reason="diverged at epoch 1")
    else:
        storage.add_epoch(1, result_of(1, 0.5))
    with pytest.raises(UserError, match="was started with another study file"):
        create(url, study_of("slots: 2", "slots: 3"))


def test_the_order_of_keys_does_not_matter(url: str, study_of: StudyOf) -> None:
    create(url, study_of()).close()
    create(url, study_of("seed: 1\ndataset: mnist\n", "dataset: mnist\nseed: 1\n")).close()


def test_another_dataset_is_refused(url: str, study_of: StudyOf) -> None:
    write_all_states(create(url, study_of()), study_of())
    with pytest.raises(UserError, match="digest c656, but the dataset prepared here has beef"):
        create(url, study_of(), dataset_digest="beef")


CPU = {"cpu": "x86_64 avx2 avx512f", "numpy.cpu_features": "X86_V2 X86_V3 X86_V4", "version.numpy": "2.4.6"}


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (
            {"cpu": "x86_64 avx2"},
            "another kind of CPU, 'x86_64 avx2 avx512f' (here 'x86_64 avx2'; missing here: avx512f)",
        ),
        (
            {"cpu": "x86_64 avx2 avx512f amx_bf16"},
            "'x86_64 avx2 avx512f' (here 'x86_64 avx2 avx512f amx_bf16'; only here: amx_bf16)",
        ),
        (
            {"numpy.cpu_features": "X86_V2 X86_V3 AVX512_ICL"},
            "NumPy using other CPU features, 'X86_V2 X86_V3 X86_V4' (here 'X86_V2 X86_V3 AVX512_ICL'; "
            "missing here: X86_V4; only here: AVX512_ICL); the sampler would propose other hyperparameters. "
            "Set NPY_DISABLE_CPU_FEATURES as it was then",
        ),
    ],
)
def test_another_cpu_is_refused_with_the_differences(
    url: str, study_of: StudyOf, now: dict[str, str], message: str
) -> None:
    write_all_states(create(url, study_of(), **CPU), study_of())
    with pytest.raises(UserError) as caught:
        create(url, study_of(), **CPU | now)
    assert message in str(caught.value)
    assert len(create(url, study_of(), **CPU).trials()) == 4


def test_a_record_of_an_earlier_version_without_features_is_accepted(url: str, study_of: StudyOf) -> None:
    write_all_states(create(url, study_of()), study_of())
    assert len(create(url, study_of(), **CPU).trials()) == 4


@pytest.mark.parametrize(("then", "now"), [({"kernels": "on"}, "off"), ({"kernels": "off"}, "on"), ({}, "off")])
def test_a_study_with_another_kernels_setting_is_refused(
    url: str, study_of: StudyOf, then: dict[str, str], now: str
) -> None:
    """Records of earlier versions lack the setting; the kernels were always on."""
    write_all_states(create(url, study_of(), **then), study_of())
    with pytest.raises(UserError, match=f"MNIST_HPO_KERNELS={then.get('kernels', 'on')}, but now it is {now};"):
        create(url, study_of(), kernels=now)
    assert len(create(url, study_of(), **then).trials()) == 4
    assert len(create(url, study_of(), kernels=then.get("kernels", "on")).trials()) == 4


def test_another_version_of_numpy_may_name_the_features_differently(url: str, study_of: StudyOf) -> None:
    write_all_states(create(url, study_of(), **CPU), study_of())
    other = CPU | {"numpy.cpu_features": "SSE42 AVX2 AVX512_SKX", "version.numpy": "2.3.0"}
    assert len(create(url, study_of(), **other).trials()) == 4


def test_the_first_recorded_versions_are_kept(url: str, study_of: StudyOf) -> None:
    create(url, study_of()).close()
    assert create(url, study_of(), **{"version.jax": "0.11"}).context == CONTEXT


def test_a_study_of_another_program_is_refused_and_unchanged(url: str, study_of: StudyOf) -> None:
    create(url, study_of("name: small", "name: other")).close()
    study = optuna.create_study(study_name="small", storage=open_storage(url))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(UserError, match=r"holds a study 'small' that is not mnist-hpo's; rename yours"):
        create(url, study_of())


def test_the_error_about_a_missing_study_lists_the_existing_ones(url: str, study_of: StudyOf) -> None:
    for name in ("quick", "paper"):
        create(url, study_of("name: small", f"name: {name}")).close()
    assert study_names(url) == ["paper", "quick"]
    with pytest.raises(UserError) as caught:
        StudyStorage.load(url, "qick")
    assert str(caught.value) == f"no study 'qick' in {url}; did you mean 'quick'?; there are paper, quick"


def test_reading_a_missing_storage_does_not_create_it(url: str, tmp_path: Path) -> None:
    path = url.split(":///")[1]
    with pytest.raises(UserError, match=f"no storage yet at {path}; .* --storage .* storage=.* mnist-hpo run"):
        StudyStorage.load(url, "small")
    assert not (tmp_path / "state").exists()


def history() -> list[TrialRecord]:
    epochs = {epoch: result_of(epoch, loss) for epoch, loss in enumerate(ODD[:3], start=1)}
    return [
        TrialRecord(0, "complete", {"width": 32, "dropout": 0.25}, epochs, 0.1, None, 1.0, 2.0),
        TrialRecord(1, "failed", {"width": 64, "dropout": 0.5}, {}, None, "diverged at epoch 1", 3.0, 4.0),
        TrialRecord(2, "running", {"width": 64, "dropout": 0.0}, epochs, None, None, 5.0, None),
    ]


def test_the_history_hash_is_fixed() -> None:
    # Users compare hashes of different versions.
    assert history_sha256(history()) == "ad151eb66397b8cff914ad6484bb8ce23d01ee699ae1009c3b397c454586282e"


def test_the_history_hash_does_not_depend_on_times_or_order() -> None:
    trials, expected = history(), history_sha256(history())
    later = [dataclasses.replace(trial, started_unix_s=9.0, finished_unix_s=10.0) for trial in trials]
    slow = {epoch: dataclasses.replace(r, total_s=9.0, compile_s=1.0) for epoch, r in trials[0].epochs.items()}
    turned = [dataclasses.replace(trials[0], parameters={"dropout": 0.25, "width": 32}), *trials[1:]]
    assert history_sha256(later) == expected
    assert history_sha256([dataclasses.replace(trials[0], epochs=slow), *trials[1:]]) == expected
    assert history_sha256(reversed(trials)) == expected
    assert history_sha256(turned) == expected
    assert history_sha256(trials[:2]) == expected, "running trials are not part of the history"


def test_the_history_hash_depends_on_every_bit_of_the_results() -> None:
    trials = history()
    first = trials[0]
    bit = {**first.epochs, 2: result_of(2, math.nextafter(1 / 3, 1))}
    others = [
        [dataclasses.replace(first, epochs=bit), *trials[1:]],
        [dataclasses.replace(first, epochs={1: first.epochs[1]}), *trials[1:]],
        [dataclasses.replace(first, value=math.nextafter(0.1, 1)), *trials[1:]],
        [dataclasses.replace(first, state="pruned", value=None), *trials[1:]],
        [dataclasses.replace(first, parameters={"width": 64, "dropout": 0.25}), *trials[1:]],
        trials[:1],
    ]
    assert len({history_sha256(other) for other in [trials, *others]}) == 7


def test_the_best_trial_is_the_first_with_the_lowest_value() -> None:
    def complete(number: int, value: float) -> TrialRecord:
        return TrialRecord(number, "complete", {}, value=value)

    trials = [complete(0, 0.3), complete(1, 0.2), complete(2, 0.2), TrialRecord(3, "pruned", {})]
    best = best_of(trials)
    assert best is not None
    assert best.number == 1
    assert best_of(trials[3:]) is None


def test_a_record_without_worker_numbers_still_loads(url: str, study_of: StudyOf) -> None:
    storage = create(url, study_of())
    (proposal,) = propose(study_of(), 1)
    storage.start_trial(0, proposal.parameters, proposal.distributions, proposal.costs)
    old = dataclasses.asdict(result_of(1, 0.5))
    del old["worker"]
    study = optuna.load_study(study_name=storage.name, storage=open_storage(url))
    (trial,) = study.get_trials()
    study._storage.set_trial_user_attr(trial._trial_id, "epoch:1", old)
    study._storage.set_trial_intermediate_value(trial._trial_id, 1, 0.5)
    (record,) = StudyStorage.load(url, storage.name).trials()
    assert record.epochs[1].worker is None
    assert record.epochs[1].same_numbers(result_of(1, 0.5))


def test_the_history_hash_does_not_depend_on_the_worker(url: str, study_of: StudyOf) -> None:
    storage = create(url, study_of())
    records = write_all_states(storage, study_of())
    by_another = [
        dataclasses.replace(r, epochs={e: dataclasses.replace(result, worker=7) for e, result in r.epochs.items()})
        for r in records
    ]
    assert history_sha256(by_another) == history_sha256(records)
