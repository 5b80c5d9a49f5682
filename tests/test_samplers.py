"""Ancestral sampling against its own recursion, written out."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_np.posterior import q_posterior
from ddpm_np.reverse import model_mean, reverse_variance
from ddpm_np.samplers import ancestral_sample
from ddpm_np.schedules import linear_schedule, schedule_from_beta
from tests.strategies import (
    EPS,
    KINDS,
    MILD,
    TARGETS,
    TINY,
    assert_within,
    eps_of,
    exact_eps,
    optimal_variance,
    schedules,
    slope,
)

rng = np.random.default_rng(0)
X_T = rng.standard_normal((3, 2))
NOISE = rng.standard_normal((MILD.T + 1, 3, 2))


def no_noise(t):
    raise AssertionError(f"noise asked for at t = {t}")


def output_variance(schedule, predict, sigma2, target="eps"):
    """Variance of the samples of a linear model, exactly: the sum of its squared coefficients.

    Example 0 is driven by x_T alone, example t by the noise of step t.
    """
    T = schedule.T
    unit = np.eye(T + 1)[:, :, None]
    x0 = ancestral_sample(
        schedule, predict, unit[0], noise=lambda t: unit[t], sigma2=sigma2, target=target
    )
    assert T == 1 or x0[1, 0] == 0.0  # there is no noise at t = 1
    return float(np.sum(x0**2))


@pytest.mark.parametrize("target", TARGETS)
def test_noise_and_network_are_asked_for_in_order(target):
    asked, seen = [], []

    def noise(t):
        asked.append(t)
        return NOISE[t]

    def predict(x_t, t):
        assert type(t) is int
        seen.append(t)
        return np.tanh(x_t)

    sigma2 = reverse_variance(MILD, "beta")
    ancestral_sample(MILD, predict, X_T, noise=noise, sigma2=sigma2, target=target)
    assert asked == list(range(MILD.T, 1, -1))
    assert seen == list(range(MILD.T, 0, -1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS)
def test_each_step_is_the_models(target, kind):
    """x_{t-1} = mean + sigma_t z, step by step, from the recorded trajectory."""
    sigma2 = reverse_variance(MILD, kind)
    path = ancestral_sample(
        MILD,
        lambda x_t, t: np.sin(x_t + t),
        X_T,
        noise=lambda t: NOISE[t],
        sigma2=sigma2,
        target=target,
        trajectory=True,
    )
    assert path.shape == (MILD.T + 1, *X_T.shape)
    for t in range(1, MILD.T + 1):
        mean = model_mean(MILD, path[t], t, np.sin(path[t] + t), target)
        expected = mean + (np.sqrt(sigma2[t]) * NOISE[t] if t > 1 else 0.0)
        assert_within(path[t - 1], expected, 8 * EPS * (1.0 + np.abs(expected)))


def test_trajectory_ends_in_the_sample_and_starts_from_x_T():
    arguments = (MILD, lambda x_t, t: np.cos(x_t), X_T)
    options = {"noise": lambda t: NOISE[t], "sigma2": reverse_variance(MILD, "posterior")}
    before = X_T.copy()
    sample = ancestral_sample(*arguments, **options)
    path = ancestral_sample(*arguments, **options, trajectory=True)
    np.testing.assert_array_equal(path[0], sample)
    np.testing.assert_array_equal(path[MILD.T], before)
    np.testing.assert_array_equal(X_T, before)
    assert sample.shape == X_T.shape


def test_one_step():
    """T = 1: the sample is the mean; no noise at all."""
    schedule = schedule_from_beta([0.3])
    sigma2 = reverse_variance(schedule, "posterior")
    x0 = ancestral_sample(schedule, lambda x_t, t: 0.5 * x_t, X_T, noise=no_noise, sigma2=sigma2)
    expected = (1.0 - math.sqrt(0.3) * 0.5) / math.sqrt(0.7) * X_T  # (34) with alpha_bar = alpha
    assert_within(x0, expected, 8 * EPS * np.abs(expected))


@pytest.mark.parametrize("target", TARGETS)
@given(schedule=schedules(max_T=30), c=st.floats(-1.0, 1.0), x_T=st.floats(-4.0, 4.0))
def test_linear_networks_without_noise(target, schedule, c, x_T):
    """A product of slopes."""
    x0 = ancestral_sample(
        schedule,
        lambda x_t, t: c * x_t,
        np.array([x_T]),
        noise=lambda t: np.zeros(1),
        sigma2=reverse_variance(schedule, "unit"),
        target=target,
    )
    expected, size = x_T, abs(x_T)
    for t in range(schedule.T, 0, -1):
        expected *= slope(schedule, t, c, target)
        # Terms of either sign cancel in a slope: bound it by their sum.
        size *= max(1.0, 3.0 / math.sqrt(schedule.alpha[t]))
    assert x0[0] == pytest.approx(expected, rel=0, abs=32 * EPS * schedule.T * size + TINY)


@pytest.mark.parametrize("kind", [*KINDS, "optimal"])
def test_exact_denoiser_propagates_variance_exactly(kind):
    """Data N(0, s2): V <- slope^2 V + sigma2, but no sigma_1."""
    schedule, s2 = linear_schedule(100, 1e-3, 0.1), 0.25
    table = optimal_variance(schedule, s2) if kind == "optimal" else reverse_variance(schedule, kind)
    c = exact_eps(schedule, s2)
    variance = 1.0
    for t in range(100, 0, -1):
        variance *= slope(schedule, t, c[t], "eps") ** 2
        variance += table[t] if t > 1 else 0.0
    got = output_variance(schedule, lambda x_t, t: c[t] * x_t, table)
    assert got == pytest.approx(variance, rel=1e-12, abs=0.0)


def test_optimal_variance_samples_the_data():
    """With sigma_1 the variance would be s2 (and a little more: x_T is not quite the prior's)."""
    schedule, s2 = linear_schedule(1000), 0.25
    table, c = optimal_variance(schedule, s2), exact_eps(schedule, s2)
    got = output_variance(schedule, lambda x_t, t: c[t] * x_t, table)
    # The true chain run backwards from N(0, v_T), v_T = 1 - 0.75 alpha_bar_T, gives s2 to rounding;
    # x_T ~ N(0, 1) adds what is left of 0.75 alpha_bar_T, times the squared product of the slopes.
    product = math.prod(slope(schedule, t, c[t], "eps") for t in range(1, 1001))
    expected = s2 - table[1] + product**2 * 0.75 * schedule.alpha_bar[-1]
    assert got == pytest.approx(expected, rel=1e-11, abs=0.0)
    assert got == pytest.approx(s2, rel=1e-3, abs=0.0)


def test_a_perfect_x0_network_returns_its_observation():
    """Predicting one x0 always: the last mean is exactly that."""
    target = np.broadcast_to(np.array([1.5, -2.0]), X_T.shape).copy()
    sample = ancestral_sample(
        MILD,
        lambda x_t, t: target,
        X_T,
        noise=lambda t: NOISE[t],
        sigma2=reverse_variance(MILD, "posterior"),
        target="x0",
    )
    np.testing.assert_array_equal(sample, target)
    path = ancestral_sample(
        MILD,
        lambda x_t, t: target,
        X_T,
        noise=lambda t: NOISE[t],
        sigma2=reverse_variance(MILD, "posterior"),
        target="x0",
        trajectory=True,
    )
    mean, variance = q_posterior(MILD, target, X_T, MILD.T)
    assert_within(path[-2], mean + np.sqrt(variance) * NOISE[MILD.T], 16 * EPS)


@pytest.mark.parametrize("trajectory", [False, True])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("first", [1, 4, MILD.T])
def test_the_time_from_which_nothing_is_finite_is_named(lib, dtype, first, target, value, trajectory):
    """Though later predictions are as they should be."""
    bad = np.zeros_like(X_T)
    bad[1, 0] = value

    def predict(x_t, t):
        return lib.array(bad if t == first else np.zeros_like(X_T), dtype)

    with pytest.raises(
        FloatingPointError, match=rf"sampling diverged at t = {first}: .* x_{first - 1} is not"
    ):
        ancestral_sample(
            MILD,
            predict,
            lib.array(X_T, dtype),
            noise=lambda t: lib.array(NOISE[t], dtype),
            sigma2=reverse_variance(MILD, "beta"),
            target=target,
            trajectory=trajectory,
        )


def test_noise_that_is_not_finite_and_what_overflows_are_named_too():
    sigma2 = reverse_variance(MILD, "beta")
    with pytest.raises(FloatingPointError, match="diverged at t = 3"):
        ancestral_sample(
            MILD,
            lambda x_t, t: x_t,
            X_T,
            noise=lambda t: NOISE[t] if t != 3 else NOISE[t] + np.inf,
            sigma2=sigma2,
        )
    with pytest.raises(FloatingPointError, match=f"diverged at t = {MILD.T - 1}"):
        ancestral_sample(MILD, lambda x_t, t: 1e200 * x_t, X_T, noise=lambda t: NOISE[t], sigma2=sigma2)


def test_a_variance_of_0_at_t_1_points_to_the_table_that_has_one():
    with pytest.raises(
        ValueError, match=r'got sigma2\[1\] = 0; .* reverse_variance\(schedule, "posterior"\)'
    ):
        ancestral_sample(MILD, lambda x_t, t: x_t, X_T, noise=no_noise, sigma2=MILD.posterior_variance)


@pytest.mark.parametrize("trajectory", [False, True])
def test_on_every_library(lib, dtype, trajectory):
    x_T, noise = X_T.astype(dtype), NOISE.astype(dtype)

    def run(xp, x, noise):
        return ancestral_sample(
            MILD,
            lambda x_t, t: xp.tanh(x_t) / t,
            x,
            noise=noise,
            sigma2=reverse_variance(MILD, "beta"),
            trajectory=trajectory,
        )

    result = run(lib.xp, lib.array(x_T, dtype), lambda t: lib.array(noise[t], dtype))
    assert str(result.dtype).endswith(dtype)
    expected = run(np, x_T.astype(np.float64), lambda t: noise[t].astype(np.float64))
    # Ten steps of a dozen roundings; all the slopes together amplify by 1 / sqrt(alpha_bar_T) = 3.6.
    assert_within(lib.host(result), expected, 400 * eps_of(dtype) * np.max(np.abs(expected)))
