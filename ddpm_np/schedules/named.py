"""The schedules that people use, by name.

T is the number of steps. An argument out of range raises ValueError, one of the wrong type TypeError.
"""

import math
from collections.abc import Callable

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np._checks import check_integer, check_real
from ddpm_np.schedules.tables import Schedule, schedule_from_alpha_bar, schedule_from_beta


def linear_schedule(T: int, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    """Linear beta, Ho et al. 2020: from ``beta_1`` at t = 1 to ``beta_T`` at t = T.

    The default range is meant for T = 1000: with far fewer steps x_T keeps much of x_0. See
    :func:`scaled_linear_schedule`.
    """
    low, high = _endpoints(beta_1, beta_T)
    return schedule_from_beta(low + (high - low) * _ramp(T))


def scaled_linear_schedule(T: int, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    """Linear beta scaled by 1000 / T, so that alpha_bar_T hardly depends on T.

    The same as :func:`linear_schedule` at T = 1000. With the default range T must be at least 21, or
    beta_T reaches 1. What diffusers calls "scaled_linear" is :func:`quadratic_schedule`.
    """
    low, high = _endpoints(beta_1, beta_T)
    steps = check_integer("T", T, 1)
    if high * 1000 / steps >= 1.0:
        raise ValueError(
            f"T must exceed {1000 * high:g} for beta_T = {high:g}, got {steps}: "
            f"the scaled beta_T * 1000 / T = {high * 1000 / steps:g} must stay below 1"
        )
    return schedule_from_beta((low + (high - low) * _ramp(steps)) * (1000 / steps))


def quadratic_schedule(T: int, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    """Quadratic beta: its square root is linear in t. diffusers' name for it is "scaled_linear"."""
    low, high = (math.sqrt(b) for b in _endpoints(beta_1, beta_T))
    return schedule_from_beta((low + (high - low) * _ramp(T)) ** 2)


def sigmoid_schedule(T: int, beta_1: float = 1e-4, beta_T: float = 0.02, width: float = 6.0) -> Schedule:
    """Sigmoid beta: beta_1 + (beta_T - beta_1) * sigmoid(u), u from -width to width."""
    low, high = _endpoints(beta_1, beta_T)
    u = check_real("width", width, 0.0, 500.0) * (2.0 * _ramp(T) - 1.0)
    return schedule_from_beta(low + (high - low) / (1.0 + np.exp(-u)))


def cosine_schedule(T: int, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """Cosine alpha_bar, Nichol & Dhariwal 2021, with beta clipped to ``max_beta``.

    a_t = (t / T + s) / (1 + s) * pi / 2,  alpha_bar[t] = cos(a_t)^2 / cos(a_0)^2
    """
    steps = check_integer("T", T, 1)
    offset = check_real("s", s, 0.0, 1.0, closed=True)
    limit = check_real("max_beta", max_beta, 0.0, 1.0)
    # 1 - cos(a)^2 / cos(b)^2 = sin(a - b) sin(a + b) / cos(b)^2, which does not cancel; nor
    # does cos(b) as the sine of the angle left to pi / 2. The sine of a + b is also that of
    # pi - a - b: the smaller of the two angles keeps its digits.
    t = np.arange(1, steps + 1, dtype=np.float64)
    quarter = math.pi / 2 / (1.0 + offset)
    left = (steps - t + 1.0) / steps * quarter
    sum_of_angles = ((2.0 * t - 1.0) / steps + 2.0 * offset) * quarter
    left_of_sum = (2.0 * (steps - t) + 1.0) / steps * quarter
    sine_of_sum = np.sin(np.minimum(sum_of_angles, left_of_sum))
    beta = math.sin(quarter / steps) * sine_of_sum / np.sin(left) ** 2
    return schedule_from_beta(np.minimum(beta, limit))


def log_snr_schedule(T: int, noise: float, signal: float = 0.03) -> Schedule:
    """Even steps of the log signal-to-noise ratio, Kingma et al. 2021, section 4.1, with fixed ends.

        log(alpha_bar[t] / (1 - alpha_bar[t])) linear in t, for t = 1..T, T >= 2
        sqrt(1 - alpha_bar[1]) = noise,  sqrt(alpha_bar[T]) = signal

    Each factor of noise gets equally many steps; a chain may start where noise begins to hide levels.
    """
    steps = check_integer("T", T, 2)
    first, last = check_real("noise", noise, 0.0, 1.0), check_real("signal", signal, 0.0, 1.0)
    if first**2 + last**2 >= 1.0:
        raise ValueError(f"noise^2 + signal^2 must be below 1, got {first:g}^2 + {last:g}^2")
    ends = math.log1p(-(first**2)) - 2.0 * math.log(first), 2.0 * math.log(last) - math.log1p(-(last**2))
    with np.errstate(over="ignore"):  # to an alpha_bar of 0, which is refused
        alpha_bar = np.concatenate([[1.0], 1.0 / (1.0 + np.exp(-np.linspace(*ends, steps)))])
    try:
        if alpha_bar[-1] == 0.0:
            raise ValueError("alpha_bar[T] underflows to 0")
        return schedule_from_alpha_bar(alpha_bar)
    except ValueError as error:
        raise ValueError(
            f"noise = {first:g} or signal = {last:g} is too small for T = {steps} in float64: {error}"
        ) from None


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "linear": linear_schedule,
    "scaled_linear": scaled_linear_schedule,
    "quadratic": quadratic_schedule,
    "cosine": cosine_schedule,
    "sigmoid": sigmoid_schedule,
}
"""The named schedules, as functions of T."""


def _endpoints(beta_1: object, beta_T: object) -> tuple[float, float]:
    return check_real("beta_1", beta_1, 0.0, 1.0), check_real("beta_T", beta_T, 0.0, 1.0)


def _ramp(T: object) -> Table:
    """T numbers from 0 to 1; for T = 1, just 0."""
    steps = check_integer("T", T, 1)
    return np.arange(steps, dtype=np.float64) / max(steps - 1, 1)
