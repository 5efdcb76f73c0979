"""Vectors of 16 numbers for compiled functions, for code that LLVM's vectoriser does not generate by itself.

On CPUs with shorter vectors, LLVM splits them. Addresses are int64, in bytes, and need no alignment.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import models, register_model

from mnist_hpo.kernels.compiled import instruction

LANES = 16
VECTOR_BYTES = 4 * LANES

NOTHING = ir.Constant(ir.IntType(8).as_pointer(), None)
"""The result of an instruction that returns `types.void`."""

_Builder = Any
FLOATS = ir.VectorType(ir.FloatType(), LANES)
WORDS = ir.VectorType(ir.IntType(32), LANES)
_I32 = ir.IntType(32)


def has_feature(name: str) -> bool:
    """Return whether this CPU has a feature, given its name in LLVM."""
    return bool(llvm.get_host_cpu_features().get(name, False))


class _BFloat16(ir.Type):
    """LLVM's bfloat16, which llvmlite lacks."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat16)

    def __hash__(self) -> int:
        return hash(_BFloat16)


_PAIRS = ir.VectorType(_BFloat16(), 2 * LANES)


class _Vector(types.Type):
    """The type of a vector in compiled functions."""

    def __init__(self, name: str, llvm_type: Any) -> None:
        super().__init__(name=name)
        self.llvm_type = llvm_type


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: _Vector) -> None:
        super().__init__(manager, vector, vector.llvm_type)


floats = _Vector("f32x16", FLOATS)
"""Sixteen float32."""
words = _Vector("u32x16", WORDS)
"""Sixteen uint32, or 32 bfloat16: lane i contains number 2i in its lower half and number 2i + 1 in its upper half."""


def emit_load(builder: _Builder, address: Any, vector: Any) -> Any:
    """Emit a load of an LLVM vector from an address."""
    return builder.load(builder.inttoptr(address, vector.as_pointer()), align=4, typ=vector)


def emit_store(builder: _Builder, vector: Any, address: Any) -> None:
    """Emit a store of an LLVM vector to an address."""
    builder.store(vector, builder.inttoptr(address, vector.type.as_pointer()), align=4)


def emit_splat(builder: _Builder, number: Any) -> Any:
    """Emit a vector with one number in all lanes."""
    vector = ir.VectorType(number.type, LANES)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), number, _I32(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(_I32, LANES), [0] * LANES))


def _intrinsic(builder: _Builder, name: str, result: Any, *operands: Any) -> Any:
    function_type = ir.FunctionType(result, [operand.type for operand in operands])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), operands)


def emit_fma(builder: _Builder, a: Any, b: Any, c: Any) -> Any:
    """Emit a · b + c with a single rounding."""
    return _intrinsic(builder, "llvm.fma.v16f32", FLOATS, a, b, c)


def emit_dot_pairs(builder: _Builder, a: Any, b: Any, c: Any) -> Any:
    """Emit, for each lane, the dot product of a's and b's two bfloat16, added to the float32 in c.

    The CPU's instruction flushes subnormal factors and results to zero; the substitute for other CPUs does not.
    """
    if has_feature("avx512bf16"):
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        return _intrinsic(builder, name, FLOATS, c, builder.bitcast(a, _PAIRS), builder.bitcast(b, _PAIRS))
    c = emit_fma(builder, _emit_upper(builder, a), _emit_upper(builder, b), c)
    return emit_fma(builder, _emit_lower(builder, a), _emit_lower(builder, b), c)


def _emit_lower(builder: _Builder, pairs: Any) -> Any:
    return builder.bitcast(builder.shl(pairs, _constant(16)), FLOATS)


def _emit_upper(builder: _Builder, pairs: Any) -> Any:
    return builder.bitcast(builder.and_(pairs, _constant(0xFFFF0000)), FLOATS)


def _constant(word: int) -> Any:
    return ir.Constant(WORDS, [word] * LANES)


@instruction(floats, types.int64)
def load(builder: _Builder, address: Any) -> Any:
    """Return the sixteen float32 at an address."""
    return emit_load(builder, address, FLOATS)


@instruction(types.void, floats, types.int64)
def store(builder: _Builder, vector: Any, address: Any) -> Any:
    """Write sixteen float32 to an address."""
    emit_store(builder, vector, address)
    return NOTHING


@instruction(words, types.int64)
def load_words(builder: _Builder, address: Any) -> Any:
    """Return the sixteen words at an address."""
    return emit_load(builder, address, WORDS)


@instruction(types.void, words, types.int64)
def store_words(builder: _Builder, vector: Any, address: Any) -> Any:
    """Write sixteen words to an address."""
    emit_store(builder, vector, address)
    return NOTHING


@instruction(floats, types.float32)
def splat(builder: _Builder, number: Any) -> Any:
    """Return a vector with one number in all lanes."""
    return emit_splat(builder, number)


@instruction(floats, types.int64)
def load_splat(builder: _Builder, address: Any) -> Any:
    """Return a vector with the float32 at an address in all lanes."""
    number = ir.FloatType()
    return emit_splat(builder, builder.load(builder.inttoptr(address, number.as_pointer()), align=4, typ=number))


@instruction(words, types.uint32)
def splat_word(builder: _Builder, word: Any) -> Any:
    """Return a vector with one word in all lanes."""
    return emit_splat(builder, word)


@instruction(floats, floats, floats)
def add(builder: _Builder, a: Any, b: Any) -> Any:
    """Return a + b."""
    return builder.fadd(a, b)


@instruction(floats, floats, floats)
def subtract(builder: _Builder, a: Any, b: Any) -> Any:
    """Return a - b."""
    return builder.fsub(a, b)


@instruction(floats, floats, floats)
def multiply(builder: _Builder, a: Any, b: Any) -> Any:
    """Return a · b."""
    return builder.fmul(a, b)


@instruction(floats, floats, floats)
def divide(builder: _Builder, a: Any, b: Any) -> Any:
    """Return a / b."""
    return builder.fdiv(a, b)


@instruction(floats, floats, floats, floats)
def multiply_add(builder: _Builder, a: Any, b: Any, c: Any) -> Any:
    """Return a · b + c with a single rounding."""
    return emit_fma(builder, a, b, c)


@instruction(floats, floats, floats)
def larger(builder: _Builder, a: Any, b: Any) -> Any:
    """Return the maximum of a and b in each lane; NaN if either is NaN."""
    return _intrinsic(builder, "llvm.maximum.v16f32", FLOATS, a, b)


@instruction(floats, floats, floats)
def clipped(builder: _Builder, x: Any, limit: Any) -> Any:
    """Return x clipped to [-limit, limit]; NaN stays NaN."""
    lowest = builder.fsub(ir.Constant(FLOATS, [0.0] * LANES), limit)
    x = builder.select(builder.fcmp_ordered(">", x, limit), limit, x)
    return builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)


@instruction(floats, floats)
def rectified(builder: _Builder, x: Any) -> Any:
    """Return the maximum of x and 0; NaN stays NaN."""
    zero = ir.Constant(FLOATS, [0.0] * LANES)
    return builder.select(builder.fcmp_ordered("<", x, zero), zero, x)


@instruction(floats, floats, floats)
def where_positive(builder: _Builder, condition: Any, x: Any) -> Any:
    """Return x where the condition is above 0 or NaN, else 0."""
    zero = ir.Constant(FLOATS, [0.0] * LANES)
    return builder.select(builder.fcmp_unordered(">", condition, zero), x, zero)


@instruction(floats, floats, floats, floats)
def where_equal(builder: _Builder, a: Any, b: Any, x: Any) -> Any:
    """Return x where a equals b or either is NaN, else 0."""
    zero = ir.Constant(FLOATS, [0.0] * LANES)
    return builder.select(builder.fcmp_unordered("==", a, b), x, zero)


@instruction(floats, floats, words)
def masked(builder: _Builder, x: Any, mask: Any) -> Any:
    """Return x where the mask's bits are ones, and 0 where they are zeros."""
    return builder.bitcast(builder.and_(builder.bitcast(x, WORDS), mask), FLOATS)


@instruction(words, types.int64)
def mask_of_first(builder: _Builder, n: Any) -> Any:
    """Return ones in all bits of the first n lanes, and zeros in the others."""
    lanes = ir.Constant(WORDS, list(range(LANES)))
    is_first = builder.icmp_signed("<", lanes, emit_splat(builder, builder.trunc(n, _I32)))
    return builder.sext(is_first, WORDS)


@instruction(words, floats, floats)
def rounded_pairs(builder: _Builder, even: Any, odd: Any) -> Any:
    """Round to bfloat16, ties to even; `even` goes to the lower halves of the words, `odd` to the upper halves."""

    lower = builder.lshr(_emit_rounded(builder, even), _constant(16))
    return builder.or_(lower, builder.and_(_emit_rounded(builder, odd), _constant(0xFFFF0000)))


@instruction(types.void, floats, types.int64)
def store_rounded(builder: _Builder, x: Any, address: Any) -> Any:
    """Round to bfloat16, ties to even, and write the sixteen numbers to an address."""
    halves = ir.VectorType(ir.IntType(16), LANES)
    upper = builder.lshr(_emit_rounded(builder, x), _constant(16))
    builder.store(builder.trunc(upper, halves), builder.inttoptr(address, halves.as_pointer()), align=2)
    return NOTHING


def _emit_rounded(builder: _Builder, x: Any) -> Any:
    """Emit words whose upper halves are the nearest bfloat16, ties to even."""
    bits = builder.bitcast(x, WORDS)
    is_odd = builder.and_(builder.lshr(bits, _constant(16)), _constant(1))
    return builder.add(builder.add(bits, _constant(0x7FFF)), is_odd)


@instruction(words, words, words)
def lower_halves(builder: _Builder, a: Any, b: Any) -> Any:
    """Return words with a's lower half as the lower half, and b's lower half as the upper half."""
    return builder.or_(builder.and_(a, _constant(0xFFFF)), builder.shl(b, _constant(16)))


@instruction(words, words, words)
def upper_halves(builder: _Builder, a: Any, b: Any) -> Any:
    """Return words with a's upper half as the lower half, and b's upper half as the upper half."""
    return builder.or_(builder.lshr(a, _constant(16)), builder.and_(b, _constant(0xFFFF0000)))


@instruction(types.float32, floats)
def sum_of_lanes(builder: _Builder, x: Any) -> Any:
    """Return the sum of the lanes, added pairwise."""
    n = LANES
    while n > 1:
        n //= 2
        lanes = [*range(n, 2 * n), *[0] * (LANES - n)]
        upper = builder.shuffle_vector(x, x, ir.Constant(ir.VectorType(_I32, LANES), lanes))
        x = builder.fadd(x, upper)
    return builder.extract_element(x, _I32(0))
