"""Workers do not inherit environment variables that could change their results."""

import pytest

from mnist_hpo.executors.environment import worker_environment


@pytest.mark.parametrize(
    "name",
    [
        "NPY_DISABLE_CPU_FEATURES",
        "NUMBA_CPU_FEATURES",
        "NUMBA_DISABLE_JIT",
        "OPENBLAS_CORETYPE",
        "GLIBC_TUNABLES",
        "XLA_FLAGS",
        "JAX_ENABLE_X64",
    ],
)
def test_a_setting_that_changes_bits_does_not_reach_a_worker(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "set by the user")
    assert worker_environment().get(name) != "set by the user"


def test_other_variables_reach_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/somewhere")
    assert worker_environment()["LD_LIBRARY_PATH"] == "/somewhere"
