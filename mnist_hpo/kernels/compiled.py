"""Typed wrappers of Numba's decorators, and the cache of the machine code."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Callable, Generator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import llvmlite.binding as llvm
from numba import cfunc, njit, types
from numba.core import config
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])

_ONLY_IN_CACHE_DIR = "numba.core.caching.UserProvidedCacheLocator"
"""If `CACHE_DIR` is unusable, Numba would otherwise use a cache in the source folder, possibly of other sources."""


def compiled(function: F) -> F:
    """Compile a function for calls from other compiled functions, not from Python.

    Division by zero follows IEEE 754. No operations are reassociated or contracted, so the results do not depend on the
    vector width or the CPU.
    """
    return cast(F, njit(error_model="numpy")(function))


def instruction(result: Any, *operands: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function for use in Numba code from a function that emits LLVM instructions.

    Args:
        result: the Numba type of the result.
        operands: the Numba types of the arguments. The decorated function takes an llvmlite `IRBuilder` and their
            values.

    """

    def decorate(emit: Callable[..., Any]) -> Callable[..., Any]:
        def define(_typing: Any, *_types: Any) -> Any:
            return result(*operands), lambda _context, builder, _signature, values: emit(builder, *values)

        # Numba takes the name and the arguments, without the first one, from these attributes.
        define.__name__, cast(Any, define).__signature__ = emit.__name__, inspect.signature(emit)
        return cast(Callable[..., Any], intrinsic(define))

    return decorate


def compile_handler(handler: Callable[[Any], Any]) -> int:
    """Compile a handler of XLA's foreign function interface for this CPU; return its address.

    The machine code is cached in JAX's compilation cache folder, if there is one, since compiling takes seconds.
    """
    directory = _cache_directory()
    if directory is not None:
        # A problem of the cache (damaged, full, or not writable) must not end a training.
        with contextlib.suppress(Exception):
            return _compile(handler, directory)
    return _compile(handler, None)


def _compile(handler: Callable[[Any], Any], directory: Path | None) -> int:
    place = {"CACHE_DIR": str(directory or ""), "CACHE_LOCATOR_CLASSES": _ONLY_IN_CACHE_DIR}
    with _settings(**place, CPU_FEATURES=_cpu_features()):
        decorate = cfunc(types.voidptr(types.voidptr), cache=directory is not None, error_model="numpy")
        return cast(Any, decorate(handler)).address


@contextlib.contextmanager
def _settings(**settings: str) -> Generator[None]:
    """Set Numba's settings temporarily: they are global, and a notebook may compile its own functions."""
    before = {name: getattr(config, name) for name in settings}
    _set(settings)
    try:
        yield
    finally:
        _set(before)


def _set(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        setattr(config, name, value)


def _cpu_features() -> str:
    """Return this CPU's features, with 512-bit vectors enabled; LLVM prefers shorter ones on some Intel CPUs."""
    features = llvm.get_host_cpu_features().flatten()
    return f"{features},-prefer-256-bit" if "+avx512f" in features else features


def _cache_directory() -> Path | None:
    directory = cast(Any, jax.config).jax_compilation_cache_dir
    return Path(directory) / f"kernels-{_sources_sha256()[:16]}" if directory else None


@cache
def _sources_sha256() -> str:
    """Return a digest of all kernel sources for the cache's name, since Numba detects changes only in one file."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
