"""Four ways to say what a network predicts: the noise, the observation, the mean, the velocity."""

from typing import Literal, TypeAlias

import numpy as np

from ddpm_np._arrays import Array, Table, Times, check_arrays, check_times, coefficient
from ddpm_np._checks import check_choice
from ddpm_np.posterior import posterior_mean_coefficients
from ddpm_np.schedules import Schedule, check_schedule

Target: TypeAlias = Literal["eps", "x0", "mean", "v"]


TARGETS: tuple[Target, ...] = ("eps", "x0", "mean", "v")


def x0_from_eps(schedule: Schedule, x_t: Array, t: Array | int, eps: Array) -> Array:
    """Observation from x_t and its noise, M2 (28): q_sample solved for x0.

        x0 = x_t / sqrt(alpha_bar[t]) - sqrt(1 - alpha_bar[t]) / sqrt(alpha_bar[t]) * eps

    Parameters, errors as :func:`posterior_mean_from_eps`. The error of ``eps`` is
    amplified by 1 / sqrt(alpha_bar[t]).
    """
    check_arrays(x_t=x_t, eps=eps)
    t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
    with np.errstate(over="ignore"):  # coefficient refuses infinity, and says why
        inverse_signal = np.exp(-0.5 * schedule.log_alpha_bar[t])
    sigma = schedule.sqrt_one_minus_alpha_bar[t]
    return coefficient(inverse_signal, x_t) * x_t - coefficient(sigma * inverse_signal, x_t) * eps


def eps_from_x0(schedule: Schedule, x_t: Array, t: Array | int, x0: Array) -> Array:
    """Noise that made x_t from x0, M2 (27) solved for the noise.

        eps = (x_t - sqrt(alpha_bar[t]) * x0) / sqrt(1 - alpha_bar[t])

    Parameters, errors as :func:`posterior_mean_from_eps`.
    """
    check_arrays(x_t=x_t, x0=x0)
    t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
    inverse_sigma = 1.0 / schedule.sqrt_one_minus_alpha_bar[t]
    signal = schedule.sqrt_alpha_bar[t]
    return coefficient(inverse_sigma, x_t) * x_t - coefficient(signal * inverse_sigma, x_t) * x0


def x0_from_mean(schedule: Schedule, x_t: Array, t: Array | int, mean: Array) -> Array:
    """Observation from the posterior mean, M2 (26) solved for x0.

        x0 = (mean - c_xt * x_t) / c_x0, the coefficients of (26)

    Parameters, errors as :func:`posterior_mean_from_eps`.
    """
    check_arrays(x_t=x_t, mean=mean)
    t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
    c_xt, c_x0 = posterior_mean_coefficients(schedule, t)
    _check_invertible(c_x0)
    return coefficient(1.0 / c_x0, x_t) * mean - coefficient(c_xt / c_x0, x_t) * x_t


def v_from_x0_and_eps(schedule: Schedule, t: Array | int, x0: Array, eps: Array) -> Array:
    """Velocity of the observation and its noise, Salimans & Ho 2022.

        v = sqrt(alpha_bar[t]) * eps - sqrt(1 - alpha_bar[t]) * x0

    Parameters, errors as :func:`posterior_mean_from_eps`, with x0 for x_t.
    """
    check_arrays(x0=x0, eps=eps)
    t = check_times(t, check_schedule(schedule).T, x0.shape[0])
    signal, sigma = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
    return coefficient(signal, x0) * eps - coefficient(sigma, x0) * x0


def x0_from_v(schedule: Schedule, x_t: Array, t: Array | int, v: Array) -> Array:
    """Observation from the velocity.

        x0 = sqrt(alpha_bar[t]) * x_t - sqrt(1 - alpha_bar[t]) * v

    Parameters, errors as :func:`posterior_mean_from_eps`.
    """
    check_arrays(x_t=x_t, v=v)
    t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
    signal, sigma = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
    return coefficient(signal, x_t) * x_t - coefficient(sigma, x_t) * v


def eps_from_v(schedule: Schedule, x_t: Array, t: Array | int, v: Array) -> Array:
    """Noise from the velocity.

        eps = sqrt(1 - alpha_bar[t]) * x_t + sqrt(alpha_bar[t]) * v

    Parameters, errors as :func:`posterior_mean_from_eps`.
    """
    check_arrays(x_t=x_t, v=v)
    t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
    signal, sigma = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
    return coefficient(sigma, x_t) * x_t + coefficient(signal, x_t) * v


def training_target(
    schedule: Schedule, x0: Array, t: Array | int, noise: Array, target: Target = "eps"
) -> Array:
    """What a perfect network would predict for x_t = q_sample(schedule, x0, t, noise).

    Parameters
    ----------
    schedule : Schedule
    x0, noise : array, shape (B, ...)
    t : int, or integer array of shape (B,)
        Times, 1 <= t <= T.
    target : {"eps", "x0", "mean", "v"}

    Returns
    -------
    array, shape of x0
        The noise, x0, the posterior mean (26) (by way of (29)), or v.

    Raises
    ------
    TypeError, ValueError
        If t is not an integer in range, the arrays do not agree, or target is unknown.
    """
    check_choice("target", target, TARGETS)
    check_arrays(x0=x0, noise=noise)
    t = check_times(t, check_schedule(schedule).T, x0.shape[0])
    return true_target(schedule, x0, t, noise, target)


def true_target(schedule: Schedule, x0: Array, t: Times, noise: Array, target: Target) -> Array:
    """Compute :func:`training_target` for arguments that were checked."""
    if target == "eps":
        return noise
    if target == "x0":
        return x0
    if target == "v":
        return v_from_x0_and_eps(schedule, t, x0, noise)
    # (26) at x_t = q_sample(x0, noise), collected by x0 and noise
    slope = coefficient(schedule.sqrt_alpha_bar[t - 1], x0)
    c_xt, _ = posterior_mean_coefficients(schedule, t)
    return slope * x0 + coefficient(c_xt * schedule.sqrt_one_minus_alpha_bar[t], x0) * noise


def predicted_x0(
    schedule: Schedule, x_t: Array, t: Array | int, prediction: Array, target: Target = "eps"
) -> Array:
    """The observation that a prediction implies; parameters as :func:`ddpm_np.model_mean`."""
    check_choice("target", target, TARGETS)
    check_arrays(x_t=x_t, prediction=prediction)
    if target == "eps":
        return x0_from_eps(schedule, x_t, t, prediction)
    if target == "mean":
        return x0_from_mean(schedule, x_t, t, prediction)
    if target == "v":
        return x0_from_v(schedule, x_t, t, prediction)
    check_times(t, check_schedule(schedule).T, x_t.shape[0])
    return prediction


def predicted_eps(
    schedule: Schedule, x_t: Array, t: Array | int, prediction: Array, target: Target = "eps"
) -> Array:
    """The noise that a prediction implies; parameters as :func:`ddpm_np.model_mean`.

    From the mean, M2 (29) solved for the noise:

        eps = (x_t - sqrt(alpha[t]) * mean) * sqrt(1 - alpha_bar[t]) / (1 - alpha[t])
    """
    check_choice("target", target, TARGETS)
    check_arrays(x_t=x_t, prediction=prediction)
    if target == "x0":
        return eps_from_x0(schedule, x_t, t, prediction)
    if target == "v":
        return eps_from_v(schedule, x_t, t, prediction)
    t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
    if target == "eps":
        return prediction
    scale = schedule.sqrt_one_minus_alpha_bar[t] / schedule.beta[t]
    return (x_t - coefficient(np.sqrt(schedule.alpha[t]), x_t) * prediction) * coefficient(scale, x_t)


def _check_invertible(c_x0: Table) -> None:
    if not np.all(c_x0 > 0.0):
        raise ValueError(
            "the posterior mean at t does not depend on x0: "
            "alpha_bar[t-1] underflows to 0 in this schedule"
        )
