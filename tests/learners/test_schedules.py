"""Numbers that differ from step to step agree with optax, NumPy's averages and scipy's distributions."""

import numpy as np
import optax
import pytest
from numpy.typing import NDArray
from scipy.stats import beta

from mnist_hpo.learners.flax.schedules import (
    Steps,
    equal_average,
    exponential_average,
    learning_rates,
    mixing,
)

PEAK, N_STEPS, MAX_EPOCHS = 0.5, 50, 20
N_TOTAL = N_STEPS * MAX_EPOCHS
EPOCHS = [Steps(epoch, N_STEPS, MAX_EPOCHS) for epoch in range(1, MAX_EPOCHS + 1)]


def whole(schedule: str, **options: float) -> NDArray[np.float32]:
    return np.concatenate([learning_rates(schedule, PEAK, steps, **options) for steps in EPOCHS])


@pytest.mark.parametrize("decay_start", [0.0, 0.25, 0.5, 0.9])
def test_the_linear_schedule_agrees_with_optax(decay_start: float) -> None:
    first = round(decay_start * N_TOTAL)
    theirs = optax.linear_schedule(PEAK, 0.0, N_TOTAL - first, transition_begin=first)
    rates = whole("linear", decay_start=decay_start)
    assert rates.dtype == np.float32
    np.testing.assert_allclose(rates, theirs(np.arange(N_TOTAL)), rtol=1e-4, atol=1e-7)
    assert (rates[: first + 1] == np.float32(PEAK)).all()
    assert rates[-1] == pytest.approx(PEAK / (N_TOTAL - first)), "the step after the last would have a rate of 0"


def test_a_linear_schedule_that_never_decays_is_constant() -> None:
    with np.errstate(all="raise"):
        rates = whole("linear", decay_start=1.0)
    assert (rates == np.float32(PEAK)).all()


def test_the_default_is_to_decay_in_the_second_half() -> None:
    np.testing.assert_array_equal(whole("linear"), whole("linear", decay_start=0.5))


@pytest.mark.parametrize("warmup", [0.001, 0.1, 0.35, 1.0])
@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one_cycle"])
def test_the_warm_up_multiplies_any_schedule_by_a_linear_rise(schedule: str, warmup: float) -> None:
    n_warm = round(warmup * N_TOTAL)
    rise = optax.linear_schedule(1 / (n_warm + 1), 1.0, n_warm)
    expected = whole(schedule).astype(np.float64) * rise(np.arange(N_TOTAL))
    rates = whole(schedule, warmup=warmup)
    np.testing.assert_allclose(rates, expected, rtol=1e-4)
    assert rates.min() > 0
    np.testing.assert_array_equal(rates[n_warm:], whole(schedule)[n_warm:])


def test_the_linear_schedule_and_the_warm_up_are_continuous_across_epochs() -> None:
    rates = whole("linear", decay_start=0.4, warmup=0.2)
    assert np.abs(np.diff(rates)).max() < PEAK * 0.006


def weights(shape: tuple[int, ...] = (N_TOTAL, 3)) -> NDArray[np.float64]:
    """Return a random walk, as weights would take."""
    return np.random.default_rng(0).standard_normal(shape).cumsum(axis=0)


def averages(shares: NDArray[np.float32], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the average after each step, as the training computes it."""
    average, result = np.zeros_like(values[0]), []
    for share, value in zip(shares.astype(np.float64), values, strict=True):
        average = average + share * (value - average)
        result.append(average)
    return np.array(result)


@pytest.mark.parametrize("start", [0.0, 0.3, 0.75, 0.999])
def test_swa_is_the_mean_of_the_weights_since_its_start(start: float) -> None:
    shares = np.concatenate([equal_average(start, steps) for steps in EPOCHS])
    values, first = weights(), round(start * N_TOTAL)
    found = averages(shares, values)
    np.testing.assert_allclose(found[:first], values[:first], rtol=1e-6, atol=1e-9)
    for step in (first, first + 1, (first + N_TOTAL) // 2, N_TOTAL - 1):
        if step < N_TOTAL:
            np.testing.assert_allclose(found[step], values[first : step + 1].mean(axis=0), rtol=1e-4, atol=1e-4)


def test_swa_that_never_starts_is_the_last_weights() -> None:
    shares = np.concatenate([equal_average(1.0, steps) for steps in EPOCHS])
    assert (shares == 1).all()


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9, 0.99])
def test_ema_is_an_equal_average_first_and_then_decays_exponentially(decay: float) -> None:
    """The n-th of the first 1 / (1 - decay) steps is an equal average of n weights."""
    shares = np.concatenate([exponential_average(decay, steps) for steps in EPOCHS])
    values = weights()
    found = averages(shares, values)
    n_equal = max(1, round(1 / (1 - decay)))
    for step in range(n_equal):
        np.testing.assert_allclose(found[step], values[: step + 1].mean(axis=0), rtol=1e-4, atol=1e-6)
    expected = found[n_equal - 1]
    for step in range(n_equal, N_TOTAL):
        expected = decay * expected + (1 - decay) * values[step]
        np.testing.assert_allclose(found[step], expected, rtol=1e-4, atol=1e-4)


def test_ema_without_decay_is_the_mean_of_all_weights() -> None:
    shares = np.concatenate([exponential_average(1.0, steps) for steps in EPOCHS])
    np.testing.assert_allclose(averages(shares, weights())[-1], weights().mean(axis=0), rtol=1e-4)


@pytest.mark.parametrize("shares", [exponential_average(0.99, EPOCHS[0]), equal_average(0.5, EPOCHS[0])])
def test_the_first_average_does_not_depend_on_what_was_there_before(shares: NDArray[np.float32]) -> None:
    assert shares.dtype == np.float32
    assert shares[0] == 1


@pytest.mark.parametrize("alpha", [0.1, 0.4, 1.0, 8.0, 100.0])
def test_the_shares_of_mixup_have_a_beta_distribution(alpha: float) -> None:
    drawn = np.concatenate([mixing(alpha, 5, Steps(epoch, 500, 20)) for epoch in range(1, 21)]).astype(np.float64)
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.mean() == pytest.approx(0.5, abs=5 * beta.std(alpha, alpha) / np.sqrt(drawn.size))
    assert drawn.std() == pytest.approx(beta.std(alpha, alpha), rel=0.05)
    # The Kolmogorov-Smirnov statistic, away from the ends, where float32 rounds many draws to 0 or 1.
    places = np.linspace(0.001, 0.999, 999)
    found = np.searchsorted(np.sort(drawn), places) / drawn.size
    assert np.abs(found - beta.cdf(places, alpha, alpha)).max() < 1.95 / np.sqrt(drawn.size)


def test_the_smallest_alpha_mixes_nothing() -> None:
    drawn = mixing(1e-6, 5, Steps(1, 1000, 1))
    assert set(np.unique(drawn)) == {0, 1}


def test_mixup_is_reproducible_and_differs_between_epochs_and_seeds() -> None:
    first = mixing(0.4, 5, Steps(1, 2000, 9))
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, mixing(0.4, 5, Steps(1, 2000, 9)))
    # The length of the schedule does not matter.
    np.testing.assert_array_equal(first, mixing(0.4, 5, Steps(1, 2000, 4)))
    for seed, epoch in ((5, 2), (6, 1), (5 + 2**40, 1)):
        other = mixing(0.4, seed, Steps(epoch, 2000, 9))
        assert abs(np.corrcoef(first, other)[0, 1]) < 5 / np.sqrt(2000)
    lagged = np.corrcoef(first[1:], first[:-1])[0, 1]
    assert abs(lagged) < 5 / np.sqrt(2000)
