"""The best reverse variances: closed forms for Gaussian data, and that nothing beats them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_np.elbo import elbo_decomposition, prior_term
from ddpm_np.exact import (
    analytic_dpm_variance,
    linear_gaussian_moments,
    optimal_variance,
    swiss_roll_exact,
    variance_from_eps_error,
)
from ddpm_np.reverse import reverse_variance
from ddpm_np.schedules import (
    cosine_schedule,
    linear_schedule,
    scaled_linear_schedule,
    schedule_from_beta,
)
from ddpm_np.targets import training_target

S2 = 0.25
ENTROPY = 0.5 * math.log(2.0 * math.pi * math.e * S2)
SHORT = schedule_from_beta([0.15, 0.3, 0.2, 0.5])


def variance_of_x_t(schedule):
    return schedule.alpha_bar * S2 + schedule.one_minus_alpha_bar


def slope_of(schedule, scale=1.0):
    """Slope of ``scale`` times the best denoiser of N(0, 1/4)."""
    return scale * np.sqrt(schedule.one_minus_alpha_bar) / variance_of_x_t(schedule)


def eps_error(schedule, scale=1.0):
    """E(eps - slope x_t)^2, for all of N(0, 1/4)."""
    root = np.sqrt(schedule.one_minus_alpha_bar)
    c = slope_of(schedule, scale)
    return (1.0 - c * root) ** 2 + c**2 * schedule.alpha_bar * S2


def nll_bound(schedule, sigma2, scale=1.0):
    """Exact expected -ELBO: it is linear in x0^2, so x0 = 1/2 stands for N(0, 1/4)."""
    x0 = np.array([[0.5]])
    terms = linear_gaussian_moments(schedule, slope_of(schedule, scale), x0, sigma2).one_sample
    return -float((prior_term(schedule, x0) + terms.mean)[0])


def two_points(schedule, scale=1.0):
    """x0 = +-1/2 with noise +-1: their second moments are those of the Gaussians."""
    x0 = np.array([[0.5], [0.5], [-0.5], [-0.5]])
    eps = np.array([[1.0], [-1.0], [1.0], [-1.0]])
    slope = slope_of(schedule, scale)
    return x0, (lambda t: eps), (lambda x_t, t: slope[t] * x_t)


# --- closed forms


def test_bound_of_gaussian_data_is_their_entropy():
    """Linear, T = 1000: 0.7258 nats, of which the prior term is all that is lost."""
    schedule = linear_schedule(1000)
    sigma2 = variance_from_eps_error(schedule, eps_error(schedule))
    nll = nll_bound(schedule, sigma2)
    assert nll == pytest.approx(0.7258, abs=5e-5)
    # The model is exact but for its start, N(0, 1) in place of q(x_T).
    v = variance_of_x_t(schedule)[-1]
    assert nll - ENTROPY == pytest.approx(0.5 * (v - 1.0 - math.log(v)), abs=1e-10)
    assert nll_bound(schedule, reverse_variance(schedule, "beta")) - nll == pytest.approx(
        0.0011, abs=1e-4
    )
    assert nll_bound(schedule, reverse_variance(schedule, "posterior")) == pytest.approx(
        1.2957, abs=1e-4
    )


@pytest.mark.parametrize("schedule", [SHORT, scaled_linear_schedule(60), cosine_schedule(40)], ids=repr)
def test_is_the_variance_of_x_prev_given_x_t(schedule):
    """Gaussian data: the reversed step is Gaussian, with variance Var x_{t-1} - Cov^2 / Var x_t."""
    v = variance_of_x_t(schedule)
    exact = v[:-1] * schedule.beta[1:] / v[1:]
    x0, noise, predict = two_points(schedule)
    for sigma2 in (
        variance_from_eps_error(schedule, eps_error(schedule)),
        optimal_variance(schedule, predict, x0, noise=noise),
        analytic_dpm_variance(schedule, predict, x0, noise=noise),
    ):
        np.testing.assert_allclose(sigma2[1:], exact, rtol=1e-9)
        assert sigma2[0] == 0.0


@pytest.mark.parametrize("scale", [0.8, 0.3, -1.0])
def test_any_denoiser_has_its_own(scale):
    """Linear, but not the best; and Analytic-DPM's formula does not apply."""
    schedule = scaled_linear_schedule(60)
    x0, noise, predict = two_points(schedule, scale)
    sigma2 = optimal_variance(schedule, predict, x0, noise=noise)
    np.testing.assert_allclose(
        sigma2, variance_from_eps_error(schedule, eps_error(schedule, scale)), rtol=1e-12
    )
    analytic = analytic_dpm_variance(schedule, predict, x0, noise=noise)
    assert nll_bound(schedule, sigma2, scale) < nll_bound(schedule, analytic, scale) - 1e-4


def test_runs_between_the_known_limits():
    """beta_tilde if the noise is known, beta / alpha if nothing is: Bao et al., theorem 2."""
    schedule = scaled_linear_schedule(60)
    zero, one = (variance_from_eps_error(schedule, np.full(61, e)) for e in (0.0, 1.0))
    np.testing.assert_array_equal(zero, schedule.posterior_variance)
    np.testing.assert_allclose(one[1:], schedule.beta[1:] / schedule.alpha[1:], rtol=1e-13)


# --- nothing is better


@given(st.lists(st.floats(-2.0, 2.0), min_size=4, max_size=4), st.sampled_from([1.0, 0.5, -0.4]))
def test_no_other_table_gives_a_better_bound(logs, scale):
    best = variance_from_eps_error(SHORT, eps_error(SHORT, scale))
    other = best * np.exp([0.0, *logs])
    lost = nll_bound(SHORT, other, scale) - nll_bound(SHORT, best, scale)
    # d/2 (1/r - 1 + log r) at each t, with r the ratio of the variances
    expected = 0.5 * np.sum(np.expm1(-np.array(logs)) + logs)
    assert lost == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert lost > -1e-12


@pytest.mark.parametrize("t", [1, 2, 30, 60])
@pytest.mark.parametrize("factor", [0.95, 1.05])
def test_each_entry_matters(t, factor):
    schedule = scaled_linear_schedule(60)
    best = variance_from_eps_error(schedule, eps_error(schedule, 0.9))
    other = best.copy()
    other[t] *= factor
    assert nll_bound(schedule, other, 0.9) > nll_bound(schedule, best, 0.9) + 1e-4


def test_measured_table_is_the_best_for_its_own_draws():
    """A nonlinear denoiser in two dimensions, through elbo_decomposition."""
    rng = np.random.default_rng(0)
    schedule = scaled_linear_schedule(25)
    x0, noise = rng.standard_normal((40, 2)), rng.standard_normal((26, 40, 2))

    def predict(x_t, t):
        return np.tanh(x_t)

    def bound(sigma2):
        return elbo_decomposition(schedule, predict, x0, noise=noise, sigma2=sigma2)

    sigma2 = optimal_variance(schedule, predict, x0, noise=noise)
    best = bound(sigma2)
    for factor in (0.97, 1.03):
        other = bound(factor * sigma2)
        assert np.all(other.L.mean(axis=1)[2:] < best.L.mean(axis=1)[2:])
        assert other.L_0.mean() < best.L_0.mean()


def test_swiss_roll_gap_is_closed():
    """Bayes-optimal denoiser, T = 50: variances from some draws, the bound from others."""
    law, schedule = swiss_roll_exact(), scaled_linear_schedule(50)

    def predict(x_t, t):
        return law.bayes_eps(schedule, x_t, t)

    def noise(seed):
        return lambda t: np.random.default_rng((seed, t)).standard_normal((1000, 2))

    train, test = law.sample(1000, 0), law.sample(1000, 1)
    fitted = optimal_variance(schedule, predict, train, noise=noise(2))
    analytic = analytic_dpm_variance(schedule, predict, train, noise=noise(2))
    np.testing.assert_allclose(analytic[1:], fitted[1:], rtol=0.25)
    gaps = [
        -elbo_decomposition(schedule, predict, test, noise=noise(3), sigma2=sigma2).total.mean()
        - law.entropy()
        for sigma2 in (
            fitted,
            analytic,
            reverse_variance(schedule, "beta"),
            reverse_variance(schedule, "posterior"),
        )
    ]
    assert abs(gaps[0] - gaps[1]) < 0.02
    assert 0.3 < gaps[0] < 0.6
    assert gaps[0] < gaps[2] - 0.1
    assert gaps[2] < gaps[3] - 1.0


# --- targets, libraries, errors


@pytest.mark.parametrize("target", ["eps", "x0", "mean", "v"])
def test_does_not_depend_on_what_is_predicted(target):
    """The same denoiser told as noise, observation, mean or velocity."""
    rng = np.random.default_rng(0)
    x0, noise, wrong = rng.standard_normal((3, 20, 2))
    truth = {t: training_target(SHORT, x0 + 0.3 * wrong, t, noise, target) for t in range(1, 5)}
    # x_t made of another observation would have this noise beside it.
    shift = {
        t: math.sqrt(SHORT.alpha_bar[t] / SHORT.one_minus_alpha_bar[t]) * 0.3 * wrong for t in truth
    }
    error = np.array([0.0, *(np.mean(shift[t] ** 2) for t in truth)])
    expected = variance_from_eps_error(SHORT, error)
    told = {t: training_target(SHORT, x0 + 0.3 * wrong, t, noise - shift[t], target) for t in truth}
    ours = optimal_variance(SHORT, lambda x_t, t: told[t], x0, noise=lambda t: noise, target=target)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


@pytest.mark.parametrize("function", [optimal_variance, analytic_dpm_variance])
def test_runs_everywhere(lib, dtype, function):
    rng = np.random.default_rng(0)
    x0, noise = rng.standard_normal((6, 2, 2)), rng.standard_normal((5, 6, 2, 2))
    wanted = function(SHORT, lambda x_t, t: 0.4 * x_t, x0, noise=noise)
    ours = function(SHORT, lambda x_t, t: 0.4 * x_t, lib.array(x0, dtype), noise=lib.array(noise, dtype))
    assert isinstance(ours, np.ndarray)
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, wanted, rtol=1e-5 if dtype == "float32" else 1e-13)


def test_one_step():
    schedule = schedule_from_beta([0.4])
    x0, noise, predict = two_points(schedule)
    sigma2 = optimal_variance(schedule, predict, x0, noise=noise)
    np.testing.assert_allclose(sigma2, [0.0, S2 * 0.4 / (0.6 * S2 + 0.4)], rtol=1e-13)


def test_analytic_refuses_what_cannot_be_bayes_optimal():
    x0, noise, _ = two_points(SHORT)
    with pytest.raises(ValueError, match="predict must have a mean square below 1 at t = 1"):
        analytic_dpm_variance(SHORT, lambda x_t, t: 9.0 * x_t, x0, noise=noise)


def test_analytic_does_not_fall_below_the_posterior_variance():
    x0, noise, _ = two_points(SHORT)
    sigma2 = analytic_dpm_variance(SHORT, lambda x_t, t: (t - 1) * 9.0 * x_t, x0, noise=noise)
    np.testing.assert_array_equal(sigma2[2:], SHORT.posterior_variance[2:])
    assert sigma2[1] == pytest.approx(SHORT.beta[1] / SHORT.alpha[1], rel=1e-14)


def test_refuses_bad_arguments():
    x0, noise, predict = two_points(SHORT)
    with pytest.raises(ValueError, match="error must have length T"):
        variance_from_eps_error(SHORT, np.ones(4))
    with pytest.raises(ValueError, match=r"error must be finite and >= 0 .* error\[2\] = -1"):
        variance_from_eps_error(SHORT, [0.0, 1.0, -1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="target must be one of"):
        optimal_variance(SHORT, predict, x0, noise=noise, target="noise")
    with pytest.raises(ValueError, match="prediction must have the shape of x_t"):
        optimal_variance(SHORT, lambda x_t, t: x_t[:1], x0, noise=noise)
    with pytest.raises(ValueError, match="noise must be a function of t or an array"):
        optimal_variance(SHORT, predict, x0, noise=x0)
    with pytest.raises(ValueError, match="x0 must be finite"):
        optimal_variance(SHORT, predict, x0 * np.nan, noise=noise)
