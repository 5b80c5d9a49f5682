"""The variational posterior q as it is drawn from: x_0 -> x_1 -> ... -> x_T."""

import numpy as np

from ddpm_np._arrays import Array, Times, cast, check_arrays, check_times, coefficient, coefficient_array
from ddpm_np.schedules import Schedule, check_schedule


def q_step_moments(schedule: Schedule, x_prev: Array, t: Array | int) -> tuple[Array, Array]:
    """Mean and variance of one step, q(x_t | x_{t-1}), M2 (20).

        q(x_t | x_{t-1}) = N(sqrt(alpha[t]) * x_{t-1}, beta[t] I)

    Parameters
    ----------
    schedule : Schedule
    x_prev : array, shape (B, ...)
        x_{t-1}.
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T. The documents' (20) starts at t = 2, but (22) needs it at t = 1.

    Returns
    -------
    mean : array, shape of x_prev
    variance : array, shape () for an int t, else (B, 1, ...)

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range or an array has the wrong type, dtype or shape.
    """
    check_arrays(x_prev=x_prev)
    t = check_times(t, check_schedule(schedule).T, x_prev.shape[0])
    mean = coefficient(np.sqrt(schedule.alpha[t]), x_prev) * x_prev
    return mean, coefficient_array(schedule.beta[t], x_prev)


def q_step(schedule: Schedule, x_prev: Array, t: Array | int, noise: Array) -> Array:
    """Draw x_t from q(x_t | x_{t-1}), one step, M2 (20).

        x_t = sqrt(alpha[t]) * x_{t-1} + sqrt(beta[t]) * noise

    Parameters
    ----------
    schedule : Schedule
    x_prev : array, shape (B, ...)
        x_{t-1}.
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T.
    noise : array, shape of x_prev
        Standard normal draws.

    Returns
    -------
    array, shape of x_prev

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range or the arrays do not agree.
    """
    check_arrays(x_prev=x_prev, noise=noise)
    t = check_times(t, check_schedule(schedule).T, x_prev.shape[0])
    root_alpha = coefficient(np.sqrt(schedule.alpha[t]), x_prev)
    root_beta = coefficient(np.sqrt(schedule.beta[t]), x_prev)
    return root_alpha * x_prev + root_beta * noise


def q_two_step_moments(schedule: Schedule, x_prev2: Array, t: Array | int) -> tuple[Array, Array]:
    """Mean and variance of two steps at once, q(x_t | x_{t-2}), M2 (21).

        q(x_t | x_{t-2}) = N(sqrt(alpha[t] alpha[t-1]) * x_{t-2}, (1 - alpha[t] alpha[t-1]) I)

    Parameters
    ----------
    schedule : Schedule
    x_prev2 : array, shape (B, ...)
        x_{t-2}.
    t : int, or integer array of shape (B,)
        Times, 2 <= t <= T.

    Returns
    -------
    mean : array, shape of x_prev2
    variance : array, shape () for an int t, else (B, 1, ...)

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range or an array has the wrong type, dtype or shape.
    """
    check_arrays(x_prev2=x_prev2)
    t = check_times(t, check_schedule(schedule).T, x_prev2.shape[0], minimum=2)
    alpha, beta = schedule.alpha, schedule.beta
    mean = coefficient(np.sqrt(alpha[t] * alpha[t - 1]), x_prev2) * x_prev2
    # 1 - alpha[t] alpha[t-1] without cancellation
    return mean, coefficient_array(beta[t] + alpha[t] * beta[t - 1], x_prev2)


def q_moments(schedule: Schedule, x0: Array, t: Array | int) -> tuple[Array, Array]:
    """Mean and variance of x_t given the data, q(x_t | x_0), M2 (22).

        q(x_t | x_0) = N(sqrt(alpha_bar[t]) * x0, (1 - alpha_bar[t]) I)

    Parameters
    ----------
    schedule : Schedule
    x0 : array, shape (B, ...)
        Observations.
    t : int, or integer array of shape (B,)
        Times, 0 <= t <= T; at t = 0 the variance is 0.

    Returns
    -------
    mean : array, shape of x0
    variance : array, shape () for an int t, else (B, 1, ...)

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range or an array has the wrong type, dtype or shape.
    """
    check_arrays(x0=x0)
    t = check_times(t, check_schedule(schedule).T, x0.shape[0], minimum=0)
    mean = coefficient(schedule.sqrt_alpha_bar[t], x0) * x0
    return mean, coefficient_array(schedule.one_minus_alpha_bar[t], x0)


def q_sample(schedule: Schedule, x0: Array, t: Array | int, noise: Array) -> Array:
    """Draw x_t from q(x_t | x_0) by reparameterisation, M2 (22) and (27).

        x_t = sqrt(alpha_bar[t]) * x0 + sqrt(1 - alpha_bar[t]) * noise

    Parameters
    ----------
    schedule : Schedule
    x0 : array, shape (B, ...)
        Observations.
    t : int, or integer array of shape (B,)
        Times, 0 <= t <= T; t = 0 returns x0.
    noise : array, shape of x0
        Standard normal draws.

    Returns
    -------
    array, shape of x0

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range or the arrays do not agree.
    """
    check_arrays(x0=x0, noise=noise)
    t = check_times(t, check_schedule(schedule).T, x0.shape[0], minimum=0)
    return noised(schedule, x0, t, noise)


def noised(schedule: Schedule, x0: Array, t: Times, noise: Array) -> Array:
    """Compute :func:`q_sample` for arguments that were checked, M2 (27)."""
    signal = cast(schedule.sqrt_alpha_bar[t], x0)
    sigma = cast(schedule.sqrt_one_minus_alpha_bar[t], x0)
    return signal * x0 + sigma * noise
