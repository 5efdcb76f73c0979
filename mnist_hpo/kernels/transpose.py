"""A matrix with rows and columns exchanged in memory, in a way that XLA's optimiser cannot see through or undo.

XLA's CPU backend has its fastest routine (for bfloat16: any) for rows times columns alone. It folds a transposition
that it knows of into the product that follows, also behind `lax.optimization_barrier`, and is left without the routine.
"""

from __future__ import annotations

import jax

from mnist_hpo.kernels.native import register_kernel

_ELEMENTS = {"bfloat16": "i16", "float32": "i32"}
_LOWER = "0, 8, 1, 9, 2, 10, 3, 11"
_UPPER = "4, 12, 5, 13, 6, 14, 7, 15"


def transpose(x: jax.Array) -> jax.Array:
    """Return bf16[C, R] from bf16[R, C], or f32[C, R] from f32[R, C]."""
    element = _ELEMENTS[x.dtype.name]
    target = register_kernel("transpose", variant=element, EXCHANGE=_exchange(), ELEMENT=element)
    return jax.ffi.ffi_call(target, jax.ShapeDtypeStruct(x.shape[::-1], x.dtype))(x)


def _exchange() -> str:
    """Eight rows of eight to eight columns: three rounds, each of which interleaves row i with row i + 4."""
    lines: list[str] = []
    for i in range(8):
        lines += [
            f"%from_{i} = call ptr @element(ptr %matrix, i64 %row_{i}, i64 %n_columns, i64 %column)",
            f"%round_0_{i} = load <8 x ELEMENT>, ptr %from_{i}, align 2",
        ]
    for done in range(3):
        for i in range(8):
            rows = ", ".join(f"<8 x ELEMENT> %round_{done}_{row}" for row in (i // 2, i // 2 + 4))
            order = ", ".join(f"i32 {place}" for place in (_UPPER if i % 2 else _LOWER).split(", "))
            lines.append(f"%round_{done + 1}_{i} = shufflevector {rows}, <8 x i32> <{order}>")
    for i in range(8):
        lines += [
            f"%to_{i} = call ptr @element(ptr %transposed, i64 %column_{i}, i64 %n_rows, i64 %row)",
            f"store <8 x ELEMENT> %round_3_{i}, ptr %to_{i}, align 2",
        ]
    places = [f"%{axis}_{i} = add i64 %{axis}, {i}" for axis in ("row", "column") for i in range(8)]
    return "\n".join(f"  {line}" for line in places + lines)
