"""The tables of a noise schedule, and the arguments of the formulas that read them.

Time is t = 1 ... T as in the documents. Tables are host float64, of length T + 1: ``alpha_bar[t]`` is
the product of alpha_1 ... alpha_t, and index 0 is the data end, ``alpha_bar[0] == 1``. An argument
out of range raises ValueError, one of the wrong type TypeError.
"""

import functools
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
from ddpm_np._checks import describe


@dataclass(frozen=True, eq=False)
class Schedule:
    """The tables of one noise schedule, read-only; make one with the functions below."""

    beta: Table
    """beta_t in (0, 1), the variance of one step, M2 (20); ``beta[0] == 0``; beta_T may be 1."""
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
    def noise_to_signal(self) -> Table:
        """sqrt((1 - alpha_bar) / alpha_bar), the time of the probability flow; 0 at t = 0."""
        with np.errstate(over="ignore"):  # to infinity, where alpha_bar underflows
            return _read_only(self.sqrt_one_minus_alpha_bar * np.exp(-0.5 * self.log_alpha_bar))

    @functools.cached_property
    def half_log_snr(self) -> Table:
        """log(alpha_bar / (1 - alpha_bar)) / 2, minus the logarithm of it; infinite at t = 0."""
        with np.errstate(divide="ignore"):
            return _read_only(0.5 * (self.log_alpha_bar - np.log(self.one_minus_alpha_bar)))

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

    ``beta`` is a sequence of T numbers in (0, 1), without an entry for t = 0; the last may be 1, which
    leaves nothing of x_0 in x_T (zero terminal SNR).
    """
    steps = as_table("beta", beta)
    last = int(steps[-1] == 1.0)
    keeps = steps[: len(steps) - last]
    if not np.all((keeps > 0.0) & (keeps < 1.0)):
        t = int(np.argmin((keeps > 0.0) & (keeps < 1.0)))
        but = ", but for the last entry, which may be 1" if keeps[t] == 1.0 else ""
        raise ValueError(f"beta must lie strictly between 0 and 1{but}, got beta[{t}] = {steps[t]:g}")
    beta = np.concatenate([[0.0], steps])
    log_alpha_bar = np.concatenate([[0.0], cumulative_sum(np.log1p(-keeps)), [-np.inf] * last])
    one_minus_alpha_bar = -np.expm1(log_alpha_bar)
    one_minus_alpha_bar[:2] = beta[:2]  # 0, not -0; and beta_1 to the last bit: mu_tilde_1 is x_0
    return from_tables(beta, 1.0 - beta, np.exp(log_alpha_bar), log_alpha_bar, one_minus_alpha_bar)


def schedule_from_alpha_bar(alpha_bar: object) -> Schedule:
    """Build a schedule from a table of alpha_bar, which is kept to the last bit.

        beta[t] = 1 - alpha_bar[t] / alpha_bar[t - 1]

    ``alpha_bar`` is a sequence of T + 1 numbers: exactly 1 at t = 0, then strictly decreasing and > 0;
    the last may be 0 (zero terminal SNR).
    """
    table = as_table("alpha_bar", alpha_bar)
    if table[0] != 1.0:
        raise ValueError(f"alpha_bar must start with alpha_bar[0] = 1, the data end, got {table[0]:g}")
    if len(table) < 2:
        raise ValueError("alpha_bar must have at least two entries, t = 0 and t = 1, got 1")
    with np.errstate(divide="ignore", invalid="ignore"):  # what 0 and infinity leave is refused below
        # Neighbours within a factor of two subtract exactly, so beta keeps all its digits.
        beta = np.concatenate([[0.0], (table[:-1] - table[1:]) / table[:-1]])
        log_alpha_bar = np.log(table)
    is_step = (beta[1:] > 0.0) & (beta[1:] < 1.0)
    is_step[-1] |= table[-1] == 0.0 and table[-2] > 1e-290  # 0 by intent, not by underflow
    if not np.all(is_step):
        t = 1 + int(np.argmin(is_step))
        before, now, rule = table[t - 1], table[t], "decrease strictly and stay above 0 up to t = T - 1"
        if 0.0 < now < before:
            rule = "keep more than 1e-16 of itself in each step, or beta rounds to 1"
        elif 0.0 <= now <= before < 1e-290:  # times any 1 - beta, that may be no normal number
            rule = "not underflow: take fewer steps or smaller betas (schedule_from_beta takes any)"
        raise ValueError(
            f"alpha_bar must {rule}, got alpha_bar[{t - 1}] = {before:g}, alpha_bar[{t}] = {now:g}"
        )
    # Where beta is near 1, 1 - beta would have lost the digits of alpha.
    alpha = np.concatenate([[1.0], table[1:] / table[:-1]])
    return from_tables(beta, alpha, table, log_alpha_bar, 1.0 - table)


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


def check_eps(schedule: Schedule, t: Times) -> None:
    """Raise ValueError at T if nothing of x_0 is left there: x_T is eps, whatever x_0 is."""
    if np.any(schedule.alpha[t] == 0.0):
        raise ValueError(
            f"eps says nothing of x_0 at t = T = {schedule.T}, where alpha_bar[T] = 0 and x_T is "
            "nothing but noise: take x0, the mean or v there"
        )


def from_tables(
    beta: Table, alpha: Table, alpha_bar: Table, log_alpha_bar: Table, one_minus_alpha_bar: Table
) -> Schedule:
    """Complete the tables, M2 (25)."""
    before, now = one_minus_alpha_bar[:-1], one_minus_alpha_bar[1:]
    posterior_variance = from_1(before / now * beta[1:])  # M2 (25)
    return Schedule(beta, alpha, alpha_bar, log_alpha_bar, one_minus_alpha_bar, posterior_variance)


def _read_only(table: Table) -> Table:
    table.flags.writeable = False
    return table
