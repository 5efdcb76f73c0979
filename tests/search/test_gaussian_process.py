"""The Gaussian process and the expected improvement equal independent references."""

import math

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.stats import norm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel
from threadpoolctl import threadpool_limits

from mnist_hpo.search.make_policy import make_policy
from mnist_hpo.search.policy import Start
from mnist_hpo.search.samplers.gaussian_process import GaussianProcess, _loss
from mnist_hpo.search.samplers.gp import log_expected_improvement, warped
from mnist_hpo.spec.study import Study

NUMERICAL = np.array([False, False, False])
DRAW = np.random.default_rng(0)
POINTS = DRAW.random((25, 3))
VALUES = np.sin(5 * POINTS[:, 0]) + POINTS[:, 1] ** 2 + 0.1 * DRAW.standard_normal(25)
VALUES = (VALUES - VALUES.mean()) / VALUES.std()


def reference(model: GaussianProcess) -> GaussianProcessRegressor:
    kernel = model._kernel
    product = ConstantKernel(kernel.variance) * Matern(kernel.lengths, nu=2.5) + WhiteKernel(kernel.noise)
    return GaussianProcessRegressor(product, optimizer=None, alpha=1e-8).fit(POINTS, VALUES)


def test_predictions_are_those_of_scikit_learn() -> None:
    model, at = GaussianProcess(POINTS, VALUES, NUMERICAL), DRAW.random((40, 3))
    means, deviations = model.predict(at)
    expected_means, expected = reference(model).predict(at, return_std=True)
    np.testing.assert_allclose(means, expected_means, atol=1e-6)
    without_noise = np.sqrt(expected**2 - model._kernel.noise)
    np.testing.assert_allclose(deviations, without_noise, atol=1e-5)


def squares_of(points: np.ndarray) -> np.ndarray:
    return (points.T[:, :, None] - points.T[:, None, :]) ** 2


def test_the_density_of_the_kernel_is_that_of_scikit_learn_and_the_priors() -> None:
    model = GaussianProcess(POINTS, VALUES, NUMERICAL)
    kernel, gp = model._kernel, reference(model)
    logarithms = np.log([*kernel.lengths, kernel.variance, kernel.noise])
    priors = norm.logpdf(
        logarithms, [math.sqrt(2) + math.log(3) / 2] * 3 + [0, -5], [math.sqrt(3)] * 3 + [1, 1.5]
    ) - norm.logpdf(0, 0, [math.sqrt(3)] * 3 + [1, 1.5])
    likelihood = gp.log_marginal_likelihood() + 25 / 2 * math.log(2 * math.pi)
    assert _loss(logarithms, squares_of(POINTS), VALUES)[0] == pytest.approx(-likelihood - priors.sum(), rel=1e-9)


def test_the_gradient_is_that_of_finite_differences() -> None:
    squares = squares_of(POINTS)
    for start in ([-1.0, 0.3, 0.8, 0.1, -3.0], [0.5, -2.0, 1.5, -0.5, -1.0]):
        error = check_grad(lambda x: _loss(x, squares, VALUES)[0], lambda x: _loss(x, squares, VALUES)[1], start)
        assert error < 1e-4


def test_the_length_scale_of_a_coordinate_without_effect_is_the_longest() -> None:
    lengths = GaussianProcess(POINTS, VALUES, NUMERICAL)._kernel.lengths
    assert lengths[0] < lengths[1] < lengths[2]


def test_two_choices_are_equally_far_whatever_their_order() -> None:
    """The middle one of three choices is best. With an order, the outer ones would be farther from each other."""
    model = GaussianProcess(np.array([[1 / 6], [3 / 6]]), np.array([1.0, -1.0]), np.array([True]))
    squares = model._squares(np.array([[1 / 6]]), np.array([[1 / 6], [3 / 6], [5 / 6]]))
    assert squares.tolist() == [[[0.0, 1.0, 1.0]]]


def test_believed_trials_lower_the_deviation_and_keep_the_mean() -> None:
    model, at = GaussianProcess(POINTS, VALUES, NUMERICAL), np.array([[0.5, 0.5, 0.5]])
    believer = model.with_expected_values_at(at)
    assert believer.predict(at)[0] == pytest.approx(model.predict(at)[0], abs=1e-6)
    assert believer.predict(at)[1] < model.predict(at)[1]


def test_the_logarithm_of_the_expected_improvement() -> None:
    z = np.linspace(-5, 8, 200)
    plain = np.log(norm.pdf(z) + z * norm.cdf(z))
    np.testing.assert_allclose(log_expected_improvement(z), plain, rtol=1e-8, atol=1e-8)
    far = np.array([-30.0, -1e3, -1e5])
    # The first terms of the asymptotic series of φ(z) + z Φ(z).
    series = norm.logpdf(far) - 2 * np.log(-far) + np.log1p(-3 / far**2)
    np.testing.assert_allclose(log_expected_improvement(far), series, rtol=1e-6)
    falling = log_expected_improvement(-np.logspace(-2, 9, 500))
    assert np.isfinite(falling).all()
    assert (np.diff(falling) < 0).all()


def test_bad_values_are_pulled_in_and_good_ones_keep_their_differences() -> None:
    found = warped(np.array([1.0, 1.1, 1.2, 1.4, 50.0, 1e9, math.inf, math.inf]))
    assert found.mean() == pytest.approx(0, abs=1e-9)
    assert found.std() == pytest.approx(1)
    assert (np.diff(found[:7]) > 0).all()
    assert found[6] == found[7]
    assert found[7] - found[0] < 5
    assert (found[1] - found[0]) / (found[2] - found[1]) == pytest.approx(1)


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [1.0, 2.0, math.inf, math.inf, math.inf], [2.0, 1.0]])
def test_any_values_can_be_warped(values: list[float]) -> None:
    found = warped(np.array(values))
    assert np.isfinite(found).all()
    assert np.argsort(found, kind="stable").tolist() == np.argsort(values, kind="stable").tolist()


def test_the_model_does_not_depend_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """With 140 points, BLAS on two threads rounds otherwise than on one."""
    space = {name: {"type": "float", "low": 0.0, "high": 0.9} for name in ("dropout", "l1", "l2", "momentum")}
    budget, sampler = {"n_trials": 150, "max_epochs": 1}, {"name": "gp", "n_startup_trials": 145}
    study = Study.model_validate({"name": "s", "budget": budget, "space": space, "sampler": sampler})
    condition, roots = GaussianProcess._condition, list[bytes]()

    def observed(model: GaussianProcess, points: np.ndarray, values: np.ndarray) -> None:
        condition(model, points, values)
        roots.append(model._root.tobytes())

    monkeypatch.setattr(GaussianProcess, "_condition", observed)
    for n_threads in (1, 2):
        policy = make_policy(study)
        with threadpool_limits(n_threads):
            for number in range(146):
                asked = policy.next()
                assert isinstance(asked, Start)
                loss = sum((float(value) - 0.3) ** 2 for value in asked.parameters.values())
                policy.on_complete(number, {"valid_loss": loss})
    assert len(roots) == 2
    assert roots[0] == roots[1]
