"""Run `scripts/prove_determinism.py` in its short and its full form, which are both slow tests."""

import subprocess
import sys

import pytest
from command import ENVIRONMENT, ROOT


def prove(*options: str) -> int:
    """Run the script, which prints a line after each run of the study; return its exit code."""
    command = [sys.executable, ROOT / "scripts" / "prove_determinism.py", *options]
    return subprocess.run(command, env=ENVIRONMENT).returncode


@pytest.mark.slow
def test_two_kills_do_not_change_the_history() -> None:
    assert prove("--short", "--kills", "2") == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thirty_kills_do_not_change_the_history() -> None:
    assert prove("--kills", "30") == 0


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("search", ["asha", "pareto"])
def test_kills_and_an_extension_do_not_change_the_history_of_other_searches(search: str) -> None:
    assert prove("--study", search, "--kills", "8") == 0
