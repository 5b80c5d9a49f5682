"""Densities and divergences against SciPy, quadrature, more digits and each other."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mpmath import mpf
from scipy import integrate, linalg, stats

from ddpm_np.gaussians import (
    kl_full,
    kl_isotropic,
    kl_normal_1d,
    marginalise,
    normal_log_density,
    wasserstein2_full,
)
from tests.strategies import EPS, assert_within, eps_of, shapes, values

means = st.floats(-5.0, 5.0)
variances = st.floats(0.01, 20.0)
seeds = st.integers(0, 2**32 - 1)


def column(*numbers):
    """One example each, as arrays of shape (1,)."""
    return [np.array([float(x)]) for x in numbers]


def covariance(rng, d):
    """Symmetric, eigenvalues from about 0.3 up."""
    a = rng.standard_normal((d, d))
    return a @ a.T / d + 0.3 * np.eye(d)


# --- log-density


@given(shapes().flatmap(lambda s: st.tuples(values(s), values(s))), variances)
def test_log_density_is_scipys(pair, variance):
    x, mean = pair
    logpdf = stats.norm.logpdf(x, mean, math.sqrt(variance))
    expected = logpdf.reshape(len(x), -1).sum(axis=1)
    # A handful of roundings of terms no larger than the squares.
    scale = (0.5 * (x - mean) ** 2 / variance + 4.0).reshape(len(x), -1).sum(axis=1)
    assert_within(normal_log_density(x, mean, variance), expected, 16 * EPS * scale)


def test_log_density_with_a_variance_per_example_or_coordinate():
    rng = np.random.default_rng(0)
    x, mean = rng.standard_normal((2, 3, 2, 2))
    for shape in [(), (3, 1, 1), (1, 1, 2), (3, 2, 2)]:
        variance = rng.uniform(0.1, 2.0, shape)
        expected = stats.norm.logpdf(x, mean, np.sqrt(variance)).sum(axis=(1, 2))
        np.testing.assert_allclose(normal_log_density(x, mean, variance), expected, rtol=1e-13)


@pytest.mark.parametrize("shape", [(3,), (2,), (3, 1), (2, 1, 1), (3, 1, 1, 1)])
def test_a_variance_that_might_mean_another_axis_is_refused(shape):
    x = np.ones((3, 3, 2))
    with pytest.raises(ValueError, match=r"variance must be .*\(B, 1, ...\), got numpy array of shape"):
        normal_log_density(x, x, np.ones(shape))
    with pytest.raises(ValueError, match="var_2 must be"):
        kl_isotropic(x, 1.0, x, np.ones(shape))


# --- KL


@given(means, variances, means, variances)
def test_kl_1d_by_quadrature(m1, v1, m2, v2):
    p, q = stats.norm(m1, math.sqrt(v1)), stats.norm(m2, math.sqrt(v2))
    # The integrand is a Gaussian times a quadratic: nothing is left beyond 12 sigma.
    z = np.linspace(-12.0, 12.0, 2001)
    x = m1 + math.sqrt(v1) * z
    expected = integrate.trapezoid(p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), x)
    scale = 1.0 + (v1 + (m1 - m2) ** 2) / v2 + abs(math.log(v1 / v2))
    arguments = column(m1, math.sqrt(v1), m2, math.sqrt(v2))
    assert_within(kl_normal_1d(*arguments), [expected], 1e-13 * scale)
    assert_within(kl_isotropic(*column(m1, v1, m2, v2)), [expected], 1e-13 * scale)
    assert kl_full(np.array([m1]), np.array([[v1]]), np.array([m2]), np.array([[v2]])) == pytest.approx(
        expected, abs=1e-13 * scale
    )


@given(st.integers(1, 6), variances, variances, seeds)
def test_isotropic_is_full_with_scaled_identity(d, v1, v2, seed):
    m1, m2 = np.random.default_rng(seed).standard_normal((2, d))
    full = kl_full(m1, v1 * np.eye(d), m2, v2 * np.eye(d))
    scale = d * (1.0 + v1 / v2 + abs(math.log(v1 / v2))) + np.sum((m1 - m2) ** 2) / v2
    assert_within(kl_isotropic(m1[None], v1, m2[None], v2), [full], 32 * EPS * scale)


def test_isotropic_sums_over_features_and_broadcasts_variances():
    rng = np.random.default_rng(1)
    m1, m2 = rng.standard_normal((2, 3, 2, 2))
    v1, v2 = rng.uniform(0.1, 2.0, (3, 1, 1)), rng.uniform(0.1, 2.0, (1, 2, 2))
    each = kl_normal_1d(
        m1, np.broadcast_to(v1, m1.shape) ** 0.5, m2, np.broadcast_to(v2, m1.shape) ** 0.5
    )
    np.testing.assert_allclose(kl_isotropic(m1, v1, m2, v2), each.sum(axis=(1, 2)), rtol=1e-12)


@given(st.integers(1, 5), seeds)
def test_kl_full_by_slogdet_and_inverse(d, seed):
    rng = np.random.default_rng(seed)
    m1, m2, c1, c2 = *rng.standard_normal((2, d)), covariance(rng, d), covariance(rng, d)
    inverse = np.linalg.inv(c2)
    log_ratio = np.linalg.slogdet(c2)[1] - np.linalg.slogdet(c1)[1]
    quadratic = (m2 - m1) @ inverse @ (m2 - m1)
    expected = 0.5 * (log_ratio - d + np.trace(inverse @ c1) + quadratic)
    # The inverse loses a factor of the condition number, some hundreds.
    assert kl_full(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-11, abs=1e-11)


def test_kl_full_by_monte_carlo():
    rng = np.random.default_rng(2)
    m1, m2, c1, c2 = *rng.standard_normal((2, 3)), covariance(rng, 3), covariance(rng, 3)
    p, q = stats.multivariate_normal(m1, c1), stats.multivariate_normal(m2, c2)
    x = p.rvs(100_000, random_state=rng)
    ratios = p.logpdf(x) - q.logpdf(x)
    error = ratios.std() / math.sqrt(len(x))
    assert kl_full(m1, c1, m2, c2) == pytest.approx(ratios.mean(), abs=4.5 * error)
    # and not the other way round
    assert abs(kl_full(m2, c2, m1, c1) - ratios.mean()) > 45 * error


@given(st.integers(1, 5), seeds)
def test_wasserstein2_is_the_formula(d, seed):
    rng = np.random.default_rng(seed)
    m1, m2, c1, c2 = *rng.standard_normal((2, d)), covariance(rng, d), covariance(rng, d)
    root = linalg.sqrtm(c1).real
    trace = np.trace(c1 + c2 - 2.0 * linalg.sqrtm(root @ c2 @ root).real)
    expected = math.sqrt(np.sum((m1 - m2) ** 2) + trace)
    assert wasserstein2_full(m1, c1, m2, c2) == pytest.approx(expected, rel=1e-9)
    assert wasserstein2_full(m2, c2, m1, c1) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("size", [1e-3, 1e-9, 1e-12])
def test_wasserstein2_of_nearly_equal_gaussians(size):
    """Along common axes it is the distance of the roots, which the formula's trace loses at 1e-8."""
    rng = np.random.default_rng(0)
    axes, roots = np.linalg.qr(rng.standard_normal((4, 4)))[0], rng.uniform(0.5, 2.0, 4)
    c1, c2 = ((axes * r**2) @ axes.T for r in (roots, roots + size))
    found = wasserstein2_full(np.zeros(4), c1, np.zeros(4), c2)
    # Entries of the covariances, of size 4, are rounded.
    assert found == pytest.approx(2.0 * size, abs=20 * EPS)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("size", [1e-3, 1e-6, 1e-9])
def test_nearly_equal_variances(size, sign):
    """KL is about size^2 / 4; log(r) would leave an error of EPS, which is more than all of it."""
    v2 = 0.3
    v1 = v2 * (1.0 + sign * size)
    with mpmath.workdps(40):
        r = mpf(v1) / mpf(v2)
        expected = float((r - 1 - mpmath.log(r)) / 2)
    got = kl_isotropic(*column(0.0, v1, 0.0, v2))
    # Rounding of log1p(size), of size EPS * size.
    assert_within(got, [expected], 2 * EPS * size)


@pytest.mark.parametrize("ratio", [1e-12, 1e-7, 1e-3, 0.49, 0.51, 3.0, 1e7])
def test_very_different_variances(dtype, ratio):
    """log1p(r - 1) alone has the digits of 1 - r, not those of r: in float32, infinity at 1e-12."""
    v1, v2 = np.array([2.0 * ratio], dtype), np.array([2.0], dtype)
    with mpmath.workdps(40):
        r = mpf(float(v1[0])) / mpf(2)
        expected = float((r - 1 - mpmath.log(r)) / 2)
    zero = np.zeros_like(v1)
    assert_within(kl_isotropic(zero, v1, zero, v2), [expected], 8 * eps_of(dtype) * (1.0 + expected))


@given(shapes().flatmap(values), variances)
def test_kl_of_a_gaussian_to_itself_is_zero(mean, variance):
    np.testing.assert_array_equal(kl_isotropic(mean, variance, mean, variance), 0.0)
    sigma = np.full_like(mean, math.sqrt(variance))
    assert_within(kl_normal_1d(mean, sigma, mean, sigma), np.zeros_like(mean), 4 * EPS)


@given(shapes().flatmap(lambda s: st.tuples(values(s), values(s))), variances, variances)
def test_kl_is_not_negative(pair, v1, v2):
    assert np.all(kl_isotropic(pair[0], v1, pair[1], v2) >= 0.0)


# --- the lemma


@given(
    st.floats(-2.0, 2.0), st.floats(0.05, 3.0), st.floats(-2.0, 2.0), st.floats(0.05, 3.0), means, means
)
def test_lemma_37_by_quadrature(a, s2, b, t2, x, z):
    """(37): the integral over y, by trapezoids."""
    slope, variance = marginalise(a, s2, b, t2)
    # Trapezoids are exact for a Gaussian once they are finer than its width, which is at least
    # that of s2 = 0.05 seen at slope 2.
    y = b * z + math.sqrt(t2) * np.linspace(-12.0, 12.0, 4001)
    product = stats.norm.pdf(x, a * y, math.sqrt(s2)) * stats.norm.pdf(y, b * z, math.sqrt(t2))
    expected = stats.norm.pdf(x, slope * z, math.sqrt(variance))
    assert integrate.trapezoid(product, y) == pytest.approx(expected, rel=1e-9, abs=1e-13)


@given(st.lists(st.tuples(st.floats(-1.5, 1.5), st.floats(0.0, 2.0)), min_size=3, max_size=3))
def test_marginalising_is_associative(steps):
    (a, s2), (b, t2), (c, u2) = steps
    first = marginalise(*marginalise(a, s2, b, t2), c, u2)
    last = marginalise(a, s2, *marginalise(b, t2, c, u2))
    assert first == pytest.approx(last, rel=1e-14, abs=1e-14)


def test_marginalise_takes_arrays():
    a, s2, b, t2 = np.random.default_rng(3).uniform(0.1, 2.0, (4, 5))
    slopes, variances = marginalise(a, s2, b, t2)
    for i in range(5):
        assert (slopes[i], variances[i]) == pytest.approx(
            marginalise(a[i], s2[i], b[i], t2[i]), rel=2 * EPS
        )


# --- every library


CALLS = {
    "log_density": lambda x, y, a, b: normal_log_density(x, y, a),
    "log_density_float": lambda x, y, a, b: normal_log_density(x, y, 0.7),
    "kl_normal_1d": lambda x, y, a, b: kl_normal_1d(x, a, y, b),
    "kl_isotropic": lambda x, y, a, b: kl_isotropic(x, a, y, b),
    "kl_isotropic_float": lambda x, y, a, b: kl_isotropic(x, 0.7, y, 2),
}


@pytest.mark.parametrize("name", CALLS)
def test_on_every_library(lib, dtype, name):
    rng = np.random.default_rng(4)
    host = [*rng.standard_normal((2, 3, 2)), *rng.uniform(0.5, 2.0, (2, 3, 2))]
    host = [x.astype(dtype) for x in host]
    result = CALLS[name](*(lib.array(x, dtype) for x in host))
    assert str(result.dtype).endswith(dtype)
    expected = CALLS[name](*(x.astype(np.float64) for x in host))
    # Terms are of size ten at the most.
    assert_within(lib.host(result), expected, 160 * eps_of(dtype))


def test_variance_of_shape_nothing_on_every_library(lib, dtype):
    x = lib.array(np.ones((3, 2)), dtype)
    variance = lib.array(2.0, dtype)
    expected = normal_log_density(np.ones((3, 2)), np.zeros((3, 2)), 2.0)
    zeros = lib.xp.zeros_like(x)
    assert_within(lib.host(normal_log_density(x, zeros, variance)), expected, 16 * eps_of(dtype))
    assert_within(lib.host(kl_isotropic(x, variance, zeros, variance)), [0.5, 0.5, 0.5], 0.0)
