"""The reversed step q(x_{t-1} | x_t, x_0), and the four ways to say what a network predicts.

A network may predict the noise ("eps"), the observation ("x0"), the posterior mean ("mean")
or the velocity ("v", Salimans & Ho 2022: v = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x0).
Given x_t and t, each determines the others.
"""

import numpy as np

from ddpm_np._arrays import (
    Array,
    Table,
    check_arrays,
    check_times,
    coefficient,
    coefficient_array,
)
from ddpm_np.schedules import Schedule, check_schedule


def posterior_mean_coefficients(schedule: Schedule, t: Array | int) -> tuple[Table, Table]:
    """Coefficients of x_t and of x_0 in the posterior mean, M2 (26); host float64.

        c_xt = sqrt(alpha[t]) (1 - alpha_bar[t-1]) / (1 - alpha_bar[t])
        c_x0 = sqrt(alpha_bar[t-1]) beta[t] / (1 - alpha_bar[t])

    At t = 1 they are exactly 0 and 1.
    """
    T = check_schedule(schedule).T
    t = check_times(t, T, None)
    if np.size(t) > T:  # each time once, and then a choice of these
        c_xt, c_x0 = posterior_mean_coefficients(schedule, np.arange(1, T + 1))
        return c_xt[t - 1], c_x0[t - 1]
    variance = schedule.one_minus_alpha_bar
    c_xt = np.sqrt(schedule.alpha[t]) * variance[t - 1] / variance[t]
    c_x0 = schedule.sqrt_alpha_bar[t - 1] * (schedule.beta[t] / variance[t])
    return c_xt, c_x0


def q_posterior(schedule: Schedule, x0: Array, x_t: Array, t: Array | int) -> tuple[Array, Array]:
    """Mean and variance of q(x_{t-1} | x_t, x_0), M2 (24)-(26).

        mean     = sqrt(alpha[t]) (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) * x_t
                 + sqrt(alpha_bar[t-1]) (1 - alpha[t]) / (1 - alpha_bar[t]) * x0
        variance = (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) * (1 - alpha[t])

    Parameters
    ----------
    schedule : Schedule
    x0, x_t : array, shape (B, ...)
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T. At t = 1 the mean is x0 and the variance 0.

    Returns
    -------
    mean : array, shape of x0
    variance : array, shape () for an int t, else (B, 1, ...)

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range or the arrays do not agree.
    """
    check_arrays(x0=x0, x_t=x_t)
    t = check_times(t, check_schedule(schedule).T, x0.shape[0])
    c_xt, c_x0 = posterior_mean_coefficients(schedule, t)
    mean = coefficient(c_xt, x0) * x_t + coefficient(c_x0, x0) * x0
    return mean, coefficient_array(schedule.posterior_variance[t], x0)


def posterior_mean_from_eps(schedule: Schedule, x_t: Array, t: Array | int, eps: Array) -> Array:
    """Posterior mean from the noise that made x_t, M2 (29).

        mean = (x_t - (1 - alpha[t]) / sqrt(1 - alpha_bar[t]) * eps) / sqrt(alpha[t])

    Parameters
    ----------
    schedule : Schedule
    x_t, eps : array, shape (B, ...)
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T.

    Returns
    -------
    array, shape of x_t

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range or the arrays do not agree.
    """
    check_arrays(x_t=x_t, eps=eps)
    t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
    root_alpha = np.sqrt(schedule.alpha[t])
    scale = coefficient(schedule.beta[t] / schedule.sqrt_one_minus_alpha_bar[t] / root_alpha, x_t)
    return coefficient(1.0 / root_alpha, x_t) * x_t - scale * eps
