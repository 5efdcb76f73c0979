"""Numba's decorators with types, and the cache of its machine code."""

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
"""Where `CACHE_DIR` cannot be used, Numba would otherwise use the source's folder, whatever the sources were then."""


def compiled(function: F) -> F:
    """Make a function that other compiled functions call; it is not meant to be called from Python.

    Division by zero follows IEEE 754. Nothing is reassociated or contracted, so the results are the same at any vector
    width, on any CPU.
    """
    return cast(F, njit(error_model="numpy")(function))


def instruction(result: Any, *operands: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function of Numba code from one that emits LLVM instructions.

    Args:
        result: the Numba type of the result.
        operands: the Numba types of the arguments. What is decorated takes an llvmlite `IRBuilder` and their values.

    """

    def decorate(emit: Callable[..., Any]) -> Callable[..., Any]:
        def define(_typing: Any, *_types: Any) -> Any:
            return result(*operands), lambda _context, builder, _signature, values: emit(builder, *values)

        # Numba gives what is decorated these names and this number of arguments, without the first one.
        define.__name__, cast(Any, define).__signature__ = emit.__name__, inspect.signature(emit)
        return cast(Callable[..., Any], intrinsic(define))

    return decorate


def compile_handler(handler: Callable[[Any], Any]) -> int:
    """Compile a handler of XLA's foreign function interface for this CPU; return its address.

    The machine code is kept beside JAX's compiled programs, where JAX keeps them: compiling takes seconds.
    """
    directory = _cache_directory()
    if directory is not None:
        # Whatever is wrong with the cache (it may be damaged, full, or not writable), no training ends for it.
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
    """Numba's settings are the process's: a notebook may have functions of its own."""
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
    """This CPU's, with long vectors where it has them: LLVM prefers short ones on some CPUs of Intel's."""
    features = llvm.get_host_cpu_features().flatten()
    return f"{features},-prefer-256-bit" if "+avx512f" in features else features


def _cache_directory() -> Path | None:
    directory = cast(Any, jax.config).jax_compilation_cache_dir
    return Path(directory) / f"kernels-{_sources_sha256()[:16]}" if directory else None


@cache
def _sources_sha256() -> str:
    """Numba notices changes of a handler's own file only, so the cache's name depends on all files."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
