"""Numba's decorators with types, and the cache of its machine code."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, TypeVar, cast

import jax
import llvmlite.binding as llvm
from numba import cfunc, njit, types
from numba.core import config
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])


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

    The machine code is kept beside JAX's compiled programs. Numba notices changes of the handler's own file only, so
    the folder's name depends on all files.
    """
    with _cache_in(_cache_directory()):
        return cast(Any, cfunc(types.voidptr(types.voidptr), cache=True, error_model="numpy")(handler)).address


@contextlib.contextmanager
def _cache_in(directory: str | None) -> Generator[None]:
    """Numba's settings are the process's: a notebook may have functions of its own."""
    settings = cast(Any, config)
    before = settings.CACHE_DIR
    settings.CPU_FEATURES = _cpu_features()
    settings.CACHE_DIR = directory or before
    try:
        yield
    finally:
        settings.CACHE_DIR = before


def _cpu_features() -> str:
    """This CPU's, with long vectors where it has them: LLVM prefers short ones on some CPUs of Intel's."""
    features = llvm.get_host_cpu_features().flatten()
    return f"{features},-prefer-256-bit" if "+avx512f" in features else features


def _cache_directory() -> str | None:
    cache = cast(Any, jax.config).jax_compilation_cache_dir
    return str(Path(cache) / f"kernels-{_sources_sha256()[:16]}") if cache else None


def _sources_sha256() -> str:
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()
