"""D's three estimators and the ways to draw t, against exact moments and each other.

The estimates of a linear denoiser are quadratic in the noise, so that three Gauss-Hermite nodes
per coordinate give their means and variances exactly.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddpm_np.decoders import discretised_gaussian, gaussian_decoder
from ddpm_np.elbo import elbo_decomposition, prior_term
from ddpm_np.estimators import three as estimators
from ddpm_np.estimators.three import (
    consistency_triple_integrand,
    entropy_constant,
    one_sample_estimate,
    posterior_entropy,
    t_sample_estimate,
    two_sample_conditional_variance,
    two_sample_estimate,
)
from ddpm_np.estimators.times import (
    importance_probabilities,
    importance_weight,
    low_discrepancy_times,
    spread_uniforms,
    times_from_uniforms,
)
from ddpm_np.exact import linear_gaussian_moments, mixture_1d_exact
from ddpm_np.forward import q_sample, q_step, q_step_moments
from ddpm_np.gaussians import kl_isotropic, normal_log_density
from ddpm_np.posterior import q_posterior
from ddpm_np.reverse import model_mean, reverse_variance
from ddpm_np.schedules import scaled_linear_schedule, schedule_from_beta

SHORT = schedule_from_beta([0.15, 0.3, 0.2, 0.5])
"""T = 4, so that a whole chain has 3^4 nodes."""


def tensor_rule(dimensions):
    """Nodes (n, dimensions) and weights (n,) for standard normal variables."""
    x, w = np.polynomial.hermite_e.hermegauss(3)
    nodes = np.array(list(itertools.product(x, repeat=dimensions)))
    weights = np.prod(np.array(list(itertools.product(w, repeat=dimensions))), axis=1)
    return nodes, weights / weights.sum()


def moments(values, weights):
    mean = weights @ values
    return mean, weights @ (values - mean) ** 2


def linear(schedule, scale=1.0, s2=0.25):
    """Slope of ``scale`` times the best denoiser of N(0, s2), and the denoiser."""
    slope = scale * np.sqrt(schedule.one_minus_alpha_bar)
    slope /= schedule.alpha_bar * s2 + schedule.one_minus_alpha_bar
    return slope, lambda x_t, t: np.reshape(slope[t], (-1,) + (1,) * (x_t.ndim - 1)) * x_t


def uneven(schedule):
    """Reverse variances that are neither beta nor beta_tilde."""
    return schedule.beta * np.linspace(0.8, 1.3, schedule.T + 1)


def over_times(means, variances, T):
    """Mean and variance for t uniform."""
    means, variances = np.array(means), np.array(variances)
    return means.mean(), variances.mean() + means.var()


def one_sample_moments(schedule, predict, x, sigma2):
    """By time, exact for linear denoisers; x is one number."""
    nodes, weights = tensor_rule(1)
    x0 = np.full_like(nodes, x)
    return np.array(
        [
            moments(one_sample_estimate(schedule, predict, x0, t, noise=nodes, sigma2=sigma2), weights)
            for t in range(1, schedule.T + 1)
        ]
    ).T


def two_sample_moments(schedule, predict, x, sigma2):
    nodes, weights = tensor_rule(2)
    x0, n = np.full((len(nodes), 1), x), nodes.T[:, :, None]
    return np.array(
        [
            moments(
                two_sample_estimate(
                    schedule, predict, x0, t, noise=n[0], step_noise=n[1], sigma2=sigma2
                ),
                weights,
            )
            for t in range(1, schedule.T + 1)
        ]
    ).T


def chain_estimates(schedule, predict, x, sigma2):
    nodes, weights = tensor_rule(schedule.T)
    noise = np.concatenate([np.full((1, len(nodes)), np.nan), nodes.T])[:, :, None]
    x0 = np.full((len(nodes), 1), x)
    return t_sample_estimate(schedule, predict, x0, noise=noise, sigma2=sigma2), weights


# --- equal expectations, ordered variances


@pytest.mark.parametrize("scale", [1.0, 0.6, -0.3])
@pytest.mark.parametrize("x", [0.0, 0.7, -2.1])
def test_exact_moments_are_those_of_the_estimates(scale, x):
    """linear_gaussian_moments against quadrature over the functions themselves."""
    T, sigma2, (slope, predict) = SHORT.T, uneven(SHORT), linear(SHORT, scale)
    exact = linear_gaussian_moments(SHORT, slope, np.array([[x]]), sigma2)
    chain = moments(*chain_estimates(SHORT, predict, x, sigma2))
    two = over_times(*two_sample_moments(SHORT, predict, x, sigma2), T)
    one = over_times(*one_sample_moments(SHORT, predict, x, sigma2), T)
    for ours, theirs in zip(exact, (chain, two, one), strict=True):
        np.testing.assert_allclose([ours.mean[0], ours.variance[0]], theirs, rtol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.6])
@pytest.mark.parametrize("T", [1, 2, 30, 300])
def test_expectations_are_equal(T, scale):
    """Two derivations that share no line: the chain's quadratic form, and term by term."""
    schedule = scaled_linear_schedule(T) if T > 20 else schedule_from_beta([0.3] * T)
    x0, sigma2 = np.random.default_rng(0).standard_normal((3, 2, 2)), uneven(schedule)
    exact = linear_gaussian_moments(schedule, linear(schedule, scale)[0], x0, sigma2)
    constant = entropy_constant(schedule, 4)
    np.testing.assert_allclose(exact.t_sample.mean, exact.two_sample.mean, rtol=1e-11)
    np.testing.assert_allclose(
        exact.two_sample.mean + constant, exact.one_sample.mean, rtol=1e-11, atol=1e-10
    )


def test_one_sample_completes_the_bound():
    """ELBO = L_T + E[one-sample estimate], with the same noise at each t."""
    x0 = np.random.default_rng(0).standard_normal((5, 2))
    noise, sigma2 = np.random.default_rng(1).standard_normal((5, 5, 2)), uneven(SHORT)
    predict = linear(SHORT, 0.7)[1]
    with pytest.warns(UserWarning, match="prior is off"):
        bound = elbo_decomposition(SHORT, predict, x0, noise=noise, sigma2=sigma2)
    terms = [
        one_sample_estimate(SHORT, predict, x0, t, noise=noise[t], sigma2=sigma2) for t in range(1, 5)
    ]
    np.testing.assert_allclose(prior_term(SHORT, x0) + np.mean(terms, axis=0), bound.total, rtol=1e-13)


@pytest.mark.parametrize("x", [0.2, 1.5])
def test_law_of_total_variance(x):
    """At each t, Var[two-sample] = Var[one-sample] + E[conditional variance], all three measured."""
    sigma2, predict = uneven(SHORT), linear(SHORT, 0.8)[1]
    mean_1, one = one_sample_moments(SHORT, predict, x, sigma2)
    mean_2, two = two_sample_moments(SHORT, predict, x, sigma2)
    nodes, weights = tensor_rule(1)
    added = [
        weights
        @ two_sample_conditional_variance(
            SHORT, predict, np.full_like(nodes, x), t, noise=nodes, sigma2=sigma2
        )
        for t in range(1, 5)
    ]
    np.testing.assert_allclose(two, one + added, rtol=1e-12)
    np.testing.assert_allclose(
        mean_1 - mean_2, SHORT.T * posterior_entropy(SHORT, 1)[1:], rtol=0.0, atol=1e-13
    )
    assert added[0] == 0.0
    assert min(added[1:]) > 1.0


def test_total_variance_over_times_too():
    """With t drawn as well, for the one-sample estimate less its entropy: Rao-Blackwell."""
    x, sigma2 = 0.9, uneven(SHORT)
    slope, predict = linear(SHORT, 0.8)
    mean, one = one_sample_moments(SHORT, predict, x, sigma2)
    blackwell = over_times(mean - SHORT.T * posterior_entropy(SHORT, 1)[1:], one, SHORT.T)
    exact = linear_gaussian_moments(SHORT, slope, np.array([[x]]), sigma2).two_sample
    nodes, weights = tensor_rule(1)
    t = np.repeat(np.arange(1, 5), len(nodes))
    added = two_sample_conditional_variance(
        SHORT, predict, np.full((len(t), 1), x), t, noise=np.tile(nodes, (4, 1)), sigma2=sigma2
    )
    assert blackwell[0] == pytest.approx(exact.mean[0], rel=1e-12)
    total = blackwell[1] + np.tile(weights, 4) @ added / 4
    assert exact.variance[0] == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("t", [1, 2, 4])
def test_conditional_variance_is_that_of_x_prev(t):
    """Quadrature over x_{t-1} ~ q(x_{t-1} | x_t, x_0), two coordinates, x_t fixed."""
    sigma2, predict = uneven(SHORT), linear(SHORT, 0.5)[1]
    nodes, weights = tensor_rule(2)
    x0, noise = np.full_like(nodes, 0.8), np.full_like(nodes, -1.3)
    x_t = q_sample(SHORT, x0, t, noise)
    mean, variance = q_posterior(SHORT, x0, x_t, t)
    x_prev = mean + np.sqrt(variance) * nodes
    log_p = normal_log_density(x_prev, model_mean(SHORT, x_t, t, predict(x_t, t)), sigma2[t])
    ours = two_sample_conditional_variance(SHORT, predict, x0, t, noise=noise, sigma2=sigma2)
    np.testing.assert_allclose(ours, moments(SHORT.T * log_p, weights)[1], rtol=1e-12, atol=1e-24)


def test_expectations_are_equal_for_a_nonlinear_denoiser():
    """Monte Carlo over 200 seeds, Bayes-optimal denoiser of a mixture, within 4.5 standard errors."""
    law, schedule = mixture_1d_exact(), scaled_linear_schedule(25)
    sigma2 = reverse_variance(schedule, "beta")

    def predict(x_t, t):
        return law.bayes_eps(schedule, x_t, t)

    means = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x0 = law.sample(60, rng)
        t = rng.integers(1, 26, 60)
        noise = rng.standard_normal((4, *x0.shape))
        chain = rng.standard_normal((26, *x0.shape))
        means.append(
            [
                t_sample_estimate(schedule, predict, x0, noise=chain, sigma2=sigma2).mean(),
                two_sample_estimate(
                    schedule, predict, x0, t, noise=noise[0], step_noise=noise[1], sigma2=sigma2
                ).mean(),
                one_sample_estimate(schedule, predict, x0, t, noise=noise[2], sigma2=sigma2).mean()
                - entropy_constant(schedule, 1),
            ]
        )
    means = np.array(means)
    for i, j in itertools.combinations(range(3), 2):
        difference = means[:, i] - means[:, j]
        assert abs(difference.mean()) < 4.5 * difference.std(ddof=1) / np.sqrt(200)
    chain, two, one = means.var(axis=0, ddof=1)
    assert chain < two / 10  # at 25 times the price
    assert one < two / 3


# --- the decoder, T = 1, libraries


def test_decoder_is_used_at_t_1_only():
    rng = np.random.default_rng(0)
    x0 = rng.choice([-1.0, 0.0, 1.0], (4, 2))
    noise, step_noise = rng.standard_normal((2, 4, 2))
    t, sigma2, predict = np.array([1, 2, 1, 4]), uneven(SHORT), linear(SHORT)[1]
    call = {"noise": noise, "sigma2": sigma2}
    first = t == 1
    x_1 = q_sample(SHORT, x0, 1, noise)
    expected = 4 * discretised_gaussian(3)(x0, model_mean(SHORT, x_1, 1, predict(x_1, 1)), sigma2[1])
    ours = one_sample_estimate(SHORT, predict, x0, t, decoder=discretised_gaussian(3), **call)
    np.testing.assert_allclose(ours[first], expected[first], rtol=1e-14)
    gaussian = one_sample_estimate(SHORT, predict, x0, t, **call)
    np.testing.assert_array_equal(ours[~first], gaussian[~first])
    assert np.all(ours[first] != gaussian[first])
    pair = [
        two_sample_estimate(SHORT, predict, x0, t, step_noise=step_noise, decoder=decoder, **call)
        for decoder in (discretised_gaussian(3), gaussian_decoder)
    ]
    np.testing.assert_array_equal(pair[0] == pair[1], ~first)
    chains = [
        t_sample_estimate(SHORT, predict, x0, noise=lambda t: noise, sigma2=sigma2, decoder=decoder)
        for decoder in (discretised_gaussian(3), gaussian_decoder)
    ]
    x_1 = q_step(SHORT, x0, 1, noise)
    mean = model_mean(SHORT, x_1, 1, predict(x_1, 1))
    gain = discretised_gaussian(3)(x0, mean, sigma2[1]) - gaussian_decoder(x0, mean, sigma2[1])
    np.testing.assert_allclose(chains[0] - chains[1], gain, rtol=1e-12)


def test_one_step_makes_all_three_the_same():
    schedule = schedule_from_beta([0.4])
    rng = np.random.default_rng(0)
    x0, noise = rng.standard_normal((2, 5, 3))
    predict, sigma2 = linear(schedule)[1], schedule.beta
    one = one_sample_estimate(schedule, predict, x0, 1, noise=noise, sigma2=sigma2)
    two = two_sample_estimate(
        schedule, predict, x0, np.ones(5, int), noise=x0, step_noise=noise, sigma2=sigma2
    )
    whole = t_sample_estimate(schedule, predict, x0, noise=lambda t: noise, sigma2=sigma2)
    np.testing.assert_allclose(one, two, rtol=1e-13)
    np.testing.assert_allclose(one, whole, rtol=1e-13)
    assert entropy_constant(schedule, 3) == 0.0


@pytest.mark.parametrize("target", ["eps", "x0", "mean", "v"])
def test_runs_everywhere(lib, dtype, target):
    """Against NumPy in float64; t as an int, on the host and on the device."""
    rng = np.random.default_rng(0)
    x0, noise, step_noise = rng.standard_normal((3, 6, 2, 2)).astype("float32")
    chain = rng.standard_normal((5, 6, 2, 2)).astype("float32")
    sigma2, t = uneven(SHORT), np.array([1, 2, 3, 4, 4, 1])

    def estimates(convert, host, t, predict):
        call = {"sigma2": sigma2, "target": target}
        a, b, c = convert(x0), convert(noise), convert(step_noise)
        results = [
            t_sample_estimate(SHORT, predict, a, noise=convert(chain), **call),
            two_sample_estimate(SHORT, predict, a, t, noise=b, step_noise=c, **call),
            one_sample_estimate(SHORT, predict, a, t, noise=b, **call),
            two_sample_conditional_variance(SHORT, predict, a, t, noise=b, **call),
            consistency_triple_integrand(SHORT, predict, a, b, c, 2, **call),
        ]
        assert all(r.shape == (6,) and r.dtype == a.dtype for r in results)
        return [host(r) for r in results]

    def predict(x_t, t):
        return 0.4 * x_t

    wanted = estimates(lambda x: x.astype("float64"), np.asarray, t, predict)
    tolerance = {"rtol": 2e-5, "atol": 2e-4} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-12}
    times = lib.xp.asarray(t, device=lib.device)
    for form in (t, times):
        ours = estimates(lambda x: lib.array(x, dtype), lib.host, form, predict)
        for value, expected in zip(ours, wanted, strict=True):
            np.testing.assert_allclose(value, expected, **tolerance)
    ours = estimates(lambda x: lib.array(x, dtype), lib.host, 3, predict)
    for value, expected in zip(ours[1:4], wanted[1:4], strict=True):
        np.testing.assert_allclose(value[2], expected[2], **tolerance)


# --- importance sampling


moment_tables = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30)


@given(moment_tables, st.integers(0, 2**32))
def test_importance_probabilities_are_the_best(second, seed):
    """No distribution has a smaller second moment of weight * estimate; the least is known."""
    table = np.array([0.0, *second])
    p, T = importance_probabilities(table, uniform=0.0), len(second)
    best = np.sum(p[1:] * importance_weight(p, np.arange(1, T + 1)) ** 2 * second)
    assert best == pytest.approx((np.sqrt(second).sum() / T) ** 2, rel=1e-12)
    q = np.concatenate([[0.0], np.random.default_rng(seed).dirichlet(np.full(T, 5.0))])
    other = np.sum(q[1:] * importance_weight(q, np.arange(1, T + 1)) ** 2 * second)
    assert best <= other * (1.0 + 1e-12)


def test_importance_weights_keep_estimates_unbiased():
    """Exactly: sum of p[t] * weight[t] * mean[t] is the mean over t."""
    p = np.array([0.0, 0.5, 0.2, 0.3])
    t, values = np.arange(1, 4), np.array([3.0, -1.0, 7.0])
    assert np.sum(p[t] * importance_weight(p, t) * values) == pytest.approx(3.0, rel=1e-14)
    assert importance_weight(p, 2) == pytest.approx(1.0 / 0.6, rel=1e-14)
    np.testing.assert_allclose(importance_weight(np.full(4, 1 / 3), t), 1.0, rtol=1e-14)


def test_importance_sampling_reduces_variance_without_bias():
    """Drawn for real, on the linear-Gaussian chain, whose moments are exact."""
    schedule, x = scaled_linear_schedule(50), 0.4
    slope, predict = linear(schedule, 0.7)
    sigma2, n = reverse_variance(schedule, "beta"), 40_000
    mean, variance = one_sample_moments(schedule, predict, x, sigma2)
    p = importance_probabilities(np.concatenate([[0.0], variance + mean**2]))
    rng = np.random.default_rng(0)
    t, x0 = times_from_uniforms(rng.random(n), p), np.full((n, 1), x)
    noise = rng.standard_normal(x0.shape)
    estimate = one_sample_estimate(schedule, predict, x0, t, noise=noise, sigma2=sigma2)
    weighted = importance_weight(p, t) * estimate
    exact = linear_gaussian_moments(schedule, slope, x0[:1], sigma2).one_sample
    assert abs(weighted.mean() - exact.mean[0]) < 4.5 * weighted.std() / np.sqrt(n)
    predicted = (np.sqrt(variance + mean**2).mean()) ** 2 - mean.mean() ** 2
    assert weighted.var() == pytest.approx(predicted, rel=0.05)
    assert weighted.var() < exact.variance[0] / 3


def test_uniform_share_keeps_every_time_possible():
    p = importance_probabilities(np.array([9.0, 0.0, 4.0, 0.0, 16.0]), uniform=0.2)
    np.testing.assert_allclose(p, [0.0, 0.05, 0.05 + 0.8 / 3, 0.05, 0.05 + 1.6 / 3], rtol=1e-14)
    np.testing.assert_allclose(importance_probabilities(np.ones(5), uniform=1.0)[1:], 0.25, rtol=1e-15)


# --- drawing times


@given(moment_tables, st.lists(st.floats(0.0, 1.0, exclude_max=True), min_size=1, max_size=20))
def test_times_invert_the_distribution(weights, uniforms):
    p = np.array([0.0, *weights]) / np.sum(weights)
    t = times_from_uniforms(np.array(uniforms), p)
    cdf = np.cumsum(p)
    assert t.min() >= 1
    assert t.max() <= len(weights)
    assert np.all(cdf[t - 1] <= uniforms)
    assert np.all((uniforms < cdf[t]) | (t == len(weights)))


def test_times_of_probability_zero_do_not_occur():
    p = np.array([0.0, 0.0, 0.1, 0.0, 0.2, 0.7 - 1e-12, 0.0])
    uniforms = np.array([0.0, 0.1, 0.29, 0.31, np.nextafter(1.0, 0.0)])
    np.testing.assert_array_equal(times_from_uniforms(uniforms, p), [2, 4, 4, 5, 5])


@given(u=st.floats(0.0, 1.0, exclude_max=True), T=st.integers(1, 200), batch=st.integers(1, 200))
def test_low_discrepancy_times_cover_all_times(u, T, batch):
    """Every time gets its share of the batch, give or take one."""
    t = low_discrepancy_times(u, T, batch)
    assert t.shape == (batch,)
    counts = np.bincount(t, minlength=T + 1)
    assert counts[0] == 0
    assert len(counts) == T + 1
    assert np.all(np.abs(counts[1:] - batch / T) < 1.0 + 1e-9)


@pytest.mark.parametrize(("T", "batch"), [(10, 4), (7, 7), (5, 12)])
def test_each_low_discrepancy_time_is_uniform(T, batch):
    """By counting over an even grid of u: every entry of the batch, not only their mean."""
    grid = (np.arange(T * batch) + 0.5) / (T * batch)
    times = np.array([low_discrepancy_times(u, T, batch) for u in grid])
    for i in range(batch):
        np.testing.assert_array_equal(np.bincount(times[:, i], minlength=T + 1)[1:], batch)


def test_low_discrepancy_reduces_variance_without_bias():
    schedule, x, batch, n = scaled_linear_schedule(50), 0.4, 100, 1500
    slope, predict = linear(schedule, 0.7)
    sigma2 = reverse_variance(schedule, "beta")
    rng = np.random.default_rng(0)
    t = np.concatenate([low_discrepancy_times(u, 50, batch) for u in rng.random(n)])
    x0 = np.full((len(t), 1), x)
    noise = rng.standard_normal(x0.shape)
    estimate = one_sample_estimate(schedule, predict, x0, t, noise=noise, sigma2=sigma2)
    means = estimate.reshape(n, batch).mean(axis=1)
    exact = linear_gaussian_moments(schedule, slope, x0[:1], sigma2).one_sample
    assert abs(means.mean() - exact.mean[0]) < 4.5 * means.std() / np.sqrt(n)
    # 100 times spread over 50: every time twice, and no variance between times is left.
    within = one_sample_moments(schedule, predict, x, sigma2)[1].mean() / batch
    assert means.var() == pytest.approx(within, rel=0.15)
    assert means.var() < exact.variance[0] / batch / 3


def test_spread_uniforms():
    np.testing.assert_allclose(spread_uniforms(0.3, 4), [0.3, 0.55, 0.8, 0.05], rtol=1e-14)


# --- L 6.1


def consistency_problem():
    schedule = schedule_from_beta([0.1, 0.2, 0.3, 0.4])
    slope, predict = linear(schedule, 0.9)
    sigma2, x = reverse_variance(schedule, "beta"), 1.2
    moments = linear_gaussian_moments(schedule, slope, np.array([[x]]), sigma2)
    elbo = float((prior_term(schedule, np.array([[x]])) + moments.one_sample.mean)[0])
    return schedule, predict, sigma2, x, elbo


def chain_of(schedule, x, noise):
    """x_0 ... x_T from noise of shape (T, n)."""
    path = [np.full((noise.shape[1], 1), x)]
    for t in range(1, schedule.T + 1):
        path.append(q_step(schedule, path[-1], t, noise[t - 1][:, None]))
    return path


def outer_terms(schedule, predict, sigma2, path):
    """Reconstruction and prior matching, common to both forms."""
    mean = model_mean(schedule, path[1], 1, predict(path[1], 1))
    end, variance = q_step_moments(schedule, path[-2], schedule.T)
    matching = -kl_isotropic(end, variance, np.zeros_like(end), 1.0)
    return gaussian_decoder(path[0], mean, sigma2[1]) + matching


def triple_form(schedule, predict, sigma2, path):
    return outer_terms(schedule, predict, sigma2, path) + sum(
        consistency_triple_integrand(schedule, predict, *path[t - 1 : t + 2], t, sigma2=sigma2)
        for t in range(1, schedule.T)
    )


def printed_form(schedule, predict, sigma2, path):
    """L 6.1 as printed: -KL(q(x_t | x_{t-1}) || p_theta(x_t | x_{t+1})) over the neighbours."""
    total = outer_terms(schedule, predict, sigma2, path)
    for t in range(1, schedule.T):
        mean = model_mean(schedule, path[t + 1], t + 1, predict(path[t + 1], t + 1))
        total -= kl_isotropic(*q_step_moments(schedule, path[t - 1], t), mean, sigma2[t + 1])
    return total


def test_consistency_form_is_the_bound_exactly():
    schedule, predict, sigma2, x, elbo = consistency_problem()
    nodes, weights = tensor_rule(4)
    values = triple_form(schedule, predict, sigma2, chain_of(schedule, x, nodes.T))
    assert weights @ values == pytest.approx(elbo, rel=1e-12)


def test_printed_consistency_form_is_not_the_bound():
    """Refuted by more than 100 standard errors; the corrected form is within 4 on the same draws."""
    schedule, predict, sigma2, x, elbo = consistency_problem()
    n = 200_000
    path = chain_of(schedule, x, np.random.default_rng(0).standard_normal((4, n)))
    right = triple_form(schedule, predict, sigma2, path)
    printed = printed_form(schedule, predict, sigma2, path)
    assert abs(right.mean() - elbo) < 4.0 * right.std() / np.sqrt(n)
    assert abs(printed.mean() - elbo) > 100.0 * printed.std() / np.sqrt(n)


# --- errors


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (low_discrepancy_times, (1.0, 5, 2), r"u must lie in \[0, 1\), got 1"),
        (low_discrepancy_times, (0.5, 0, 2), "T must be >= 1"),
        (low_discrepancy_times, (0.5, 5, 0), "batch must be >= 1"),
        (times_from_uniforms, ([0.2], [0.0, 0.5, 0.4]), "probabilities must sum to 1"),
        (times_from_uniforms, ([1.0], [0.0, 0.5, 0.5]), "uniforms must"),
        (times_from_uniforms, ([0.2], [1.0]), "probabilities must have length"),
        (importance_weight, ([0.0, 1.0, 0.0], 2), "t must have been drawn from probabilities"),
        (importance_weight, ([0.0, 0.5, 0.5], 3), "t must be between 1 and 2"),
        (importance_probabilities, ([0.0, 1.0, -1.0],), "second_moments must be finite, >= 0"),
        (importance_probabilities, ([1.0, 0.0, 0.0],), "second_moments must be finite, >= 0"),
        (importance_probabilities, ([0.0, 1.0, np.nan],), "second_moments must be finite, >= 0"),
        (importance_probabilities, ([0.0, 1.0], 1.5), "uniform must lie in"),
        (posterior_entropy, (SHORT, 0), "dimensions must be >= 1"),
        (linear_gaussian_moments, (SHORT, [1.0], np.ones((1, 1)), SHORT.beta), "slope must be finite"),
    ],
)
def test_refuses_bad_values(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_refuses_bad_arrays():
    x0, predict, sigma2 = np.ones((3, 1)), linear(SHORT)[1], SHORT.beta
    with pytest.raises(ValueError, match="noise must have the shape of x0"):
        one_sample_estimate(SHORT, predict, x0, 1, noise=np.ones((3, 2)), sigma2=sigma2)
    with pytest.raises(ValueError, match="step_noise must have the shape of x0"):
        two_sample_estimate(SHORT, predict, x0, 1, noise=x0, step_noise=x0[:2], sigma2=sigma2)
    with pytest.raises(ValueError, match="t must be between 1 and 4"):
        one_sample_estimate(SHORT, predict, x0, 5, noise=x0, sigma2=sigma2)
    with pytest.raises(ValueError, match="t must be between 1 and 3"):
        consistency_triple_integrand(SHORT, predict, x0, x0, x0, 4, sigma2=sigma2)
    with pytest.raises(ValueError, match="sigma2 must have length"):
        t_sample_estimate(SHORT, predict, x0, noise=lambda t: x0, sigma2=sigma2[1:])
    with pytest.raises(ValueError, match="noise must be a function of t or an array"):
        t_sample_estimate(SHORT, predict, x0, noise=x0, sigma2=sigma2)
    with pytest.raises(TypeError, match="second_moments must be a table"):
        importance_probabilities("many")
    with pytest.raises(TypeError, match="schedule must be"):
        one_sample_estimate(None, predict, x0, 1, noise=x0, sigma2=sigma2)


ESTIMATES = {
    "t-sample": lambda predict, x, **given: t_sample_estimate(
        SHORT, predict, x, noise=lambda t: x, sigma2=SHORT.beta, **given
    ),
    "two-sample": lambda predict, x, **given: two_sample_estimate(
        SHORT, predict, x, 2, noise=x, step_noise=x, sigma2=SHORT.beta, **given
    ),
    "one-sample": lambda predict, x, **given: one_sample_estimate(
        SHORT, predict, x, 2, noise=x, sigma2=SHORT.beta, **given
    ),
    "conditional variance": lambda predict, x, **given: two_sample_conditional_variance(
        SHORT, predict, x, 2, noise=x, sigma2=SHORT.beta, **given
    ),
    "triple": lambda predict, x, **given: consistency_triple_integrand(
        SHORT, predict, x, x, x, 2, sigma2=SHORT.beta, **given
    ),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_refuses_networks_that_do_not_fit(name):
    estimate, x = ESTIMATES[name], np.ones((3, 1))
    with pytest.raises(ValueError, match="prediction must have the shape of x_t"):
        estimate(lambda x_t, t: x_t[:1], x)
    with pytest.raises(TypeError, match="prediction must have the dtype of x_t"):
        estimate(lambda x_t, t: x_t.astype("float32"), x)
    with pytest.raises(ValueError, match="target must be one of"):
        estimate(lambda x_t, t: x_t, x, target="noise")


def test_no_printed_formula_is_offered():
    assert not [name for name in dir(estimators) if "printed" in name]


def test_low_discrepancy_times_on_the_edges():
    """u = 0 puts every point on the edge of its cell, where a rounded table would go wrong."""
    for T in range(1, 200):
        np.testing.assert_array_equal(low_discrepancy_times(0.0, T, T), np.arange(1, T + 1))
