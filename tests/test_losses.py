"""The weighted losses are the bound: (32), (33), (35) and their kin for the other targets."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf

from ddpm_np.decoders import gaussian_decoder
from ddpm_np.elbo import elbo_decomposition, middle_term
from ddpm_np.forward import q_sample
from ddpm_np.losses import (
    LOSS_WEIGHTS,
    bound_loss,
    bound_weight,
    eps_loss_weight,
    loss_constant,
    mean_loss_weight,
    min_snr_weight,
    simple_loss,
    v_loss_weight,
    x0_loss_weight,
)
from ddpm_np.posterior import posterior_mean_coefficients
from ddpm_np.reverse import model_mean, reverse_variance
from ddpm_np.schedules import schedule_from_beta
from ddpm_np.targets import training_target
from tests.strategies import (
    EPS,
    KINDS,
    MILD,
    TARGETS,
    TINY,
    assert_within,
    cases,
    eps_of,
    schedules,
    shapes,
    times,
    values,
)


@st.composite
def int_cases(draw, minimum):
    """(schedule, int t, x0, eps, prediction)."""
    schedule = draw(schedules(max(2, minimum)))
    shape = draw(shapes())
    t = draw(times(schedule.T, minimum))
    return schedule, t, *(draw(values(shape, 3.0)) for _ in range(3))


def squared(x):
    return np.sum(x.reshape(len(x), -1) ** 2, axis=1)


def loss_and_rounding(schedule, t, x0, eps, prediction, sigma2, target):
    """-weight * ||truth - prediction||^2, and by how much the same through the means may differ.

    The means have terms of size (|x_t| + |eps| + |prediction|) / sqrt(alpha), which they round;
    the difference of means, squared and over 2 sigma^2, is off by twice that times itself.
    """
    truth = training_target(schedule, x0, t, eps, target)
    loss = bound_weight(schedule, t, sigma2, target) * squared(truth - prediction)
    size = np.abs(x0) + np.abs(eps) + np.abs(prediction)
    rounding = np.sqrt(squared(32 * EPS * size / math.sqrt(schedule.alpha[t])))
    distance = np.sqrt(loss * 2.0 * sigma2[t])
    bound = rounding * (2.0 * distance + rounding) / (2.0 * sigma2[t]) + 32 * EPS * loss
    return -loss, bound


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS)
@given(case=int_cases(2))
def test_weighted_loss_is_the_middle_term(target, kind, case):
    """(32) = (33) = (35): for any prediction, -weight * error + constant = L_{t-1}."""
    schedule, t, x0, eps, prediction = case
    sigma2 = reverse_variance(schedule, kind)
    loss, bound = loss_and_rounding(schedule, t, x0, eps, prediction, sigma2, target)
    constant = loss_constant(schedule, t, sigma2, x0[0].size)
    x_t = q_sample(schedule, x0, t, eps)
    mean = model_mean(schedule, x_t, t, prediction, target)
    term = middle_term(schedule, x0, x_t, t, mean, sigma2)
    assert_within(term, loss + constant, bound + 32 * EPS * (abs(constant) + x0[0].size))


@pytest.mark.parametrize("target", TARGETS)
@given(case=int_cases(1))
def test_weighted_loss_at_one_is_the_gaussian_decoder(target, case):
    """L_0 has the same weights at t = 1, and the normaliser of the decoder for a constant."""
    schedule, _, x0, eps, prediction = case
    sigma2 = reverse_variance(schedule, "beta")
    loss, bound = loss_and_rounding(schedule, 1, x0, eps, prediction, sigma2, target)
    constant = -0.5 * x0[0].size * math.log(2.0 * math.pi * sigma2[1])
    x_1 = q_sample(schedule, x0, 1, eps)
    L_0 = gaussian_decoder(x0, model_mean(schedule, x_1, 1, prediction, target), float(sigma2[1]))
    assert_within(L_0, loss + constant, bound + 32 * EPS * (abs(constant) + x0[0].size))


def test_printed_35_is_not_the_bound():
    """Without alpha_t in the denominator the weight is too small by alpha_t, here 0.5."""
    schedule = schedule_from_beta([0.1, 0.5, 0.5])
    t, sigma2 = 3, reverse_variance(schedule, "posterior")
    x0, eps, prediction = np.random.default_rng(0).standard_normal((3, 4, 2))
    x_t = q_sample(schedule, x0, t, eps)
    term = middle_term(schedule, x0, x_t, t, model_mean(schedule, x_t, t, prediction), sigma2)
    printed = (1 - schedule.alpha[t]) ** 2 / (2 * sigma2[t] * (1 - schedule.alpha_bar[t]))
    corrected = printed / schedule.alpha[t]
    np.testing.assert_allclose(-corrected * squared(eps - prediction), term, rtol=1e-12)
    np.testing.assert_allclose(-printed * squared(eps - prediction), 0.5 * term, rtol=1e-12)
    assert eps_loss_weight(schedule, t, sigma2) == pytest.approx(corrected, rel=1e-14, abs=0.0)


@given(cases(0))
def test_weights_are_their_formulas(case):
    schedule, t = case
    sigma2 = reverse_variance(schedule, "beta") * 1.7
    ab, om, alpha, beta = (
        getattr(schedule, name)[t] for name in ("alpha_bar", "one_minus_alpha_bar", "alpha", "beta")
    )
    before = schedule.alpha_bar[np.asarray(t) - 1]
    expected = {
        "mean": 1.0 / (2 * sigma2[t]),
        "eps": beta**2 / (2 * sigma2[t] * alpha * om),
        "x0": before * beta**2 / (2 * sigma2[t] * om**2),
        "v": ab * beta**2 / (2 * sigma2[t] * alpha * om),
    }
    functions = {
        "mean": mean_loss_weight,
        "eps": eps_loss_weight,
        "x0": x0_loss_weight,
        "v": v_loss_weight,
    }
    assert functions == LOSS_WEIGHTS
    for target in TARGETS:
        weight = bound_weight(schedule, t, sigma2, target)
        np.testing.assert_allclose(weight, expected[target], rtol=16 * EPS)
        np.testing.assert_array_equal(weight, functions[target](schedule, t, sigma2))
        assert np.shape(weight) == np.shape(t)
    np.testing.assert_array_equal(
        bound_weight(schedule, t, sigma2), bound_weight(schedule, t, sigma2, "eps")
    )


@given(schedules(min_T=2), st.integers(1, 10))
def test_constant_is_zero_only_at_the_posterior_variance(schedule, d):
    t = np.arange(2, schedule.T + 1)
    posterior = reverse_variance(schedule, "posterior")
    np.testing.assert_array_equal(loss_constant(schedule, t, posterior, d), 0.0)
    for factor in (0.5, 2.0):
        r = 1.0 / factor
        expected = -0.5 * d * (r - 1.0 - math.log(r))
        np.testing.assert_allclose(
            loss_constant(schedule, t, factor * posterior, d), expected, rtol=32 * EPS
        )
    assert np.all(loss_constant(schedule, t, reverse_variance(schedule, "unit"), d) < 0.0)


def test_constant_of_a_small_ratio():
    """r = 1e-12: -(d/2) (r - 1 - log r), to all digits."""
    schedule = schedule_from_beta([1e-12, 1e-12])
    ratio = float(schedule.posterior_variance[2])
    expected = -1.5 * (ratio - 1.0 - math.log(ratio))
    got = loss_constant(schedule, 2, reverse_variance(schedule, "unit"), 3)
    assert got == pytest.approx(expected, rel=4 * EPS, abs=0.0)


@pytest.mark.parametrize("size", [1e-3, -1e-3, 1e-6, -1e-6, 1e-9])
def test_constant_near_the_posterior_variance(size):
    """Of order size^2, where r - 1 and log r cancel, to as many digits as r leaves."""
    sigma2 = reverse_variance(MILD, "posterior") * (1.0 + size)
    t = np.arange(2, MILD.T + 1)
    with mpmath.workdps(40):
        ratio = [mpf(b) / mpf(s) for b, s in zip(MILD.posterior_variance[2:], sigma2[2:], strict=True)]
        expected = [float(-1.5 * (r - 1 - mpmath.log(r))) for r in ratio]
    # Rounding of log1p(size), of size EPS * size.
    np.testing.assert_allclose(
        loss_constant(MILD, t, sigma2, 3), expected, rtol=4 * EPS / abs(size), atol=0.0
    )


@given(shapes().flatmap(lambda s: st.tuples(values(s), values(s))))
def test_simple_loss_is_the_mean_square(pair):
    truth, prediction = pair
    squares = (truth - prediction) ** 2
    expected = math.fsum(squares.ravel()) / squares.size
    assert float(simple_loss(truth, prediction)) == pytest.approx(
        expected, rel=EPS * squares.size, abs=TINY
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.filterwarnings("ignore::ddpm_np.PriorWarning")
def test_expected_loss_is_the_bound(target, kind):
    """-ELBO = mean over t of bound_loss, up to what no network can change."""
    rng = np.random.default_rng(1)
    T, B, d = MILD.T, 5, 3
    x0, noise, predictions = (
        rng.standard_normal((B, d)),
        *rng.standard_normal((2, T + 1, B, d)),
    )
    sigma2 = reverse_variance(MILD, kind)
    elbo = elbo_decomposition(
        MILD, lambda x_t, t: predictions[t], x0, noise=noise, sigma2=sigma2, target=target
    )
    losses = [
        bound_loss(
            MILD, t, training_target(MILD, x0, t, noise[t], target), predictions[t], sigma2, target
        )
        for t in range(1, T + 1)
    ]
    constants = sum(loss_constant(MILD, t, sigma2, d) for t in range(2, T + 1))
    constants -= 0.5 * d * math.log(2.0 * math.pi * sigma2[1])
    expected = np.mean(elbo.L_T) + constants - np.mean(losses)
    # Terms of thousands of nats at the small sigma_1.
    assert np.mean(elbo.total) == pytest.approx(expected, rel=1e-12, abs=1e-11)


@given(cases(2))
def test_loss_of_a_batch_is_the_mean_over_its_examples(case):
    schedule, t, truth, prediction = case
    sigma2 = reverse_variance(schedule, "beta")
    for target in TARGETS:
        each = [
            bound_loss(schedule, int(s), truth[i : i + 1], prediction[i : i + 1], sigma2, target)
            for i, s in enumerate(np.broadcast_to(t, len(truth)))
        ]
        loss = bound_loss(schedule, t, truth, prediction, sigma2, target)
        assert loss.shape == ()
        assert float(loss) == pytest.approx(float(np.mean(each)), rel=64 * EPS, abs=TINY)


def test_loss_of_x0_is_that_of_the_mean_times_its_coefficient():
    _, c_x0 = posterior_mean_coefficients(MILD, 4)
    sigma2 = reverse_variance(MILD, "beta")
    x0, guess = np.random.default_rng(2).standard_normal((2, 3, 2))
    by_x0 = bound_loss(MILD, 4, x0, guess, sigma2, "x0")
    by_mean = bound_loss(MILD, 4, c_x0 * x0, c_x0 * guess, sigma2, "mean")
    assert float(by_x0) == pytest.approx(float(by_mean), rel=1e-14, abs=0.0)


@pytest.mark.parametrize("target", TARGETS)
def test_on_every_library(lib, dtype, target):
    sigma2 = reverse_variance(MILD, "beta")
    host = np.random.default_rng(3).standard_normal((2, 3, 2, 2)).astype(dtype)
    truth, prediction = (lib.array(x, dtype) for x in host)
    each = np.array([1, 4, 10])
    for theirs, t in [(each, each), (lib.array(each, "int64"), each), (7, 7)]:
        loss = bound_loss(MILD, theirs, truth, prediction, sigma2, target)
        assert str(loss.dtype).endswith(dtype)
        expected = bound_loss(MILD, t, *host.astype(np.float64), sigma2, target)
        # All terms are positive: relative rounding of a dozen operations.
        assert_within(lib.host(loss), expected, 16 * eps_of(dtype) * expected)
        weight = bound_weight(MILD, theirs, sigma2, target)
        np.testing.assert_array_equal(weight, bound_weight(MILD, t, sigma2, target))
    simple = simple_loss(truth, prediction)
    assert str(simple.dtype).endswith(dtype)
    expected = simple_loss(*host.astype(np.float64))
    assert_within(lib.host(simple), expected, 16 * eps_of(dtype) * expected)


@given(schedules(), st.floats(0.1, 20.0), st.integers(0, 2**32))
def test_min_snr_is_one_loss_in_every_target(s, k, seed):
    """An error of x_0, squared, is one of eps over snr, of v over snr + 1, of the mean over c_x0^2."""
    t = np.arange(1, s.T + 1)
    snr = s.alpha_bar[1:] / s.one_minus_alpha_bar[1:]
    x0_weight = np.minimum(snr, k)
    np.testing.assert_array_equal(min_snr_weight(s, t, k, "x0"), x0_weight)
    for target, factor in (("eps", snr), ("v", snr + 1.0), ("mean", s.c_x0[1:] ** 2)):
        np.testing.assert_allclose(min_snr_weight(s, t, k, target) * factor, x0_weight, rtol=64 * EPS)


def test_min_snr_arguments():
    assert min_snr_weight(MILD, 3, 5.0) == min_snr_weight(MILD, np.array([3]), 5.0, "eps")[0]
    with pytest.raises(ValueError, match="k must lie in"):
        min_snr_weight(MILD, 3, 0.0)
    with pytest.raises(ValueError, match="target must be one of"):
        min_snr_weight(MILD, 3, 5.0, "noise")
    with pytest.raises(ValueError, match="t must be between 1 and 10"):
        min_snr_weight(MILD, 11, 5.0)
