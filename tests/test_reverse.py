"""The model's step: its mean from every target, its variances, the prior."""

import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from ddpm_np.forward import q_sample
from ddpm_np.posterior import posterior_mean_from_eps, q_posterior
from ddpm_np.reverse import learned_variance, model_mean, prior_log_density, reverse_variance
from ddpm_np.schedules import linear_schedule, schedule_from_beta
from ddpm_np.targets import predicted_eps, predicted_x0
from ddpm_np.targets import training_target as truth_of
from tests.strategies import (
    EPS,
    KINDS,
    MILD,
    TARGETS,
    assert_within,
    at,
    cases,
    check_library,
    eps_of,
    schedules,
)


@given(cases(2))
def test_the_truth_gives_the_posterior_mean(case):
    """Whatever the target, a perfect network's mean is (26)."""
    schedule, t, x0, eps = case
    x_t = q_sample(schedule, x0, t, eps)
    mean, _ = q_posterior(schedule, x0, x_t, t)
    bound = 32 * EPS * (np.abs(x0) + np.abs(eps)) / np.sqrt(at(schedule.alpha, t, x0))
    for target in TARGETS:
        prediction = truth_of(schedule, x0, t, eps, target)
        assert_within(model_mean(schedule, x_t, t, prediction, target), mean, bound)


@given(cases(2))
def test_all_targets_say_the_same_mean(case):
    """A prediction of the noise, right or wrong, converted to the other targets: one mean."""
    schedule, t, x_t, eps = case
    expected = model_mean(schedule, x_t, t, eps, "eps")
    x0 = predicted_x0(schedule, x_t, t, eps, "eps")
    size = np.abs(x_t) + np.abs(eps) + np.abs(x0)
    bound = 32 * EPS * size / np.sqrt(at(schedule.alpha, t, x_t))
    others = {
        "x0": x0,
        "v": np.sqrt(at(schedule.alpha_bar, t, x_t)) * eps
        - np.sqrt(at(schedule.one_minus_alpha_bar, t, x_t)) * x0,
        "mean": expected,
    }
    for target, prediction in others.items():
        assert_within(model_mean(schedule, x_t, t, prediction, target), expected, bound)
        again = predicted_eps(schedule, x_t, t, prediction, target)
        by_sigma = size / np.sqrt(at(schedule.one_minus_alpha_bar, t, x_t))
        by_beta = size * np.sqrt(at(schedule.one_minus_alpha_bar, t, x_t)) / at(schedule.beta, t, x_t)
        assert_within(again, eps, 32 * EPS * (by_sigma + by_beta))


@given(cases(2))
def test_mean_from_eps_is_34(case):
    """(34), and (29), which is the same with the true noise."""
    schedule, t, x_t, eps = case
    alpha, om = at(schedule.alpha, t, x_t), at(schedule.one_minus_alpha_bar, t, x_t)
    expected = (x_t - at(schedule.beta, t, x_t) / np.sqrt(om) * eps) / np.sqrt(alpha)
    bound = 16 * EPS * (np.abs(x_t) + np.abs(eps)) / np.sqrt(alpha)
    assert_within(model_mean(schedule, x_t, t, eps), expected, bound)
    assert_within(posterior_mean_from_eps(schedule, x_t, t, eps), expected, bound)


def test_variances_of_the_linear_schedule():
    schedule = linear_schedule(1000)
    posterior, beta, unit = (reverse_variance(schedule, kind) for kind in KINDS)
    np.testing.assert_array_equal(posterior[2:], schedule.posterior_variance[2:])
    assert posterior[1] == posterior[2] == pytest.approx(5.4531877e-5, rel=1e-8, abs=0.0)
    np.testing.assert_array_equal(beta, schedule.beta)
    np.testing.assert_array_equal(unit[1:], 1.0)


@given(schedules())
def test_variances_are_positive_tables(schedule):
    for kind in KINDS:
        table = reverse_variance(schedule, kind)
        assert table.shape == (schedule.T + 1,)
        assert table[0] == 0.0
        assert np.all(table[1:] > 0.0)
    # beta_tilde < beta, but for rounding, and sigma_1 which may be taken from t = 2.
    posterior, beta = reverse_variance(schedule, "posterior"), reverse_variance(schedule, "beta")
    assert np.all(posterior[2:] <= beta[2:] * (1.0 + 2 * EPS))
    assert posterior[1] == (schedule.posterior_variance[2] if schedule.T > 1 else beta[1])


def test_one_step_falls_back_on_beta():
    schedule = schedule_from_beta([0.3])
    np.testing.assert_array_equal(reverse_variance(schedule, "posterior"), [0.0, 0.3])


@pytest.mark.parametrize("kind", KINDS)
def test_variances_belong_to_the_caller(kind):
    table = reverse_variance(MILD, kind)
    table[1] = 7.0
    assert reverse_variance(MILD, kind)[1] != 7.0


def test_prior_is_standard_normal(lib, dtype):
    x = np.random.default_rng(0).standard_normal((3, 2, 2)).astype(dtype)
    result = prior_log_density(lib.array(x, dtype))
    assert str(result.dtype).endswith(dtype)
    expected = stats.norm.logpdf(x.astype(np.float64)).sum(axis=(1, 2))
    # Four coordinates of size three or less each.
    assert_within(lib.host(result), expected, 32 * eps_of(dtype))


@pytest.mark.parametrize("target", TARGETS)
def test_on_every_library(lib, dtype, target):
    check_library(lib, dtype, lambda t, x, p: model_mean(MILD, x, t, p, target), 2)


@given(cases(1))
def test_learned_variance_is_a_geometric_mean(case):
    """v = 1 is beta, 0 the posterior variance (beta_tilde_2 at t = 1), 1/2 the root of their product."""
    schedule, t, x = case
    beta, low = (at(reverse_variance(schedule, kind), t, x) for kind in ("beta", "posterior"))
    for v, expected in ((1.0, beta), (0.0, low), (0.5, np.sqrt(beta * low)), (2.0, beta**2 / low)):
        expected = np.broadcast_to(expected, x.shape)
        # exp magnifies the rounding of its argument, up to 30 here.
        assert_within(learned_variance(schedule, np.full_like(x, v), t), expected, 256 * EPS * expected)


def test_learned_variance_on_every_library(lib, dtype):
    check_library(lib, dtype, lambda t, v: learned_variance(MILD, v, t), 1)
