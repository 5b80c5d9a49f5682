"""Shorter chains: some times of a long chain, visited in order, and which times to visit.

Visited times increase, and the last is T; S is their number. The short chain is at i where the long one
is at times[i - 1]. All equations hold for it, its bound included; only the network is still asked at the
times of the long chain: :func:`ddpm_np.respaced_predictor`.

Nichol & Dhariwal 2021 (arXiv 2102.09672), section 4. Anything else raises TypeError or ValueError.
"""

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Table, from_1
from ddpm_np._checks import as_floats, check_integer, check_real, describe
from ddpm_np.schedules.tables import Schedule, check_schedule, from_tables

Visits = NDArray[np.int64]
"""Times to visit, increasing, on the host, shape (S,)."""


def respaced_schedule(schedule: Schedule, times: object) -> Schedule:
    """The schedule of the chain that visits only these times of a long one.

        alpha_bar'[i] = alpha_bar[times[i - 1]],  beta'[i] = 1 - alpha_bar'[i] / alpha_bar'[i - 1]

    beta' is not beta at times[i - 1].
    """
    t = check_visits(times, check_schedule(schedule).T)
    first = np.concatenate([[0], t[:-1]])
    with np.errstate(divide="ignore"):  # the logarithm of an alpha of 0
        # Products of alpha, not ratios of alpha_bar: beta keeps its digits, and one step stays as it is.
        log_steps = np.where(schedule.beta < 0.5, np.log1p(-schedule.beta), np.log(schedule.alpha))
    log_alpha = np.add.reduceat(log_steps[1:], first)
    single = t - first == 1
    beta = np.where(single, schedule.beta[t], -np.expm1(log_alpha))
    alpha = np.where(single, schedule.alpha[t], np.exp(log_alpha))
    beta[0], alpha[0] = schedule.one_minus_alpha_bar[t[0]], schedule.alpha_bar[t[0]]
    visited = np.concatenate([[0], t])
    return from_tables(
        from_1(beta),
        np.concatenate([[1.0], alpha]),
        schedule.alpha_bar[visited],
        schedule.log_alpha_bar[visited],
        schedule.one_minus_alpha_bar[visited],
    )


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
    return respaced_schedule(schedule, np.arange(first, schedule.T + 1))


# --- which times to visit -----------------------------------------------------------------


def uniform_times(T: int, S: int) -> Visits:
    """S times evenly from 1 to T, Nichol & Dhariwal 2021; diffusers' name for it is "linspace".

    times[i - 1] = 1 + (T - 1) (i - 1) / (S - 1), rounded; for S = 1, T
    """
    T, S = _check_numbers(T, S)
    return _distinct(1 + (T - 1) * _ramp(S), T)


def quadratic_times(T: int, S: int) -> Visits:
    """S times from 1 to T whose roots are even, so that most lie near the data, Song et al. 2021.

    times[i - 1] = 1 + (T - 1) ((i - 1) / (S - 1))^2, rounded, and moved apart where they coincide
    """
    T, S = _check_numbers(T, S)
    return _distinct(1 + (T - 1) * _ramp(S) ** 2, T)


def trailing_times(T: int, S: int) -> Visits:
    """Ends of S equal parts of 1 ... T, Lin et al. 2024 (arXiv 2305.08891), table 2.

    times[i - 1] = T i / S, rounded
    """
    T, S = _check_numbers(T, S)
    return _distinct(T * np.arange(1, S + 1) / S, T)


def log_snr_times(schedule: Schedule, S: int) -> Visits:
    """S times from 1 to T, even in log(alpha_bar / (1 - alpha_bar)), Lu et al. 2022, arXiv 2206.00927.

    Each is the nearest time there is; where two coincide they are moved apart. If alpha_bar[T] = 0, the
    others are even up to T - 1.
    """
    T, S = _check_numbers(check_schedule(schedule).T, S)
    snr = -schedule.half_log_snr[1:]
    last = T if np.isfinite(snr[-1]) else T - 1
    even = snr[0] + (snr[last - 1] - snr[0]) * _ramp(S - (T - last))
    nearest = np.round(np.interp(even, snr[:last], np.arange(1, last + 1)))
    return _distinct(np.concatenate([nearest, np.full(T - last, T)]), T)


# --- their checks -------------------------------------------------------------------------


def check_visits(times: object, T: int | None) -> Visits:
    """Return visited times as a host array: integers that increase from 1 or more to T, if known."""
    t = as_floats("times", times)
    if t.ndim != 1 or not t.size:
        raise ValueError(f"times must be a sequence of the times to visit, got {describe(times)}")
    if not np.all(t == np.round(t)):
        raise TypeError(f"times must be integers, got {describe(times)}")
    if t[0] < 1:
        raise ValueError(f"times must be 1 or more, got {t[0]:g}; t = 0, the data, is always the end")
    if not np.all(np.diff(t) > 0):
        i = int(np.argmin(np.diff(t) > 0))
        raise ValueError(f"times must increase, got {t[i]:g} before {t[i + 1]:g}")
    if T is not None and t[-1] != T:
        raise ValueError(f"the last of times must be T = {T}, got {t[-1]:g}")
    return t.astype(np.int64)


def _check_numbers(T: object, S: object) -> tuple[int, int]:
    steps = check_integer("T", T, 1)
    return steps, check_integer("S", S, 1, steps)


def _ramp(S: int) -> Table:
    """S numbers from 0 to 1; for S = 1, just 1."""
    return np.linspace(0.0, 1.0, S) if S > 1 else np.ones(S)


def _distinct(times: Table, T: int) -> Visits:
    """Round to times that increase, from 1 or more to T."""
    order = np.arange(len(times))
    least = np.maximum.accumulate(np.round(times).astype(np.int64) - order)
    return np.clip(least, 1, T + 1 - len(times)) + order
