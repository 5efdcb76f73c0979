"""Provenance: what a result depends on besides the study file (versions, the code's commit, the CPU's features)."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np

from mnist_hpo.spec.errors import UserError

_COMPUTING_PACKAGES = ("mnist-hpo", "jax", "jaxlib", "flax", "optax", "numpy", "numba", "scikit-learn")
"""Packages whose code runs in a training."""
_PACKAGES = ("mnist-hpo", "jax", "jaxlib", "flax", "optax", "numpy", "numba", "llvmlite", "optuna")
_VECTOR_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd")

CPU, KERNELS, NUMPY_FEATURES, NUMPY_VERSION = "cpu", "kernels", "numpy.cpu_features", "version.numpy"
"""Names of the entries that are compared when a study continues."""


def provenance() -> dict[str, str]:
    """Return the provenance as names and values, as recorded with a study, a run and a model."""
    commit = git_commit()
    return {
        **_versions(_PACKAGES),
        "version.python": platform.python_version(),
        CPU: _cpu(),
        NUMPY_FEATURES: numpy_features(),
        KERNELS: kernels_setting(),
        **({"git_commit": commit} if commit else {}),
    }


def fingerprint() -> Mapping[str, str]:
    """Return what the result of a training depends on besides its configuration and its data: CPU, kernels, versions.

    Two processes with equal fingerprints compute the same bits.
    """
    return {CPU: _cpu(), KERNELS: kernels_setting(), **_versions(_COMPUTING_PACKAGES)}


def kernels_setting() -> str:
    """Return "on" if trainings on a CPU call the package's kernels, or "off" if they use the references in JAX.

    The environment variable `MNIST_HPO_KERNELS` sets this; the default is "on". The two sum in different orders and
    approximate exp, log and reciprocals differently, so losses differ in their last digits.

    Raises:
        UserError: the variable has another value.

    """
    setting = os.environ.get("MNIST_HPO_KERNELS") or "on"
    if setting not in ("on", "off"):
        raise UserError(f"MNIST_HPO_KERNELS is {setting!r}; it must be on (the default) or off")
    return setting


def git_commit() -> str | None:
    """Return the commit of the package's checkout, with "+changes" if files differ from it; None outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return f"{commit}+changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else commit
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def numpy_features() -> str:
    """Return the CPU features that this process's NumPy uses.

    NumPy has several loops for exp, log, log1p, expm1, pow, tanh and arctan, which differ in the last bit, and selects
    one by these features. TPE calls exp and log, so its samples depend on them. NPY_DISABLE_CPU_FEATURES switches some
    of them off, which /proc/cpuinfo does not show.
    """
    configuration = np.show_config(mode="dicts")
    assert configuration is not None  # It is None only in the mode that prints.
    extensions = configuration["SIMD Extensions"]
    return " ".join([*extensions["baseline"], *extensions.get("found", [])])


@cache
def _versions(packages: Sequence[str]) -> Mapping[str, str]:
    return {f"version.{package}": version(package) for package in packages}


@cache
def _cpu() -> str:
    return f"{platform.machine()} {' '.join(_vector_flags())}".strip()


def _vector_flags() -> list[str]:
    """Return the instruction sets that determine XLA's code; empty if the system does not report them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return [flag for flag in _VECTOR_FLAGS if flag in line.split()]
