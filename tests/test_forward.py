"""The forward process: one step, two steps and all steps at once agree, (20)-(22) and (37)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_np.forward import q_moments, q_sample, q_step, q_step_moments, q_two_step_moments
from ddpm_np.gaussians import marginalise
from ddpm_np.schedules import cosine_schedule, linear_schedule, schedule_from_beta
from tests.strategies import EPS, MILD, TINY, assert_within, at, cases, check_library, schedules

ONE = np.ones(1)


def rounding(schedule):
    """Relative error of products and sums over the steps.

    Each is rounded a few times, and alpha = 1 - beta carries EPS / alpha into every product.
    """
    return float(np.sum(4 * EPS + EPS / schedule.alpha))


@given(schedules())
def test_steps_compose_to_the_whole(schedule):
    """(20) for t = 1..T, put together by lemma (37), is (22)."""
    slope, variance = 1.0, 0.0
    for t in range(1, schedule.T + 1):
        step, step_variance = q_step_moments(schedule, ONE, t)
        slope, variance = marginalise(step[0], float(step_variance), slope, variance)
        mean, whole = q_moments(schedule, ONE, t)
        assert mean[0] == pytest.approx(slope, rel=rounding(schedule), abs=0.0)
        assert float(whole) == pytest.approx(variance, rel=rounding(schedule), abs=0.0)


@given(schedules(max_T=40), st.floats(-3.0, 3.0))
def test_drawn_steps_compose_to_the_whole(schedule, x0):
    """A chain of draws is linear in x0 and its noises: their coefficients are the moments.

    Example 0 starts from x0 without noise; example s is moved by the noise of step s alone.
    """
    T = schedule.T
    x = np.zeros(T + 1)
    x[0] = x0
    for t in range(1, T + 1):
        noise = np.zeros(T + 1)
        noise[t] = 1.0
        x = q_step(schedule, x, t, noise)
        mean = q_sample(schedule, np.array([x0]), t, np.zeros(1))
        sigma = q_sample(schedule, np.zeros(1), t, ONE)
        bound = rounding(schedule)
        assert x[0] == pytest.approx(mean[0], rel=bound, abs=TINY)
        assert np.sum(x[1:] ** 2) == pytest.approx(sigma[0] ** 2, rel=2 * bound, abs=0.0)


@given(cases(1, minimum=2, max_T=60))
def test_two_steps_are_two_steps(case):
    schedule, t, x = case
    mean, variance = q_two_step_moments(schedule, x, t)
    half, first = q_step_moments(schedule, x, t - 1)
    expected, last = q_step_moments(schedule, half, t)
    assert_within(mean, expected, 8 * EPS * np.abs(x))
    _, lemma = marginalise(np.sqrt(at(schedule.alpha, t, x)), last, 1.0, first)
    assert_within(variance, lemma, 8 * EPS * lemma)
    # and as it is printed
    printed = 1.0 - at(schedule.alpha, t, x) * at(schedule.alpha, t - 1, x)
    assert_within(variance, printed, 8 * EPS)


@given(cases(1))
def test_step_moments_are_the_formula(case):
    schedule, t, x = case
    mean, variance = q_step_moments(schedule, x, t)
    np.testing.assert_array_equal(variance, at(schedule.beta, t, x))
    assert_within(mean**2, (1.0 - at(schedule.beta, t, x)) * x**2, 8 * EPS * x**2)
    assert np.all(mean * x >= 0.0)


@given(cases(2))
def test_draws_have_their_moments(case):
    """A draw is mean + sqrt(variance) * noise, (20) and (27)."""
    schedule, t, x, noise = case
    for draw, moments in [(q_step, q_step_moments), (q_sample, q_moments)]:
        mean, variance = moments(schedule, x, t)
        bound = 4 * EPS * (np.abs(x) + np.abs(noise))
        assert_within(draw(schedule, x, t, noise), mean + np.sqrt(variance) * noise, bound)


@given(cases(2, minimum=0))
def test_signal_and_noise_keep_unit_variance(case):
    """mean^2 + variance = 1 for x0 = 1: data of unit variance keeps it."""
    schedule, t, x, _ = case
    mean, variance = q_moments(schedule, np.ones_like(x), t)
    assert_within(mean**2 + variance, np.ones_like(x), 8 * EPS)


@given(cases(2))
def test_time_zero_is_the_data(case):
    schedule, _, x0, noise = case
    np.testing.assert_array_equal(q_sample(schedule, x0, 0, noise), x0)
    mean, variance = q_moments(schedule, x0, 0)
    np.testing.assert_array_equal(mean, x0)
    assert variance == 0.0
    times = np.arange(len(x0)) % 2
    mixed = q_sample(schedule, x0, times, noise)
    np.testing.assert_array_equal(mixed[::2], x0[::2])


@given(cases(2))
def test_first_step_is_the_whole_at_one(case):
    """(20) is needed at t = 1 too, or (22) has no base case."""
    schedule, _, x0, noise = case
    a, b = q_step(schedule, x0, 1, noise), q_sample(schedule, x0, 1, noise)
    # Through a logarithm, alpha_bar_1 = alpha_1 = 1 - beta_1, which carries EPS / alpha_1.
    bound = (16 * EPS + EPS / schedule.alpha[1]) * (np.abs(x0) + np.abs(noise))
    assert_within(a, b, bound)


def test_sampled_moments():
    """Draws of a million scalars: mean and variance within 4.5 standard errors."""
    schedule, n = linear_schedule(1000), 1_000_000
    noise = np.random.default_rng(0).standard_normal(n)
    for t in (1, 300, 1000):
        x = q_sample(schedule, np.full(n, 2.0), t, noise)
        variance = schedule.one_minus_alpha_bar[t]
        assert abs(x.mean() - 2.0 * np.sqrt(schedule.alpha_bar[t])) < 4.5 * np.sqrt(variance / n)
        assert abs(x.var() / variance - 1.0) < 4.5 * np.sqrt(2.0 / n)


def test_schedules_that_forget_everything():
    """Where alpha_bar underflows to 0, x_t is the noise; nothing overflows on the way."""
    schedule = schedule_from_beta(np.full(2000, 0.9))
    x0, noise = np.full((2, 3), 5.0, np.float32), np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(q_sample(schedule, x0, 2000, noise), noise)


def test_small_variances_keep_their_digits_in_float32():
    """1 - alpha_bar_1 = 4e-5 for the cosine schedule: computed in float32 it has 3 digits."""
    schedule = cosine_schedule(1000)
    x0 = np.zeros((1, 1), np.float32)
    sigma = float(q_sample(schedule, x0, 1, np.ones_like(x0))[0, 0])
    assert sigma**2 == pytest.approx(schedule.beta[1], rel=4 * float(np.finfo(np.float32).eps), abs=0.0)


CALLS = {
    "q_step": (1, 2, lambda t, x, n: q_step(MILD, x, t, n)),
    "q_step_moments": (1, 1, lambda t, x: q_step_moments(MILD, x, t)),
    "q_two_step_moments": (2, 1, lambda t, x: q_two_step_moments(MILD, x, t)),
    "q_moments": (0, 1, lambda t, x: q_moments(MILD, x, t)),
    "q_sample": (0, 2, lambda t, x, n: q_sample(MILD, x, t, n)),
}


@pytest.mark.parametrize("name", CALLS)
def test_on_every_library(lib, dtype, name):
    minimum, count, function = CALLS[name]
    check_library(lib, dtype, function, count, minimum=minimum)
