"""The forward process q, which is the variational posterior: x_0 -> x_1 -> ... -> x_T.

beta[t] is 1 - alpha[t]. Observations and noise share one shape, (B, ...). t is an int or an integer
array of shape (B,), from 1 to T unless a function says otherwise. Variances have shape () for an int
t, else (B, 1, ...). Anything else raises TypeError or ValueError.
"""

import numpy as np

from ddpm_np._arrays import Array, Times, cast, coefficient_array
from ddpm_np.schedules import Schedule, at


def q_step_moments(schedule: Schedule, x_prev: Array, t: Array | int) -> tuple[Array, Array]:
    """Mean and variance of one step, M2 (20); at t = 1 too (docs/errata.md, E11).

    q(x_t | x_{t-1}) = N(sqrt(alpha[t]) * x_{t-1}, beta[t] I)
    """
    t, c = at(schedule, t, x_prev=x_prev)
    return c(np.sqrt(schedule.alpha[t])) * x_prev, coefficient_array(schedule.beta[t], x_prev)


def q_step(schedule: Schedule, x_prev: Array, t: Array | int, noise: Array) -> Array:
    """Draw x_t from q(x_t | x_{t-1}), one step, M2 (20).

    x_t = sqrt(alpha[t]) * x_{t-1} + sqrt(beta[t]) * noise
    """
    t, c = at(schedule, t, x_prev=x_prev, noise=noise)
    return c(np.sqrt(schedule.alpha[t])) * x_prev + c(np.sqrt(schedule.beta[t])) * noise


def q_two_step_moments(schedule: Schedule, x_prev2: Array, t: Array | int) -> tuple[Array, Array]:
    """Mean and variance of two steps at once, M2 (21), for t >= 2.

    q(x_t | x_{t-2}) = N(sqrt(alpha[t] alpha[t-1]) * x_{t-2}, (1 - alpha[t] alpha[t-1]) I)
    """
    t, c = at(schedule, t, minimum=2, x_prev2=x_prev2)
    alpha, beta = schedule.alpha, schedule.beta
    variance = beta[t] + alpha[t] * beta[t - 1]  # 1 - alpha[t] alpha[t-1] without cancellation
    return c(np.sqrt(alpha[t] * alpha[t - 1])) * x_prev2, coefficient_array(variance, x_prev2)


def q_moments(schedule: Schedule, x0: Array, t: Array | int) -> tuple[Array, Array]:
    """Mean and variance of x_t given the data, M2 (22); x0 and 0 at t = 0.

    q(x_t | x_0) = N(sqrt(alpha_bar[t]) * x0, (1 - alpha_bar[t]) I)
    """
    t, _ = at(schedule, t, minimum=0, x0=x0)
    return q_moments_unchecked(schedule, x0, t)


def q_moments_unchecked(schedule: Schedule, x0: Array, t: Times) -> tuple[Array, Array]:
    """Compute :func:`q_moments` for checked arguments, M2 (22)."""
    mean = cast(schedule.sqrt_alpha_bar[t], x0) * x0
    return mean, coefficient_array(schedule.one_minus_alpha_bar[t], x0)


def q_sample(schedule: Schedule, x0: Array, t: Array | int, noise: Array) -> Array:
    """Draw x_t from q(x_t | x_0) by reparameterisation, M2 (22) and (27); x0 at t = 0.

    x_t = sqrt(alpha_bar[t]) * x0 + sqrt(1 - alpha_bar[t]) * noise
    """
    t, _ = at(schedule, t, minimum=0, x0=x0, noise=noise)
    return q_sample_unchecked(schedule, x0, t, noise)


def q_sample_unchecked(schedule: Schedule, x0: Array, t: Times, noise: Array) -> Array:
    """Compute :func:`q_sample` for checked arguments, M2 (27)."""
    signal = cast(schedule.sqrt_alpha_bar[t], noise)
    sigma = cast(schedule.sqrt_one_minus_alpha_bar[t], noise)
    return signal * x0 + sigma * noise
