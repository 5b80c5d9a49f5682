"""The discretised Gaussian decoder, against mpmath, and the approximation that it replaces."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_np.decoders import discretised_gaussian, gaussian_decoder
from ddpm_np.elbo import elbo_decomposition
from ddpm_np.reverse import reverse_variance
from ddpm_np.schedules import scaled_linear_schedule

MEANS = [-50.0, -1.3, -1.0, -0.5001, 0.0, 0.0039, 0.1234, 1 / 255, 7.0, 1000.0]
SIGMAS = [1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0]
TINY = mpmath.mpf(10) ** -250


def grid(levels, low=-1.0, high=1.0):
    return low + (high - low) * np.arange(levels) / (levels - 1)


def log_probabilities(levels, mean, sigma, low=-1.0, high=1.0):
    """Of every level, one observation each."""
    x0 = grid(levels, low, high)[:, None]
    return discretised_gaussian(levels, low, high)(x0, np.full_like(x0, mean), sigma**2)


def reference(k, levels, mean, sigma):
    """Log-probability of level k on [-1, 1] to 50 digits."""
    with mpmath.workdps(50):
        width = mpmath.mpf(2) / (levels - 1)
        scale = mpmath.sqrt(mpmath.mpf(sigma**2)) * mpmath.sqrt(2)
        a = (-1 + width * (k - mpmath.mpf(0.5)) - mpmath.mpf(mean)) / scale
        b = a + width / scale
        below = 0 if k == 0 else mpmath.erfc(-a) / 2
        above = 0 if k == levels - 1 else mpmath.erfc(b) / 2
        if a < 0 < b or below + above < 0.5:
            return mpmath.log1p(-below - above)
        if k == levels - 1 or (k > 0 and a > 0):  # from the side where the tails are small
            return mpmath.log(mpmath.erfc(a) / 2 - above)
        return mpmath.log(mpmath.erfc(-b) / 2 - below)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_log_probabilities_are_mpmaths(levels, sigma):
    """Centre, both tails far out, and bins that hold nearly everything."""
    for mean in MEANS:
        ours = log_probabilities(levels, mean, sigma)
        nearest = round((mean + 1.0) / 2.0 * (levels - 1))
        some = {0, 1, levels // 2, levels - 2, levels - 1, *range(nearest - 2, nearest + 3)}
        for k in sorted(some & set(range(levels))):
            exact = reference(k, levels, mean, sigma)
            error = abs(mpmath.mpf(float(ours[k])) - exact)
            assert error <= 1e-11 * max(abs(exact), TINY), (mean, k, ours[k], float(exact))


@given(
    levels=st.integers(2, 256),
    log_sigma=st.floats(math.log(1e-4), math.log(10.0)),
    mean=st.floats(-60.0, 60.0) | st.floats(-1.1, 1.1),
)
def test_probabilities_sum_to_one(levels, log_sigma, mean):
    log_p = log_probabilities(levels, mean, math.exp(log_sigma))
    assert np.all(log_p <= 0.0)
    assert math.fsum(np.exp(log_p)) == pytest.approx(1.0, abs=1e-12)


@given(levels=st.integers(2, 60), log_sigma=st.floats(-9.0, 2.0), mean=st.floats(-5.0, 5.0))
def test_mirrored_data_have_mirrored_probabilities(levels, log_sigma, mean):
    sigma = math.exp(log_sigma)
    mirrored = log_probabilities(levels, -mean, sigma)[::-1]
    np.testing.assert_allclose(log_probabilities(levels, mean, sigma), mirrored, rtol=1e-8, atol=1e-13)


def test_narrow_bins_tend_to_the_density():
    """log P = log density + log width + O(width^2), away from the ends."""
    x0, mean = grid(65536)[20000:20050, None], np.full((50, 1), -0.3)
    expected = gaussian_decoder(x0, mean, 0.04) + math.log(2.0 / 65535)
    ours = discretised_gaussian(65536)(x0, mean, 0.04)
    np.testing.assert_allclose(ours, expected, rtol=0.0, atol=1e-8)


def test_wide_noise_leaves_the_ends_half_each():
    np.testing.assert_allclose(np.exp(log_probabilities(256, 0.0, 1e6)[[0, -1]]), 0.5, atol=1e-5)


def test_other_grids_are_shifted_and_scaled():
    """Integers 0..16 are 17 levels on [-1, 1], times 8 plus 8."""
    np.testing.assert_allclose(
        log_probabilities(17, 5.3, 0.7, 0.0, 16.0),
        log_probabilities(17, (5.3 - 8.0) / 8.0, 0.7 / 8.0),
        rtol=1e-13,
    )


def test_runs_everywhere_and_sums_over_features(lib, dtype):
    rng = np.random.default_rng(0)
    k = rng.integers(0, 256, (5, 2, 3))
    # By way of float32 arithmetic, as people scale their pixels.
    x0 = k.astype(dtype) / np.asarray(127.5, dtype) - np.asarray(1.0, dtype)
    mean = (x0 + 0.05 * rng.standard_normal(x0.shape)).astype(dtype)
    ours = discretised_gaussian(256)(lib.array(x0, dtype), lib.array(mean, dtype), 0.003)
    assert ours.dtype == getattr(lib.xp, dtype)
    exact = [
        float(
            sum(
                reference(int(k[b, i, j]), 256, float(mean[b, i, j]), math.sqrt(0.003))
                for i in range(2)
                for j in range(3)
            )
        )
        for b in range(5)
    ]
    np.testing.assert_allclose(lib.host(ours), exact, rtol=2e-7 if dtype == "float32" else 1e-11)


def test_float32_tails_do_not_overflow(lib):
    x0, mean = lib.array([[1.0]], "float32"), lib.array([[-900.0]], "float32")
    ours = lib.host(discretised_gaussian(256)(x0, mean, 1e-6))
    assert ours[0] == pytest.approx(float(reference(255, 256, -900.0, 1e-3)), rel=1e-6)


def test_is_a_decoder_of_the_bound():
    schedule = scaled_linear_schedule(30)
    rng = np.random.default_rng(1)
    x0 = grid(17)[rng.integers(0, 17, (6, 4))]
    terms = elbo_decomposition(
        schedule,
        lambda x_t, t: 0.1 * x_t,
        x0,
        noise=rng.standard_normal((31, 6, 4)),
        sigma2=reverse_variance(schedule, "beta"),
        decoder=discretised_gaussian(17),
    )
    assert terms.L_0.shape == (6,)
    assert np.all(terms.L_0 < 0.0)


@pytest.mark.parametrize(
    ("value", "shown"),
    # The second line would lie on the grid if that went on.
    [
        *[(0.1, "0.1"), (1.01, "1.01"), (np.nan, "nan")],
        *[(2.0, "2"), (-2.0, "-2"), (3.0, "3"), (-3.0, "-3")],
    ],
)
def test_refuses_data_off_the_grid(lib, dtype, value, shown):
    x0 = lib.array([[1.0, -1.0], [0.0, value]], dtype)
    with pytest.raises(ValueError, match=rf"x0 must lie on the grid of 3 levels .* got {shown}"):
        discretised_gaussian(3)(x0, lib.array(np.zeros((2, 2)), dtype), 1.0)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1,), ValueError, "levels must be between 2 and 65536, got 1"),
        ((65537,), ValueError, "levels must be between 2 and 65536, got 65537"),
        ((2.0,), TypeError, "levels must be an integer"),
        ((2, 1.0, 1.0), ValueError, "low must be less than high"),
        ((2, 0.0, math.inf), ValueError, "high must lie in"),
        ((2, "a"), TypeError, "low must be a number"),
    ],
)
def test_refuses_bad_grids(arguments, error, message):
    with pytest.raises(error, match=message):
        discretised_gaussian(*arguments)


def test_refuses_bad_calls():
    decoder, x0 = discretised_gaussian(2), np.ones((3, 2))
    with pytest.raises(ValueError, match="variance must lie in"):
        decoder(x0, x0, 0.0)
    with pytest.raises(ValueError, match="mean must have the shape of x0"):
        decoder(x0, np.ones((3, 1)), 1.0)
    with pytest.raises(TypeError, match="mean must have the dtype of x0"):
        decoder(x0, x0.astype(np.float32), 1.0)


def tanh_log_probabilities(levels, mean, sigma):
    """What many implementations compute: a tanh for Phi, and differences clamped at 1e-12."""

    def cdf(z):
        return 0.5 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))

    edges = (np.arange(levels + 1) - 0.5) * 2.0 / (levels - 1) - 1.0
    edges = np.concatenate([[-np.inf], edges[1:-1], [np.inf]])
    with np.errstate(invalid="ignore"):
        tails = cdf(np.clip((edges - mean) / sigma, -100.0, 100.0))
    return np.log(np.maximum(np.diff(tails), 1e-12))


def worst_tanh_error(least):
    """Largest error of the approximation among 256 levels of probability above ``least``."""
    worst = 0.0
    for sigma in np.geomspace(1e-3, 1.0, 31):
        for mean in np.linspace(-1.0 - sigma, 0.0, 23):
            exact = log_probabilities(256, mean, sigma)
            error = np.abs(tanh_log_probabilities(256, mean, sigma) - exact)
            worst = max(worst, float(error[exact > math.log(least)].max()))
    return worst


@pytest.mark.parametrize(("least", "low", "high"), [(1e-3, 0.12, 0.13), (1e-6, 1.3, 1.45)])
def test_the_usual_approximation_is_wrong_by_nats(least, low, high):
    assert low < worst_tanh_error(least) < high


def test_the_usual_clamp_hides_the_tail():
    x0, mean = np.array([[1.0]]), np.array([[-1.0]])
    assert tanh_log_probabilities(256, -1.0, 0.1)[-1] == pytest.approx(math.log(1e-12), rel=1e-6)
    assert discretised_gaussian(256)(x0, mean, 0.01)[0] < -200.0
