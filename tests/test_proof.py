"""The proof of determinism, in short in every run of the tests and at length in the slow ones."""

import subprocess
import sys

import pytest
from command import ENVIRONMENT, ROOT


def prove(*options: str) -> int:
    """Run the proof; it prints each way as it ends."""
    command = [sys.executable, ROOT / "scripts" / "prove_determinism.py", *options]
    return subprocess.run(command, env=ENVIRONMENT).returncode


def test_two_kills_leave_one_history() -> None:
    assert prove("--short", "--kills", "2") == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thirty_kills_leave_one_history() -> None:
    assert prove("--kills", "30") == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("search", ["asha", "pareto"])
def test_kills_and_an_extension_leave_one_history_of_other_searches(search: str) -> None:
    assert prove("--study", search, "--kills", "8") == 0
