"""Decoding returns the jobs and messages that were encoded, to the last bit."""

import dataclasses
import math

from hypothesis import given
from hypothesis import strategies as st

from mnist_hpo.executors.job import DataRef, Job, Resources, decode_job, encode_job
from mnist_hpo.executors.messages import (
    EpochDone,
    Halted,
    JobDone,
    JobLost,
    Message,
    WorkerReady,
    decode_message,
    encode_message,
)
from mnist_hpo.learners.config import TrainingConfig
from mnist_hpo.learners.result import EpochResult

NUMBERS = st.floats(allow_nan=False)
RESULTS = st.builds(
    EpochResult,
    **{field.name: NUMBERS for field in dataclasses.fields(EpochResult)}
    | {"epoch": st.integers(1, 1000), "valid_loss": st.none() | NUMBERS, "valid_accuracy": st.none() | NUMBERS},
)
MESSAGES = st.one_of(
    st.builds(EpochDone, st.text(), RESULTS, st.dictionaries(st.text(), st.text())),
    st.builds(JobDone, st.text(), st.integers(0, 1000)),
    st.builds(JobLost, st.text(), st.text()),
    st.builds(Halted, st.text()),
    st.builds(WorkerReady),
)
JOBS = st.builds(
    Job,
    key=st.text(),
    training=st.builds(
        TrainingConfig,
        model=st.just("mlp"),
        parameters=st.dictionaries(st.text(), st.booleans() | st.integers() | NUMBERS | st.text()),
        seed=st.integers(0, 2**63 - 1),
        max_epochs=st.integers(1),
        patience_epochs=st.none() | st.integers(1),
        schedule_epochs=st.none() | st.integers(1),
    ),
    data=st.builds(DataRef, st.text(), st.text(), st.integers(2), st.sampled_from(["search", "development"])),
    last_epoch=st.integers(1),
    checkpoint=st.text(),
    resources=st.builds(Resources, st.integers(1), st.integers(0)),
    affinity=st.text(),
)


@given(JOBS)
def test_a_job_is_decoded_as_it_was_encoded(job: Job) -> None:
    assert repr(decode_job(encode_job(job))) == repr(job)


@given(MESSAGES)
def test_a_message_is_decoded_as_it_was_encoded(message: Message) -> None:
    assert repr(decode_message(encode_message(message))) == repr(message)


def test_nan_and_infinite_losses_survive_encoding() -> None:
    seconds = {field.name: 0.0 for field in dataclasses.fields(EpochResult)}
    result = EpochResult(**seconds | {"epoch": 1, "train_loss": math.nan, "valid_loss": math.inf})
    event = EpochDone("0", result, {"cpu": "x86_64"})
    received = decode_message(encode_message(event))
    assert isinstance(received, EpochDone)
    assert received.result.same_numbers(event.result)
    assert received.result.diverged
