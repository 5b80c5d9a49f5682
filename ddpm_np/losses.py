"""Training losses: the weighted bound, and L_simple, which drops its weights.

With x_t = q_sample(x0, t, noise), each way to parameterise the network turns L_{t-1} into

    L_{t-1} = -weight * ||truth - prediction||^2 + const

for t = 2..T. At t = 1 the same weights are those of L_0 with a Gaussian decoder, whose constant is the
normaliser. The weight depends on what is predicted; the constant does not, and is 0 where sigma2[t] =
beta_tilde[t]. t is an int or an integer array of shape (B,), from 1
to T; sigma2 is a positive table of length T + 1; weights and constants are host float64, in nats, with
the shape of t. Truth and prediction share one shape, (B, ...). Anything else raises TypeError or
ValueError.
"""

import sys
from typing import Any

import numpy as np

from ddpm_np._arrays import (
    Array,
    Table,
    check_arrays,
    check_times,
    coefficient,
    sum_features,
)
from ddpm_np._checks import check_choice, check_integer, check_real
from ddpm_np.reverse import check_variances
from ddpm_np.schedules import Schedule, check_eps, check_schedule
from ddpm_np.targets import TARGETS, Target


def mean_loss_weight(schedule: Schedule, t: Array | int, sigma2: Table) -> Any:
    """Weight of ||posterior mean - model mean||^2 in -L_{t-1}, M2 (32), (33).

    weight = 1 / (2 sigma2[t])
    """
    return _half_precision(schedule, t, sigma2)[1]


def eps_loss_weight(schedule: Schedule, t: Array | int, sigma2: Table) -> Any:
    """Weight of ||noise - eps_theta||^2 in -L_{t-1}, M2 (35) with the missing alpha_t restored.

        weight = (1 - alpha[t])^2 / (2 sigma2[t] alpha[t] (1 - alpha_bar[t]))

    M2 (35) and M1 (26) are printed without alpha[t], which comes from the 1 / sqrt(alpha[t]) in (34).
    At T it is infinite if alpha_bar[T] = 0, and refused.
    """
    t, half_precision = _half_precision(schedule, t, sigma2)
    check_eps(schedule, t)
    return half_precision * schedule.beta[t] ** 2 / (schedule.alpha[t] * schedule.one_minus_alpha_bar[t])


def x0_loss_weight(schedule: Schedule, t: Array | int, sigma2: Table) -> Any:
    """Weight of ||x0 - x0_theta||^2 in -L_{t-1}, L 6.2.

    weight = alpha_bar[t-1] (1 - alpha[t])^2 / (2 sigma2[t] (1 - alpha_bar[t])^2)
    """
    t, half_precision = _half_precision(schedule, t, sigma2)
    return half_precision * schedule.c_x0[t] ** 2


def v_loss_weight(schedule: Schedule, t: Array | int, sigma2: Table) -> Any:
    """Weight of ||v - v_theta||^2 in -L_{t-1}, as x0 = ... - sqrt(1 - alpha_bar[t]) v.

    weight = (1 - alpha_bar[t]) * x0_loss_weight = alpha_bar[t] * eps_loss_weight
    """
    weight = x0_loss_weight(schedule, t, sigma2)
    return weight * schedule.one_minus_alpha_bar[check_times(t, schedule.T, None)]


LOSS_WEIGHTS = {
    "eps": eps_loss_weight,
    "x0": x0_loss_weight,
    "mean": mean_loss_weight,
    "v": v_loss_weight,
}
"""The weight in the bound for each target."""


def bound_weight(schedule: Schedule, t: Array | int, sigma2: Table, target: Target = "eps") -> Any:
    """Weight of ||truth - prediction||^2 in -L_{t-1} for any target."""
    check_choice("target", target, TARGETS)
    return LOSS_WEIGHTS[target](schedule, t, sigma2)


def min_snr_weight(schedule: Schedule, t: Array | int, k: float, target: Target = "eps") -> Any:
    """Weight of ||truth - prediction||^2 by min-SNR-k, Hang et al. 2023 (arXiv 2303.09556).

        "x0"  min(snr, k),  snr = alpha_bar[t] / (1 - alpha_bar[t])

    and the same loss in the other targets: over snr for "eps", over snr + 1 for "v", over the square of
    (26)'s coefficient of x_0 for "mean".
    """
    check_choice("target", target, TARGETS)
    limit = check_real("k", k, 0.0, sys.float_info.max)
    t = check_times(t, check_schedule(schedule).T, None)
    if target == "eps":
        return np.minimum(1.0, limit * schedule.noise_to_signal[t] ** 2)
    weight = np.minimum(schedule.alpha_bar[t] / schedule.one_minus_alpha_bar[t], limit)
    if target == "v":
        return weight * schedule.one_minus_alpha_bar[t]
    return weight / schedule.c_x0[t] ** 2 if target == "mean" else weight


def loss_constant(schedule: Schedule, t: Array | int, sigma2: Table, dimensions: int) -> Any:
    """Constant in L_{t-1}, what a perfect prediction still costs, M2 (32), (33); t from 2 to T.

    const = -(d/2) (r - 1 - log(r)),  r = beta_tilde[t] / sigma2[t]
    """
    t, variance = _checked(schedule, t, sigma2, minimum=2)
    ratio = schedule.posterior_variance[t] / variance
    excess = (schedule.posterior_variance[t] - variance) / variance
    # As in kl_isotropic: log1p for r near 1, log for small r.
    log_ratio = np.where(ratio < 0.5, np.log(ratio), np.log1p(np.maximum(excess, -0.5)))
    return -0.5 * check_integer("dimensions", dimensions, 1) * (excess - log_ratio)


def simple_loss(truth: Array, prediction: Array) -> Array:
    """L_simple of Ho et al. 2020, Algorithm 1: the mean squared error, per coordinate; shape ().

    loss = mean((truth - prediction)^2)
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
    """One-sample estimate of the part of -ELBO that depends on the network, M2 (35); shape ().

        loss = mean over examples of T * weight[t] * ||truth - prediction||^2

    For t uniform on 1..T its expectation is -ELBO up to a constant (Gaussian decoder). In nats
    per example; see :func:`ddpm_np.training_target` for the truth.
    """
    xp = check_arrays(truth=truth, prediction=prediction)
    t = check_times(t, check_schedule(schedule).T, truth.shape[0])
    weight = schedule.T * bound_weight(schedule, t, sigma2, target)
    return xp.mean(sum_features(coefficient(weight, truth) * (truth - prediction) ** 2))


def _checked(schedule: Schedule, t: Array | int, sigma2: Table, minimum: int = 1) -> tuple[Any, Any]:
    """Return t, checked and on the host, and sigma2[t]."""
    T = check_schedule(schedule).T
    t = check_times(t, T, None, minimum)
    return t, check_variances(sigma2, T)[t]


def _half_precision(schedule: Schedule, t: Array | int, sigma2: Table) -> tuple[Any, Any]:
    """Return t, checked and on the host, and 1 / (2 sigma2[t])."""
    t, variance = _checked(schedule, t, sigma2)
    return t, 1.0 / (2.0 * variance)
