"""What else a result depends on besides the study file: versions, the code's commit, the CPU's instruction set."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

_PACKAGES = ("mnist-hpo", "jax", "jaxlib", "flax", "optax", "numpy", "optuna")
_VECTOR_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd")


def provenance() -> dict[str, str]:
    """Names and values as they are recorded with a study, a run and a model."""
    versions = {f"version.{package}": version(package) for package in _PACKAGES}
    commit = git_commit()
    return {
        **versions,
        "version.python": platform.python_version(),
        "cpu": f"{platform.machine()} {' '.join(_vector_flags())}".strip(),
        **({"git_commit": commit} if commit else {}),
    }


def git_commit() -> str | None:
    """The commit that the package runs from, with "+changes" where files differ from it; None outside a checkout."""
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


def _vector_flags() -> list[str]:
    """The instruction sets that decide which kernels XLA makes; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return []
    line = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return [flag for flag in _VECTOR_FLAGS if flag in line.split()]
