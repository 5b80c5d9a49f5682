"""The exact flow of mixtures in one dimension, against mpmath at 40 digits."""

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf

from ddpm_np.exact import IsotropicMixture, eight_gaussians_exact, mixture_1d_exact
from ddpm_np.exact._quantiles import mixture_quantile, mixture_tail
from ddpm_np.schedules import cosine_schedule, linear_schedule, schedule_from_beta

SCHEDULE = linear_schedule(1000)
MIXTURE = mixture_1d_exact()
EPS = np.finfo(np.float64).eps


def make(seed, K=3, spread=1.0, std=0.25):
    rng = np.random.default_rng(seed)
    return IsotropicMixture(rng.dirichlet(np.full(K, 3.0)), spread * rng.standard_normal((K, 1)), std)


def exact_log_tail(law, x, sign, alpha_bar=1):
    """Log-probability that sign * x_t <= sign * x, and the density of x_t there."""
    std = mpmath.sqrt(alpha_bar * mpf(law.std) ** 2 + 1 - alpha_bar)
    pairs = [
        (mpf(float(w)), (x - mpmath.sqrt(alpha_bar) * mpf(float(m))) / std)
        for w, m in zip(law.weights, law.means[:, 0], strict=True)
    ]
    tail = mpmath.fsum(w * mpmath.erfc(-sign * z / mpmath.sqrt(2)) / 2 for w, z in pairs)
    return mpmath.log(tail), mpmath.fsum(w * mpmath.npdf(z) / std for w, z in pairs)


def exact_flow(schedule, law, x_T, near):
    """x_0 at 40 digits, by Newton's method from ``near``; and dx_0 / dx_T."""
    alpha_bar = mpf(float(schedule.alpha_bar[-1]))
    sign = min((1, -1), key=lambda s: exact_log_tail(law, x_T, s, alpha_bar)[0])
    log_tail, density = exact_log_tail(law, x_T, sign, alpha_bar)
    x = near
    for _ in range(5):
        found, slope = exact_log_tail(law, x, sign)
        x -= (found - log_tail) * mpmath.exp(found) / (sign * slope)
    return x, density / slope


@pytest.mark.parametrize("seed", range(4))
def test_flow_at_40_digits(seed):
    """To 1e-12 of its size, in the middle and 200 standard deviations out, on either side.

    What rounding x_T itself does to x_0, by dx_0 / dx_T, is not counted: it is large only between
    two components, where next to nothing lands.
    """
    law = MIXTURE if seed == 0 else make(seed)
    schedule = (SCHEDULE, cosine_schedule(20))[seed % 2]
    x_T = np.concatenate([[-200.0, -31.0, 9.0, 42.0, 1e4], np.linspace(-4.0, 4.0, 33)])
    found = law.flow(schedule, x_T[:, None])[:, 0]
    with mpmath.workdps(40):
        for x, y in zip(x_T, found, strict=True):
            expected, derivative = exact_flow(schedule, law, mpf(float(x)), mpf(float(y)))
            rounding = 4.0 * EPS * max(abs(x), 1.0) * float(derivative)
            assert abs(y - float(expected)) <= 1e-12 * abs(float(expected)) + rounding, (x, y)


@given(st.integers(0, 2**32), st.sampled_from([0.3, 1.0, 6.0]))
def test_flow_increases_and_its_inverse_leads_back(seed, spread):
    """Back to x_T, whose rounding is that of x_0 times dx_T / dx_0, the ratio of the densities."""
    law = make(seed, spread=spread)
    x_T = np.linspace(-40.0, 40.0, 321)[:, None]
    x0 = law.flow(SCHEDULE, x_T)
    assert np.all(np.diff(x0[:, 0]) > 0.0)
    back = law.flow_inverse(SCHEDULE, x0)
    ratio = np.exp(law.log_density(x0) - law.diffused(SCHEDULE, 1000).log_density(x_T))
    size = np.maximum(np.abs(x_T), 1.0)[:, 0] + ratio * np.maximum(np.abs(x0), law.std)[:, 0]
    assert np.all(np.abs(back - x_T)[:, 0] <= 50.0 * EPS * size)


@given(st.integers(0, 2**32), st.sampled_from([0.3, 1.0, 6.0]))
def test_flow_keeps_symmetry(seed, spread):
    """To the rounding of a probability, divided by the density of x_0."""
    law = make(seed, spread=spread)
    mirrored = IsotropicMixture(law.weights, -law.means, law.std)
    x_T = np.random.default_rng(seed).standard_normal((20, 1))
    x0 = law.flow(SCHEDULE, x_T)
    rounding = 4.0 * EPS * (np.exp(-law.log_density(x0)) + np.abs(x0[:, 0]))
    assert np.all(np.abs(mirrored.flow(SCHEDULE, -x_T) + x0)[:, 0] <= rounding)


def test_the_middle_of_an_even_law_stays():
    law = IsotropicMixture([0.5, 0.5], [[-1.0], [1.0]], 0.3)
    x0 = law.flow(SCHEDULE, np.zeros((1, 1)))
    assert abs(x0[0, 0]) <= EPS / np.exp(law.log_density(x0)[0])


def test_flows_compose():
    """From T to t to 0 is from T to 0: the middle law's own flow, of the chain that is left."""
    beta = np.linspace(0.01, 0.1, 40)
    whole, first = schedule_from_beta(beta), schedule_from_beta(beta[:25])
    rest = schedule_from_beta(beta[25:])
    x_T = np.linspace(-5.0, 5.0, 41)[:, None]
    middle = MIXTURE.diffused(first, 25).flow(rest, x_T)
    np.testing.assert_allclose(
        MIXTURE.flow(first, middle), MIXTURE.flow(whole, x_T), rtol=1e-11, atol=1e-12
    )


def test_flow_of_one_component_is_linear_in_any_dimension():
    law = IsotropicMixture([1.0], [[0.3, -1.0, 2.0]], 0.4)
    x = np.random.default_rng(0).standard_normal((5, 3))
    last = law.diffused(SCHEDULE, 1000)
    expected = law.means + (x - last.means) * law.std / last.std
    np.testing.assert_allclose(law.flow(SCHEDULE, x), expected, rtol=1e-14)
    np.testing.assert_allclose(law.flow_inverse(SCHEDULE, expected), x, rtol=1e-13)
    line = IsotropicMixture([1.0], [[0.3]], 0.4)
    twice = IsotropicMixture([0.5, 0.5], [[0.3], [0.3]], 0.4)  # by quantiles
    x = np.linspace(-900.0, 900.0, 37)[:, None]
    np.testing.assert_allclose(twice.flow(SCHEDULE, x), line.flow(SCHEDULE, x), rtol=1e-13, atol=1e-14)


def test_flow_carries_draws_to_draws():
    law, n = MIXTURE, 20_000
    x0 = law.flow(SCHEDULE, law.diffused(SCHEDULE, 1000).sample(n, 0))
    values = law.log_density(x0)
    assert abs(-values.mean() - law.entropy()) < 4.0 * values.std() / np.sqrt(n)
    assert abs(x0.mean() - law.weights @ law.means[:, 0]) < 4.0 * x0.std() / np.sqrt(n)


@pytest.mark.parametrize("gap", [5.0, 40.0, 1e4, 1e12])
def test_quantiles_beside_a_gap(gap):
    """Newton's method alone leaves for infinity where nothing is, between two components."""
    weights, means = np.array([0.3, 0.7]), np.array([0.0, gap])
    x = np.concatenate([np.linspace(-20.0, 2.0, 12), gap + np.array([-2.0, -1.5, -1.0])])
    log_tail, slope = mixture_tail(x, weights, means, 1.0)
    keep = log_tail <= np.log(0.5)
    found = mixture_quantile(log_tail[keep], weights, means, 1.0)
    rounding = EPS * (1.0 + np.abs(log_tail)) / slope + 4.0 * EPS * np.maximum(np.abs(x), gap)
    assert np.all(np.abs(found - x[keep]) <= 4.0 * rounding[keep])


def test_narrow_laws_and_long_chains():
    """Nearly discrete data; and an alpha_bar of 0, where x_T knows nothing of x_0."""
    narrow = IsotropicMixture([0.5, 0.5], [[-1.0], [1.0]], 1e-9)
    x0 = narrow.flow(SCHEDULE, np.array([[-2.0], [-0.1], [0.1], [2.0]]))
    np.testing.assert_allclose(x0[:, 0], [-1.0, -1.0, 1.0, 1.0], atol=1e-8)
    forgets = schedule_from_beta(np.full(200, 0.9999))
    x_T = np.random.default_rng(0).standard_normal((50, 1))
    x0 = MIXTURE.flow(forgets, x_T)
    np.testing.assert_allclose(MIXTURE.flow_inverse(forgets, x0), x_T, rtol=1e-9, atol=1e-12)


def test_bad_calls():
    with pytest.raises(ValueError, match="known for d = 1, or for one component, got d = 2 and 8"):
        eight_gaussians_exact().flow(SCHEDULE, np.zeros((1, 2)))
    with pytest.raises(ValueError, match="x_T must lie within 1e150 standard deviations, got 1e\\+200"):
        MIXTURE.flow(SCHEDULE, np.full((1, 1), 1e200))
    with pytest.raises(ValueError, match="x0 must be finite"):
        MIXTURE.flow_inverse(SCHEDULE, np.full((1, 1), np.nan))
    with pytest.raises(TypeError, match="schedule must be"):
        MIXTURE.flow(None, np.zeros((1, 1)))


def test_another_library_is_refused():
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match="x_T must be a NumPy array"):
        MIXTURE.flow(SCHEDULE, strict.zeros((1, 1)))
