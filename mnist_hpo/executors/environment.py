"""The environment variables of every process that trains or predicts."""

from __future__ import annotations

import os
from pathlib import Path

_XLA_FLAGS = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
_CHANGES_BITS = ("JAX_", "XLA_", "FLAX_", "NNX_", "NUMBA_", "NPY_", "OPENBLAS_", "GLIBC_TUNABLES")
"""Prefixes of variables that could change results: settings of libraries, and disabled CPU features."""
_COMPILATION_CACHE_BYTES = 2 * 1024**3


def cache_directory() -> Path:
    """Return the folder of the compilation cache, which MNIST_HPO_COMPILATION_CACHE overrides."""
    named = os.environ.get("MNIST_HPO_COMPILATION_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mnist-hpo" / "xla"


def worker_environment() -> dict[str, str]:
    """Return the environment of a worker: one XLA thread, the shared cache, no setting that could change results."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_CHANGES_BITS)}
    return environment | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": _XLA_FLAGS,
        "JAX_COMPILATION_CACHE_DIR": str(cache_directory()),
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(_COMPILATION_CACHE_BYTES),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        "OMP_NUM_THREADS": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
