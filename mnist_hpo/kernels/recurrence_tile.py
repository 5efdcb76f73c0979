"""The innermost loops of recurrent layers: products of a few examples with four vectors of a kernel's columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils

from mnist_hpo.kernels.tiles import Emitter, Factors, offset, tile
from mnist_hpo.kernels.vectors import FLOATS, VECTOR_BYTES, emit_store, has_feature

ROWS = 6 if has_feature("avx512f") else 1
"""Examples of a tile. Its sums take 24 of AVX-512's 32 registers, or elsewhere 8 registers of half the width."""
VECTORS = 4
"""Vectors of results for an example."""
TILE_BYTES = ROWS * VECTORS * VECTOR_BYTES

_I64 = ir.IntType(64)
_ZEROS = ir.Constant(FLOATS, [0.0] * 16)


class _Source(NamedTuple):
    """Factors whose products are summed."""

    x: Any
    """The address of the first example's factors, numbers or pairs of four bytes."""
    x_bytes: Any
    """From one example to the next."""
    n_terms: Any
    """The number of an example's factors."""
    weights: Any
    """The address of [terms, len(places)] vectors."""
    places: Sequence[int]
    """The result to which each of the weights' vectors contributes."""


def _emit_products(builder: Emitter, factors: Factors, sources: Sequence[_Source], n_rows: Any, target: Any) -> None:
    """Write [ROWS, VECTORS] vectors, of which the rows from n_rows on repeat the last one."""
    sums = [[cgutils.alloca_once_value(builder, _ZEROS) for _ in range(VECTORS)] for _ in range(ROWS)]
    last = builder.sub(n_rows, _I64(1))
    for source in sources:
        rows = []
        for row in range(ROWS):
            exists = builder.icmp_signed("<", _I64(row), n_rows)
            number = builder.select(exists, _I64(row), last)
            rows.append(builder.add(source.x, builder.mul(number, source.x_bytes)))
        weight = cgutils.alloca_once_value(builder, source.weights)
        with cgutils.for_range(builder, source.n_terms) as terms:
            here, term = builder.load(weight), builder.mul(terms.index, _I64(4))
            by = [factors.load(builder, offset(builder, here, n * VECTOR_BYTES)) for n in range(len(source.places))]
            for start, of_row in zip(rows, sums, strict=True):
                value = factors.broadcast(builder, builder.add(start, term))
                for vector, place in zip(by, source.places, strict=True):
                    total = of_row[place]
                    builder.store(factors.multiply_add(builder, value, vector, builder.load(total)), total)
            builder.store(offset(builder, here, len(source.places) * VECTOR_BYTES), weight)
    for index, total in enumerate(total for of_row in sums for total in of_row):
        emit_store(builder, builder.load(total), offset(builder, target, index * VECTOR_BYTES))


@tile
def gru_tile(
    builder: Emitter,
    factors: Any,
    x: Any,
    x_bytes: Any,
    n_x: Any,
    x_weights: Any,
    hidden: Any,
    hidden_bytes: Any,
    n_hidden: Any,
    hidden_weights: Any,
    n_rows: Any,
    target: Any,
) -> None:
    """Write the products of 16 units of a GRU, without the bias.

    Args:
        builder: LLVM's.
        factors: how factors are loaded and multiplied.
        x: the address of the first example's inputs.
        x_bytes: from one example's inputs to the next.
        n_x: the number of terms of an input.
        x_weights: the address of [n_x, 3] vectors: of the reset gate, the update gate and the candidate.
        hidden: as for x, of the last output.
        hidden_bytes: as for x.
        n_hidden: as for x.
        hidden_weights: as for x.
        n_rows: the number of examples, up to ROWS.
        target: the address of [ROWS, 4] vectors: the sums of both products for the reset gate and for the update gate,
            the candidate's product with the inputs, and its product with the last output.

    """
    sources = (
        _Source(x, x_bytes, n_x, x_weights, (0, 1, 2)),
        _Source(hidden, hidden_bytes, n_hidden, hidden_weights, (0, 1, 3)),
    )
    _emit_products(builder, factors, sources, n_rows, target)


@tile
def lstm_tile(
    builder: Emitter,
    factors: Any,
    x: Any,
    x_bytes: Any,
    n_x: Any,
    x_weights: Any,
    hidden: Any,
    hidden_bytes: Any,
    n_hidden: Any,
    hidden_weights: Any,
    n_rows: Any,
    target: Any,
) -> None:
    """Write the sums of both products of 16 units of an LSTM for its four gates, without the bias; see `gru_tile`."""
    sources = (
        _Source(x, x_bytes, n_x, x_weights, (0, 1, 2, 3)),
        _Source(hidden, hidden_bytes, n_hidden, hidden_weights, (0, 1, 2, 3)),
    )
    _emit_products(builder, factors, sources, n_rows, target)


@tile
def plain_tile(
    builder: Emitter, factors: Any, x: Any, x_bytes: Any, n_x: Any, weights: Any, n_rows: Any, target: Any
) -> None:
    """Write the products of examples with four vectors of columns; see `gru_tile`."""
    _emit_products(builder, factors, (_Source(x, x_bytes, n_x, weights, (0, 1, 2, 3)),), n_rows, target)
