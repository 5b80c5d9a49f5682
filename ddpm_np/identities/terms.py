"""Each term of the bound in three ways: closed form, Gauss-Hermite quadrature, Monte Carlo.

Residuals and scores compare them, for a :class:`~ddpm_np.exact.chains.LinearGaussianChain`, where
expectations are exact. Residuals are in nats and zero up to rounding; scores are in standard
errors, about N(0, 1).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Array, MeanFunction, Samples, Table, check_arrays
from ddpm_np._checks import as_floats, check_callable, check_integer, check_real
from ddpm_np.elbo import Elbo, bits_per_dim, elbo_decomposition, middle_term
from ddpm_np.exact import LinearGaussianChain, gaussian_points
from ddpm_np.exact.chains import check_chain
from ddpm_np.forward import q_moments, q_sample, q_step
from ddpm_np.gaussians import LOG_2PI, kl_normal_1d, normal_log_density
from ddpm_np.paths import draw_path, elbo_path_terms
from ddpm_np.posterior import q_posterior
from ddpm_np.schedules import Schedule

# Of numbers whose squares are finite.
LARGEST = 1e150


def marginalisation_residual(chain: LinearGaussianChain, x0: Samples) -> Table:
    """Log-ratio averaged over pairs against KL averaged over x_t, M2 (14) to (18), in closed form.

        E over q(x_{t-1}, x_t | x_0) of log p_theta(x_{t-1} | x_t) / q(x_{t-1} | x_t, x_0) - L_{t-1}

    Shape (T + 1, B): entries t = 2..T; entry 1 is E[log p_theta(x_0 | x_1)] - L_0, entry 0 is 0.
    """
    check_chain(chain)
    ratio, terms = chain.expected_step_log_density(x0), chain.elbo(x0)
    ratio[2:] += 0.5 * chain.d * (1.0 + LOG_2PI + np.log(chain.schedule.posterior_variance[2:, None]))
    ratio[2:] -= terms.L[2:]
    ratio[1] -= terms.L_0
    return ratio


def marginalisation_quadrature_residual(
    schedule: Schedule, x0: float, t: int, mean: MeanFunction, sigma2: Table, nodes: int = 40
) -> float:
    """As :func:`marginalisation_residual` by quadrature, for any model mean, M2 (14) to (18); d = 1.

    ``nodes`` for each of x_{t-1} and x_t; exact for means that are polynomials of low degree.
    """
    x0 = check_real("x0", x0, -LARGEST, LARGEST)
    check_callable("mean", mean)
    points, weights = gauss_hermite(nodes)
    x_t = q_sample(schedule, np.full_like(points, x0), t, points)
    kl = -middle_term(schedule, np.full_like(points, x0), x_t, t, mean(x_t, t), sigma2)
    return _log_ratio_by_quadrature(schedule, x0, t, mean, sigma2, nodes) + float(weights @ kl)


def quadrature_residual(chain: LinearGaussianChain, x0: float, nodes: int = 8) -> Elbo:
    """Every term by Gauss-Hermite quadrature of log-ratios against closed form, M2 (19); d = 1.

    No KL is used: each term is the mean of a difference of log-densities. Fields without batch axis.
    """
    check_integer("chain.d", check_chain(chain).d, 1, 1)
    x0 = check_real("x0", x0, -LARGEST, LARGEST)
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

    For a linear model its terms are quadratic in the noise, so 2 d of its values have the
    exact mean. Shapes as :class:`ddpm_np.Elbo`; warns as the function itself does.
    """
    exact = check_chain(chain).elbo(x0)
    noise = gaussian_points(np.zeros(chain.d), np.eye(chain.d))
    rows = np.repeat(x0, len(noise), axis=0)
    draws = np.tile(noise, (len(x0), 1))
    estimate = elbo_decomposition(
        chain.schedule, chain.mean, rows, noise=lambda t: draws, sigma2=chain.sigma2, target="mean"
    )
    groups = (len(x0), len(noise))
    means = (np.mean(np.reshape(x, (*x.shape[:-1], *groups)), axis=-1) for x in estimate)
    return Elbo(*(mean - truth for mean, truth in zip(means, exact, strict=True)))


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
        Scores without the batch axis; 0 for a term that is right and not random.
    """
    rows = _rows(chain, x0, noise)
    path = draw_path(chain.schedule, rows, noise)
    draws = elbo_path_terms(chain.schedule, path, chain.mean, chain.sigma2)
    return _scores(draws, chain.elbo(rows[:1]))


def elbo_decomposition_scores(chain: LinearGaussianChain, x0: Table, noise: Samples) -> Elbo:
    """The same for :func:`ddpm_np.elbo_decomposition`, one x_t per time, M2 (19); as `path_scores`."""
    rows = _rows(chain, x0, noise)
    draws = elbo_decomposition(
        chain.schedule, chain.mean, rows, noise=noise, sigma2=chain.sigma2, target="mean"
    )
    return _scores(draws, chain.elbo(rows[:1]))


# --- scalars ------------------------------------------------------------------------------


def kl_quadrature_residual(
    mean_1: float, sigma_1: float, mean_2: float, sigma_2: float, nodes: int = 8
) -> float:
    """KL of 1-D Gaussians, L 1.3, against Gauss-Hermite quadrature of the log-ratio."""
    mean_1 = check_real("mean_1", mean_1, -LARGEST, LARGEST)
    mean_2 = check_real("mean_2", mean_2, -LARGEST, LARGEST)
    sigma_1 = check_real("sigma_1", sigma_1, 0.0, LARGEST)
    sigma_2 = check_real("sigma_2", sigma_2, 0.0, LARGEST)
    points, weights = gauss_hermite(nodes)
    x = mean_1 + sigma_1 * points
    ratio = normal_log_density(x, np.full_like(x, mean_1), sigma_1**2)
    ratio -= normal_log_density(x, np.full_like(x, mean_2), sigma_2**2)
    moments = (np.array([value]) for value in (mean_1, sigma_1, mean_2, sigma_2))
    return float(kl_normal_1d(*moments)[0] - weights @ ratio)


def bits_per_dim_residual(log_density: Array, dimensions: int) -> Array:
    """Bits per dimension, 2^(-d bits) = p(x): d * bits + log2 p(x), in bits; the shape given."""
    xp = check_arrays(log_density=log_density)
    check_integer("dimensions", dimensions, 1)
    root = xp.exp(log_density / dimensions)  # p(x)^(1/d): p(x) itself may underflow
    return dimensions * (bits_per_dim(-log_density, dimensions) + xp.log2(root))


def gauss_hermite(nodes: int) -> tuple[Table, Table]:
    """Points and weights with sum(weights * f(points)) = E f(z), z ~ N(0, 1), to degree 2 nodes - 1.

    There are at most 300: from 380 on NumPy's polynomials overflow.
    """
    points, weights = np.polynomial.hermite_e.hermegauss(check_integer("nodes", nodes, 1, 300))
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


def _rows(chain: LinearGaussianChain, x0: Table, noise: Samples) -> Samples:
    """Check the arguments of :func:`path_scores`, and repeat x0 for each path."""
    T, d, observation = check_chain(chain).schedule.T, chain.d, as_floats("x0", x0)
    check_arrays(noise=noise)
    if noise.ndim != 3 or noise.shape[::2] != (T + 1, d) or noise.shape[1] < 2:
        raise ValueError(f"noise must have shape ({T + 1}, B, {d}) with B >= 2, got {noise.shape}")
    if observation.shape != (d,):
        raise ValueError(f"x0 must have shape ({d},), got {observation.shape}")
    return np.broadcast_to(observation, noise.shape[1:])


def _scores(draws: Elbo, exact: Elbo) -> Elbo:
    return Elbo(*(_score(x, truth[..., 0]) for x, truth in zip(draws, exact, strict=True)))


def _score(draws: NDArray[Any], exact: NDArray[Any]) -> NDArray[Any]:
    error = np.mean(draws, axis=-1) - exact
    standard_error = np.std(draws, axis=-1, ddof=1) / math.sqrt(draws.shape[-1])
    # A term that is not random, as L_T may be, differs only by rounding.
    rounding = np.abs(error) <= 1e-12 * np.abs(exact)
    return np.where(rounding, 0.0, error / np.maximum(standard_error, np.finfo(float).tiny))
