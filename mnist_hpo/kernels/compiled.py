"""Typed versions of Numba's decorators, and the cache of compiled machine code."""

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
"""Otherwise Numba would fall back to the source's folder, whose cache may be of older sources."""


def compiled(function: F) -> F:
    """Compile a function for other compiled functions. Do not call it from Python.

    Division by zero follows IEEE 754. Operations are not reassociated or contracted, so results are the same for any
    vector width and on any CPU.
    """
    # Skip the entry points for calls from Python and C, which take time to compile.
    return cast(Any, njit)(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)


def inlined(function: F) -> F:
    """Inline a function into its only caller, which compiles faster than `compiled`. It must not return early."""
    return cast(F, njit(error_model="numpy", inline="always")(function))


def instruction(result: Any, *operands: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate a function that emits LLVM instructions, so that compiled functions can call it.

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
    """Compile a handler of XLA's foreign function interface for this CPU, and return its address.

    The machine code is cached beside JAX's persistent compilation cache, if there is one: compiling takes seconds.
    """
    directory = _cache_directory()
    if directory is not None:
        # A broken cache (damaged, full or not writable) must not stop a training.
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
    """Change Numba's settings within the context. They are global, and a notebook may use Numba itself."""
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
    """Return this CPU's features, with 512-bit vectors if it has them: LLVM prefers 256 bits on some Intel CPUs."""
    features = llvm.get_host_cpu_features().flatten()
    return f"{features},-prefer-256-bit" if "+avx512f" in features else features


def _cache_directory() -> Path | None:
    directory = cast(Any, jax.config).jax_compilation_cache_dir
    return Path(directory) / f"kernels-{_sources_sha256()[:16]}" if directory else None


@cache
def _sources_sha256() -> str:
    """Return a digest of all kernels, for the name of the cache: Numba only notices changes of a handler's own file."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
