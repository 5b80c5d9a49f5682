"""The posterior of a forward step, q(x_{t-1} | x_t, x_0), M2 (23), (24), (25), (26) and (29).

Arrays share one shape, (B, ...). t is an int or an integer array of shape (B,), from 1 to T.
Anything else raises TypeError or ValueError.
"""

import numpy as np

from ddpm_np._arrays import Array, Table, Times, check_times, coefficient, coefficient_array
from ddpm_np.schedules import Schedule, at, check_eps, check_schedule


def posterior_mean_coefficients(schedule: Schedule, t: Array | int) -> tuple[Table, Table]:
    """Coefficients of x_t and of x_0 in the posterior mean, M2 (26); host float64, shape of t.

        c_xt = sqrt(alpha[t]) (1 - alpha_bar[t-1]) / (1 - alpha_bar[t])
        c_x0 = sqrt(alpha_bar[t-1]) (1 - alpha[t]) / (1 - alpha_bar[t])

    At t = 1 they are exactly 0 and 1.
    """
    t = check_times(t, check_schedule(schedule).T, None)
    return schedule.c_xt[t], schedule.c_x0[t]


def q_posterior(schedule: Schedule, x0: Array, x_t: Array, t: Array | int) -> tuple[Array, Array]:
    """Mean and variance of q(x_{t-1} | x_t, x_0), M2 (24), M2 (25), M2 (26); x0 and 0 at t = 1.

        mean     = sqrt(alpha[t]) (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) * x_t
                 + sqrt(alpha_bar[t-1]) (1 - alpha[t]) / (1 - alpha_bar[t]) * x0
        variance = (1 - alpha_bar[t-1]) / (1 - alpha_bar[t]) * (1 - alpha[t])

    The variance has shape () for an int t, else (B, 1, ...).
    """
    t, _ = at(schedule, t, x0=x0, x_t=x_t)
    variance = coefficient_array(schedule.posterior_variance[t], x0)
    return q_posterior_mean_unchecked(schedule, x0, x_t, t), variance


def q_posterior_mean_unchecked(schedule: Schedule, x0: Array, x_t: Array, t: Times) -> Array:
    """Compute the mean of :func:`q_posterior` for checked arguments, M2 (26)."""
    return coefficient(schedule.c_xt[t], x_t) * x_t + coefficient(schedule.c_x0[t], x_t) * x0


def posterior_mean_from_eps(schedule: Schedule, x_t: Array, t: Array | int, eps: Array) -> Array:
    """Posterior mean from the noise that made x_t, M2 (29).

    mean = (x_t - (1 - alpha[t]) / sqrt(1 - alpha_bar[t]) * eps) / sqrt(alpha[t])
    """
    t, _ = at(schedule, t, x_t=x_t, eps=eps)
    check_eps(schedule, t)
    return posterior_mean_from_eps_unchecked(schedule, x_t, t, eps)


def posterior_mean_from_eps_unchecked(schedule: Schedule, x_t: Array, t: Times, eps: Array) -> Array:
    """Compute :func:`posterior_mean_from_eps` for checked arguments, M2 (29) and (34)."""
    root_alpha = np.sqrt(schedule.alpha[t])  # (29) multiplied out: both coefficients are divided by it
    scale = schedule.beta[t] / schedule.sqrt_one_minus_alpha_bar[t] / root_alpha
    return coefficient(1.0 / root_alpha, x_t) * x_t - coefficient(scale, x_t) * eps
