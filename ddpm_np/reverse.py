"""The generative model p_theta, walked backwards: x_T -> ... -> x_1 -> x_0."""

from typing import Literal, TypeAlias, get_args

import numpy as np

from ddpm_np._arrays import Array, Table, array_namespace, check_arrays, check_times
from ddpm_np._checks import check_choice
from ddpm_np.gaussians import normal_log_density
from ddpm_np.posterior import posterior_mean_from_eps, q_posterior
from ddpm_np.schedules import Schedule, check_schedule
from ddpm_np.targets import TARGETS, Target, predicted_eps

VarianceKind: TypeAlias = Literal["posterior", "beta", "unit"]
VARIANCES: tuple[VarianceKind, ...] = get_args(VarianceKind)


def prior_log_density(x_T: Array) -> Array:
    """Log-density of the prior p(x_T) = N(0, I), M2 (30).

    Parameters
    ----------
    x_T : array, shape (B, ...)

    Returns
    -------
    array, shape (B,)
        Nats.
    """
    check_arrays(x_T=x_T)
    return normal_log_density(x_T, array_namespace(x_T).zeros_like(x_T), 1.0)


def model_mean(
    schedule: Schedule, x_t: Array, t: Array | int, prediction: Array, target: Target = "eps"
) -> Array:
    """Mean of the model's step p_theta(x_{t-1} | x_t), M2 (34) and its kin.

        "eps"   mean = (x_t - (1 - alpha[t]) / sqrt(1 - alpha_bar[t]) * prediction) / sqrt(alpha[t])
        "x0"    mean = posterior mean (26) at x0 = prediction
        "mean"  mean = prediction
        "v"     (34) at the noise that the velocity implies

    Parameters
    ----------
    schedule : Schedule
    x_t : array, shape (B, ...)
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T.
    prediction : array, shape of x_t
        The network's output at (x_t, t).
    target : {"eps", "x0", "mean", "v"}
        What the network predicts.

    Returns
    -------
    array, shape of x_t

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range, the arrays do not agree, or target is unknown.
    """
    check_choice("target", target, TARGETS)
    check_arrays(x_t=x_t, prediction=prediction)
    if target == "x0":
        return q_posterior(schedule, prediction, x_t, t)[0]
    if target == "mean":
        check_times(t, check_schedule(schedule).T, x_t.shape[0])
        return prediction
    return posterior_mean_from_eps(schedule, x_t, t, predicted_eps(schedule, x_t, t, prediction, target))


def reverse_variance(schedule: Schedule, kind: VarianceKind) -> Table:
    """Variances sigma_t^2 of the model's steps, M2 (31).

        "posterior"  beta_tilde[t] (25); at t = 1, where that is 0, beta_tilde[2] as Ho et al.
        "beta"       beta[t], at t = 1 too (Ho et al.'s code has beta_tilde[2] there)
        "unit"       1, the first model of document D

    Parameters
    ----------
    schedule : Schedule
    kind : {"posterior", "beta", "unit"}

    Returns
    -------
    Table, length T + 1
        Entry 0 is 0 and unused. With T = 1 the posterior table falls back on beta[1].

    Raises
    ------
    TypeError, ValueError
        If schedule is none or kind is unknown.
    """
    check_choice("kind", kind, VARIANCES)
    T = check_schedule(schedule).T
    if kind == "beta":
        return schedule.beta.copy()
    if kind == "unit":
        return np.concatenate([[0.0], np.ones(T)])
    table = schedule.posterior_variance.copy()
    table[1] = table[2] if T > 1 else schedule.beta[1]
    return table
