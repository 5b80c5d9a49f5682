"""Whole chains x_0, x_1, ..., x_T: drawn from q, and their log-densities under q and p_theta.

A path is an array of shape (T + 1, B, ...) whose entry t is x_t; mean(x_t, t) is the model mean
mu_theta, for an int t; sigma2 is a positive table of length T + 1. Densities and integrands have shape
(B,), in nats. On one path the integrand of the bound, log p_theta(x_{0:T}) / q(x_{1:T} | x_0), is one
number; (6), (9) and (10) are three ways to write it. Its mean over paths drawn from q is the ELBO.
Anything else raises TypeError or ValueError.
"""

from ddpm_np._arrays import (
    Array,
    MeanFunction,
    Noise,
    Table,
    array_namespace,
    check_arrays,
    noise_function,
)
from ddpm_np._checks import check_callable
from ddpm_np.elbo import Elbo
from ddpm_np.forward import q_moments, q_step, q_step_moments
from ddpm_np.gaussians import normal_log_density
from ddpm_np.posterior import q_posterior
from ddpm_np.reverse import check_variances, prior_log_density
from ddpm_np.schedules import Schedule, check_schedule


def draw_path(schedule: Schedule, x0: Array, noise: Noise) -> Array:
    """Draw x_1 ... x_T from q(x_{1:T} | x_0), step by step, M2 (4), (5) and (20).

        x_t = sqrt(alpha[t]) * x_{t-1} + sqrt(beta[t]) * noise[t],  t = 1 ... T

    noise is a function of t or an array of shape (T + 1, B, ...), whose entry 0 is not used.
    """
    T = check_schedule(schedule).T
    xp = check_arrays(x0=x0)
    draw = noise_function(noise, x0, T)
    path = [x0]
    for t in range(1, T + 1):
        path.append(q_step(schedule, path[-1], t, draw(t)))
    return xp.stack(path)


def path_log_density(schedule: Schedule, path: Array) -> Array:
    """Log-density of a path, factorised as it is drawn, log q(x_{1:T} | x_0), M2 (4), (5) and (20).

    log q = sum over t = 1..T of log q(x_t | x_{t-1})
    """
    T = check_path(path, check_schedule(schedule).T)
    return sum(_log_q_step(schedule, path, t) for t in range(1, T + 1))


def reversed_path_log_density(schedule: Schedule, path: Array) -> Array:
    """The same log-density, factorised from the other end, M2 (11), (12), (13).

        log q = log q(x_T | x_0) + sum over t = 2..T of log q(x_{t-1} | x_t, x_0)

    There is no factor at t = 1, where q(x_0 | x_1, x_0) has variance 0.
    """
    T = check_path(path, check_schedule(schedule).T)
    first = _log_q_marginal(schedule, path, T)
    return first + sum(_log_q_posterior(schedule, path, t) for t in range(2, T + 1))


def model_path_log_density(path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Log-density of a path under the model, log p_theta(x_{0:T}), M2 (1), (30) and (31).

    log p = log N(x_T; 0, I) + sum over t = 1..T of log N(x_{t-1}; mean(x_t, t), sigma2[t] I)
    """
    T = check_path(path)
    variances = _check_model(mean, sigma2, T)
    prior = prior_log_density(path[T, ...])
    return prior + sum(_log_p_step(path, mean, variances, t) for t in range(1, T + 1))


def elbo_integrand_expanded(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Integrand of the bound on one path, as the definition (3) gives it, M2 (6).

    log p(x_T) + sum over t = 1..T of log p_theta(x_{t-1} | x_t) / q(x_t | x_{t-1})
    """
    T = check_path(path, check_schedule(schedule).T)
    variances = _check_model(mean, sigma2, T)
    ratios = [
        _log_p_step(path, mean, variances, t) - _log_q_step(schedule, path, t) for t in range(1, T + 1)
    ]
    return prior_log_density(path[T, ...]) + sum(ratios)


def elbo_integrand_bayes(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Integrand of the bound after Bayes' rule (8) has reversed every step, M2 (9).

    log p(x_T) + log p_theta(x_0 | x_1) / q(x_1 | x_0) + sum over t = 2..T of
        log p_theta(x_{t-1} | x_t) q(x_{t-1} | x_0) / (q(x_{t-1} | x_t, x_0) q(x_t | x_0))
    """
    T = check_path(path, check_schedule(schedule).T)
    variances = _check_model(mean, sigma2, T)
    total = prior_log_density(path[T, ...]) + _log_p_step(path, mean, variances, 1)
    total = total - _log_q_marginal(schedule, path, 1)
    for t in range(2, T + 1):
        total = total + _log_p_step(path, mean, variances, t) - _log_q_posterior(schedule, path, t)
        total = total + _log_q_marginal(schedule, path, t - 1) - _log_q_marginal(schedule, path, t)
    return total


def elbo_integrand_reversed(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Array:
    """Integrand of the bound after the marginals have telescoped, M2 (10).

    log p(x_T) / q(x_T | x_0) + log p_theta(x_0 | x_1)
        + sum over t = 2..T of log p_theta(x_{t-1} | x_t) / q(x_{t-1} | x_t, x_0)
    """
    return elbo_path_terms(schedule, path, mean, sigma2).total


def elbo_path_terms(schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table) -> Elbo:
    """Terms of (10) on one path, whose means over q are those of the bound, M2 (19).

        L_T = log p(x_T) / q(x_T | x_0)
        L[t] = log p_theta(x_{t-1} | x_t) / q(x_{t-1} | x_t, x_0),  t = 2 ... T
        L_0 = log p_theta(x_0 | x_1)

    On a single path, a term may have either sign.
    """
    T, xp = check_path(path, check_schedule(schedule).T), array_namespace(path)
    variances = _check_model(mean, sigma2, T)
    L_T = prior_log_density(path[T, ...]) - _log_q_marginal(schedule, path, T)
    L_0 = _log_p_step(path, mean, variances, 1)
    rows = [xp.zeros_like(L_0), xp.zeros_like(L_0)]
    for t in range(2, T + 1):
        rows.append(_log_p_step(path, mean, variances, t) - _log_q_posterior(schedule, path, t))
    L = xp.stack(rows)
    return Elbo(L_T, L, L_0, L_T + xp.sum(L, axis=0) + L_0)  # M2 (10)


def elbo_integrand_consistency(
    schedule: Schedule, path: Array, mean: MeanFunction, sigma2: Table
) -> Array:
    """Integrand of the bound with the two factors of each x_t side by side, L 6.1.

        log p_theta(x_0 | x_1) + log p(x_T) / q(x_T | x_{T-1})
            + sum over t = 1..T-1 of log p_theta(x_t | x_{t+1}) / q(x_t | x_{t-1})

    These are reconstruction, prior matching and consistency. A consistency term is averaged over all
    of (x_{t-1}, x_t, x_{t+1}); L prints a KL given x_{t-1} and x_{t+1}, which differs.
    """
    T = check_path(path, check_schedule(schedule).T)
    variances = _check_model(mean, sigma2, T)
    total = _log_p_step(path, mean, variances, 1)
    total = total + prior_log_density(path[T, ...]) - _log_q_step(schedule, path, T)
    for t in range(1, T):
        total = total + _log_p_step(path, mean, variances, t + 1) - _log_q_step(schedule, path, t)
    return total


def check_path(path: Array, T: int | None = None) -> int:
    """Check the path and return its T."""
    check_arrays(path=path)
    steps = int(path.shape[0]) - 1
    if len(path.shape) < 2 or steps < 1 or (T is not None and steps != T):
        wanted = "(T + 1, B, ...)" if T is None else f"(T + 1, B, ...) with T = {T}"
        raise ValueError(f"path must have shape {wanted}, got {path.shape}")
    return steps


def _check_model(mean: MeanFunction, sigma2: Table, T: int) -> Table:
    """Check the model and return its variances."""
    check_callable("mean", mean)
    return check_variances(sigma2, T)


def _log_q_step(schedule: Schedule, path: Array, t: int) -> Array:
    """Log q(x_t | x_{t-1}), (20)."""
    return normal_log_density(path[t, ...], *q_step_moments(schedule, path[t - 1, ...], t))


def _log_q_marginal(schedule: Schedule, path: Array, t: int) -> Array:
    """Log q(x_t | x_0), (22)."""
    return normal_log_density(path[t, ...], *q_moments(schedule, path[0, ...], t))


def _log_q_posterior(schedule: Schedule, path: Array, t: int) -> Array:
    """Log q(x_{t-1} | x_t, x_0), (24), (25), (26), t >= 2."""
    moments = q_posterior(schedule, path[0, ...], path[t, ...], t)
    return normal_log_density(path[t - 1, ...], *moments)


def _log_p_step(path: Array, mean: MeanFunction, variances: Table, t: int) -> Array:
    """Log p_theta(x_{t-1} | x_t), (31)."""
    return normal_log_density(path[t - 1, ...], mean(path[t, ...], t), float(variances[t]))
