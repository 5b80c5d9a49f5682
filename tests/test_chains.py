"""Linear-Gaussian chains against one dense Gaussian over all of x_0 ... x_T."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm_np.exact import (
    IsotropicMixture,
    LinearGaussianChain,
    gaussian_data_chain,
    gaussian_points,
    optimal_variance_gaussian,
)
from ddpm_np.gaussians import kl_full
from ddpm_np.posterior import q_posterior
from ddpm_np.reverse import reverse_variance
from ddpm_np.schedules import (
    cosine_schedule,
    linear_schedule,
    quadratic_schedule,
    schedule_from_beta,
    sigmoid_schedule,
)
from tests.strategies import eps_of

SCHEDULES = {
    "linear": lambda T, rng: linear_schedule(T),
    "quadratic": lambda T, rng: quadratic_schedule(T, 1e-6, 0.3),
    "sigmoid": lambda T, rng: sigmoid_schedule(T, 1e-5, 0.9),
    "cosine": lambda T, rng: cosine_schedule(T),
    "random": lambda T, rng: schedule_from_beta(np.exp(rng.uniform(np.log(1e-6), np.log(0.99), T))),
    "constant": lambda T, rng: schedule_from_beta(np.full(T, 10 ** rng.uniform(-6.0, -0.01))),
}


def make_chain(seed, d, T, schedule, variance, slope, disorder):
    """A chain whose slopes are slope * I + disorder * noise, anything but a good model."""
    rng = np.random.default_rng(seed)
    s = SCHEDULES[schedule](T, rng)
    slopes = slope * np.eye(d) + disorder * rng.standard_normal((T + 1, d, d)) / np.sqrt(d)
    sigma2 = (
        np.exp(rng.uniform(np.log(1e-5), 0.5, T + 1))
        if variance == "random"
        else reverse_variance(s, variance)
    )
    return LinearGaussianChain(s, slopes, disorder * rng.standard_normal((T + 1, d)), sigma2)


def chains(max_d=8, max_T=50):
    """Slopes that shrink or stretch, in disorder or not, with any of the variances."""
    return st.builds(
        make_chain,
        seed=st.integers(0, 2**32),
        # sampled_from covers the range evenly; integers would be small ones mostly
        d=st.sampled_from(range(1, max_d + 1)),
        T=st.sampled_from(range(1, max_T + 1)),
        schedule=st.sampled_from(sorted(SCHEDULES)),
        variance=st.sampled_from(["posterior", "beta", "unit", "random"]),
        slope=st.floats(0.3, 1.2),
        disorder=st.sampled_from([0.0, 0.01]) | st.floats(0.0, 0.5),
    )


small_chains = st.builds(
    make_chain,
    seed=st.integers(0, 2**32),
    d=st.sampled_from(range(1, 4)),
    T=st.sampled_from(range(1, 6)),
    schedule=st.sampled_from(["sigmoid", "cosine"]),
    variance=st.sampled_from(["unit", "random"]),
    slope=st.floats(0.3, 1.2),
    disorder=st.floats(0.0, 0.5),
)


def observations(chain, B=5, seed=0):
    return 2.0 * np.random.default_rng(seed).standard_normal((B, chain.d))


def dense_model(chain):
    """Mean and covariance of (x_0, ..., x_T) under p_theta, by writing each x_t in the noise."""
    T, d = chain.schedule.T, chain.d
    n = (T + 1) * d
    means, maps = np.zeros((T + 1, d)), np.zeros((T + 1, d, n))
    maps[T][:, T * d :] = np.eye(d)
    for t in range(T, 0, -1):
        means[t - 1] = chain.slopes[t] @ means[t] + chain.offsets[t]
        maps[t - 1] = chain.slopes[t] @ maps[t]
        maps[t - 1][:, (t - 1) * d : t * d] += np.sqrt(chain.sigma2[t]) * np.eye(d)
    flat = maps.reshape(n, n)
    return means.ravel(), flat @ flat.T


def dense_posterior(chain, x0):
    """Mean and covariance of (x_1, ..., x_T) given one x_0 under p_theta, by conditioning."""
    d = chain.d
    mean, covariance = dense_model(chain)
    gain = np.linalg.solve(covariance[:d, :d], covariance[:d, d:]).T
    return mean[d:] + gain @ (x0 - mean[:d]), covariance[d:, d:] - gain @ covariance[:d, d:]


def dense_q(schedule, x0):
    """Mean and covariance of (x_1, ..., x_T) given one x_0 under q."""
    alpha_bar = np.cumprod(1.0 - schedule.beta[1:])
    t = np.arange(schedule.T)
    late, early = np.maximum.outer(t, t), np.minimum.outer(t, t)
    covariance = np.sqrt(alpha_bar[late] / alpha_bar[early]) * (1.0 - alpha_bar[early])
    return np.outer(np.sqrt(alpha_bar), x0).ravel(), np.kron(covariance, np.eye(len(x0)))


def expected_log_normal(mean, covariance, mean_q, covariance_q):
    """E of log N(x; mean, covariance) over x ~ N(mean_q, covariance_q)."""
    inverse = np.linalg.inv(covariance)
    square = np.trace(inverse @ covariance_q) + (mean_q - mean) @ inverse @ (mean_q - mean)
    return -0.5 * (square + np.linalg.slogdet(2.0 * np.pi * covariance)[1])


# --- the chain against the dense Gaussian


@given(small_chains)
def test_log_density_is_the_marginal_of_the_dense_gaussian(chain):
    mean, covariance = dense_model(chain)
    law = stats.multivariate_normal(mean[: chain.d], covariance[: chain.d, : chain.d])
    x0 = observations(chain)
    np.testing.assert_allclose(chain.log_density(x0), law.logpdf(x0), rtol=1e-10, atol=1e-10)


@given(small_chains)
def test_posterior_is_the_conditional_of_the_dense_gaussian(chain):
    T, d = chain.schedule.T, chain.d
    x0 = observations(chain, 1)[0]
    mean, covariance = dense_posterior(chain, x0)
    K, k, V = chain.posterior()
    for table in (K, k, V):
        assert np.all(table[0] == 0.0)
    x, blocks = x0, np.zeros((d, d))
    for t in range(1, T + 1):
        x, blocks = K[t] @ x + k[t], K[t] @ blocks @ K[t].T + V[t]
        own = slice((t - 1) * d, t * d)
        np.testing.assert_allclose(x, mean[own], rtol=1e-6, atol=1e-8 * np.max(np.abs(mean)))
        np.testing.assert_allclose(
            blocks, covariance[own, own], rtol=1e-6, atol=1e-8 * np.max(covariance)
        )


@given(small_chains)
def test_posterior_log_density_is_joint_over_marginal(chain):
    T, d = chain.schedule.T, chain.d
    path = np.random.default_rng(0).standard_normal((T + 1, 4, d))
    mean, covariance = dense_model(chain)
    joint = stats.multivariate_normal(mean, covariance, allow_singular=True)
    marginal = stats.multivariate_normal(mean[:d], covariance[:d, :d])
    flat = np.swapaxes(path, 0, 1).reshape(4, -1)
    expected = joint.logpdf(flat) - marginal.logpdf(path[0])
    scale = np.max(np.abs(joint.logpdf(flat)))
    np.testing.assert_allclose(chain.posterior_log_density(path), expected, rtol=0, atol=1e-7 * scale)


@given(small_chains)
def test_gap_is_the_divergence_of_dense_gaussians(chain):
    x0 = observations(chain, 3)
    for x, gap in zip(x0, chain.gap(x0), strict=True):
        expected = kl_full(*dense_q(chain.schedule, x), *dense_posterior(chain, x))
        assert gap == pytest.approx(expected, rel=1e-6, abs=1e-8)


@given(small_chains)
def test_elbo_is_the_mean_log_ratio_of_dense_gaussians(chain):
    d, x0 = chain.d, observations(chain, 3)
    mean, covariance = dense_model(chain)
    for x, total, expanded in zip(x0, chain.elbo(x0).total, chain.elbo_expanded(x0), strict=True):
        mean_q, covariance_q = dense_q(chain.schedule, x)
        point = np.concatenate([x, mean_q])
        spread = np.zeros_like(covariance)
        spread[d:, d:] = covariance_q
        entropy = -expected_log_normal(mean_q, covariance_q, mean_q, covariance_q)
        bound = expected_log_normal(mean, covariance, point, spread) + entropy
        assert total == pytest.approx(bound, rel=1e-6, abs=1e-7)
        assert expanded == pytest.approx(bound, rel=1e-6, abs=1e-7)


@given(chains())
def test_bound_is_below_and_terms_have_their_signs(chain):
    x0 = observations(chain)
    terms, gap = chain.elbo(x0), chain.gap(x0)
    assert np.all(gap >= -1e-9 * np.abs(terms.total))
    assert np.all(terms.L_T <= 0.0)
    assert np.all(terms.L <= 0.0)
    assert np.all(terms.L[:2] == 0.0)
    assert terms.L.shape == (chain.schedule.T + 1, len(x0))
    np.testing.assert_allclose(terms.total, terms.L_T + terms.L.sum(axis=0) + terms.L_0, rtol=1e-12)


@pytest.mark.parametrize("d", [1, 3])
def test_gap_vanishes_for_standard_normal_data(d):
    """Every x_t is then N(0, I), so that the best reverse chain is q's own and nothing is lost."""
    s, covariance = linear_schedule(30), np.eye(d)
    chain = gaussian_data_chain(s, np.zeros(d), covariance, optimal_variance_gaussian(s, covariance))
    np.testing.assert_allclose(optimal_variance_gaussian(s, covariance), s.beta, rtol=1e-14)
    x0 = observations(chain)
    assert np.max(np.abs(chain.gap(x0))) < 1e-12
    np.testing.assert_allclose(chain.elbo(x0).total, stats.norm.logpdf(x0).sum(axis=1), rtol=1e-12)


def test_mean_on_every_library(lib, dtype):
    chain = make_chain(0, 3, 5, "sigmoid", "unit", 0.9, 0.3)
    x = observations(chain).astype(dtype)
    for t in (1, 3, 5):
        result = chain.mean(lib.array(x, dtype), t)
        assert str(result.dtype).endswith(dtype)
        expected = x.astype(np.float64) @ chain.slopes[t].T + chain.offsets[t]
        np.testing.assert_allclose(lib.host(result), expected, rtol=0, atol=100 * eps_of(dtype))


# --- Gaussian data


def random_law(seed, d):
    rng = np.random.default_rng(seed)
    root = rng.standard_normal((d, d)) / np.sqrt(d)
    return rng.standard_normal(d), root @ root.T + 0.05 * np.eye(d)


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_optimal_chain_is_the_regression_of_neighbours(seed, d):
    """E and Cov of x_{t-1} given x_t, from the joint covariance of the two."""
    mean, covariance = random_law(seed, d)
    s = sigmoid_schedule(6, 0.01, 0.7)
    chain = gaussian_data_chain(s, mean, covariance, optimal_variance_gaussian(s, covariance))
    C = covariance
    for t in range(1, s.T + 1):
        cross = np.sqrt(s.alpha[t]) * C
        after = s.alpha[t] * C + s.beta[t] * np.eye(d)
        gain = cross @ np.linalg.inv(after)
        signal = np.sqrt(np.prod(s.alpha[1:t]))
        np.testing.assert_allclose(chain.slopes[t], gain, rtol=0, atol=1e-11)
        offset = signal * mean - gain @ (signal * np.sqrt(s.alpha[t]) * mean)
        np.testing.assert_allclose(chain.offsets[t], offset, rtol=0, atol=1e-11)
        left = np.trace(C - gain @ cross.T) / d
        assert chain.sigma2[t] == pytest.approx(left, rel=1e-10)
        C = after


def test_optimal_chain_is_the_denoiser_of_a_mixture_of_one():
    mean, std, s = np.array([0.4, -1.0]), 0.3, linear_schedule(20, 0.01, 0.4)
    chain = gaussian_data_chain(s, mean, std**2 * np.eye(2), s.beta)
    law, x_t = IsotropicMixture(np.ones(1), mean[None], std), observations(chain)
    for t in (1, 2, 20):
        expected, _ = q_posterior(s, law.posterior_x0(s, x_t, t), x_t, t)
        np.testing.assert_allclose(chain.mean(x_t, t), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("t", [1, 2, 6])
def test_optimal_variance_maximises_the_expected_bound(t):
    mean, covariance = random_law(3, 3)
    s = sigmoid_schedule(6, 0.01, 0.7)
    best = optimal_variance_gaussian(s, covariance)

    def bound(factor):
        sigma2 = best.copy()
        sigma2[t] *= factor
        return gaussian_data_chain(s, mean, covariance, sigma2).expected_elbo(mean, covariance).total

    # E = -d/2 (log v + best / v) + const: second order in the factor, and known
    for factor in (0.5, 0.99, 1.01, 2.0):
        loss = 1.5 * (np.log(factor) + 1.0 / factor - 1.0)
        assert bound(1.0) - bound(factor) == pytest.approx(loss, rel=1e-8, abs=1e-11)


@pytest.mark.parametrize(
    ("kind", "nll"), [("optimal", 0.7258), ("ho", 0.8405), ("beta", 0.7269), ("posterior", 1.296)]
)
def test_bounds_of_one_gaussian(kind, nll):
    """Data N(0, 0.25), exact denoiser; "ho" is beta with beta_tilde_2 at t = 1."""
    s, mean, covariance = linear_schedule(1000), np.zeros(1), np.full((1, 1), 0.25)
    if kind == "optimal":
        sigma2 = optimal_variance_gaussian(s, covariance)
    else:
        sigma2 = reverse_variance(s, "posterior" if kind == "posterior" else "beta")
    if kind == "ho":
        sigma2[1] = s.posterior_variance[2]
    chain = gaussian_data_chain(s, mean, covariance, sigma2)
    bound = -chain.expected_elbo(mean, covariance).total
    digits = len(str(nll)) - 2
    assert round(float(bound), digits) == nll
    entropy = 0.5 * np.log(2.0 * np.pi * np.e * 0.25)
    assert round(entropy, 4) == 0.7258
    assert chain.expected_gap(mean, covariance) == pytest.approx(
        bound + chain.expected_log_density(mean, covariance), abs=1e-11
    )


@given(st.integers(0, 2**32), st.integers(1, 4))
def test_expectations_over_data(seed, d):
    mean, covariance = random_law(seed, d)
    chain = make_chain(seed, d, 5, "sigmoid", "random", 0.8, 0.3)
    # E[log p_theta(x_0)] = -entropy - KL(data || p_theta)
    mean_0, covariance_0 = (x[..., :d] for x in dense_model(chain))
    expected = expected_log_normal(mean_0, covariance_0[:d], mean, covariance)
    assert chain.expected_log_density(mean, covariance) == pytest.approx(expected, rel=1e-8)
    # a quadratic is known from its values at three points along each direction
    terms = chain.expected_elbo(mean, covariance)
    eigenvalues, axes = np.linalg.eigh(covariance)
    centre = chain.elbo(mean[None])
    for got, f0, name in zip(terms, centre, terms._fields, strict=True):
        total = f0[..., 0].copy()
        for value, axis in zip(eigenvalues, axes.T, strict=True):
            both = chain.elbo(np.stack([mean + axis, mean - axis]))
            f = getattr(both, name)
            total += 0.5 * value * (f[..., 0] + f[..., 1] - 2.0 * f0[..., 0])
        np.testing.assert_allclose(got, total, rtol=1e-9, atol=1e-9 * np.abs(terms.total))
    gap = chain.expected_log_density(mean, covariance) - terms.total
    assert chain.expected_gap(mean, covariance) == pytest.approx(gap, rel=1e-9)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_gaussian_points_have_the_moments(seed, d):
    mean, covariance = random_law(seed, d)
    points = gaussian_points(mean, covariance)
    assert points.shape == (2 * d, d)
    np.testing.assert_allclose(points.mean(axis=0), mean, rtol=0.0, atol=1e-13)
    np.testing.assert_allclose(
        np.cov(points.T, bias=True).reshape(d, d), covariance, rtol=0.0, atol=1e-13
    )


# --- what is refused


def test_tables_are_copied_and_read_only():
    s, sigma2 = linear_schedule(2), np.array([0.0, 0.1, 0.2])
    slopes = np.zeros((3, 1, 1))
    chain = LinearGaussianChain(s, slopes, np.zeros((3, 1)), sigma2)
    slopes[1], sigma2[1] = 5.0, 7.0
    assert chain.slopes[1, 0, 0] == 0.0
    assert chain.sigma2[1] == 0.1
    for table in (chain.slopes, chain.offsets, chain.sigma2):
        with pytest.raises(ValueError, match="read-only"):
            table[1] = 1.0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"schedule": 3}, TypeError, "schedule must be"),
        ({"slopes": np.zeros((3, 2, 1))}, ValueError, "slopes must have shape"),
        ({"slopes": np.full((3, 2, 2), np.nan)}, ValueError, "slopes must be finite"),
        ({"slopes": "x"}, TypeError, "slopes must hold real numbers"),
        ({"offsets": np.zeros((2, 2))}, ValueError, r"offsets must have shape \(T \+ 1, d\)"),
        ({"offsets": np.zeros((3, 0))}, ValueError, r"offsets must have shape \(T \+ 1, d\)"),
        ({"offsets": np.zeros(3)}, ValueError, r"offsets must have shape \(T \+ 1, d\)"),
        ({"sigma2": np.zeros(3)}, ValueError, "sigma2 must be positive"),
        ({"sigma2": np.ones(4)}, ValueError, "sigma2 must have length"),
    ],
)
def test_bad_chains(change, error, message):
    good = {
        "schedule": linear_schedule(2),
        "slopes": np.zeros((3, 2, 2)),
        "offsets": np.zeros((3, 2)),
        "sigma2": np.ones(3),
    }
    with pytest.raises(error, match=message):
        LinearGaussianChain(**(good | change))


def test_bad_arguments(lib):
    chain = make_chain(0, 2, 3, "linear", "beta", 0.9, 0.1)
    x = np.zeros((4, 2))
    for method in (chain.log_density, chain.elbo, chain.elbo_expanded, chain.gap):
        with pytest.raises(ValueError, match="x0 must have shape"):
            method(np.zeros((4, 3)))
        with pytest.raises(TypeError, match="x0 must have a real floating dtype"):
            method(np.zeros((4, 2), int))
        if lib.name != "numpy":
            with pytest.raises(TypeError, match="x0 must be a NumPy array"):
                method(lib.array(x))
    for t in (0, 4):
        with pytest.raises(ValueError, match="t must be between 1 and 3"):
            chain.mean(x, t)
    with pytest.raises(ValueError, match="x_t must have shape"):
        chain.mean(np.zeros((4, 3)), 1)
    with pytest.raises(ValueError, match="path must have shape"):
        chain.posterior_log_density(np.zeros((3, 4, 2)))
    with pytest.raises(ValueError, match="covariance must be symmetric positive definite"):
        gaussian_points(np.zeros(2), np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="covariance must be symmetric positive definite"):
        gaussian_points(np.zeros(2), np.array([[1.0, 0.2], [0.1, 1.0]]))
    with pytest.raises(ValueError, match="covariance must be symmetric positive definite"):
        optimal_variance_gaussian(linear_schedule(3), np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"mean must have shape \(d,\)"):
        gaussian_data_chain(linear_schedule(3), np.zeros(3), np.eye(2), np.ones(4))
