"""Read the arguments of an XLA custom call in Numba.

XLA calls a handler with one pointer to an `XLA_FFI_CallFrame` (xla/ffi/api/c_api.h, interface version 0.3). Every field
that is read here is aligned to eight bytes, so structs are read as 64-bit words. Addresses are int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.np.numpy_support import carray
from numpy.typing import NDArray

from mnist_hpo.kernels.compiled import compiled, instruction

INTERFACE_VERSION = (0, 3)
FRAME_BYTES = 168
"""`sizeof(XLA_FFI_CallFrame)` in that version. A handler cannot be registered with an XLA that has another size."""
VALUES_BYTES = 40
"""`sizeof(XLA_FFI_Args)` and `sizeof(XLA_FFI_Rets)`."""
BUFFER_BYTES = 48
"""`sizeof(XLA_FFI_Buffer)`."""

_EXTENSION, _INPUTS, _OUTPUTS = 1, 5, 10
"""Indices of the words of the frame at which these parts start."""
_COUNT, _VALUES = 2, 4
"""Indices of words in the inputs and in the outputs."""
_DTYPE, _DATA, _RANK, _DIMENSIONS = 2, 3, 4, 5
"""Indices of words in a buffer."""
_METADATA_EXTENSION = 1
_BFLOAT16 = 16
"""XLA's numbers of the metadata extension and of the dtype."""
_ADDRESS = ir.IntType(64)


@instruction(types.int64, types.voidptr)
def address_of(builder: Any, pointer: Any) -> Any:
    """Return the address in a pointer."""
    return builder.ptrtoint(pointer, _ADDRESS)


@instruction(types.voidptr, types.int64)
def pointer_to(builder: Any, address: Any) -> Any:
    """Return an address as a pointer."""
    return builder.inttoptr(address, ir.IntType(8).as_pointer())


@instruction(types.int64, types.int64, types.int64)
def load_word(builder: Any, address: Any, index: Any) -> Any:
    """Return the 64-bit word with this index, counted from an address."""
    return builder.load(builder.gep(builder.inttoptr(address, _ADDRESS.as_pointer()), [index]))


@compiled
def handle_registration(frame: int) -> bool:
    """Return whether XLA is registering the handler; if it is, report the interface version to XLA.

    If the frame has another size than this module was written for, report a version that XLA refuses.
    """
    extension = load_word(frame, _EXTENSION)
    if extension == 0 or load_word(extension, 1) & 0xFFFFFFFF != _METADATA_EXTENSION:
        return False
    fields = carray(pointer_to(load_word(extension, 3)), (12,), np.int32)
    fields[6] = INTERFACE_VERSION[0] if load_word(frame, 0) == FRAME_BYTES else -1
    fields[7] = INTERFACE_VERSION[1]
    fields[8:12] = 0  # No traits and no state.
    return True


@compiled
def n_inputs(frame: int) -> int:
    """Return the number of input buffers."""
    return load_word(frame, _INPUTS + _COUNT)


@compiled
def n_outputs(frame: int) -> int:
    """Return the number of output buffers."""
    return load_word(frame, _OUTPUTS + _COUNT)


@compiled
def input_buffer(frame: int, index: Any) -> int:
    """Return the address of an input's buffer struct."""
    return load_word(load_word(frame, _INPUTS + _VALUES), index)


@compiled
def output_buffer(frame: int, index: Any) -> int:
    """Return the address of an output's buffer struct."""
    return load_word(load_word(frame, _OUTPUTS + _VALUES), index)


@compiled
def data(buffer: int) -> int:
    """Return the address of a buffer's first element."""
    return load_word(buffer, _DATA)


@compiled
def dimension(buffer: int, axis: int) -> int:
    """Return the length of an axis."""
    return load_word(load_word(buffer, _DIMENSIONS), axis)


@compiled
def size(buffer: int) -> int:
    """Return the number of elements of a buffer."""
    product = 1
    for axis in range(load_word(buffer, _RANK)):
        product *= dimension(buffer, axis)
    return product


@compiled
def is_bfloat16(buffer: int) -> bool:
    """Return whether the elements of a buffer are bfloat16."""
    return load_word(buffer, _DTYPE) & 0xFFFFFFFF == _BFLOAT16


@compiled
def array(address: Any, n: int, dtype: Any) -> NDArray[Any]:
    """Return the n elements at an address as an array, without a copy."""
    return carray(pointer_to(address), (n,), dtype)


@compiled
def matrix(address: int, n_rows: int, n_columns: int, dtype: Any) -> NDArray[Any]:
    """Return the elements at an address as an array of rows, without a copy."""
    return carray(pointer_to(address), (n_rows, n_columns), dtype)
