"""Dropout masks computed by hashing behave like independent random draws of the right rate.

Bounds are in standard deviations of true random draws. The tests are deterministic, so none fails by chance.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray

from mnist_hpo.layers.dropout import HashedDropout, no_dropout
from mnist_hpo.layers.hashed_words import HashedWords, hash_words, mix

ROWS, UNITS = 128, 512
N = ROWS * UNITS
SEED = (0x12345678, 0x9ABCDEF0)

Mask = NDArray[np.bool_]


@partial(jax.jit, static_argnames=("layer", "rows", "units"))
def _drop(seed: jax.Array, step: jax.Array, rate: jax.Array, layer: int, rows: int, units: int) -> jax.Array:
    return HashedDropout(HashedWords(seed, step), rate)(layer, jnp.ones((rows, units)))


def drop(
    rate: float, *, step: int = 0, layer: int = 0, seed: tuple[int, int] = SEED, rows: int = ROWS, units: int = UNITS
) -> NDArray[np.float32]:
    """Apply dropout to an array of ones."""
    words = np.array(seed, np.uint32)
    return np.asarray(_drop(words, jnp.uint32(step), jnp.float32(rate), layer, rows, units))


def mask(rate: float = 0.5, **where: object) -> Mask:
    """Return True where a unit is kept."""
    return drop(rate, **where) > 0  # type: ignore[arg-type]


def n_sigmas_correlated(first: Mask, second: Mask) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1] * np.sqrt(first.size))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.25, 0.5, 0.8, 0.95])
def test_the_rate_is_the_fraction_of_dropped_units(rate: float) -> None:
    n_dropped = sum(int(np.sum(drop(rate, step=step) == 0)) for step in range(16))
    n_draws = 16 * N
    assert abs(n_dropped - n_draws * rate) < 5 * np.sqrt(n_draws * rate * (1 - rate))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.95])
def test_kept_units_are_scaled_to_preserve_the_mean(rate: float) -> None:
    kept = drop(rate)
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1) / (np.float32(1) - np.float32(rate))}
    assert abs(kept.mean() - 1) < 5 * np.sqrt(rate / (1 - rate) / N)


def test_a_rate_of_zero_drops_nothing() -> None:
    assert np.all(drop(0.0) == 1)
    x = jnp.arange(6.0).reshape(2, 3)
    assert no_dropout(0, x) is x


def test_masks_are_reproducible() -> None:
    assert np.array_equal(mask(step=3), mask(step=3))


def test_a_unit_kept_at_one_rate_is_kept_at_every_lower_rate() -> None:
    """Trials that differ only in the rate have the same noise."""
    assert np.all(mask(0.2)[mask(0.6)])


def test_masks_of_different_steps_are_independent() -> None:
    for step in (0, 1, 1000, 2**20):
        for later in (1, 2, 3, 4, 8, 64, 4096):
            assert abs(n_sigmas_correlated(mask(step=step), mask(step=step + later))) < 5


def test_masks_of_different_layers_are_independent() -> None:
    for first in range(4):
        for second in range(first):
            assert abs(n_sigmas_correlated(mask(layer=first), mask(layer=second))) < 5


def test_a_layers_mask_differs_from_the_layer_belows_at_any_other_step() -> None:
    below = [mask(step=step) for step in range(30)]
    for step in range(30):
        assert max(abs(n_sigmas_correlated(mask(step=step, layer=1), other)) for other in below) < 5.5


@pytest.mark.parametrize("bit", range(32))
def test_seeds_that_differ_in_one_bit_have_independent_masks(bit: int) -> None:
    for seed in ((SEED[0] ^ 1 << bit, SEED[1]), (SEED[0], SEED[1] ^ 1 << bit)):
        for step in range(2):
            assert abs(n_sigmas_correlated(mask(step=step), mask(step=step, seed=seed))) < 5


def test_small_seeds_have_independent_masks() -> None:
    masks = [mask(seed=(high, low)) for high in range(4) for low in range(4)]
    for index, first in enumerate(masks):
        for second in masks[:index]:
            assert abs(n_sigmas_correlated(first, second)) < 5


def test_units_and_rows_of_a_mask_are_independent() -> None:
    kept = mask()
    for by in (1, 2, 3, 4, 7, 8, 16, 32, 64):
        assert abs(n_sigmas_correlated(kept[:, by:], kept[:, :-by])) < 5
        assert abs(n_sigmas_correlated(kept[by:], kept[:-by])) < 5


@pytest.mark.parametrize("units", [10, 32, 100, 127, 512, 784, 1000])
def test_all_units_and_rows_are_dropped_equally_often(units: int) -> None:
    """This holds over many steps, at every width."""
    kept = np.stack([mask(0.3, step=step, rows=64, units=units) for step in range(200)])
    for counts, n_draws in ((kept.sum(axis=(0, 1)), 200 * 64), (kept.sum(axis=(0, 2)), 200 * units)):
        chi_square = np.sum((counts - n_draws * 0.7) ** 2 / (n_draws * 0.7 * 0.3))
        assert abs(chi_square - counts.size) < 6 * np.sqrt(2 * counts.size)


def test_two_masks_are_not_shifted_windows_of_one_sequence() -> None:
    """Neither adding to the index of a position nor flipping its bits maps one mask to another."""
    first, second = (np.where(mask(step=step), 1.0, -1.0).ravel() for step in (5, 6))
    shifted = np.fft.irfft(np.fft.rfft(first) * np.conj(np.fft.rfft(second)), N)
    flipped = walsh_hadamard(walsh_hadamard(first) * walsh_hadamard(second)) / N
    for agreement in (shifted, flipped):
        # The largest of 65,536 normal draws is rarely above 5.5.
        assert np.max(np.abs(agreement)) < 6.5 * np.sqrt(N)


def walsh_hadamard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    size = 1
    while size < len(values):
        pairs = values.reshape(-1, 2, size)
        values = np.stack([pairs[:, 0] + pairs[:, 1], pairs[:, 0] - pairs[:, 1]], axis=1).reshape(-1)
        size *= 2
    return values


@pytest.mark.parametrize("byte", [0, 1])
def test_the_high_bytes_of_the_hash_are_evenly_distributed(byte: int) -> None:
    words = np.stack([np.asarray(hash_words(ROWS, UNITS, mix(jnp.uint32(key)), jnp.uint32(7))) for key in range(8)])
    counts = np.bincount((words >> (24 - 8 * byte) & 0xFF).ravel(), minlength=256)
    chi_square = np.sum((counts - counts.sum() / 256) ** 2 / (counts.sum() / 256))
    # Neither less nor more uniform than random draws.
    assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255)


def test_each_output_bit_of_the_hash_depends_on_each_input_bit() -> None:
    words = np.random.default_rng(0).integers(0, 2**32, 4000, dtype=np.uint32)
    for bit in range(32):
        changed = np.asarray(mix(jnp.asarray(words))) ^ np.asarray(mix(jnp.asarray(words ^ np.uint32(1 << bit))))
        shares = np.mean(changed[:, None] >> np.arange(32) & 1, axis=0)
        assert np.all(np.abs(shares - 0.5) < 0.05)


def test_activations_of_any_rank_are_dropped_unit_by_unit() -> None:
    """The mask equals that of the flattened activations."""
    words, rate = np.array(SEED, np.uint32), jnp.float32(0.3)
    dropout = HashedDropout(HashedWords(words, jnp.uint32(4)), rate)
    flat = dropout(2, jnp.ones((8, 5 * 6 * 7)))
    for shape in ((8, 5, 6, 7), (8, 30, 7)):
        assert np.array_equal(np.ravel(dropout(2, jnp.ones(shape))), np.ravel(flat))
