"""Three Monte Carlo estimators of one objective, by document D.

    J = E_q[sum over t = 1..T of log p_theta(x_{t-1} | x_t)],  ELBO = L_T + J + entropy_constant

The T-sample estimator sums over a whole chain, the two-sample estimator draws one t and the pair
(x_{t-1}, x_t), the one-sample estimator draws only x_t and integrates x_{t-1} out. Each result
belongs to one example, so that variances can be measured. The decoder is the factor t = 1.
"""

import numpy as np

from ddpm_np._arrays import (
    Array,
    BatchPredictor,
    Noise,
    Table,
    Times,
    array_namespace,
    check_arrays,
    check_times,
    coefficient,
    coefficient_array,
    device,
    noise_function,
    sum_features,
)
from ddpm_np._checks import check_integer
from ddpm_np.decoders import Decoder, gaussian_decoder
from ddpm_np.forward import q_sample, q_step, q_step_moments
from ddpm_np.gaussians import LOG_2PI, kl_isotropic, normal_log_density
from ddpm_np.posterior import q_posterior
from ddpm_np.reverse import model_mean
from ddpm_np.schedules import Schedule, check_schedule, check_table
from ddpm_np.targets import Target


def t_sample_estimate(
    schedule: Schedule,
    predict: BatchPredictor,
    x0: Array,
    *,
    noise: Noise,
    sigma2: Table,
    decoder: Decoder = gaussian_decoder,
    target: Target = "eps",
) -> Array:
    """T-sample estimate of J: the whole chain, T evaluations of the network, D estimator 1.

        estimate = sum over t = 1..T of log p_theta(x_{t-1} | x_t),  x_1 ... x_T ~ q(. | x_0)

    Parameters
    ----------
    schedule : Schedule
    predict : callable (x_t, t) -> array of the shape of x_t
        The network; here ``t`` is an int.
    x0 : array, shape (B, ...)
        Observations.
    noise : callable t -> array of the shape of x0, or array of shape (T + 1, B, ...)
        Standard normal draws for the step from x_{t-1} to x_t; entry 0 of an array is not used.
    sigma2 : Table, length T + 1
        Reverse variances.
    decoder : callable (x0, mean, variance) -> array of shape (B,)
        log p(x_0 | x_1).
    target : {"eps", "x0", "mean", "v"}
        What the network predicts.

    Returns
    -------
    array, shape (B,)
        Nats.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not agree, sigma2 is no positive table of length T + 1, or target is
        unknown.
    """
    T = check_schedule(schedule).T
    check_arrays(x0=x0)
    draw = noise_function(noise, x0, T)
    x_prev, total = x0, 0.0
    for t in range(1, T + 1):
        x_t = q_step(schedule, x_prev, t, draw(t))
        total = total + _log_model_step(schedule, predict, x0, x_prev, x_t, t, sigma2, decoder, target)
        x_prev = x_t
    return total


def two_sample_estimate(
    schedule: Schedule,
    predict: BatchPredictor,
    x0: Array,
    t: Array | int,
    *,
    noise: Array,
    step_noise: Array,
    sigma2: Table,
    decoder: Decoder = gaussian_decoder,
    target: Target = "eps",
) -> Array:
    """Two-sample estimate of J: one t, x_{t-1} and x_t, D estimator 2.

        estimate = T * log p_theta(x_{t-1} | x_t),  x_{t-1} ~ q(. | x_0), x_t ~ q(. | x_{t-1})

    Unbiased for t uniform on 1..T. Other parameters and errors as :func:`t_sample_estimate`.

    Parameters
    ----------
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T; ``predict`` is given them on the host, as an int
        or a NumPy array.
    noise, step_noise : array, shape of x0
        Standard normal draws for x_{t-1} (not used at t = 1, where it is x0), and for the step
        from there to x_t.

    Returns
    -------
    array, shape (B,)
        Nats.
    """
    check_arrays(x0=x0, noise=noise)
    t = check_times(t, check_schedule(schedule).T, x0.shape[0])
    x_prev = q_sample(schedule, x0, t - 1, noise)
    x_t = q_step(schedule, x_prev, t, step_noise)
    log_p = _log_model_step(schedule, predict, x0, x_prev, x_t, t, sigma2, decoder, target)
    return schedule.T * log_p


def one_sample_estimate(
    schedule: Schedule,
    predict: BatchPredictor,
    x0: Array,
    t: Array | int,
    *,
    noise: Array,
    sigma2: Table,
    decoder: Decoder = gaussian_decoder,
    target: Target = "eps",
) -> Array:
    """One-sample estimate of J + entropy_constant = ELBO - L_T: one t and x_t, D estimator 3.

        estimate = -T * KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)),  x_t ~ q(. | x_0)
        estimate = T * log p_theta(x_0 | x_1) at t = 1, where q(x_0 | x_1, x_0) is a point

    Unbiased for t uniform on 1..T. Given t and x_t, it is the average of the two-sample estimate
    over x_{t-1} plus T * posterior_entropy[t], which no network changes.

    Parameters
    ----------
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T; ``predict`` is given them on the host, as an int
        or a NumPy array.
    noise : array, shape of x0
        Standard normal draws for x_t.

    Returns
    -------
    array, shape (B,)
        Nats. Other parameters and errors as :func:`t_sample_estimate`.
    """
    check_arrays(x0=x0, noise=noise)
    t = check_times(t, check_schedule(schedule).T, x0.shape[0])
    x_t = q_sample(schedule, x0, t, noise)
    mean, variance = _model_step(schedule, predict, x_t, t, sigma2, target)
    posterior_mean, _ = q_posterior(schedule, x0, x_t, t)
    # Any positive number at t = 1, where the decoder takes the place of the divergence.
    table = np.concatenate([variance[:2], schedule.posterior_variance[2:]])
    minus_kl = -kl_isotropic(posterior_mean, coefficient_array(table[t], x0), mean, _at(variance, t, x0))
    return schedule.T * _decode_first(x0, mean, t, variance, decoder, minus_kl)


def two_sample_conditional_variance(
    schedule: Schedule,
    predict: BatchPredictor,
    x0: Array,
    t: Array | int,
    *,
    noise: Array,
    sigma2: Table,
    target: Target = "eps",
) -> Array:
    """Variance of the two-sample estimate that drawing x_{t-1} adds, given t and x_t; exact.

        variance = T^2 (beta_tilde[t] ||mu_tilde - mu_theta||^2 + d beta_tilde[t]^2 / 2) / sigma2[t]^2

    By the law of total variance the two-sample estimate exceeds the variance of the one-sample
    estimate at t by the expectation of this. Parameters and errors as
    :func:`one_sample_estimate`.

    Returns
    -------
    array, shape (B,)
        Squared nats; 0 at t = 1.
    """
    check_arrays(x0=x0, noise=noise)
    t = check_times(t, check_schedule(schedule).T, x0.shape[0])
    x_t = q_sample(schedule, x0, t, noise)
    mean, variance = _model_step(schedule, predict, x_t, t, sigma2, target)
    posterior_mean, _ = q_posterior(schedule, x0, x_t, t)
    scale = schedule.T * np.sqrt(schedule.posterior_variance[t]) / variance[t]
    ratio = schedule.T * schedule.posterior_variance[t] / variance[t]
    linear = (coefficient(scale, x0) * (posterior_mean - mean)) ** 2
    return sum_features(linear + coefficient(0.5 * ratio**2, x0))


def posterior_entropy(schedule: Schedule, dimensions: int) -> Table:
    """Entropies of q(x_{t-1} | x_t, x_0), what the estimators differ by at each t.

        entropy[t] = d/2 log(2 pi e beta_tilde[t]) for t = 2..T

    Parameters
    ----------
    schedule : Schedule
    dimensions : int
        d, >= 1.

    Returns
    -------
    Table, length T + 1
        Nats. Entries 0 and 1 are 0: at t = 1 both estimators use the decoder.

    Raises
    ------
    TypeError, ValueError
        If dimensions is no integer >= 1.
    """
    d = check_integer("dimensions", dimensions, 1)
    table = np.zeros(check_schedule(schedule).T + 1)
    table[2:] = 0.5 * d * (LOG_2PI + 1.0 + np.log(schedule.posterior_variance[2:]))
    return table


def entropy_constant(schedule: Schedule, dimensions: int) -> float:
    """Constant by which the expected one-sample estimate exceeds the other two, in nats.

        constant = sum over t = 2..T of posterior_entropy[t]

    Parameters, errors as :func:`posterior_entropy`.
    """
    return float(np.sum(posterior_entropy(schedule, dimensions)))


def consistency_triple_integrand(
    schedule: Schedule,
    predict: BatchPredictor,
    x_prev: Array,
    x_t: Array,
    x_next: Array,
    t: Array | int,
    *,
    sigma2: Table,
    target: Target = "eps",
) -> Array:
    """Integrand of a consistency term of L 6.1, as it has to be: no divergence.

        integrand = log p_theta(x_t | x_{t+1}) - log q(x_t | x_{t-1})

    With (x_{t-1}, x_t, x_{t+1}) drawn from q(. | x_0),

        ELBO = E log p_theta(x_0 | x_1) - E KL(q(x_T | x_{T-1}) || p(x_T))
             + sum over t = 1..T-1 of E integrand

    L 6.1 and Luo 2022 (arXiv 2208.11970) print -KL(q(x_t | x_{t-1}) || p_theta(x_t | x_{t+1}))
    averaged over (x_{t-1}, x_{t+1}), which is something else: given both neighbours, x_t does not
    follow q(x_t | x_{t-1}).

    Parameters
    ----------
    x_prev, x_t, x_next : array, shape (B, ...)
        x_{t-1}, x_t and x_{t+1} of one chain.
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T - 1; ``predict`` is given t + 1.

    Returns
    -------
    array, shape (B,)
        Nats. Other parameters and errors as :func:`t_sample_estimate`.
    """
    check_arrays(x_prev=x_prev, x_t=x_t, x_next=x_next)
    t = check_times(t, check_schedule(schedule).T - 1, x_t.shape[0])
    mean, variance = _model_step(schedule, predict, x_next, t + 1, sigma2, target)
    log_p = normal_log_density(x_t, mean, _at(variance, t + 1, x_t))
    return log_p - normal_log_density(x_t, *q_step_moments(schedule, x_prev, t))


def _model_step(
    schedule: Schedule, predict: BatchPredictor, x_t: Array, t: Times, sigma2: Table, target: Target
) -> tuple[Array, Table]:
    """Mean of p_theta(x_{t-1} | x_t), and the checked table of variances."""
    variance = check_table("sigma2", sigma2, schedule.T)
    return model_mean(schedule, x_t, t, predict(x_t, t), target), variance


def _log_model_step(
    schedule: Schedule,
    predict: BatchPredictor,
    x0: Array,
    x_prev: Array,
    x_t: Array,
    t: Times,
    sigma2: Table,
    decoder: Decoder,
    target: Target,
) -> Array:
    """Log-density of p_theta(x_{t-1} | x_t), with the decoder at t = 1; shape (B,)."""
    mean, variance = _model_step(schedule, predict, x_t, t, sigma2, target)
    log_p = normal_log_density(x_prev, mean, _at(variance, t, x_t))
    return _decode_first(x0, mean, t, variance, decoder, log_p)


def _decode_first(
    x0: Array, mean: Array, t: Times, variance: Table, decoder: Decoder, otherwise: Array
) -> Array:
    """Take the decoder's log-likelihood where t = 1, ``otherwise`` elsewhere; shape (B,)."""
    first = np.broadcast_to(np.asarray(t) == 1, (x0.shape[0],))
    if not np.any(first):
        return otherwise
    xp, where = array_namespace(x0), device(x0)
    L_0 = decoder(x0, mean, float(variance[1]))
    return xp.where(xp.asarray(first.copy(), device=where), L_0, otherwise)


def _at(table: Table, t: Times, like: Array) -> Array:
    return coefficient_array(table[t], like)
