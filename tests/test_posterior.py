"""The reversed step against Bayes' rule, and the four targets against each other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm_np import posterior
from ddpm_np.forward import q_moments, q_sample, q_step_moments
from ddpm_np.posterior import (
    eps_from_v,
    eps_from_x0,
    posterior_mean_coefficients,
    posterior_mean_from_eps,
    predicted_eps,
    predicted_x0,
    q_posterior,
    training_target,
    v_from_x0_and_eps,
    x0_from_eps,
    x0_from_mean,
    x0_from_v,
)
from ddpm_np.schedules import linear_schedule, schedule_from_beta
from tests.strategies import (
    EPS,
    MILD,
    TARGETS,
    assert_within,
    at,
    cases,
    check_library,
    schedules,
    spread,
    times,
)

scheduled_times = schedules(min_T=2).flatmap(lambda s: st.tuples(st.just(s), times(s.T, 2)))


def case_with_x_t(count=2, **kwargs):
    """(schedule, t, x0, eps, x_t)."""
    return cases(count, **kwargs).map(lambda c: (*c, q_sample(c[0], c[2], c[1], c[3])))


def terms(schedule, t, x0, eps):
    """Sizes that bound every intermediate: of x_t, and of what 1 / sqrt(alpha_bar) makes of it."""
    size = np.abs(x0) + np.abs(eps)
    return size, size / np.sqrt(at(schedule.alpha_bar, t, x0))


@given(scheduled_times, st.floats(-2.0, 2.0), st.floats(-2.0, 2.0))
def test_posterior_is_bayes_rule(schedule_t, x0, noise):
    """Normalise q(x_t | x_{t-1}) q(x_{t-1} | x_0) over x_{t-1} on a grid; its moments are (24)-(26)."""
    schedule, t = schedule_t
    x_t = math.sqrt(schedule.alpha_bar[t]) * x0 + math.sqrt(schedule.one_minus_alpha_bar[t]) * noise
    # The product is narrower than either factor. Twelve of its sigmas around its mode, found on
    # ever finer grids without the formulas under test; trapezoids are exact for such a Gaussian.
    prior_mean, prior_variance = q_moments(schedule, np.array([x0]), t - 1)
    step_variance = schedule.beta[t]

    def log_product(x):
        step_mean, _ = q_step_moments(schedule, x, t)
        prior = -((x - prior_mean) ** 2) / (2.0 * float(prior_variance))
        return prior - (x_t - step_mean) ** 2 / (2.0 * step_variance)

    likely = x_t / math.sqrt(schedule.alpha[t])
    low, high = min(likely, prior_mean[0]), max(likely, prior_mean[0])
    width = math.sqrt(1.0 / (schedule.alpha[t] / step_variance + 1.0 / float(prior_variance)))
    low, high = low - 0.1 * width, high + 0.1 * width
    while high - low > 30.0 * width:
        grid = np.linspace(low, high, 1001)
        best = grid[np.argmax(log_product(grid))]
        spacing = grid[1] - grid[0]
        low, high = best - 2.0 * spacing, best + 2.0 * spacing
    x = np.linspace(low - 12.0 * width, high + 12.0 * width, 4001)
    log_p = log_product(x)
    p = np.exp(log_p - log_p.max())
    p /= integrate.trapezoid(p, x)
    mean = integrate.trapezoid(p * x, x)
    variance = integrate.trapezoid(p * (x - mean) ** 2, x)

    got_mean, got_variance = q_posterior(schedule, np.array([x0]), np.array([x_t]), t)
    # The exponent is rounded by EPS times squares as large as (x / sigma)^2.
    rounding = EPS * (1.0 + (10.0 / width) ** 2)
    assert got_mean[0] == pytest.approx(mean, abs=width * (1e-9 + 8 * rounding))
    assert float(got_variance) == pytest.approx(variance, rel=1e-9 + 8 * rounding, abs=0.0)


@given(case_with_x_t(minimum=2))
def test_bayes_rule_of_the_densities(case):
    """(8): q(x_t|x_{t-1}) q(x_{t-1}|x_0) = q(x_{t-1}|x_t,x_0) q(x_t|x_0), at any point."""
    schedule, t, x0, eps, x_t = case
    mean, variance = q_posterior(schedule, x0, x_t, t)
    x = mean + np.sqrt(variance) * np.cos(eps)  # any x_{t-1} within its reach

    def log_density(value, moments):
        return stats.norm.logpdf(value, moments[0], np.sqrt(moments[1]))

    joint = log_density(x_t, q_step_moments(schedule, x, t)) + log_density(
        x, q_moments(schedule, x0, t - 1)
    )
    reverse = log_density(x, (mean, variance)) + log_density(x_t, q_moments(schedule, x0, t))
    # Exponents of size (64 + 1)^2 / 2 at the most; x / sigma is rounded by EPS |x| / sigma.
    sigma = np.sqrt(np.minimum(variance, at(schedule.beta, t, x0)))
    size = 1.0 + np.abs(x0) + np.abs(x_t) + np.abs(x)
    assert_within(joint, reverse, 64 * EPS * (1.0 + np.abs(joint) + (size / sigma) * (1 + np.abs(eps))))


@given(cases(2))
def test_first_step_back_is_the_data(case):
    schedule, _, x0, x_t = case
    mean, variance = q_posterior(schedule, x0, x_t, 1)
    np.testing.assert_array_equal(mean, x0)
    assert variance == 0.0
    assert posterior_mean_coefficients(schedule, 1) == (0.0, 1.0)


def test_coefficients_of_many_examples_are_those_of_their_times():
    """Where there are fewer times than examples each is computed once."""
    schedule = linear_schedule(5)
    t = np.array([5, 1, 2, 2, 3, 4, 1])
    each = [posterior_mean_coefficients(schedule, int(one)) for one in t]
    for found, expected in zip(
        posterior_mean_coefficients(schedule, t), zip(*each, strict=True), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


@given(cases(2))
def test_posterior_is_the_printed_formula(case):
    schedule, t, x0, x_t = case
    now, before = schedule.one_minus_alpha_bar[t], schedule.one_minus_alpha_bar[t - 1]
    c_xt = np.sqrt(schedule.alpha[t]) * before / now
    c_x0 = np.sqrt(schedule.alpha_bar[t - 1]) * (1.0 - schedule.alpha[t]) / now
    tilde = before / now * (1.0 - schedule.alpha[t])
    mean, variance = q_posterior(schedule, x0, x_t, t)
    # 1 - alpha is beta but for EPS / beta.
    error = 8 * EPS + EPS / at(schedule.beta, t, x0)
    assert_within(mean, spread(c_xt, x0) * x_t + spread(c_x0, x0) * x0, error * (abs(x_t) + abs(x0)))
    assert_within(variance, spread(tilde, x0), error * variance)


@given(case_with_x_t())
def test_29_is_26_after_28(case):
    """The mean from the noise is the mean from the observation that the noise implies."""
    schedule, t, x0, eps, x_t = case
    mean, _ = q_posterior(schedule, x0, x_t, t)
    size, _ = terms(schedule, t, x0, eps)
    bound = 32 * EPS * size / np.sqrt(at(schedule.alpha, t, x0))
    assert_within(posterior_mean_from_eps(schedule, x_t, t, eps), mean, bound)
    # x0_from_eps is off by EPS / sqrt(alpha_bar), of which the mean takes its share c_x0.
    again, _ = q_posterior(schedule, x0_from_eps(schedule, x_t, t, eps), x_t, t)
    assert_within(again, mean, bound)


@given(case_with_x_t())
def test_conversions_invert_the_draw(case):
    """(28) and its kin recover x0 and eps from x_t, to the rounding that they amplify."""
    schedule, t, x0, eps, x_t = case
    size, amplified = terms(schedule, t, x0, eps)
    v = v_from_x0_and_eps(schedule, t, x0, eps)
    mean, _ = q_posterior(schedule, x0, x_t, t)
    by_sigma = size / np.sqrt(at(schedule.one_minus_alpha_bar, t, x0))
    c_x0 = spread(posterior_mean_coefficients(schedule, t)[1], x0)
    assert_within(x0_from_eps(schedule, x_t, t, eps), x0, 16 * EPS * amplified)
    assert_within(eps_from_x0(schedule, x_t, t, x0), eps, 16 * EPS * by_sigma)
    assert_within(x0_from_v(schedule, x_t, t, v), x0, 16 * EPS * size)
    assert_within(eps_from_v(schedule, x_t, t, v), eps, 16 * EPS * size)
    assert_within(x0_from_mean(schedule, x_t, t, mean), x0, 16 * EPS * size / c_x0)


@given(cases(2))
def test_velocity_is_a_rotation(case):
    """(x_t, v) is (x0, eps) turned by the angle with cosine sqrt(alpha_bar)."""
    schedule, t, x0, eps = case
    x_t, v = q_sample(schedule, x0, t, eps), v_from_x0_and_eps(schedule, t, x0, eps)
    assert_within(x_t**2 + v**2, x0**2 + eps**2, 32 * EPS * (x0**2 + eps**2))
    angle = np.arctan2(
        np.sqrt(at(schedule.one_minus_alpha_bar, t, x0)), np.sqrt(at(schedule.alpha_bar, t, x0))
    )
    assert_within(v, np.cos(angle) * eps - np.sin(angle) * x0, 16 * EPS * (abs(x0) + abs(eps)))


@given(case_with_x_t())
def test_training_target_is_what_the_conversions_say(case):
    schedule, t, x0, eps, x_t = case
    size, _ = terms(schedule, t, x0, eps)
    expected = {
        "eps": eps,
        "x0": x0,
        "mean": q_posterior(schedule, x0, x_t, t)[0],
        "v": v_from_x0_and_eps(schedule, t, x0, eps),
    }
    for target in TARGETS:
        assert_within(training_target(schedule, x0, t, eps, target), expected[target], 16 * EPS * size)
    assert_within(training_target(schedule, x0, t, eps), eps, 0.0)


@given(case_with_x_t())
def test_every_target_implies_the_same_x0_and_eps(case):
    schedule, t, x0, eps, x_t = case
    size, amplified = terms(schedule, t, x0, eps)
    sigma = np.sqrt(at(schedule.one_minus_alpha_bar, t, x0))
    c_x0 = spread(posterior_mean_coefficients(schedule, t)[1], x0)
    x0_bound = {"eps": amplified, "x0": 0.0 * size, "mean": size / c_x0, "v": size}
    eps_bound = {
        "eps": 0.0 * size,
        "x0": size / sigma,
        "mean": size * sigma / at(schedule.beta, t, x0),
        "v": size,
    }
    for target in TARGETS:
        truth = training_target(schedule, x0, t, eps, target)
        assert_within(predicted_x0(schedule, x_t, t, truth, target), x0, 32 * EPS * x0_bound[target])
        assert_within(predicted_eps(schedule, x_t, t, truth, target), eps, 32 * EPS * eps_bound[target])


@given(cases(2))
def test_any_prediction_means_one_pair(case):
    """Not only truths: whatever is predicted, x_t = q_sample(implied x0, implied eps)."""
    schedule, t, x_t, prediction = case
    ab, om = at(schedule.alpha_bar, t, x_t), at(schedule.one_minus_alpha_bar, t, x_t)
    c_x0 = spread(posterior_mean_coefficients(schedule, t)[1], x_t)
    by_mean = np.sqrt(ab) / c_x0 + om / at(schedule.beta, t, x_t)
    amplified = {"eps": 1.0, "x0": 1.0, "v": 1.0, "mean": by_mean}
    for target in TARGETS:
        x0 = predicted_x0(schedule, x_t, t, prediction, target)
        eps = predicted_eps(schedule, x_t, t, prediction, target)
        size = (np.abs(x_t) + np.abs(prediction)) * amplified[target]
        assert_within(q_sample(schedule, x0, t, eps), x_t, 32 * EPS * size)


def test_eps_and_mean_at_the_default_targets():
    """The target defaults to the noise everywhere."""
    rng = np.random.default_rng(0)
    x_t, prediction = rng.standard_normal((2, 3, 2))
    np.testing.assert_array_equal(
        predicted_x0(MILD, x_t, 4, prediction), x0_from_eps(MILD, x_t, 4, prediction)
    )
    np.testing.assert_array_equal(predicted_eps(MILD, x_t, 4, prediction), prediction)


def test_errors_where_alpha_bar_is_too_small():
    """Rather than infinities: float32 cannot hold 1 / sqrt(alpha_bar), or c_x0 is 0."""
    schedule = schedule_from_beta(np.full(1000, 0.9))
    x = np.ones((1, 2), np.float32)
    with pytest.raises(ValueError, match=r"inf, which float64 cannot hold.* too close to 0"):
        x0_from_eps(schedule, x.astype(np.float64), 1000, x.astype(np.float64))
    with pytest.raises(ValueError, match=r"float32 cannot hold.*alpha_bar\[t\] .* too close to 0"):
        x0_from_eps(schedule, x, 100, x)
    assert np.all(np.isfinite(x0_from_eps(schedule, x.astype(np.float64), 100, x.astype(np.float64))))
    with pytest.raises(ValueError, match=r"posterior mean at t does not depend on x0"):
        x0_from_mean(schedule, x, 400, x)


FUNCTIONS = [
    "x0_from_eps",
    "eps_from_x0",
    "x0_from_mean",
    "x0_from_v",
    "eps_from_v",
    "posterior_mean_from_eps",
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_conversions_on_every_library(lib, dtype, name):
    check_library(lib, dtype, lambda t, x, y: getattr(posterior, name)(MILD, x, t, y), 2)


def test_posterior_and_velocity_on_every_library(lib, dtype):
    check_library(lib, dtype, lambda t, x, y: q_posterior(MILD, x, y, t), 2)
    check_library(lib, dtype, lambda t, x, y: v_from_x0_and_eps(MILD, t, x, y), 2)


@pytest.mark.parametrize("target", TARGETS)
def test_targets_on_every_library(lib, dtype, target):
    check_library(lib, dtype, lambda t, x, y: training_target(MILD, x, t, y, target), 2)
    check_library(lib, dtype, lambda t, x, y: predicted_x0(MILD, x, t, y, target), 2)
    check_library(lib, dtype, lambda t, x, y: predicted_eps(MILD, x, t, y, target), 2)
