"""Four ways to say what a network predicts; given x_t and t, each determines the others.

    "eps"   the noise, x_t = sqrt(alpha_bar[t]) * x_0 + sqrt(1 - alpha_bar[t]) * eps, M2 (27)
    "x0"    the observation
    "mean"  the posterior mean, M2 (26)
    "v"     the velocity, v = sqrt(alpha_bar[t]) * eps - sqrt(1 - alpha_bar[t]) * x_0, Salimans & Ho 2022

Arrays share one shape, (B, ...). t is an int or an integer array of shape (B,), from 1 to T.
Anything else raises TypeError or ValueError, and so does a coefficient that overflows the dtype.
Where alpha_bar[T] = 0, x_T is eps, whatever x_0 is: there eps determines nothing, and the others do.
"""

from typing import Literal, TypeAlias

import numpy as np

from ddpm_np._arrays import Array, Table, Times, cast, coefficient
from ddpm_np._checks import check_choice
from ddpm_np.schedules import Schedule, at, check_eps

Target: TypeAlias = Literal["eps", "x0", "mean", "v"]
TARGETS: tuple[Target, ...] = ("eps", "x0", "mean", "v")


def x0_from_eps(schedule: Schedule, x_t: Array, t: Array | int, eps: Array) -> Array:
    """Observation from x_t and its noise, M2 (28): (27) solved for x_0.

        x0 = x_t / sqrt(alpha_bar[t]) - sqrt(1 - alpha_bar[t]) / sqrt(alpha_bar[t]) * eps

    Errors in eps are amplified by the factor in front of it.
    """
    t, _ = at(schedule, t, x_t=x_t, eps=eps)
    check_eps(schedule, t)
    return x0_from_eps_unchecked(schedule, x_t, t, eps)


def eps_from_x0(schedule: Schedule, x_t: Array, t: Array | int, x0: Array) -> Array:
    """Noise that made x_t from x_0: M2 (27) solved for the noise.

    eps = (x_t - sqrt(alpha_bar[t]) * x0) / sqrt(1 - alpha_bar[t])
    """
    t, _ = at(schedule, t, x_t=x_t, x0=x0)
    return eps_from_x0_unchecked(schedule, x_t, t, x0)


def x0_from_mean(schedule: Schedule, x_t: Array, t: Array | int, mean: Array) -> Array:
    """Observation from the posterior mean: M2 (26) solved for x_0.

    x0 = (mean - c_xt[t] * x_t) / c_x0[t], the coefficients of (26)
    """
    t, _ = at(schedule, t, x_t=x_t, mean=mean)
    return x0_from_mean_unchecked(schedule, x_t, t, mean)


def eps_from_mean(schedule: Schedule, x_t: Array, t: Array | int, mean: Array) -> Array:
    """Noise from the posterior mean: M2 (29) solved for the noise.

    eps = (x_t - sqrt(alpha[t]) * mean) * sqrt(1 - alpha_bar[t]) / (1 - alpha[t])
    """
    t, _ = at(schedule, t, x_t=x_t, mean=mean)
    return eps_from_mean_unchecked(schedule, x_t, t, mean)


def v_from_x0_and_eps(schedule: Schedule, t: Array | int, x0: Array, eps: Array) -> Array:
    """Velocity of an observation and its noise, Salimans & Ho 2022.

    v = sqrt(alpha_bar[t]) * eps - sqrt(1 - alpha_bar[t]) * x0
    """
    t, _ = at(schedule, t, x0=x0, eps=eps)
    return v_from_x0_and_eps_unchecked(schedule, t, x0, eps)


def x0_from_v(schedule: Schedule, x_t: Array, t: Array | int, v: Array) -> Array:
    """Observation from the velocity.

    x0 = sqrt(alpha_bar[t]) * x_t - sqrt(1 - alpha_bar[t]) * v
    """
    t, _ = at(schedule, t, x_t=x_t, v=v)
    return x0_from_v_unchecked(schedule, x_t, t, v)


def eps_from_v(schedule: Schedule, x_t: Array, t: Array | int, v: Array) -> Array:
    """Noise from the velocity.

    eps = sqrt(1 - alpha_bar[t]) * x_t + sqrt(alpha_bar[t]) * v
    """
    t, c = at(schedule, t, x_t=x_t, v=v)
    return c(schedule.sqrt_one_minus_alpha_bar[t]) * x_t + c(schedule.sqrt_alpha_bar[t]) * v


def predicted_x0(
    schedule: Schedule, x_t: Array, t: Array | int, prediction: Array, target: Target = "eps"
) -> Array:
    """Observation that a prediction of any target implies."""
    check_choice("target", target, TARGETS)
    t, _ = at(schedule, t, x_t=x_t, prediction=prediction)
    if target == "eps":
        check_eps(schedule, t)
    return predicted_x0_unchecked(schedule, x_t, t, prediction, target)


def predicted_eps(
    schedule: Schedule, x_t: Array, t: Array | int, prediction: Array, target: Target = "eps"
) -> Array:
    """Noise that a prediction of any target implies."""
    check_choice("target", target, TARGETS)
    t, _ = at(schedule, t, x_t=x_t, prediction=prediction)
    return predicted_eps_unchecked(schedule, x_t, t, prediction, target)


def training_target(
    schedule: Schedule, x0: Array, t: Array | int, noise: Array, target: Target = "eps"
) -> Array:
    """What a perfect network predicts for x_t = q_sample(schedule, x0, t, noise), for any target."""
    check_choice("target", target, TARGETS)
    t, _ = at(schedule, t, x0=x0, noise=noise)
    return training_target_unchecked(schedule, x0, t, noise, target)


def check_target(schedule: Schedule, target: object) -> None:
    """Raise unless ``target`` is one of TARGETS and says something of x_0 at every t."""
    check_choice("target", target, TARGETS)
    if target == "eps" and schedule.alpha[-1] == 0.0:
        raise ValueError(
            'target must be "x0", "mean" or "v" where alpha_bar[T] = 0, got "eps": '
            "x_T is nothing but noise, and its noise says nothing of x_0"
        )


# --- for checked arguments ----------------------------------------------------------------


def predicted_x0_unchecked(
    schedule: Schedule, x_t: Array, t: Times, prediction: Array, target: Target
) -> Array:
    """Compute :func:`predicted_x0`."""
    return _X0_FROM[target](schedule, x_t, t, prediction)


def predicted_eps_unchecked(
    schedule: Schedule, x_t: Array, t: Times, prediction: Array, target: Target
) -> Array:
    """Compute :func:`predicted_eps`."""
    return _EPS_FROM[target](schedule, x_t, t, prediction)


def x0_from_eps_unchecked(schedule: Schedule, x_t: Array, t: Times, eps: Array) -> Array:
    """Compute :func:`x0_from_eps`, M2 (28)."""
    with np.errstate(over="ignore"):  # coefficient refuses infinity with a clear message
        inverse_signal = np.exp(-0.5 * schedule.log_alpha_bar[t])  # 1 / sqrt(alpha_bar[t])
    ratio = coefficient(schedule.noise_to_signal[t], x_t)
    return coefficient(inverse_signal, x_t) * x_t - ratio * eps


def eps_from_x0_unchecked(schedule: Schedule, x_t: Array, t: Times, x0: Array) -> Array:
    """Compute :func:`eps_from_x0`, M2 (27)."""
    signal, inverse_sigma = schedule.sqrt_alpha_bar[t], 1.0 / schedule.sqrt_one_minus_alpha_bar[t]
    return coefficient(inverse_sigma, x_t) * x_t - coefficient(signal * inverse_sigma, x_t) * x0


def x0_from_mean_unchecked(schedule: Schedule, x_t: Array, t: Times, mean: Array) -> Array:
    """Compute :func:`x0_from_mean`, M2 (26)."""
    c_xt, c_x0 = schedule.c_xt[t], schedule.c_x0[t]
    _check_invertible(c_x0)
    return coefficient(1.0 / c_x0, x_t) * mean - coefficient(c_xt / c_x0, x_t) * x_t


def eps_from_mean_unchecked(schedule: Schedule, x_t: Array, t: Times, mean: Array) -> Array:
    """Compute :func:`eps_from_mean`, M2 (29)."""
    scale = schedule.sqrt_one_minus_alpha_bar[t] / schedule.beta[t]
    root_alpha = coefficient(np.sqrt(schedule.alpha[t]), x_t)
    return (x_t - root_alpha * mean) * coefficient(scale, x_t)


def training_target_unchecked(
    schedule: Schedule, x0: Array, t: Times, noise: Array, target: Target
) -> Array:
    """Compute :func:`training_target`."""
    if target == "eps":
        return noise
    if target == "x0":
        return x0
    if target == "v":
        return v_from_x0_and_eps_unchecked(schedule, t, x0, noise)
    # (26) at x_t = q_sample(x0, noise): c_xt[t] sqrt(alpha_bar[t]) + c_x0[t] = sqrt(alpha_bar[t-1])
    scale = schedule.c_xt[t] * schedule.sqrt_one_minus_alpha_bar[t]
    return coefficient(schedule.sqrt_alpha_bar[t - 1], x0) * x0 + coefficient(scale, x0) * noise


def v_from_x0_and_eps_unchecked(schedule: Schedule, t: Times, x0: Array, eps: Array) -> Array:
    """Compute :func:`v_from_x0_and_eps`."""
    signal, sigma = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
    return cast(signal, x0) * eps - cast(sigma, x0) * x0


def x0_from_v_unchecked(schedule: Schedule, x_t: Array, t: Times, v: Array) -> Array:
    """Compute :func:`x0_from_v`."""
    signal, sigma = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
    return cast(signal, x_t) * x_t - cast(sigma, x_t) * v


def eps_from_v_unchecked(schedule: Schedule, x_t: Array, t: Times, v: Array) -> Array:
    """Compute :func:`eps_from_v`."""
    signal, sigma = schedule.sqrt_alpha_bar[t], schedule.sqrt_one_minus_alpha_bar[t]
    return cast(sigma, x_t) * x_t + cast(signal, x_t) * v


def _as_predicted(schedule: Schedule, x_t: Array, t: Times, prediction: Array) -> Array:
    return prediction


_X0_FROM = {
    "eps": x0_from_eps_unchecked,
    "x0": _as_predicted,
    "mean": x0_from_mean_unchecked,
    "v": x0_from_v_unchecked,
}
_EPS_FROM = {
    "eps": _as_predicted,
    "x0": eps_from_x0_unchecked,
    "mean": eps_from_mean_unchecked,
    "v": eps_from_v_unchecked,
}


def _check_invertible(c_x0: Table) -> None:
    if not np.all(c_x0 > 0.0):
        raise ValueError(
            "the posterior mean at t does not depend on x0: "
            "alpha_bar[t-1] underflows to 0 in this schedule"
        )
