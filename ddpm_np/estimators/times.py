"""How to draw the times of a batch: spread evenly, and where they matter most.

All keep averages over t uniform on 1..T unbiased.
"""

import sys
from typing import Any

import numpy as np

from ddpm_np._arrays import Array, Table, check_times
from ddpm_np._checks import as_floats, check_integer, check_real, describe


def low_discrepancy_times(u: float, T: int, batch: int) -> Any:
    """Spread the times of a batch evenly over 1..T, from one uniform draw, VDM (Kingma et al. 2021).

        t[i] = 1 + floor(T * ((u + i / batch) mod 1)),  i = 0..batch-1

    Each t[i] is uniform on 1..T by itself, so that estimates stay unbiased; together they cover
    all times, which removes the variance between times from the mean of a batch.

    Parameters
    ----------
    u : float
        In [0, 1).
    T, batch : int
        >= 1.

    Returns
    -------
    int64 array, shape (batch,)
        On the host.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range.
    """
    T = check_integer("T", T, 1)
    start, batch = _check_start(u), check_integer("batch", batch, 1)
    # In units of 1 / batch: multiplied by T first, points on the edge of a cell stay there.
    steps = np.mod(start * batch + np.arange(batch), batch)
    return np.minimum(1 + np.floor(T * steps / batch).astype(np.int64), T)


def spread_uniforms(u: float, batch: int) -> Any:
    """Evenly spaced uniform draws, made from one, for :func:`times_from_uniforms`.

        uniforms[i] = (u + i / batch) mod 1

    Parameters, errors as :func:`low_discrepancy_times`. Host float64, shape (batch,), in [0, 1).
    """
    start, batch = _check_start(u), check_integer("batch", batch, 1)
    return np.mod(start + np.arange(batch) / batch, 1.0)


def times_from_uniforms(uniforms: Any, probabilities: Table) -> Any:
    """Times with given probabilities, from uniform draws, by inversion.

        t = the smallest t with probabilities[1] + ... + probabilities[t] > uniform

    Parameters
    ----------
    uniforms : host array, shape (B,)
        In [0, 1).
    probabilities : Table, length T + 1
        Entry 0 is not used; the others are >= 0 and sum to 1.

    Returns
    -------
    int64 array, shape (B,)
        On the host. Times of probability 0 do not occur.

    Raises
    ------
    TypeError, ValueError
        If uniforms leaves [0, 1) or probabilities is not a distribution.
    """
    p = _check_probabilities(probabilities)
    draws = as_floats("uniforms", uniforms)
    if draws.ndim != 1 or not np.all((draws >= 0.0) & (draws < 1.0)):
        raise ValueError(f"uniforms must have shape (B,) and lie in [0, 1), got {describe(uniforms)}")
    # Rounding may leave the last sum below a uniform: the last time that can occur takes it.
    t = 1 + np.searchsorted(np.cumsum(p[1:]), draws, side="right")
    return np.minimum(t, np.flatnonzero(p)[-1])


def importance_probabilities(second_moments: Table, uniform: float = 0.001) -> Table:
    """Probabilities of t that give the weighted estimate the least variance.

        probabilities[t] = (1 - uniform) sqrt(second_moments[t]) / sum + uniform / T

    Nichol & Dhariwal 2021 (arXiv 2102.09672), section 3.3; ``uniform``, from their code, keeps
    possible the times whose measured moment happens to be 0. With ``uniform = 0`` and exact moments
    they are optimal: the variance is (mean of sqrt(second_moments))^2 - (mean of means)^2.

    Parameters
    ----------
    second_moments : Table, length T + 1
        E[estimate^2 | t], exact or measured, >= 0 and not all 0; entry 0 is not used. Only ratios
        matter.
    uniform : float
        In [0, 1].

    Returns
    -------
    Table, length T + 1
        Entry 0 is 0; the others sum to 1.

    Raises
    ------
    TypeError, ValueError
        If second_moments is not such a table, or uniform is out of range.
    """
    share = check_real("uniform", uniform, 0.0, 1.0, closed=True)
    roots = np.sqrt(_check_nonnegative("second_moments", second_moments))
    T = len(roots) - 1
    probabilities: Table = (1.0 - share) * roots / np.sum(roots) + share / T
    probabilities[0] = 0.0
    return probabilities


def importance_weight(probabilities: Table, t: Array | int) -> Any:
    """Weight that keeps an estimate unbiased when t is drawn with given probabilities.

        weight = 1 / (T probabilities[t]),  E[weight * estimate] = E over uniform t of estimate

    Parameters
    ----------
    probabilities : Table, length T + 1
        As :func:`times_from_uniforms`.
    t : int, or integer array of shape (B,)
        The times that were drawn.

    Returns
    -------
    float64, shape of t
        On the host.

    Raises
    ------
    TypeError, ValueError
        If probabilities is not a distribution, or t is out of range or has probability 0.
    """
    p = _check_probabilities(probabilities)
    T = len(p) - 1
    drawn = p[check_times(t, T, None)]
    if np.any(drawn == 0.0):
        raise ValueError("t must have been drawn from probabilities, got a time of probability 0")
    return 1.0 / (T * drawn)


def _check_start(u: object) -> float:
    """Return u in [0, 1)."""
    start = check_real("u", u, 0.0, 1.0, closed=True)
    if start == 1.0:
        raise ValueError("u must lie in [0, 1), got 1")
    return start


def _check_nonnegative(name: str, values: object) -> Table:
    """Return a table of T + 1 entries that are finite, >= 0 and not all 0; entry 0 is set to 0."""
    table = as_floats(name, values, "be a table of numbers")
    if table.ndim != 1 or len(table) < 2:
        raise ValueError(f"{name} must have length T + 1 >= 2, got {describe(values)}")
    table[0] = 0.0
    if not (np.all((table >= 0.0) & (table <= sys.float_info.max)) and np.any(table > 0.0)):
        raise ValueError(f"{name} must be finite, >= 0 and not all 0 for t = 1..T, got {table[1:]}")
    return table


def _check_probabilities(values: object) -> Table:
    """Return a table of probabilities."""
    p = _check_nonnegative("probabilities", values)
    if not abs(float(np.sum(p)) - 1.0) < 1e-9:
        raise ValueError(f"probabilities must sum to 1 over t = 1..T, got {float(np.sum(p)):g}")
    return p
