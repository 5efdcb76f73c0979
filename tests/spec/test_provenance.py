"""The recorded provenance matches the process: NumPy's CPU features and the kernels setting."""

import os
import subprocess
import sys

import numpy as np
import pytest

from mnist_hpo.spec.errors import UserError
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
        pytest.skip("this CPU has only the features of NumPy's baseline")
    assert features(NPY_DISABLE_CPU_FEATURES=switchable[-1]) == features()[:-1]


@pytest.mark.parametrize(("variable", "recorded"), [(None, "on"), ("", "on"), ("on", "on"), ("off", "off")])
def test_whether_the_kernels_are_on_is_recorded(
    variable: str | None, recorded: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MNIST_HPO_KERNELS", raising=False)
    if variable is not None:
        monkeypatch.setenv("MNIST_HPO_KERNELS", variable)
    assert provenance()["kernels"] == recorded


def test_an_unknown_setting_of_the_kernels_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MNIST_HPO_KERNELS", "0")
    with pytest.raises(UserError, match=r"MNIST_HPO_KERNELS is '0'; it must be on \(the default\) or off"):
        provenance()


def test_all_entries_are_short_strings() -> None:
    """They become MLflow tags, rows of the report and entries of a bundle."""
    assert all(isinstance(value, str) and 0 < len(value) < 200 for value in provenance().values())
