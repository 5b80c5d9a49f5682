"""Training losses: the weighted bound, and L_simple, which drops its weights.

With x_t = q_sample(x0, t, noise), each way to parameterise the network turns L_{t-1} into
-weight * ||truth - prediction||^2 + const. The weights below differ in what is predicted;
the constant, the same for all, vanishes when sigma2[t] is the posterior variance.
"""

from typing import Any

import numpy as np

from ddpm_np._arrays import Array, Table, check_arrays, check_times, coefficient, sum_features
from ddpm_np._checks import check_choice, check_integer
from ddpm_np.posterior import posterior_mean_coefficients
from ddpm_np.schedules import Schedule, check_schedule, check_table
from ddpm_np.targets import TARGETS, Target


def mean_loss_weight(schedule: Schedule, t: Array | int, sigma2: Table) -> Any:
    """Weight of ||posterior mean - model mean||^2 in -L_{t-1}, M2 (32).

        weight = 1 / (2 sigma2[t])

    Parameters
    ----------
    schedule : Schedule
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T; at t = 1 the weight in -L_0 with a Gaussian decoder.
    sigma2 : Table, length T + 1
        Reverse variances, positive.

    Returns
    -------
    float64, shape of t
        On the host. Nats per squared unit of x.

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range or sigma2 no positive table of length T + 1.
    """
    T = check_schedule(schedule).T
    t = check_times(t, T, None)
    return 1.0 / (2.0 * check_table("sigma2", sigma2, T)[t])


def eps_loss_weight(schedule: Schedule, t: Array | int, sigma2: Table) -> Any:
    """Weight of ||noise - eps_theta||^2 in -L_{t-1}, M2 (35) with its missing alpha_t.

        weight = (1 - alpha[t])^2 / (2 sigma2[t] alpha[t] (1 - alpha_bar[t]))

    M2 prints (35), and M1 (26), without alpha[t] in the denominator; it comes from the
    1 / sqrt(alpha[t]) in (34). Parameters, returns, errors as :func:`mean_loss_weight`.
    """
    weight = mean_loss_weight(schedule, t, sigma2)
    t = check_times(t, schedule.T, None)
    return weight * schedule.beta[t] ** 2 / (schedule.alpha[t] * schedule.one_minus_alpha_bar[t])


def x0_loss_weight(schedule: Schedule, t: Array | int, sigma2: Table) -> Any:
    """Weight of ||x0 - x0_theta||^2 in -L_{t-1}, L 6.2.

        weight = alpha_bar[t-1] (1 - alpha[t])^2 / (2 sigma2[t] (1 - alpha_bar[t])^2)

    Parameters, returns, errors as :func:`mean_loss_weight`.
    """
    _, c_x0 = posterior_mean_coefficients(schedule, t)
    return mean_loss_weight(schedule, t, sigma2) * c_x0**2


def v_loss_weight(schedule: Schedule, t: Array | int, sigma2: Table) -> Any:
    """Weight of ||v - v_theta||^2 in -L_{t-1}: eps = ... + sqrt(alpha_bar[t]) v.

        weight = alpha_bar[t] * eps_loss_weight

    Parameters, returns, errors as :func:`mean_loss_weight`.
    """
    weight = eps_loss_weight(schedule, t, sigma2)
    return weight * schedule.alpha_bar[check_times(t, schedule.T, None)]


LOSS_WEIGHTS = {
    "eps": eps_loss_weight,
    "x0": x0_loss_weight,
    "mean": mean_loss_weight,
    "v": v_loss_weight,
}
"""The weight in the bound for each target."""


def loss_constant(schedule: Schedule, t: Array | int, sigma2: Table, dimensions: int) -> Any:
    """Constant in L_{t-1} = -weight * error + const: what a perfect prediction still costs.

        const = -(d/2) (r - 1 - log(r)),  r = beta_tilde[t] / sigma2[t]

    Zero if and only if sigma2[t] = beta_tilde[t]. Times 2 <= t <= T. In nats, host float64.

    Raises
    ------
    TypeError, ValueError
        If t is not an integer from 2 to T or sigma2 no positive table of length T + 1.
    """
    T = check_schedule(schedule).T
    t = check_times(t, T, None, minimum=2)
    variance = check_table("sigma2", sigma2, T)[t]
    ratio = schedule.posterior_variance[t] / variance
    excess = (schedule.posterior_variance[t] - variance) / variance
    # As in kl_isotropic: log1p for r near 1, log for small r.
    log_ratio = np.where(ratio < 0.5, np.log(ratio), np.log1p(np.maximum(excess, -0.5)))
    return -0.5 * check_integer("dimensions", dimensions, 1) * (excess - log_ratio)


def simple_loss(truth: Array, prediction: Array) -> Array:
    """L_simple of Ho et al. 2020, Algorithm 1: the mean squared error, unweighted.

        loss = mean((truth - prediction)^2)

    Parameters
    ----------
    truth, prediction : array, shape (B, ...)
        For the "eps" target the noise and epsilon_theta(x_t, t).

    Returns
    -------
    array, shape ()
        Per coordinate.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not agree.
    """
    xp = check_arrays(truth=truth, prediction=prediction)
    return xp.mean((truth - prediction) ** 2)


def bound_loss(
    schedule: Schedule,
    t: Array | int,
    truth: Array,
    prediction: Array,
    sigma2: Table,
    target: Target = "eps",
) -> Array:
    """One-sample estimate of the part of -ELBO that depends on the network, M2 (35).

        loss = mean over examples of T * weight[t] * ||truth - prediction||^2

    For t uniform on 1..T its expectation is -ELBO up to a constant (Gaussian decoder).

    Parameters
    ----------
    schedule : Schedule
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T.
    truth, prediction : array, shape (B, ...)
        See :func:`ddpm_np.training_target`.
    sigma2 : Table, length T + 1
        Reverse variances.
    target : {"eps", "x0", "mean", "v"}

    Returns
    -------
    array, shape ()
        Nats per example.

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range, the arrays do not agree, or target is unknown.
    """
    xp = check_arrays(truth=truth, prediction=prediction)
    t = check_times(t, check_schedule(schedule).T, truth.shape[0])
    weight = schedule.T * bound_weight(schedule, t, sigma2, target)
    error = sum_features(coefficient(weight, truth) * (truth - prediction) ** 2)
    return xp.mean(error)


def bound_weight(schedule: Schedule, t: Array | int, sigma2: Table, target: Target = "eps") -> Any:
    """Weight of ||truth - prediction||^2 in -L_{t-1} for any target."""
    check_choice("target", target, TARGETS)
    return LOSS_WEIGHTS[target](schedule, t, sigma2)
