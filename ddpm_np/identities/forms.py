"""The identities of the variational bound, each as one function that returns its residual.

A residual is left side minus right side, in nats, of shape (B,), and zero up to rounding. Functions
of a ``path`` hold at any path, drawn from q or not, and for arrays of any library; those of a
:class:`~ddpm_np.exact.chains.LinearGaussianChain` hold in expectation, which is exact there.
"""

import math

from ddpm_np._arrays import Array, MeanFunction, Samples, Table, check_arrays, sum_features
from ddpm_np._checks import check_integer
from ddpm_np.elbo import elbo_decomposition, middle_term
from ddpm_np.exact.chains import LinearGaussianChain, check_chain
from ddpm_np.forward import q_moments, q_sample, q_step_moments
from ddpm_np.gaussians import normal_log_density
from ddpm_np.hierarchy import (
    diffusion_decoder,
    diffusion_encoder,
    hierarchical_integrand,
    two_layer_integrand,
    vae_bound,
)
from ddpm_np.losses import bound_weight, loss_constant
from ddpm_np.paths import (
    check_path,
    elbo_integrand_bayes,
    elbo_integrand_consistency,
    elbo_integrand_expanded,
    elbo_integrand_reversed,
    model_path_log_density,
    path_log_density,
    reversed_path_log_density,
)
from ddpm_np.posterior import posterior_mean_from_eps, q_posterior
from ddpm_np.reverse import model_mean
from ddpm_np.schedules import Schedule, check_schedule
from ddpm_np.targets import Target, training_target

# --- the bound and its gap ----------------------------------------------------------------


def jensen_gap_residual(chain: LinearGaussianChain, x0: Samples) -> Table:
    """Gap of Jensen's inequality, M2 (3) and p. 25: log p_theta(x_0) - ELBO - KL(q || p_theta)."""
    check_chain(chain)
    return chain.log_density(x0) - chain.elbo(x0).total - chain.gap(x0)


def decomposition_residual(chain: LinearGaussianChain, x0: Samples) -> Table:
    """Expanded against decomposed bound, in expectation, M2 (6) = (19)."""
    check_chain(chain)
    return chain.elbo_expanded(x0) - chain.elbo(x0).total


def model_bayes_residual(chain: LinearGaussianChain, path: Samples) -> Table:
    """Bayes' rule for the model: log p(x_{0:T}) - log p(x_0) - log p(x_{1:T} | x_0)."""
    check_path(path, check_chain(chain).schedule.T)
    joint = model_path_log_density(path, chain.mean, chain.sigma2)
    return joint - chain.log_density(path[0]) - chain.posterior_log_density(path)


# --- on one path: (8) to (13), and the integrand's forms ----------------------------------


def bayes_rule_residual(schedule: Schedule, x0: Array, x_prev: Array, x_t: Array, t: int) -> Array:
    """Bayes' rule for one step, M2 (8), 2 <= t <= T.

    log q(x_t | x_{t-1}, x_0) + log q(x_{t-1} | x_0) - log q(x_{t-1} | x_t, x_0) - log q(x_t | x_0)
    """
    check_arrays(x0=x0, x_prev=x_prev, x_t=x_t)
    forward = normal_log_density(x_t, *q_step_moments(schedule, x_prev, t))
    forward = forward + normal_log_density(x_prev, *q_moments(schedule, x0, t - 1))
    backward = normal_log_density(x_prev, *q_posterior(schedule, x0, x_t, t))
    return forward - backward - normal_log_density(x_t, *q_moments(schedule, x0, t))


def reversal_residual(schedule: Schedule, path: Array) -> Array:
    """Two factorisations of log q(x_{1:T} | x_0), M2 (13); (11) and (12) are the case T = 2."""
    return path_log_density(schedule, path) - reversed_path_log_density(schedule, path)


def expanded_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Expanded integrand against log p_theta(x_{0:T}) - log q(x_{1:T} | x_0), M2 (3) = (6)."""
    ratio = model_path_log_density(path, mean, sigma2) - path_log_density(schedule, path)
    return elbo_integrand_expanded(schedule, path, mean, sigma2) - ratio


def bayes_form_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Integrand with every step reversed by Bayes' rule, M2 (6) = (9)."""
    expanded = elbo_integrand_expanded(schedule, path, mean, sigma2)
    return expanded - elbo_integrand_bayes(schedule, path, mean, sigma2)


def telescoping_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Integrand before and after the marginals telescope, M2 (9) = (10)."""
    bayes = elbo_integrand_bayes(schedule, path, mean, sigma2)
    return bayes - elbo_integrand_reversed(schedule, path, mean, sigma2)


def consistency_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Integrand in consistency form, over triples, L 6.1 = M2 (6)."""
    consistency = elbo_integrand_consistency(schedule, path, mean, sigma2)
    return consistency - elbo_integrand_expanded(schedule, path, mean, sigma2)


# --- hierarchical VAEs --------------------------------------------------------------------


def vae_residual(
    schedule: Schedule, x0: Array, noise: Array, mean: MeanFunction, sigma2: Table
) -> Array:
    """Diffusion with T = 1 against the bound of a VAE, on the same draw of x_1, M2 (7)."""
    check_integer("schedule.T", check_schedule(schedule).T, 1, 1)
    bound = vae_bound(x0, diffusion_encoder(schedule), diffusion_decoder(mean, sigma2), noise)
    terms = elbo_decomposition(schedule, mean, x0, noise=lambda t: noise, sigma2=sigma2, target="mean")
    return terms.total - bound.total


def two_layer_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Diffusion with T = 2 as a two-layer hierarchical VAE, L 2.2 = M2 (6)."""
    check_path(path, check_integer("schedule.T", check_schedule(schedule).T, 2, 2))
    expanded = elbo_integrand_expanded(schedule, path, mean, sigma2)
    layers = diffusion_encoder(schedule), diffusion_decoder(mean, sigma2)
    return two_layer_integrand(path[0, ...], path[1, ...], path[2, ...], *layers) - expanded


def hierarchy_residual(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Diffusion as a hierarchical VAE of T layers, L 2.2 and D = M2 (6)."""
    check_path(path, check_schedule(schedule).T)
    expanded = elbo_integrand_expanded(schedule, path, mean, sigma2)
    layers = diffusion_encoder(schedule), diffusion_decoder(mean, sigma2)
    return hierarchical_integrand([path[t, ...] for t in range(schedule.T + 1)], *layers) - expanded


# --- L_{t-1} as a weighted squared error --------------------------------------------------


def mean_form_residual(
    schedule: Schedule, x0: Array, t: int, noise: Array, mean: Array, sigma2: Table
) -> Array:
    """L_{t-1} from the posterior mean at (x_t, x_0), M2 (32), 2 <= t <= T.

    L_{t-1} + ||posterior mean (26) - mean||^2 / (2 sigma2[t]) - const
    """
    check_arrays(x0=x0, mean=mean)
    truth, _ = q_posterior(schedule, x0, q_sample(schedule, x0, t, noise), t)
    return _weighted_form(schedule, x0, t, noise, mean, sigma2, "mean", truth)


def mean_from_noise_form_residual(
    schedule: Schedule, x0: Array, t: int, noise: Array, mean: Array, sigma2: Table
) -> Array:
    """L_{t-1} from the posterior mean at (x_t, noise), M2 (33), with (29).

    L_{t-1} + ||posterior mean (29) - mean||^2 / (2 sigma2[t]) - const
    """
    check_arrays(x0=x0, mean=mean)
    truth = posterior_mean_from_eps(schedule, q_sample(schedule, x0, t, noise), t, noise)
    return _weighted_form(schedule, x0, t, noise, mean, sigma2, "mean", truth)


def eps_form_residual(
    schedule: Schedule, x0: Array, t: int, noise: Array, prediction: Array, sigma2: Table
) -> Array:
    """L_{t-1} from the error in the noise, M2 (35) with the missing alpha_t restored.

    L_{t-1} + eps_loss_weight * ||noise - prediction||^2 - const
    """
    return _weighted_form(schedule, x0, t, noise, prediction, sigma2, "eps", noise)


def x0_form_residual(
    schedule: Schedule, x0: Array, t: int, noise: Array, prediction: Array, sigma2: Table
) -> Array:
    """L_{t-1} from the error in the observation, L 6.2.

    L_{t-1} + x0_loss_weight * ||x0 - prediction||^2 - const
    """
    return _weighted_form(schedule, x0, t, noise, prediction, sigma2, "x0", x0)


def v_form_residual(
    schedule: Schedule, x0: Array, t: int, noise: Array, prediction: Array, sigma2: Table
) -> Array:
    """L_{t-1} from the error in the velocity, Salimans & Ho 2022.

    L_{t-1} + v_loss_weight * ||v - prediction||^2 - const
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
