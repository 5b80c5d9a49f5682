"""The identities of the variational bound, each as one function that returns its residual.

A residual is left side minus right side, in nats, and zero up to rounding. Functions of a
``path`` hold at any path, drawn from q or not, and for arrays of any library; those of a
:class:`~ddpm_np.exact.chains.LinearGaussianChain` hold in expectation, which is exact there.
Every term of the bound is so known in three ways: in closed form, by Gauss-Hermite quadrature in
one dimension, and by Monte Carlo with a standard error.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Array, Table, check_arrays, check_integer, sum_features
from ddpm_np.data import Samples
from ddpm_np.elbo import Elbo, bits_per_dim, elbo_decomposition, middle_term
from ddpm_np.exact.chains import LinearGaussianChain, gaussian_points
from ddpm_np.forward import q_moments, q_sample, q_step, q_step_moments
from ddpm_np.gaussians import LOG_2PI, kl_normal_1d, normal_log_density
from ddpm_np.hierarchy import (
    diffusion_decoder,
    diffusion_encoder,
    hierarchical_integrand,
    two_layer_integrand,
    vae_bound,
)
from ddpm_np.losses import bound_weight, loss_constant
from ddpm_np.paths import (
    MeanFunction,
    draw_path,
    elbo_integrand_bayes,
    elbo_integrand_consistency,
    elbo_integrand_expanded,
    elbo_integrand_reversed,
    elbo_path_terms,
    model_path_log_density,
    path_log_density,
    reversed_path_log_density,
)
from ddpm_np.posterior import Target, posterior_mean_from_eps, q_posterior, training_target
from ddpm_np.reverse import model_mean
from ddpm_np.schedules import Schedule

# --- the bound and its gap ----------------------------------------------------------------


def jensen_gap_residual(chain: LinearGaussianChain, x0: Samples) -> Table:
    """Gap of Jensen's inequality, M2 (3) and p. 25: log p_theta(x_0) - ELBO - KL(q || p_theta); (B,)."""
    residual: Table = chain.log_density(x0) - chain.elbo(x0).total - chain.gap(x0)
    return residual


def decomposition_residual(chain: LinearGaussianChain, x0: Samples) -> Table:
    """Expanded against decomposed bound, in expectation, M2 (6) = (19); shape (B,)."""
    residual: Table = chain.elbo_expanded(x0) - chain.elbo(x0).total
    return residual


def model_bayes_residual(chain: LinearGaussianChain, path: Samples) -> Table:
    """Bayes' rule for the model: log p(x_{0:T}) - log p(x_0) - log p(x_{1:T} | x_0); shape (B,)."""
    joint = model_path_log_density(path, chain.mean, chain.sigma2)
    residual: Table = joint - chain.log_density(path[0]) - chain.posterior_log_density(path)
    return residual


# --- on one path: (8) to (13), and the integrand's forms ----------------------------------


def bayes_rule_residual(schedule: Schedule, x0: Array, x_prev: Array, x_t: Array, t: int) -> Array:
    """Bayes' rule for one step, M2 (8), 2 <= t <= T.

        log q(x_t | x_{t-1}, x_0) + log q(x_{t-1} | x_0) - log q(x_{t-1} | x_t, x_0) - log q(x_t | x_0)

    Shape (B,).
    """
    forward = normal_log_density(x_t, *q_step_moments(schedule, x_prev, t))
    forward = forward + normal_log_density(x_prev, *q_moments(schedule, x0, t - 1))
    backward = normal_log_density(x_prev, *q_posterior(schedule, x0, x_t, t))
    return forward - backward - normal_log_density(x_t, *q_moments(schedule, x0, t))


def reversal_residual(schedule: Schedule, path: Array) -> Array:
    """Two factorisations of log q(x_{1:T} | x_0), M2 (11)-(13); (11) and (12) are T = 2; shape (B,)."""
    return path_log_density(schedule, path) - reversed_path_log_density(schedule, path)


def expanded_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Expanded integrand against log p_theta(x_{0:T}) - log q(x_{1:T} | x_0), M2 (3) = (6); (B,)."""
    ratio = model_path_log_density(path, mean, sigma2) - path_log_density(schedule, path)
    return elbo_integrand_expanded(schedule, path, mean, sigma2) - ratio


def bayes_form_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Integrand with every step turned around by Bayes' rule, M2 (6) = (9); shape (B,)."""
    expanded = elbo_integrand_expanded(schedule, path, mean, sigma2)
    return expanded - elbo_integrand_bayes(schedule, path, mean, sigma2)


def telescoping_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Integrand before and after the marginals telescope, M2 (9) = (10); shape (B,)."""
    bayes = elbo_integrand_bayes(schedule, path, mean, sigma2)
    return bayes - elbo_integrand_reversed(schedule, path, mean, sigma2)


def consistency_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Integrand in consistency form, over triples, L 6.1 = M2 (6); shape (B,)."""
    consistency = elbo_integrand_consistency(schedule, path, mean, sigma2)
    return consistency - elbo_integrand_expanded(schedule, path, mean, sigma2)


# --- hierarchical VAEs --------------------------------------------------------------------


def vae_residual(
    schedule: Schedule, x0: Array, noise: Array, mean: MeanFunction, sigma2: Table
) -> Array:
    """Diffusion with T = 1 against the bound of a VAE, on the same draw of x_1, M2 (7); shape (B,)."""
    check_integer("schedule.T", schedule.T, 1, 1)
    bound = vae_bound(x0, diffusion_encoder(schedule), diffusion_decoder(mean, sigma2), noise)
    terms = elbo_decomposition(schedule, mean, x0, noise=lambda t: noise, sigma2=sigma2, target="mean")
    return terms.total - bound.total


def two_layer_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Diffusion with T = 2 as a two-layer hierarchical VAE, L 2.2 = M2 (6); shape (B,)."""
    check_integer("schedule.T", schedule.T, 2, 2)
    layers = diffusion_encoder(schedule), diffusion_decoder(mean, sigma2)
    bound = two_layer_integrand(path[0, ...], path[1, ...], path[2, ...], *layers)
    return bound - elbo_integrand_expanded(schedule, path, mean, sigma2)


def hierarchy_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Diffusion as a hierarchical VAE of T layers, L 2.2 and D = M2 (6); shape (B,)."""
    layers = diffusion_encoder(schedule), diffusion_decoder(mean, sigma2)
    bound = hierarchical_integrand([path[t, ...] for t in range(schedule.T + 1)], *layers)
    return bound - elbo_integrand_expanded(schedule, path, mean, sigma2)


# --- L_{t-1} as a weighted squared error --------------------------------------------------


def mean_form_residual(
    schedule: Schedule, x0: Array, t: int, noise: Array, mean: Array, sigma2: Table
) -> Array:
    """L_{t-1} from the posterior mean at (x_t, x_0), M2 (32), 2 <= t <= T.

        L_{t-1} + ||posterior mean (26) - mean||^2 / (2 sigma2[t]) - const

    Shape (B,).
    """
    truth, _ = q_posterior(schedule, x0, q_sample(schedule, x0, t, noise), t)
    return _weighted_form(schedule, x0, t, noise, mean, sigma2, "mean", truth)


def mean_from_noise_form_residual(
    schedule: Schedule, x0: Array, t: int, noise: Array, mean: Array, sigma2: Table
) -> Array:
    """L_{t-1} from the posterior mean at (x_t, noise), M2 (33), with (29).

        L_{t-1} + ||posterior mean (29) - mean||^2 / (2 sigma2[t]) - const

    Shape (B,).
    """
    truth = posterior_mean_from_eps(schedule, q_sample(schedule, x0, t, noise), t, noise)
    return _weighted_form(schedule, x0, t, noise, mean, sigma2, "mean", truth)


def eps_form_residual(
    schedule: Schedule, x0: Array, t: int, noise: Array, prediction: Array, sigma2: Table
) -> Array:
    """L_{t-1} from the error in the noise, M2 (35) with its missing alpha_t.

        L_{t-1} + eps_loss_weight * ||noise - prediction||^2 - const

    Shape (B,).
    """
    return _weighted_form(schedule, x0, t, noise, prediction, sigma2, "eps", noise)


def x0_form_residual(
    schedule: Schedule, x0: Array, t: int, noise: Array, prediction: Array, sigma2: Table
) -> Array:
    """L_{t-1} from the error in the observation, L 6.2.

        L_{t-1} + x0_loss_weight * ||x0 - prediction||^2 - const

    Shape (B,).
    """
    return _weighted_form(schedule, x0, t, noise, prediction, sigma2, "x0", x0)


def v_form_residual(
    schedule: Schedule, x0: Array, t: int, noise: Array, prediction: Array, sigma2: Table
) -> Array:
    """L_{t-1} from the error in the velocity, Salimans & Ho 2022.

        L_{t-1} + v_loss_weight * ||v - prediction||^2 - const

    Shape (B,).
    """
    truth = training_target(schedule, x0, t, noise, "v")
    return _weighted_form(schedule, x0, t, noise, prediction, sigma2, "v", truth)


def _weighted_form(
    schedule: Schedule,
    x0: Array,
    t: int,
    noise: Array,
    prediction: Array,
    sigma2: Table,
    target: Target,
    truth: Array,
) -> Array:
    x_t = q_sample(schedule, x0, t, noise)
    mean = model_mean(schedule, x_t, t, prediction, target)
    L = middle_term(schedule, x0, x_t, t, mean, sigma2)
    constant = float(loss_constant(schedule, t, sigma2, math.prod(x0.shape[1:])))
    error = sum_features((truth - prediction) ** 2)
    return L + float(bound_weight(schedule, t, sigma2, target)) * error - constant


# --- each term in three ways --------------------------------------------------------------


def marginalisation_residual(chain: LinearGaussianChain, x0: Samples) -> Table:
    """Log-ratio averaged over pairs against KL averaged over x_t, M2 (14)-(18), in closed form.

        E over q(x_{t-1}, x_t | x_0) of log p_theta(x_{t-1} | x_t) / q(x_{t-1} | x_t, x_0) - L_{t-1}

    Shape (T + 1, B): entries t = 2..T; entry 1 is E[log p_theta(x_0 | x_1)] - L_0, entry 0 is 0.
    """
    ratio, terms = chain.expected_step_log_density(x0), chain.elbo(x0)
    ratio[2:] += 0.5 * chain.d * (1.0 + LOG_2PI + np.log(chain.schedule.posterior_variance[2:, None]))
    ratio[2:] -= terms.L[2:]
    ratio[1] -= terms.L_0
    return ratio


def marginalisation_quadrature_residual(
    schedule: Schedule, x0: float, t: int, mean: MeanFunction, sigma2: Table, nodes: int = 40
) -> float:
    """The same by Gauss-Hermite quadrature in one dimension, for any model mean, M2 (14)-(18).

    ``nodes`` for each of x_{t-1} and x_t; exact for means that are polynomials of low degree.
    """
    points, weights = gauss_hermite(nodes)
    x_t = q_sample(schedule, np.full_like(points, x0), t, points)
    kl = -middle_term(schedule, np.full_like(points, x0), x_t, t, mean(x_t, t), sigma2)
    return _log_ratio_by_quadrature(schedule, x0, t, mean, sigma2, nodes) + float(weights @ kl)


def quadrature_residual(chain: LinearGaussianChain, x0: float, nodes: int = 8) -> Elbo:
    """Every term by Gauss-Hermite quadrature of log-ratios against closed form, M2 (19); d = 1.

    No KL is used: each term is the mean of a difference of log-densities. Fields without batch axis.
    """
    check_integer("chain.d", chain.d, 1, 1)
    s, (points, weights) = chain.schedule, gauss_hermite(nodes)
    ends = np.full((nodes, 1), x0)
    x_T = q_sample(s, ends, s.T, points[:, None])
    ratio = normal_log_density(x_T, np.zeros_like(x_T), 1.0)
    L_T = float(weights @ (ratio - normal_log_density(x_T, *q_moments(s, ends, s.T))))
    x_1 = q_sample(s, ends, 1, points[:, None])
    L_0 = float(weights @ normal_log_density(ends, chain.mean(x_1, 1), float(chain.sigma2[1])))
    L = np.zeros(s.T + 1)
    for t in range(2, s.T + 1):
        L[t] = _log_ratio_by_quadrature(s, x0, t, _scalar(chain), chain.sigma2, nodes)
    exact = chain.elbo(np.array([[x0]]))
    total = L_T + float(np.sum(L)) + L_0
    return Elbo(L_T - exact.L_T[0], L - exact.L[:, 0], L_0 - exact.L_0[0], total - float(exact.total[0]))


def elbo_decomposition_residual(chain: LinearGaussianChain, x0: Samples) -> Elbo:
    """What :func:`ddpm_np.elbo_decomposition` averages to, against closed form, M2 (19).

    For a linear model its terms are quadratic in the noise, so that 2 d values of it have the
    exact mean. Shapes as :class:`ddpm_np.Elbo`; warns as the function itself.
    """
    noise = gaussian_points(np.zeros(chain.d), np.eye(chain.d))
    rows = np.repeat(x0, len(noise), axis=0)
    draws = np.tile(noise, (len(x0), 1))
    estimate = elbo_decomposition(
        chain.schedule, chain.mean, rows, noise=lambda t: draws, sigma2=chain.sigma2, target="mean"
    )
    groups = (len(x0), len(noise))
    means = (np.mean(np.reshape(x, (*x.shape[:-1], *groups)), axis=-1) for x in estimate)
    return Elbo(*(mean - exact for mean, exact in zip(means, chain.elbo(x0), strict=True)))


def path_scores(chain: LinearGaussianChain, x0: Table, noise: Samples) -> Elbo:
    """Monte Carlo over whole paths against closed form, in standard errors, M2 (10) and (19).

        score = (mean over B paths of a term - its exact value) / standard error

    Parameters
    ----------
    chain : LinearGaussianChain
    x0 : array, shape (d,)
        One observation.
    noise : array, shape (T + 1, B, d)
        Standard normal draws, B >= 2; entry 0 is not used.

    Returns
    -------
    Elbo
        Scores, about N(0, 1), without the batch axis; 0 for a term that is not random and right.
    """
    rows = np.broadcast_to(x0, noise.shape[1:])
    path = draw_path(chain.schedule, rows, noise)
    draws = elbo_path_terms(chain.schedule, path, chain.mean, chain.sigma2)
    return _scores(draws, chain.elbo(rows[:1]))


def elbo_decomposition_scores(chain: LinearGaussianChain, x0: Table, noise: Samples) -> Elbo:
    """The same for :func:`ddpm_np.elbo_decomposition`, one x_t per time, M2 (19); as `path_scores`."""
    rows = np.broadcast_to(x0, noise.shape[1:])
    draws = elbo_decomposition(
        chain.schedule, chain.mean, rows, noise=noise, sigma2=chain.sigma2, target="mean"
    )
    return _scores(draws, chain.elbo(rows[:1]))


# --- scalars ------------------------------------------------------------------------------


def kl_quadrature_residual(
    mean_1: float, sigma_1: float, mean_2: float, sigma_2: float, nodes: int = 8
) -> float:
    """KL of 1-D Gaussians, L 1.3, against Gauss-Hermite quadrature of the log-ratio."""
    points, weights = gauss_hermite(nodes)
    x = mean_1 + sigma_1 * points
    ratio = normal_log_density(x, np.full_like(x, mean_1), sigma_1**2)
    ratio -= normal_log_density(x, np.full_like(x, mean_2), sigma_2**2)
    moments = (np.array([value]) for value in (mean_1, sigma_1, mean_2, sigma_2))
    return float(kl_normal_1d(*moments)[0] - weights @ ratio)


def bits_per_dim_residual(log_density: Array, dimensions: int) -> Array:
    """Bits per dimension, 2^(-d bits) = p(x): d * bits + log2 p(x), in bits; the shape given."""
    xp = check_arrays(log_density=log_density)
    root = xp.exp(log_density / dimensions)  # p(x)^(1/d), of a size that can be written down
    return dimensions * (bits_per_dim(-log_density, dimensions) + xp.log2(root))


def gauss_hermite(nodes: int) -> tuple[Table, Table]:
    """Points and weights with sum(weights * f(points)) = E f(z), z ~ N(0, 1), to degree 2 nodes - 1."""
    points, weights = np.polynomial.hermite_e.hermegauss(check_integer("nodes", nodes, 1))
    return points, weights / np.sum(weights)


def _log_ratio_by_quadrature(
    schedule: Schedule, x0: float, t: int, mean: MeanFunction, sigma2: Table, nodes: int
) -> float:
    """E of log p_theta(x_{t-1} | x_t) / q(x_{t-1} | x_t, x_0) over pairs, by (22) and then (20)."""
    points, weights = gauss_hermite(nodes)
    first, second = (grid.ravel() for grid in np.meshgrid(points, points, indexing="ij"))
    ends = np.full_like(first, x0)
    x_prev = q_sample(schedule, ends, t - 1, first)
    x_t = q_step(schedule, x_prev, t, second)
    ratio = normal_log_density(x_prev, mean(x_t, t), float(sigma2[t]))
    ratio -= normal_log_density(x_prev, *q_posterior(schedule, ends, x_t, t))
    return float(np.outer(weights, weights).ravel() @ ratio)


def _scalar(chain: LinearGaussianChain) -> MeanFunction:
    """The mean of a chain with d = 1 for arrays of shape (B,)."""
    return lambda x_t, t: chain.mean(x_t[:, None], t)[:, 0]


def _scores(draws: Elbo, exact: Elbo) -> Elbo:
    return Elbo(*(_score(x, truth[..., 0]) for x, truth in zip(draws, exact, strict=True)))


def _score(draws: NDArray[Any], exact: NDArray[Any]) -> NDArray[Any]:
    error = np.mean(draws, axis=-1) - exact
    standard_error = np.std(draws, axis=-1, ddof=1) / math.sqrt(draws.shape[-1])
    # What is not random, as L_T may be, differs by rounding only.
    rounding = np.abs(error) <= 1e-12 * np.abs(exact)
    return np.where(rounding, 0.0, error / np.maximum(standard_error, np.finfo(float).tiny))
