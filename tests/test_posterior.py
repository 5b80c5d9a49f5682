"""The reversed step against Bayes' rule."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from ddpm_np.forward import q_moments, q_step_moments
from ddpm_np.posterior import posterior_mean_coefficients, posterior_mean_from_eps, q_posterior
from ddpm_np.schedules import linear_schedule
from ddpm_np.targets import x0_from_eps
from tests.strategies import (
    EPS,
    MILD,
    assert_within,
    at,
    case_with_x_t,
    cases,
    check_library,
    schedules,
    spread,
    terms,
    times,
)

scheduled_times = schedules(min_T=2).flatmap(lambda s: st.tuples(st.just(s), times(s.T, 2)))


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
    """(25) and (26) as they are printed."""
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
    """(29) = (26) after (28): the mean from the noise is that from the x_0 that the noise implies."""
    schedule, t, x0, eps, x_t = case
    mean, _ = q_posterior(schedule, x0, x_t, t)
    size, _ = terms(schedule, t, x0, eps)
    bound = 32 * EPS * size / np.sqrt(at(schedule.alpha, t, x0))
    assert_within(posterior_mean_from_eps(schedule, x_t, t, eps), mean, bound)
    # x0_from_eps is off by EPS / sqrt(alpha_bar), of which the mean takes its share c_x0.
    again, _ = q_posterior(schedule, x0_from_eps(schedule, x_t, t, eps), x_t, t)
    assert_within(again, mean, bound)


def test_posterior_on_every_library(lib, dtype):
    check_library(lib, dtype, lambda t, x, y: q_posterior(MILD, x, y, t), 2)
    check_library(lib, dtype, lambda t, x, y: posterior_mean_from_eps(MILD, x, t, y), 2)
