"""Choose between a CPU kernel and its pure-JAX reference, and register kernels with XLA."""

from __future__ import annotations

import contextlib
import ctypes
from collections.abc import Callable, Generator
from contextvars import ContextVar
from functools import cache
from typing import Any, TypeVar

import jax
from jax.custom_batching import custom_vmap

from mnist_hpo.kernels.compiled import compile_handler
from mnist_hpo.spec.provenance import kernels_setting

Result = TypeVar("Result")

_references_only = ContextVar("references_only", default=False)


def uses_kernels() -> bool:
    """Return whether code that is traced now calls the kernels.

    This is the case on a CPU, except within `references_only` or with `MNIST_HPO_KERNELS=off` in the environment.
    """
    return not _references_only.get() and kernels_setting() == "on" and jax.default_backend() == "cpu"


@contextlib.contextmanager
def references_only() -> Generator[None]:
    """Trace with the references, so that the program calls no kernels: for export, and for tests of kernels."""
    token = _references_only.set(True)
    try:
        yield
    finally:
        _references_only.reset(token)


def call_kernel(kernel: Callable[..., Result], reference: Callable[..., Result], *arguments: Any) -> Result:
    """Call a kernel if `uses_kernels`; otherwise, and under `jax.vmap`, call its reference.

    Args:
        kernel: a function of the arguments that makes an `ffi_call`.
        reference: the same function in pure JAX.
        arguments: pytrees of arrays.

    """
    if not uses_kernels():
        return reference(*arguments)
    call = custom_vmap(kernel)

    @call.def_vmap
    def batched(_axis_size: int, in_batched: Any, *batch: Any) -> tuple[Result, Any]:
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, in_batched)
        result = jax.vmap(reference, in_axes=tuple(axes))(*batch)
        return result, jax.tree.map(lambda _: True, result)

    return call(*arguments)


@cache
def register_kernel(name: str, handler: Callable[[Any], Any]) -> str:
    """Compile a handler and register it with XLA once per process; return its name for `jax.ffi.ffi_call`."""
    target = f"mnist_hpo.{name}"
    function = jax.ffi.pycapsule(ctypes.c_void_p(compile_handler(handler)))
    jax.ffi.register_ffi_target(target, function, platform="cpu")
    return target
