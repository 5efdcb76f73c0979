"""float32 arithmetic for kernels, from basic operations in a fixed order: the same bits on any CPU.

LLVM vectorises all of it. The polynomials of `exp` and `log` are those of expf and logf in Moshier's Cephes library.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types

from mnist_hpo.kernels.compiled import compiled, instruction

Float = np.float32

ZERO, ONE, TWO = Float(0), Float(1), Float(2)
_LOG2_E = Float(1.44269502)
_LN2_HIGH, _LN2_LOW = Float(0.693359375), Float(-2.12194440e-4)
_ROUNDER = Float(1.5 * 2**23)
"""Adding this to a small number rounds the number to an integer, which is then in the lowest bits."""
_EXP_LOWEST, _EXP_HIGHEST = Float(-87), Float(88)
_EXP = tuple(map(Float, (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 0.5)))
_LOG = tuple(
    map(
        Float,
        (
            7.0376836292e-2,
            -1.1514610310e-1,
            1.1676998740e-1,
            -1.2420140846e-1,
            1.4249322787e-1,
            -1.6668057665e-1,
            2.0000714765e-1,
            -2.4999993993e-1,
            3.3333331174e-1,
        ),
    )
)
_SQRT_HALF_BITS = np.int32(0x3F3504F3)
_MANTISSA_BITS = np.int32(23)


@instruction(types.float32, types.float32, types.float32, types.float32)
def fma(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a · b + c with a single rounding."""
    return builder.fma(a, b, c)


@instruction(types.uint32, types.float32)
def to_bits(builder: Any, x: Any) -> Any:
    """Return a float32's bits as uint32."""
    return builder.bitcast(x, ir.IntType(32))


@instruction(types.float32, types.uint32)
def from_bits(builder: Any, bits: Any) -> Any:
    """Return the float32 that has these bits."""
    return builder.bitcast(bits, ir.FloatType())


@compiled
def bfloat16_bits(x: Any) -> Any:
    """Return the bits of the nearest bfloat16, ties to even."""
    # In integer arithmetic, because some CPUs' conversion instruction flushes subnormals to zero.
    bits = to_bits(x)
    is_odd = (bits >> np.uint32(16)) & np.uint32(1)
    return np.uint16((bits + is_odd + np.uint32(0x7FFF)) >> np.uint32(16))


@compiled
def exp(x: Any) -> Any:
    """Return e to the power of x, which is clipped to [-87, 88]; NaN stays NaN."""
    x = _EXP_LOWEST if x < _EXP_LOWEST else x
    x = _EXP_HIGHEST if x > _EXP_HIGHEST else x
    # x = n ln 2 + r
    shifted = fma(x, _LOG2_E, _ROUNDER)
    n = shifted - _ROUNDER
    r = fma(n, -_LN2_LOW, fma(n, -_LN2_HIGH, x))
    p = fma(r, _EXP[0], _EXP[1])
    p = fma(r, p, _EXP[2])
    p = fma(r, p, _EXP[3])
    p = fma(r, p, _EXP[4])
    p = fma(r, p, _EXP[5])
    exp_r = fma(r * r, p, r + ONE)
    two_to_n = from_bits(np.uint32((to_bits(shifted) << np.uint32(23)) + to_bits(ONE)))
    return exp_r * two_to_n


@compiled
def log(x: Any) -> Any:
    """Return the natural logarithm of a normal, positive number."""
    # x = 2^n · (1 + f), with 1 + f between √½ and √2.
    bits = np.int32(to_bits(x))
    n = np.int32(np.int32(bits - _SQRT_HALF_BITS) >> _MANTISSA_BITS)
    f = from_bits(np.uint32(np.int32(bits - np.int32(n << _MANTISSA_BITS)))) - ONE
    p = fma(f, _LOG[0], _LOG[1])
    p = fma(f, p, _LOG[2])
    p = fma(f, p, _LOG[3])
    p = fma(f, p, _LOG[4])
    p = fma(f, p, _LOG[5])
    p = fma(f, p, _LOG[6])
    p = fma(f, p, _LOG[7])
    p = fma(f, p, _LOG[8])
    tail = fma(Float(n), _LN2_LOW, f * f * f * p)
    return fma(Float(n), _LN2_HIGH, f + fma(f * f, Float(-0.5), tail))
