"""Noise schedules: how fast q(x_t | x_0) forgets x_0.

Time is t = 1 ... T as in the documents. Tables are host float64, of length T + 1: ``alpha_bar[t]`` is
the product of alpha_1 ... alpha_t, and index 0 is the data end, ``alpha_bar[0] == 1``. An argument
out of range raises ValueError, one of the wrong type TypeError.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ddpm_np._arrays import (
    Array,
    Table,
    Times,
    as_table,
    check_arrays,
    check_times,
    coefficient,
    cumulative_sum,
    from_1,
)
from ddpm_np._checks import check_integer, check_real, describe


@dataclass(frozen=True, eq=False)
class Schedule:
    """The tables of one noise schedule, read-only; make one with the functions below."""

    beta: Table
    """beta_t in (0, 1), the variance of one step, M2 (20); ``beta[0] == 0``."""
    alpha: Table
    """1 - beta_t."""
    alpha_bar: Table
    """alpha_1 * ... * alpha_t, M2 (22)."""
    log_alpha_bar: Table
    """Its logarithm, which does not underflow."""
    one_minus_alpha_bar: Table
    """The variance of q(x_t | x_0), without cancellation."""
    posterior_variance: Table
    """beta_tilde_t = (1 - alpha_bar_{t-1}) / (1 - alpha_bar_t) * beta_t, M2 (25); 0 at t = 1."""

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.beta) - 1

    @functools.cached_property
    def sqrt_alpha_bar(self) -> Table:
        """The factor of x_0 in x_t (27)."""
        return _read_only(np.sqrt(self.alpha_bar))

    @functools.cached_property
    def sqrt_one_minus_alpha_bar(self) -> Table:
        """The factor of the noise in x_t (27)."""
        return _read_only(np.sqrt(self.one_minus_alpha_bar))

    @functools.cached_property
    def c_xt(self) -> Table:
        """The coefficient of x_t in the posterior mean, M2 (26); 0 at t = 1.

        c_xt[t] = sqrt(alpha[t]) (1 - alpha_bar[t-1]) / (1 - alpha_bar[t])
        """
        before, now = self.one_minus_alpha_bar[:-1], self.one_minus_alpha_bar[1:]
        return _read_only(from_1(np.sqrt(self.alpha[1:]) * before / now))

    @functools.cached_property
    def c_x0(self) -> Table:
        """The coefficient of x_0 in the posterior mean, M2 (26); 1 at t = 1.

        c_x0[t] = sqrt(alpha_bar[t-1]) (1 - alpha[t]) / (1 - alpha_bar[t])
        """
        now = self.one_minus_alpha_bar[1:]
        return _read_only(from_1(self.sqrt_alpha_bar[:-1] * (self.beta[1:] / now)))

    def __post_init__(self) -> None:
        for field in fields(self):
            _read_only(getattr(self, field.name))

    def __reduce__(self) -> tuple[Any, ...]:
        # so that copies are read-only too
        return Schedule, tuple(getattr(self, field.name) for field in fields(self))

    def __repr__(self) -> str:
        return (
            f"Schedule(T={self.T}, beta={self.beta[1]:.4g}..{self.beta[-1]:.4g}, "
            f"alpha_bar_T={self.alpha_bar[-1]:.4g})"
        )


def schedule_from_beta(beta: object) -> Schedule:
    """Build a schedule from beta_1 ... beta_T.

        log_alpha_bar[t] = sum over s = 1..t of log(1 - beta[s])

    ``beta`` is a sequence of T numbers in (0, 1), without an entry for t = 0.
    """
    steps = as_table("beta", beta)
    if not np.all((steps > 0.0) & (steps < 1.0)):
        t = int(np.argmin((steps > 0.0) & (steps < 1.0)))
        raise ValueError(f"beta must lie strictly between 0 and 1, got beta[{t}] = {steps[t]:g}")
    beta = np.concatenate([[0.0], steps])
    log_alpha_bar = np.concatenate([[0.0], cumulative_sum(np.log1p(-steps))])
    one_minus_alpha_bar = -np.expm1(log_alpha_bar)
    one_minus_alpha_bar[:2] = beta[:2]  # 0, not -0; and beta_1 to the last bit: mu_tilde_1 is x_0
    return _schedule(beta, 1.0 - beta, np.exp(log_alpha_bar), log_alpha_bar, one_minus_alpha_bar)


def schedule_from_alpha_bar(alpha_bar: object) -> Schedule:
    """Build a schedule from a table of alpha_bar, which is kept to the last bit.

        beta[t] = 1 - alpha_bar[t] / alpha_bar[t - 1]

    ``alpha_bar`` is a sequence of T + 1 numbers: exactly 1 at t = 0, then strictly decreasing and > 0.
    """
    table = as_table("alpha_bar", alpha_bar)
    if table[0] != 1.0:
        raise ValueError(f"alpha_bar must start with alpha_bar[0] = 1, the data end, got {table[0]:g}")
    if len(table) < 2:
        raise ValueError("alpha_bar must have at least two entries, t = 0 and t = 1, got 1")
    with np.errstate(divide="ignore", invalid="ignore"):  # what 0 and infinity leave is refused below
        # Neighbours within a factor of two subtract exactly, so beta keeps all its digits.
        beta = np.concatenate([[0.0], (table[:-1] - table[1:]) / table[:-1]])
    if not np.all((beta[1:] > 0.0) & (beta[1:] < 1.0)):
        t = 1 + int(np.argmin((beta[1:] > 0.0) & (beta[1:] < 1.0)))
        before, now, rule = table[t - 1], table[t], "decrease strictly and stay above 0"
        if 0.0 < now < before:
            rule = "keep more than 1e-16 of itself in each step, or beta rounds to 1"
        elif 0.0 <= now <= before < 1e-290:  # times any 1 - beta, that may be no normal number
            rule = "not underflow: take fewer steps or smaller betas (schedule_from_beta takes any)"
        raise ValueError(
            f"alpha_bar must {rule}, got alpha_bar[{t - 1}] = {before:g}, alpha_bar[{t}] = {now:g}"
        )
    # Where beta is near 1, 1 - beta would have lost the digits of alpha.
    alpha = np.concatenate([[1.0], table[1:] / table[:-1]])
    return _schedule(beta, alpha, table, np.log(table), 1.0 - table)


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
        return schedule_from_alpha_bar(alpha_bar)
    except ValueError as error:
        raise ValueError(
            f"noise = {first:g} or signal = {last:g} is too small for T = {steps} in float64: {error}"
        ) from None


def merge_first_steps(schedule: Schedule, noise: float) -> Schedule:
    """Merge the first steps into one that brings at least this much noise.

        alpha_bar' = 1, alpha_bar[s], ..., alpha_bar[T]
        s = the first t with sqrt(1 - alpha_bar[t]) >= noise

    For discrete levels: much smaller noise hides nothing from the decoder, but costs the network nats.
    """
    least = check_real("noise", noise, 0.0, 1.0, closed=True)
    first = int(np.searchsorted(check_schedule(schedule).one_minus_alpha_bar, least**2))
    if first > schedule.T:
        raise ValueError(f"noise must not exceed that of x_T, got {noise:g}: no step is left")
    if first <= 1:
        return schedule
    return schedule_from_alpha_bar(np.concatenate([[1.0], schedule.alpha_bar[first:]]))


SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "linear": linear_schedule,
    "scaled_linear": scaled_linear_schedule,
    "quadratic": quadratic_schedule,
    "cosine": cosine_schedule,
    "sigmoid": sigmoid_schedule,
}
"""The named schedules, as functions of T."""


# --- the arguments of a formula -----------------------------------------------------------


def at(
    schedule: Schedule, t: Array | int, *, minimum: int = 1, **arrays: Array
) -> tuple[Times, Callable[[Any], Array | float]]:
    """Check a formula's arguments once; return t, on the host, and c, which casts table entries.

    t, c = at(schedule, t, x0=x0, noise=noise);  c(schedule.beta[t]) * x0
    """
    check_arrays(**arrays)
    like = next(iter(arrays.values()))
    t = check_times(t, check_schedule(schedule).T, like.shape[0], minimum)
    return t, functools.partial(coefficient, like=like)


def check_schedule(schedule: object) -> Schedule:
    """Return ``schedule`` if it is one, else raise TypeError."""
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"schedule must be a ddpm_np.Schedule (linear_schedule(1000), say), got {describe(schedule)}"
        )
    return schedule


def _schedule(
    beta: Table, alpha: Table, alpha_bar: Table, log_alpha_bar: Table, one_minus_alpha_bar: Table
) -> Schedule:
    before, now = one_minus_alpha_bar[:-1], one_minus_alpha_bar[1:]
    posterior_variance = from_1(before / now * beta[1:])  # M2 (25)
    return Schedule(beta, alpha, alpha_bar, log_alpha_bar, one_minus_alpha_bar, posterior_variance)


def _read_only(table: Table) -> Table:
    table.flags.writeable = False
    return table


def _endpoints(beta_1: object, beta_T: object) -> tuple[float, float]:
    return check_real("beta_1", beta_1, 0.0, 1.0), check_real("beta_T", beta_T, 0.0, 1.0)


def _ramp(T: object) -> Table:
    """T numbers from 0 to 1; for T = 1, just 0."""
    steps = check_integer("T", T, 1)
    return np.arange(steps, dtype=np.float64) / max(steps - 1, 1)
