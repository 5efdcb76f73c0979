"""Check that arrays from a file have the types, shapes and values that a model computes with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mnist_hpo.spec.model import Tensors

_KINDS = {"int": "iu", "float": "f"}


def check_layout(tensors: Tensors, layout: Mapping[str, str], sizes: Mapping[str, int]) -> dict[str, int]:
    """Check the names, types and shapes of arrays; return all sizes by letter.

    Args:
        tensors: the arrays by name.
        layout: for each name `int` or `float`, followed by the letter of each axis: `float F C`.
        sizes: those that are known. An axis with another letter may have any size, the same wherever the letter is.

    Raises:
        ValueError: an array is missing, unknown, or has another type or shape.

    """
    if unlike := sorted(tensors.keys() ^ layout.keys()):
        raise ValueError(f"{unlike[0]!r} is {'unknown' if unlike[0] in tensors else 'missing'}")
    found = dict(sizes)
    for name, expected in layout.items():
        array, (kind, *letters) = tensors[name], expected.split()
        if array.dtype.kind not in _KINDS[kind]:
            raise ValueError(f"{name} is {array.dtype}, not {kind}")
        if array.ndim != len(letters) or any(
            found.setdefault(letter, size) != size for letter, size in zip(letters, array.shape, strict=True)
        ):
            named = ", ".join(f"{letter} = {found[letter]}" for letter in letters if letter in found)
            raise ValueError(f"{name} has the shape {array.shape}, not ({', '.join(letters)}) with {named}")
    return found


def check_range(tensors: Tensors, name: str, low: int, high: int) -> None:
    """Check that all values of an array are from `low` to `high - 1`.

    Raises:
        ValueError: one is not.

    """
    array = tensors[name]
    if array.size and not low <= int(array.min()) <= int(array.max()) < high:
        raise ValueError(f"{name} has values outside {low} to {high - 1}")


def check_finite(tensors: Tensors) -> None:
    """Check that all floating-point numbers are finite.

    Raises:
        ValueError: an array has others.

    """
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{name} has values that are not finite")
