"""One coordinator a study, among real processes."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Generator

import pytest

from mnist_hpo.spec.errors import UserError
from mnist_hpo.storage.lock import is_held, study_lock

HOLD = """\
import sys, time
from mnist_hpo.storage.lock import study_lock
with study_lock(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    time.sleep(1000)
"""

HOLD_WITH_A_CHILD = """\
import subprocess, sys, time
from mnist_hpo.storage.lock import study_lock
with study_lock(sys.argv[1], sys.argv[2]):
    print(subprocess.Popen(["sleep", "1000"]).pid, flush=True)
    time.sleep(1000)
"""


@pytest.fixture
def holder(url: str) -> Generator["subprocess.Popen[str]"]:
    """Another process that holds the study."""
    command = [sys.executable, "-c", HOLD, url, "small"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_coordinator_is_told_who_holds_the_study(url: str, holder: "subprocess.Popen[str]") -> None:
    with pytest.raises(UserError) as caught, study_lock(url, "small"):
        pass
    found = re.fullmatch(
        r"the study 'small' is being run already, by process (\d+) on (\S+), started (.+); "
        r"wait for it, or stop it, then run again",
        str(caught.value),
    )
    assert found is not None
    assert int(found[1]) == holder.pid
    assert found[2] == socket.gethostname()[:24]
    started = time.mktime(time.strptime(found[3], "%Y-%m-%d %H:%M:%S"))
    assert abs(time.time() - started) < 600


def test_whether_it_is_held_can_be_asked_without_disturbing(url: str, holder: "subprocess.Popen[str]") -> None:
    assert is_held(url, "small")
    assert not is_held(url, "other")
    with study_lock(url, "other"):
        assert is_held(url, "other")
    assert not is_held(url, "other")
    assert is_held(url, "small")


def test_it_is_free_once_its_holder_is_killed(url: str, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.wait()
    assert not is_held(url, "small")


def test_another_study_of_the_same_storage_is_free(url: str, holder: "subprocess.Popen[str]") -> None:
    with study_lock(url, "other"):
        pass


def test_a_killed_coordinator_holds_nothing(url: str, holder: "subprocess.Popen[str]") -> None:
    holder.kill()
    holder.wait()
    with study_lock(url, "small"):
        pass


def test_the_lock_is_free_after_its_context_and_after_an_error(url: str) -> None:
    with (
        study_lock(url, "small"),
        pytest.raises(UserError, match=f"by process {os.getpid()} "),
        study_lock(url, "small"),
    ):
        pass
    with pytest.raises(KeyError), study_lock(url, "small"):
        raise KeyError
    with study_lock(url, "small"):
        pass


def test_the_children_of_a_killed_coordinator_do_not_keep_the_lock(url: str) -> None:
    """Workers outlive their coordinator by a moment."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_WITH_A_CHILD, url, "small"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.kill()
        process.wait()
        try:
            with study_lock(url, "small"):
                pass
        finally:
            os.kill(child, 9)
