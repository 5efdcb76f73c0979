"""What a result depends on besides the study file is recorded as this process really has it."""

import os
import subprocess
import sys

import numpy as np
import pytest

from mnist_hpo.spec.provenance import provenance

PRINT = "from mnist_hpo.spec.provenance import provenance; print(provenance()['numpy.cpu_features'])"


def features(**environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PRINT], env=os.environ | environment, check=True, capture_output=True, text=True
    )
    return done.stdout.split()


def test_the_features_that_numpy_uses_are_recorded() -> None:
    found = features()
    assert found
    assert found == provenance()["numpy.cpu_features"].split()


def test_a_feature_that_is_switched_off_is_not_recorded() -> None:
    switchable = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    if not switchable:
        pytest.skip("this CPU has only what NumPy always uses")
    assert features(NPY_DISABLE_CPU_FEATURES=switchable[-1]) == features()[:-1]


def test_all_entries_are_short_texts() -> None:
    """They are MLflow tags, rows of a report and entries of a bundle."""
    assert all(isinstance(value, str) and 0 < len(value) < 200 for value in provenance().values())
