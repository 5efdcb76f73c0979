"""The soak: the proof of determinism with thirty random kills."""

import subprocess
import sys

import pytest
from command import ROOT


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thirty_kills_leave_one_history() -> None:
    # Its tally is printed as it comes.
    proof = subprocess.run([sys.executable, ROOT / "scripts" / "prove_determinism.py", "--kills", "30"], text=True)
    assert proof.returncode == 0
