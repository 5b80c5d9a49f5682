"""Log-densities of whole paths against SciPy's, factor by factor and as one dense Gaussian."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm_np.paths import (
    draw_path,
    elbo_integrand_bayes,
    elbo_integrand_consistency,
    elbo_integrand_expanded,
    elbo_integrand_reversed,
    elbo_path_terms,
    model_path_log_density,
    path_log_density,
    reversed_path_log_density,
)
from ddpm_np.reverse import reverse_variance
from ddpm_np.schedules import linear_schedule, schedule_from_beta
from tests.strategies import MILD, eps_of
from tests.test_chains import dense_q

INTEGRANDS = [
    elbo_integrand_expanded,
    elbo_integrand_bayes,
    elbo_integrand_reversed,
    elbo_integrand_consistency,
]
SCHEDULE = schedule_from_beta([0.1, 0.3, 0.2, 0.5, 0.4])
SIGMA2 = np.array([0.0, 0.3, 0.1, 0.5, 1.5, 0.7])
SHAPES = [(3,), (3, 2), (2, 2, 2)]

tables = st.lists(st.floats(1e-3, 0.8), min_size=1, max_size=8).map(schedule_from_beta)


def bent(x, t):
    """A model mean that is not linear, by operators only."""
    return 0.7 * x + 0.1 * t - 0.2 * x * x


def random_path(schedule, shape, seed=0):
    """Not drawn from q: the identities hold anywhere."""
    return np.random.default_rng(seed).standard_normal((schedule.T + 1, *shape))


def features(x):
    return x.reshape(len(x), -1).sum(axis=1)


def log_normal(x, mean, variance):
    return features(stats.norm.logpdf(x, mean, np.sqrt(variance)))


def model_factors(path, mean, sigma2):
    """log p_theta(x_{t-1} | x_t) for t = 1..T, and log p(x_T)."""
    T = len(path) - 1
    steps = [log_normal(path[t - 1], mean(path[t], t), sigma2[t]) for t in range(1, T + 1)]
    return [*steps, features(stats.norm.logpdf(path[T]))]


# --- drawing


@pytest.mark.parametrize("shape", SHAPES)
def test_draw_path_follows_its_steps(shape):
    noise = random_path(SCHEDULE, shape, 1)
    x0 = random_path(SCHEDULE, shape, 2)[0]
    path = draw_path(SCHEDULE, x0, noise)
    assert path.shape == noise.shape
    x = x0
    for t, beta in enumerate([0.0, 0.1, 0.3, 0.2, 0.5, 0.4]):
        if t > 0:
            x = np.sqrt(1.0 - beta) * x + np.sqrt(beta) * noise[t]
        np.testing.assert_allclose(path[t], x, rtol=1e-14, atol=1e-14)
    np.testing.assert_array_equal(draw_path(SCHEDULE, x0, lambda t: noise[t]), path)
    noise[0] = np.nan
    np.testing.assert_array_equal(draw_path(SCHEDULE, x0, noise), path)


@given(tables)
def test_paths_have_the_moments_of_q(schedule):
    """The map from noise to path is linear: its square is the covariance of (x_1, ..., x_T)."""
    T = schedule.T
    noise = np.concatenate([np.zeros((1, T)), np.eye(T)])[..., None]
    maps = draw_path(schedule, np.zeros((T, 1)), noise)[1:, :, 0]
    mean, covariance = dense_q(schedule, np.array([1.7]))
    np.testing.assert_allclose(maps @ maps.T, covariance, rtol=1e-11, atol=1e-13)
    path = draw_path(schedule, np.array([[1.7]]), np.zeros((T + 1, 1, 1)))
    np.testing.assert_allclose(path[1:, 0, 0], mean, rtol=1e-12)


# --- densities


@given(tables, st.integers(1, 3), st.integers(0, 2**32))
def test_both_factorisations_are_the_dense_gaussian(schedule, d, seed):
    path = random_path(schedule, (4, d), seed)
    expected = [
        stats.multivariate_normal(*dense_q(schedule, path[0, b])).logpdf(path[1:, b].ravel())
        for b in range(4)
    ]
    scale = np.max(np.abs(expected))
    for function in (path_log_density, reversed_path_log_density):
        result = function(schedule, path)
        assert result.shape == (4,)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-10 * scale)


def test_one_step_has_one_factor_in_either_direction():
    """At t = 1 the variance of q(x_0 | x_1, x_0) is 0; nothing may divide by it."""
    schedule = schedule_from_beta([0.36])
    path = random_path(schedule, (5, 2))
    expected = log_normal(path[1], 0.8 * path[0], 0.36)
    np.testing.assert_allclose(path_log_density(schedule, path), expected, rtol=1e-13)
    np.testing.assert_allclose(reversed_path_log_density(schedule, path), expected, rtol=1e-13)


@pytest.mark.parametrize("shape", SHAPES)
def test_model_path_log_density_is_scipys(shape):
    path = random_path(SCHEDULE, shape)
    expected = sum(model_factors(path, bent, SIGMA2))
    np.testing.assert_allclose(model_path_log_density(path, bent, SIGMA2), expected, rtol=1e-12)


@pytest.mark.parametrize("function", INTEGRANDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_form_of_the_integrand_is_model_over_q(function, shape):
    path = random_path(SCHEDULE, shape)
    log_q = sum(
        log_normal(path[t], np.sqrt(SCHEDULE.alpha[t]) * path[t - 1], SCHEDULE.beta[t])
        for t in range(1, SCHEDULE.T + 1)
    )
    expected = sum(model_factors(path, bent, SIGMA2)) - log_q
    result = function(SCHEDULE, path, bent, SIGMA2)
    np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-11)


def test_path_terms_are_the_log_ratios():
    path = random_path(SCHEDULE, (4, 2))
    terms = elbo_path_terms(SCHEDULE, path, bent, SIGMA2)
    *steps, prior = model_factors(path, bent, SIGMA2)
    bar, beta = np.cumprod(SCHEDULE.alpha), SCHEDULE.beta
    L_T = prior - log_normal(path[-1], np.sqrt(bar[-1]) * path[0], 1.0 - bar[-1])
    np.testing.assert_allclose(terms.L_T, L_T, rtol=1e-12)
    np.testing.assert_allclose(terms.L_0, steps[0], rtol=1e-12)
    assert terms.L.shape == (6, 4)
    assert np.all(terms.L[:2] == 0.0)
    for t in range(2, 6):
        # q(x_{t-1} | x_t, x_0) from its precision: 1 / (1 - bar_{t-1}) + alpha_t / beta_t
        precision = 1.0 / (1.0 - bar[t - 1]) + SCHEDULE.alpha[t] / beta[t]
        pull = np.sqrt(bar[t - 1]) / (1.0 - bar[t - 1]) * path[0]
        pull = pull + np.sqrt(SCHEDULE.alpha[t]) / beta[t] * path[t]
        log_q = log_normal(path[t - 1], pull / precision, 1.0 / precision)
        np.testing.assert_allclose(terms.L[t], steps[t - 1] - log_q, rtol=1e-10)
    total = terms.L_T + terms.L.sum(axis=0) + terms.L_0
    np.testing.assert_allclose(terms.total, total, rtol=1e-13)


def test_means_are_asked_for_once_a_step():
    path, asked = random_path(SCHEDULE, (4, 2)), []

    def mean(x_t, t):
        asked.append(t)
        np.testing.assert_array_equal(x_t, path[t])
        return x_t

    for function in INTEGRANDS:
        asked.clear()
        function(SCHEDULE, path, mean, SIGMA2)
        assert sorted(asked) == [1, 2, 3, 4, 5]


# --- libraries, errors


def test_every_library(lib, dtype):
    sigma2 = reverse_variance(MILD, "beta")
    rng = np.random.default_rng(0)
    x0 = rng.standard_normal((3, 2, 2)).astype(dtype)
    noise = rng.standard_normal((MILD.T + 1, 3, 2, 2)).astype(dtype)
    host = draw_path(MILD, x0.astype(np.float64), noise.astype(np.float64))
    drawn = draw_path(MILD, lib.array(x0, dtype), lib.array(noise, dtype))
    bound = 100 * eps_of(dtype)
    np.testing.assert_allclose(lib.host(drawn), host, rtol=0, atol=bound)

    path, host = lib.array(host, dtype), host.astype(dtype).astype(np.float64)
    model = model_path_log_density(path, bent, sigma2)
    results = [model, path_log_density(MILD, path), reversed_path_log_density(MILD, path)]
    results += [function(MILD, path, bent, sigma2) for function in INTEGRANDS]
    expected = [sum(model_factors(host, bent, sigma2)), *[path_log_density(MILD, host)] * 2]
    expected += [expected[0] - expected[1]] * len(INTEGRANDS)
    scale = np.max(np.abs(expected))
    for result, truth in zip(results, expected, strict=True):
        assert str(result.dtype).endswith(dtype)
        np.testing.assert_allclose(lib.host(result), truth, rtol=0, atol=bound * scale)


@pytest.mark.parametrize("function", [path_log_density, reversed_path_log_density])
def test_bad_paths(function):
    for shape in [(5, 3, 2), (7, 3, 2), (6,)]:
        with pytest.raises(ValueError, match=r"path must have shape \(T \+ 1, B, ...\) with T = 5"):
            function(SCHEDULE, np.zeros(shape))
    with pytest.raises(TypeError, match="path must have a real floating dtype"):
        function(SCHEDULE, np.zeros((6, 3), int))
    with pytest.raises(TypeError, match="schedule must be"):
        function(3, np.zeros((6, 3)))


@pytest.mark.parametrize("function", INTEGRANDS)
def test_bad_integrands(function):
    path = random_path(SCHEDULE, (3, 2))
    with pytest.raises(ValueError, match=r"path must have shape \(T \+ 1, B, ...\) with T = 5"):
        function(SCHEDULE, path[1:], bent, SIGMA2)
    with pytest.raises(ValueError, match=r"sigma2 must have length T \+ 1 = 6"):
        function(SCHEDULE, path, bent, SIGMA2[1:])
    with pytest.raises(ValueError, match="mean must have the shape of x"):
        function(SCHEDULE, path, lambda x, t: x[1:], SIGMA2)
    with pytest.raises(TypeError, match="schedule must be"):
        function(3, path, bent, SIGMA2)


def test_bad_model_paths():
    with pytest.raises(ValueError, match=r"path must have shape \(T \+ 1, B, ...\), got"):
        model_path_log_density(np.zeros((1, 3)), bent, SIGMA2)
    with pytest.raises(ValueError, match=r"sigma2 must have length T \+ 1 = 4"):
        model_path_log_density(np.zeros((4, 3)), bent, SIGMA2)
    with pytest.raises(ValueError, match="sigma2 must be positive"):
        model_path_log_density(np.zeros((6, 3)), bent, np.zeros(6))


def test_bad_noise():
    schedule, x0 = linear_schedule(3), np.zeros((2, 1))
    with pytest.raises(ValueError, match="noise must be a function of t or an array of shape"):
        draw_path(schedule, x0, np.zeros((3, 2, 1)))
    with pytest.raises(ValueError, match="noise must have the shape of x0"):
        draw_path(schedule, x0, lambda t: np.zeros((2, 2)))
    with pytest.raises(TypeError, match="x0 must have a real floating dtype"):
        draw_path(schedule, np.zeros((2, 1), int), np.zeros((4, 2, 1)))
