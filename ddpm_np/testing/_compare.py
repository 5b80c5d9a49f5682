"""Judging a measurement, and guessing from its pattern over time which slip made it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Table
from ddpm_np.testing._measure import DIMENSIONS
from ddpm_np.testing._truth import LARGEST_IMPRECISION, Truth, Values
from ddpm_np.testing.report import Verdict

NONLINEAR = (
    "right for small inputs, but not linear in them, elementwise: does it clip, threshold or broadcast?"
)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Something measured at some times, beside what it should be.

    Attributes
    ----------
    times : integer array, shape (n,)
    measured, expected : array, shape (n, ...)
    scale : array that broadcasts against them, optional
        What errors are relative to; by default the expected values.
    defect : array, shape (n,), optional
        Departure from linearity, added to the error.
    loss : array, shape (n,), optional
        Factor by which the formula itself amplifies errors of the tables.
    cancellation : array, shape (n,), optional
        Further factor by which it amplifies rounding of its own arithmetic.
    table : Table, optional
        The expected value at every t, to recognise a shift in time.
    candidates : mapping
        What other formulas would give, by the sentence that describes the slip.
    hint, note : str
        What to say if no slip is recognised, and if all is well.
    """

    times: NDArray[np.int64]
    measured: Values
    expected: Values
    scale: Values | None = None
    defect: Values | float = 0.0
    loss: Values | float = 1.0
    cancellation: Values | float = 1.0
    table: Table | None = None
    candidates: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    note: str = ""


def judge(c: Comparison, truth: Truth, dtype: str) -> tuple[float, float, Verdict, str]:
    """Residual and tolerance at the worst time, the verdict and its explanation."""
    if len(c.times) == 0:
        return 0.0, 0.0, "holds", "nothing to check with so few steps"
    with np.errstate(all="ignore"):
        return _judge(c, truth, dtype)


def _judge(c: Comparison, truth: Truth, dtype: str) -> tuple[float, float, Verdict, str]:
    tolerance = truth.tolerance(c.times, dtype) * c.loss * c.cancellation
    band = truth.imprecision(c.times) * c.loss * c.cancellation
    most = LARGEST_IMPRECISION * (1.0 if np.all(c.cancellation == 1.0) else 10.0)
    coarse = np.maximum(tolerance, np.minimum(band, most))
    scale = np.abs(c.expected) if c.scale is None else np.broadcast_to(c.scale, c.expected.shape)
    error = _worst_of(np.abs(c.measured - c.expected) / np.maximum(scale, 1e-300))
    defect = np.broadcast_to(c.defect, error.shape) / np.maximum(_worst_of(scale), 1e-300)
    residual = error + defect
    residual[~np.isfinite(residual)] = np.inf
    if np.all(residual <= tolerance):
        worst = int(np.argmax(residual / tolerance))
        return float(residual[worst]), float(tolerance[worst]), "holds", c.note
    if np.all(residual <= coarse):
        worst = int(np.argmax(residual / tolerance))
        text = f"worst at t = {c.times[worst]}"
        return float(residual[worst]), float(tolerance[worst]), "imprecise", text
    worst = int(np.argmax(residual / coarse))
    t = int(c.times[worst])
    if np.all(error <= coarse):
        return float(residual[worst]), float(tolerance[worst]), "FAILS", f"{NONLINEAR}; worst at t = {t}"
    place = int(np.argmax(np.abs(c.measured[worst] - c.expected[worst])))
    got, wanted = np.ravel(c.measured[worst])[place], np.ravel(c.expected[worst])[place]
    text = _recognise(c, truth, coarse) or c.hint
    numbers = f"at t = {t}: got {got:.6g}, should be {wanted:.6g}"
    return (
        float(residual[worst]),
        float(tolerance[worst]),
        "FAILS",
        "; ".join(filter(None, [text, numbers])),
    )


def _recognise(c: Comparison, truth: Truth, limit: Values) -> str:
    """The sentence of the first slip whose values agree at every time, or an empty one."""
    if not np.all(np.isfinite(c.measured)):
        return "the result is not finite"
    for text, values in {**c.candidates, "the sign is wrong": -c.expected}.items():
        if _agree(c.measured, np.broadcast_to(values, c.measured.shape), limit):
            return text
    if c.table is not None:
        for shift in (1, -1):
            at = c.times + shift
            inside = (at >= 1) & (at <= truth.T)
            shifted = c.table[np.clip(at, 0, truth.T)]
            if inside.any() and _agree(c.measured[inside], shifted[inside], limit[inside]):
                return f"t seems to be off by one: it is the value of t {'+' if shift > 0 else '-'} 1"
    for name, table in _named_ratios(truth).items():
        factor = table[c.times].reshape(-1, *[1] * (c.expected.ndim - 1))
        if _agree(c.measured, c.expected * factor, limit):
            at_last = f"{table[c.times[-1]]:.4g} at t = {c.times[-1]}"
            return f"it is {name} times what it should be (ratio {at_last})"
    if c.scale is None:
        for name, values in (
            ("the square", c.expected**2),
            ("the square root", np.sqrt(np.abs(c.expected))),
        ):
            if _agree(c.measured, values, limit):
                return f"it is {name} of what it should be"
    return ""


def _named_ratios(truth: Truth) -> dict[str, Table]:
    """Factors that get lost or doubled, by the names that a reader knows; entry 0 unused."""
    one = np.ones(truth.T + 1)
    tiny = 1e-300
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
        / np.maximum(truth.beta, tiny),
        "2": 2.0 * one,
        "d (a mean over dimensions for a sum, or the reverse)": DIMENSIONS * one,
        "T": truth.T * one,
    }
    ratios = {}
    for name, table in direct.items():
        ratios[name] = table
        ratios[f"1 / ({name})" if " " in name else f"1 / {name}"] = 1.0 / np.maximum(table, tiny)
    return ratios


def _agree(measured: Values, candidate: Values, limit: Values) -> bool:
    scale = np.maximum(np.abs(candidate), 1e-12)
    error = _worst_of(np.abs(measured - candidate) / scale)
    return bool(np.all(error <= np.maximum(limit, 1e-6)))


def _worst_of(values: Values) -> Values:
    """Maximum over all axes but the first, as an array of its own."""
    result: Values = np.max(values.reshape(len(values), -1), axis=1)
    return result
