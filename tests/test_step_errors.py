"""The bound for every reverse variance from one pass: the same as term by term."""

import warnings

import numpy as np
import pytest

from ddpm_np.data.images import scale
from ddpm_np.decoders import discretised_gaussian, gaussian_decoder
from ddpm_np.elbo import PriorWarning, elbo_decomposition
from ddpm_np.estimators.step_errors import elbo_from_errors, step_errors
from ddpm_np.estimators.variances import best_variance
from ddpm_np.exact import optimal_variance
from ddpm_np.reverse import reverse_variance
from ddpm_np.schedules import cosine_schedule, scaled_linear_schedule
from ddpm_np.targets import TARGETS

LEVELS = 5
DECODERS = {"gaussian": gaussian_decoder, "discretised": discretised_gaussian(LEVELS)}


def setting(schedule, dtype="float64"):
    rng = np.random.default_rng(0)
    x0 = scale(rng.integers(0, LEVELS, (12, 2, 3, 1)), LEVELS, dtype)
    noise = rng.standard_normal((schedule.T + 1, *x0.shape)).astype(dtype)
    return x0, noise


def predict(x_t, t):
    return 0.7 * x_t + 0.01 * t


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", ["posterior", "beta", "unit"])
@pytest.mark.parametrize("T", [1, 2, 30])
def test_terms_are_those_of_the_decomposition(target, decoder, kind, T):
    schedule, decoder = cosine_schedule(T), DECODERS[decoder]
    x0, noise = setting(schedule)
    sigma2 = reverse_variance(schedule, kind)
    errors = step_errors(schedule, predict, x0, noise=lambda t: noise[t], target=target)
    found = elbo_from_errors(schedule, errors, sigma2, decoder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PriorWarning)
        expected = elbo_decomposition(
            schedule, predict, x0, noise=noise, sigma2=sigma2, decoder=decoder, target=target
        )
    for name in ("L_T", "L", "L_0", "total"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9)


def test_single_precision_is_near():
    schedule = scaled_linear_schedule(40)
    x0, noise = setting(schedule, "float32")
    sigma2 = reverse_variance(schedule, "beta")
    errors = step_errors(schedule, predict, x0, noise=lambda t: noise[t])
    found = elbo_from_errors(schedule, errors, sigma2, DECODERS["discretised"])
    exact = step_errors(schedule, predict, x0.astype(float), noise=lambda t: noise[t].astype(float))
    expected = elbo_from_errors(schedule, exact, sigma2, DECODERS["discretised"])
    assert found.total.dtype == np.float64
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-4)


def test_the_best_variance_is_that_of_another_module_and_nothing_beats_it():
    schedule = scaled_linear_schedule(40)
    x0, noise = setting(schedule)
    errors = step_errors(schedule, predict, x0, noise=lambda t: noise[t], target="x0")
    best = best_variance(schedule, errors, DECODERS["discretised"])
    other = optimal_variance(schedule, predict, x0, noise=noise, target="x0")
    np.testing.assert_allclose(best[2:], other[2:], rtol=1e-10)
    bound = elbo_from_errors(schedule, errors, best, DECODERS["discretised"])
    for factor in (0.9, 1.1):
        worse = elbo_from_errors(schedule, errors, factor * best, DECODERS["discretised"])
        assert np.all(worse.L[2:].mean(axis=1) < bound.L[2:].mean(axis=1))
        assert worse.L_0.mean() < bound.L_0.mean()


def test_with_a_gaussian_decoder_the_best_first_variance_is_the_mean_square():
    schedule = scaled_linear_schedule(40)
    x0, noise = setting(schedule)
    errors = step_errors(schedule, lambda x_t, t: 0.97 * x_t, x0, noise=lambda t: noise[t], target="x0")
    best = best_variance(schedule, errors, gaussian_decoder)
    assert best[1] == pytest.approx(np.mean((errors.mean - x0) ** 2), rel=3e-3)
    assert best[1] == pytest.approx(errors.squared[1].mean() / 6, rel=3e-3)


def test_bad_arguments_are_refused():
    schedule = scaled_linear_schedule(40)
    x0, noise = setting(schedule)
    with pytest.raises(ValueError, match="target"):
        step_errors(schedule, predict, x0, noise=lambda t: noise[t], target="noise")
    with pytest.raises(ValueError, match="prediction must have the shape of x_t"):
        step_errors(schedule, lambda x_t, t: x_t[:1], x0, noise=lambda t: noise[t])
    with pytest.raises(ValueError, match="x0 must be finite"):
        step_errors(schedule, predict, x0 * np.nan, noise=lambda t: noise[t])
    errors = step_errors(schedule, predict, x0, noise=lambda t: noise[t])
    with pytest.raises(ValueError, match="sigma2"):
        elbo_from_errors(schedule, errors, np.ones(40), gaussian_decoder)


@pytest.mark.parametrize("T", [1, 2, 39, 41])
def test_errors_of_another_T_are_refused(T):
    """Of T = 2, one weight would be broadcast to all steps without a word."""
    schedule, other = scaled_linear_schedule(40), cosine_schedule(T)
    x0, noise = setting(schedule)
    errors = step_errors(schedule, predict, x0, noise=lambda t: noise[t])
    for use in (
        lambda: elbo_from_errors(other, errors, reverse_variance(other, "beta"), gaussian_decoder),
        lambda: best_variance(other, errors, gaussian_decoder),
    ):
        with pytest.raises(
            ValueError, match=f"errors were measured for T = 40, and the schedule has T = {T}"
        ):
            use()
