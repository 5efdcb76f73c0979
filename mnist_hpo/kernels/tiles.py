"""What all tiles share. A tile is a block of results that stay in vector registers while they are summed."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from mnist_hpo.kernels.vectors import (
    FLOATS,
    NOTHING,
    WORDS,
    emit_dot_pairs,
    emit_fma,
    emit_load,
    emit_splat,
)

_I64 = ir.IntType(64)
Emitter = Any
"""An llvmlite `IRBuilder`."""


class Factors:
    """Emits loads and products of factors of one dtype: float32, or pairs of bfloat16."""

    def __init__(self, is_short: bool) -> None:
        self.vector, self.number = (WORDS, ir.IntType(32)) if is_short else (FLOATS, ir.FloatType())
        self.multiply_add = emit_dot_pairs if is_short else emit_fma

    def load(self, builder: Emitter, address: Any) -> Any:
        """Emit a load of a vector."""
        return emit_load(builder, address, self.vector)

    def broadcast(self, builder: Emitter, address: Any) -> Any:
        """Emit a vector with the number at an address in all lanes."""
        return emit_splat(
            builder, builder.load(builder.inttoptr(address, self.number.as_pointer()), align=4, typ=self.number)
        )


def offset(builder: Emitter, address: Any, n: int, stride: Any = None) -> Any:
    """Emit address + n · stride; without a stride, address + n."""
    return builder.add(address, _I64(n) if stride is None else builder.mul(_I64(n), stride))


def tile(emit: Callable[..., None]) -> Callable[..., None]:
    """Make a function that emits a tile callable from compiled functions.

    Compiled functions pass the dtype of the factors (np.float32, or np.uint16 for bfloat16) and int64 arguments. The
    decorated function gets an llvmlite `IRBuilder`, the `Factors` and the LLVM values of these arguments.
    """
    signature = inspect.signature(emit)

    def define(_typing: Any, dtype: Any, *numbers: Any) -> Any:
        factors = Factors(dtype.instance_type == types.uint16)

        def generate(_context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            emit(builder, factors, *values[1:])
            return NOTHING

        return types.void(dtype, *[types.int64] * len(numbers)), generate

    # Numba takes the name and the arguments, without the first one, from these attributes.
    define.__name__, cast(Any, define).__signature__ = emit.__name__, signature
    return cast(Callable[..., None], intrinsic(define))
