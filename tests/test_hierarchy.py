"""Hierarchical VAEs against linear models whose evidence is known, and diffusion as one of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ddpm_np.elbo import elbo_decomposition, prior_term
from ddpm_np.exact import gaussian_points
from ddpm_np.gaussians import kl_full
from ddpm_np.hierarchy import (
    diffusion_decoder,
    diffusion_encoder,
    draw_latents,
    draw_layer,
    hierarchical_integrand,
    two_layer_integrand,
    vae_bound,
)
from ddpm_np.paths import draw_path, elbo_integrand_expanded, elbo_integrand_reversed
from ddpm_np.schedules import linear_schedule, schedule_from_beta
from tests.strategies import MILD, eps_of
from tests.test_chains import make_chain
from tests.test_paths import SCHEDULE, SIGMA2, bent, random_path

WIDTHS = (2, 3, 1, 2)  # of x_0, z_1, z_2, z_3
MAPS = [
    np.random.default_rng(w).standard_normal((a, b))
    for w, (a, b) in enumerate(itertools.pairwise(WIDTHS))
]
VARIANCES = [np.array([[0.5, 0.8, 1.1]]), 0.4, np.array([[0.9, 0.3]])]
NOISES = [np.array([[0.2, 0.6]]), np.array([[0.5, 0.7, 0.4]]), 0.3]


def encode(z, t):
    """Widths change, the mean bends, the variance differs by coordinate or is one number."""
    return np.tanh(z @ MAPS[t - 1]), VARIANCES[t - 1]


def decode(z, t):
    return z @ MAPS[t - 1].T + 0.1 * t, NOISES[t - 1]


def log_normal(x, mean, variance):
    return stats.norm.logpdf(x, mean, np.sqrt(variance)).sum(axis=1)


def latents(B=5, T=3, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal((B, width)) for width in WIDTHS[: T + 1]]


# --- the VAE


def linear_vae(seed, d=2, width=3):
    """x_0 = W z + b + noise, and an encoder that is not the best one."""
    rng = np.random.default_rng(seed)
    W, b, psi = rng.standard_normal((d, width)), rng.standard_normal(d), rng.uniform(0.2, 1.0)
    V, variance = rng.standard_normal((width, d)), rng.uniform(0.2, 1.5, (1, width))
    return W, b, psi, lambda x, t: (x @ V.T, variance), lambda z, t: (z @ W.T + b, psi)


@given(st.integers(0, 2**32))
def test_linear_vae_in_expectation(seed):
    """The bound is log p(x_0) minus the divergence of q from the posterior, both known."""
    W, b, psi, linear_encode, linear_decode = linear_vae(seed)
    x0 = np.random.default_rng(seed).standard_normal((1, 2))
    noise = gaussian_points(np.zeros(3), np.eye(3))  # exact means of quadratics
    bound = vae_bound(np.repeat(x0, 6, axis=0), linear_encode, linear_decode, noise)
    evidence = stats.multivariate_normal(b, W @ W.T + psi * np.eye(2)).logpdf(x0)
    posterior = np.linalg.inv(np.eye(3) + W.T @ W / psi)
    mean, variance = linear_encode(x0, 1)
    own = posterior @ W.T @ (x0[0] - b) / psi
    gap = kl_full(mean[0], np.diag(variance[0]), own, posterior)
    assert np.mean(bound.total) == pytest.approx(evidence - gap, rel=1e-10)
    kl = kl_full(mean[0], np.diag(variance[0]), np.zeros(3), np.eye(3))
    np.testing.assert_allclose(bound.kl, np.full(6, kl), rtol=1e-12)
    np.testing.assert_allclose(bound.total, bound.reconstruction - bound.kl, rtol=1e-13)


def test_vae_reconstruction_is_scipys():
    x0, z = latents(T=1)
    bound = vae_bound(x0, encode, decode, z)
    x_1 = np.tanh(x0 @ MAPS[0]) + np.sqrt(VARIANCES[0]) * z
    expected = log_normal(x0, x_1 @ MAPS[0].T + 0.1, NOISES[0])
    np.testing.assert_allclose(bound.reconstruction, expected, rtol=1e-12)


def test_vae_bound_is_the_mean_of_the_hierarchical_integrand():
    """With one layer, KL in closed form against log-densities, by Gauss-Hermite over z in 1-D."""
    points, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    x0 = np.full((60, 1), 0.8)

    def bend_in(x, t):
        return 0.5 * x + 0.1, 0.6

    def bend_out(z, t):
        return np.sin(z), 0.4

    bound = vae_bound(x0, bend_in, bend_out, points[:, None])
    chain = draw_latents(x0, bend_in, [None, points[:, None]])
    integrand = hierarchical_integrand(chain, bend_in, bend_out)
    assert weights @ bound.total == pytest.approx(weights @ integrand, rel=1e-12)
    assert np.std(integrand - bound.total) > 0.1  # equal in the mean only


# --- more layers


def test_integrands_are_the_log_ratio():
    for T in (1, 2, 3):
        chain = latents(T=T)
        expected = stats.norm.logpdf(chain[-1]).sum(axis=1)
        for t in range(1, T + 1):
            expected += log_normal(chain[t - 1], *decode(chain[t], t))
            expected -= log_normal(chain[t], *encode(chain[t - 1], t))
        result = hierarchical_integrand(chain, encode, decode)
        np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)
        if T == 2:
            result = two_layer_integrand(*chain, encode, decode)
            np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


@given(st.integers(0, 2**32), st.integers(1, 6))
def test_with_the_exact_posterior_the_integrand_is_the_evidence(seed, T):
    """If q is p_theta(z_{1:T} | x_0), Bayes' rule makes the integrand log p_theta(x_0) anywhere."""
    chain = make_chain(seed, 1, T, "sigmoid", "random", 0.8, 0.4)
    K, k, V = chain.posterior()
    path = random_path(chain.schedule, (4, 1), seed)

    def posterior(z, t):
        return z * K[t, 0, 0] + k[t], float(V[t, 0, 0])

    layers = posterior, diffusion_decoder(chain.mean, chain.sigma2)
    results = [hierarchical_integrand(list(path), *layers)]
    if T == 2:
        results.append(two_layer_integrand(*path, *layers))
    scale = max(
        1.0, np.max(np.abs(elbo_integrand_expanded(chain.schedule, path, chain.mean, chain.sigma2)))
    )
    for result in results:
        np.testing.assert_allclose(result, chain.log_density(path[0]), rtol=0, atol=1e-8 * scale)


def test_draw_latents_goes_layer_by_layer():
    noise = latents(seed=1)
    x0 = latents()[0]
    chain = draw_latents(x0, encode, noise)
    assert [z.shape for z in chain] == [(5, width) for width in WIDTHS]
    assert chain[0] is x0
    for t in (1, 2, 3):
        mean, variance = encode(chain[t - 1], t)
        np.testing.assert_allclose((chain[t] - mean) / np.sqrt(variance), noise[t], rtol=1e-12)


# --- diffusion as a case


@given(st.floats(1e-3, 0.99), st.floats(0.05, 3.0), st.integers(0, 2**32))
@pytest.mark.filterwarnings("ignore::ddpm_np.PriorWarning")
def test_T_1_diffusion_is_the_vae(beta, variance, seed):
    schedule, sigma2 = schedule_from_beta([beta]), np.array([0.0, variance])
    x0, noise = np.random.default_rng(seed).standard_normal((2, 4, 3))
    bound = vae_bound(x0, diffusion_encoder(schedule), diffusion_decoder(bent, sigma2), noise)
    terms = elbo_decomposition(schedule, bent, x0, noise=lambda t: noise, sigma2=sigma2, target="mean")
    scale = 1e-12 * np.max(np.abs(terms.L_0) + np.abs(terms.L_T))
    np.testing.assert_allclose(terms.L_0, bound.reconstruction, rtol=0, atol=scale)
    np.testing.assert_allclose(terms.L_T, -bound.kl, rtol=0, atol=scale)
    np.testing.assert_allclose(terms.total, bound.total, rtol=0, atol=scale)
    np.testing.assert_allclose(prior_term(schedule, x0), -bound.kl, rtol=0, atol=scale)


@pytest.mark.parametrize("shape", [(3,), (3, 2), (2, 2, 2)])
def test_T_layers_are_diffusion_path_by_path(shape):
    path = random_path(SCHEDULE, shape)
    layers = diffusion_encoder(SCHEDULE), diffusion_decoder(bent, SIGMA2)
    result = hierarchical_integrand(list(path), *layers)
    for function in (elbo_integrand_expanded, elbo_integrand_reversed):
        expected = function(SCHEDULE, path, bent, SIGMA2)
        np.testing.assert_allclose(result, expected, rtol=1e-11, atol=1e-11)
    short = schedule_from_beta(SCHEDULE.beta[1:3])
    result = two_layer_integrand(*path[:3], diffusion_encoder(short), layers[1])
    expected = elbo_integrand_expanded(short, path[:3], bent, SIGMA2[:3])
    np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-12)


def test_latents_of_diffusion_are_its_paths():
    noise = random_path(SCHEDULE, (3, 2))
    chain = draw_latents(noise[0], diffusion_encoder(SCHEDULE), list(noise))
    expected = draw_path(SCHEDULE, noise[0], noise)
    np.testing.assert_allclose(np.stack(chain), expected, rtol=1e-14, atol=1e-14)


# --- libraries, errors


def test_every_library(lib, dtype):
    layers = diffusion_encoder(MILD), diffusion_decoder(bent, MILD.beta)
    path = random_path(MILD, (3, 2, 2)).astype(dtype)
    host = path.astype(np.float64)
    theirs = [lib.array(x, dtype) for x in path]
    short = [x[:, :, 0] for x in theirs[:3]]
    pairs = [
        (hierarchical_integrand(theirs, *layers), hierarchical_integrand(list(host), *layers)),
        (two_layer_integrand(*short, *layers), two_layer_integrand(*host[:3, :, :, 0], *layers)),
        (draw_latents(theirs[0], layers[0], theirs)[-1], draw_path(MILD, host[0], host)[-1]),
        *zip(
            vae_bound(*theirs[:1], *layers, theirs[1]), vae_bound(host[0], *layers, host[1]), strict=True
        ),
    ]
    for result, expected in pairs:
        assert str(result.dtype).endswith(dtype)
        bound = 200 * eps_of(dtype) * np.max(np.abs(expected))
        np.testing.assert_allclose(lib.host(result), expected, rtol=0, atol=bound)


def test_errors():
    x0, z = latents(T=1)
    with pytest.raises(ValueError, match="chain must hold x_0 and at least one latent, got 1"):
        hierarchical_integrand([x0], encode, decode)
    with pytest.raises(ValueError, match="noise must have the shape of mean"):
        draw_layer(x0, 1, encode, x0)
    with pytest.raises(ValueError, match="the mean of decode must have the shape of x0"):
        two_layer_integrand(x0, z, z, lambda z, t: (z, 1.0), lambda z, t: (z, 1.0))
    with pytest.raises(TypeError, match="x0 must be an array"):
        vae_bound([1.0], encode, decode, z)
    with pytest.raises(TypeError, match="schedule must be"):
        diffusion_encoder(3)
    with pytest.raises(ValueError, match="sigma2 must be positive"):
        diffusion_decoder(bent, np.zeros(3))
    decoder = diffusion_decoder(bent, linear_schedule(3).beta)
    for t in (0, 4):
        with pytest.raises(ValueError, match="t must be between 1 and 3"):
            decoder(x0, t)
