"""The four targets against each other."""

import numpy as np
import pytest
from hypothesis import given

from ddpm_np import targets
from ddpm_np.forward import q_sample
from ddpm_np.posterior import posterior_mean_coefficients, q_posterior
from ddpm_np.schedules import schedule_from_beta
from ddpm_np.targets import (
    eps_from_mean,
    eps_from_v,
    eps_from_x0,
    predicted_eps,
    predicted_x0,
    training_target,
    v_from_x0_and_eps,
    x0_from_eps,
    x0_from_mean,
    x0_from_v,
)
from tests.strategies import (
    EPS,
    MILD,
    TARGETS,
    assert_within,
    at,
    case_with_x_t,
    cases,
    check_library,
    spread,
    terms,
)


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
    by_beta = size * np.sqrt(at(schedule.one_minus_alpha_bar, t, x0)) / at(schedule.beta, t, x0)
    assert_within(eps_from_mean(schedule, x_t, t, mean), eps, 16 * EPS * by_beta)


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
    three = np.ones((3, 2))
    assert np.all(np.isfinite(x0_from_mean(schedule, three, np.array([2, 5, 9]), three)))
    with pytest.raises(ValueError, match=r"posterior mean at t does not depend on x0"):
        x0_from_mean(schedule, three, np.array([2, 400, 9]), three)


CONVERSIONS = [f"x0_from_{target}" for target in ("eps", "mean", "v")]
CONVERSIONS += [f"eps_from_{target}" for target in ("x0", "mean", "v")]


@pytest.mark.parametrize("name", CONVERSIONS)
def test_conversions_on_every_library(lib, dtype, name):
    check_library(lib, dtype, lambda t, x, y: getattr(targets, name)(MILD, x, t, y), 2)


def test_velocity_on_every_library(lib, dtype):
    check_library(lib, dtype, lambda t, x, y: v_from_x0_and_eps(MILD, t, x, y), 2)


@pytest.mark.parametrize("target", TARGETS)
def test_targets_on_every_library(lib, dtype, target):
    check_library(lib, dtype, lambda t, x, y: training_target(MILD, x, t, y, target), 2)
    check_library(lib, dtype, lambda t, x, y: predicted_x0(MILD, x, t, y, target), 2)
    check_library(lib, dtype, lambda t, x, y: predicted_eps(MILD, x, t, y, target), 2)
