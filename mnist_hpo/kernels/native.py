"""Compiles the LLVM functions of this folder for the CPU at hand, and names them to XLA."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import jax
import llvmlite.binding as llvm

_FOLDER = Path(__file__).parent
_SHARED = ("xla_ffi.ll", "elementary.ll")
"""What stands in front of each kernel's file."""
_engines: list[llvm.ExecutionEngine] = []
"""They own the machine code: kept for as long as the process lives."""


@cache
def register_kernel(name: str, variant: str = "", **blanks: str) -> str:
    """Compile the function of this name from `NAME.ll`, once a process.

    Args:
        name: the function's and the file's.
        variant: tells apart what is made of one file with different blanks.
        blanks: what the file leaves to be filled in, by the word that stands there.

    Returns:
        The target's name for `jax.ffi.ffi_call`.

    """
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    machine = target.create_target_machine(cpu=llvm.get_host_cpu_name(), features=features, opt=3)
    source = (_FOLDER / f"{name}.ll").read_text()
    for blank, filling in blanks.items():
        source = source.replace(blank, filling)
    shared = "".join((_FOLDER / file).read_text() for file in _SHARED)
    module = llvm.parse_assembly(shared + source)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    passes = llvm.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    _engines.append(engine)
    handler = ctypes.cast(engine.get_function_address(name), ctypes.c_void_p)
    target_name = f"mnist_hpo.{name}{variant}"
    jax.ffi.register_ffi_target(target_name, jax.ffi.pycapsule(handler), platform="cpu")
    return target_name
