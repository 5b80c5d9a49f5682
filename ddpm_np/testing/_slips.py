"""Guessing from the pattern of a measurement over time which slip made it."""

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing._comparison import Comparison, worst_of
from ddpm_np.testing._probes import DIMENSIONS
from ddpm_np.testing._truth import Truth
from ddpm_np.testing.protocol import Values

TINY = 1e-300


def recognise(comparison: Comparison, truth: Truth, limit: Values) -> str:
    """The sentence of the first slip whose values agree at every time, or an empty one."""
    if not np.all(np.isfinite(comparison.measured)):
        return "the result is not finite"
    return (
        _other_formula(comparison, limit)
        or _other_time(comparison, truth, limit)
        or _factor(comparison, truth, limit)
        or _power(comparison, limit)
    )


def _other_formula(c: Comparison, limit: Values) -> str:
    for text, values in {**c.candidates, "the sign is wrong": -c.expected}.items():
        if _agree(c.measured, np.broadcast_to(values, c.measured.shape), limit):
            return text
    return ""


def _other_time(c: Comparison, truth: Truth, limit: Values) -> str:
    if c.table is None:
        return ""
    for shift in (1, -1):
        at = c.times + shift
        inside = (at >= 1) & (at <= truth.T)
        shifted = c.table[np.clip(at, 0, truth.T)]
        if inside.any() and _agree(c.measured[inside], shifted[inside], limit[inside]):
            return f"t seems to be off by one: it is the value of t {'+' if shift > 0 else '-'} 1"
    return ""


def _factor(c: Comparison, truth: Truth, limit: Values) -> str:
    for name, table in _named_ratios(truth).items():
        factor = table[c.times].reshape(-1, *[1] * (c.expected.ndim - 1))
        if _agree(c.measured, c.expected * factor, limit):
            at_last = f"{table[c.times[-1]]:.4g} at t = {c.times[-1]}"
            return f"it is {name} times what it should be (ratio {at_last})"
    return ""


def _power(c: Comparison, limit: Values) -> str:
    if c.scale is not None:
        return ""
    powers = {"the square": c.expected**2, "the square root": np.sqrt(np.abs(c.expected))}
    for name, values in powers.items():
        if _agree(c.measured, values, limit):
            return f"it is {name} of what it should be"
    return ""


def _named_ratios(truth: Truth) -> dict[str, Table]:
    """Factors that get lost or doubled, by the names that a reader knows; entry 0 unused."""
    one = np.ones(truth.T + 1)
    direct = {
        "alpha[t]": truth.alpha,
        "sqrt(alpha[t])": np.sqrt(truth.alpha),
        "1 - alpha_bar[t]": truth.variance,
        "sqrt(1 - alpha_bar[t])": truth.sigma,
        "alpha_bar[t]": truth.alpha_bar,
        "sqrt(alpha_bar[t])": truth.slope,
        "beta[t]": truth.beta,
        "sqrt(beta[t])": np.sqrt(truth.beta),
        "(1 - alpha_bar[t-1]) / (1 - alpha_bar[t])": truth.posterior_variance
        / np.maximum(truth.beta, TINY),
        "2": 2.0 * one,
        "d (a mean over dimensions for a sum, or the reverse)": DIMENSIONS * one,
        "T": truth.T * one,
    }
    ratios = {}
    for name, table in direct.items():
        ratios[name] = table
        ratios[f"1 / ({name})" if " " in name else f"1 / {name}"] = 1.0 / np.maximum(table, TINY)
    return ratios


def _agree(measured: Values, candidate: Values, limit: Values) -> bool:
    scale = np.maximum(np.abs(candidate), 1e-12)
    error = worst_of(np.abs(measured - candidate) / scale)
    return bool(np.all(error <= np.maximum(limit, 1e-6)))
