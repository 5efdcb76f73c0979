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
    """Whether what is traced now calls the kernels.

    It does on a CPU, unless `references_only` is open or the environment has `MNIST_HPO_KERNELS=off`.
    """
    return not _references_only.get() and kernels_setting() == "on" and jax.default_backend() == "cpu"


@contextlib.contextmanager
def references_only() -> Generator[None]:
    """Trace with the references, so that the program holds no call of a kernel: to export it, or to test a kernel."""
    token = _references_only.set(True)
    try:
        yield
    finally:
        _references_only.reset(token)


def call_kernel(kernel: Callable[..., Result], reference: Callable[..., Result], *arguments: Any) -> Result:
    """Call a kernel where `uses_kernels` says so, and its reference elsewhere and under `jax.vmap`.

    Args:
        kernel: a function of the arguments that makes an `ffi_call`.
        reference: the same in pure JAX.
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
    """Compile a handler and name it to XLA, once a process; return the target's name for `jax.ffi.ffi_call`."""
    target = f"mnist_hpo.{name}"
    function = jax.ffi.pycapsule(ctypes.c_void_p(compile_handler(handler)))
    jax.ffi.register_ffi_target(target, function, platform="cpu")
    return target
