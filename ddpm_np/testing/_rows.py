"""Where a row of the report is made: a check measures, a measurement is judged, a row says so.

A module with checks ends in its ``CHECKS``: the rows in the order of the report, beside the
function that measures them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ddpm_np.testing._comparison import Comparison, worst_of
from ddpm_np.testing._slips import recognise
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import LARGEST_IMPRECISION, Truth
from ddpm_np.testing.protocol import Values
from ddpm_np.testing.report import Row, Verdict

NONLINEAR = (
    "right for small inputs, but not linear in them, elementwise: does it clip, threshold or broadcast?"
)


class Outcome(NamedTuple):
    """What a row says of its identity; the fields are those of :class:`Row`."""

    residual: float
    tolerance: float
    verdict: Verdict
    explanation: str = ""


class Identity(NamedTuple):
    """What should be equal, and the number or name of its equation."""

    name: str
    equation: str

    def row(self, outcome: Outcome) -> Row:
        """The row of the report."""
        return Row(
            self.name,
            self.equation,
            outcome.residual,
            outcome.tolerance,
            outcome.verdict,
            outcome.explanation,
        )


@dataclass(frozen=True)
class Check:
    """The methods that are needed, the function that measures, and the identities in its order."""

    needs: tuple[str, ...]
    measure: Callable[[Subject], list[Comparison]]
    identities: tuple[Identity, ...]

    def rows(self, subject: Subject) -> list[Row]:
        """One row per identity, whatever happens."""
        outcomes = self._outcomes(subject)
        return [
            identity.row(outcome) for identity, outcome in zip(self.identities, outcomes, strict=True)
        ]

    def _outcomes(self, subject: Subject) -> list[Outcome]:
        missing = [name for name in self.needs if not subject.offers(name)]
        if missing:
            return self._all("not offered", ", ".join(missing))
        try:
            comparisons = self.measure(subject)
        except NotImplementedError:
            return self._all("not offered", ", ".join(self.needs))
        except Exception as error:  # whatever a stranger's code raises is a finding
            return self._all("FAILS", in_one_line(error))
        return [judge(comparison, subject.truth, subject.dtype) for comparison in comparisons]

    def _all(self, verdict: Verdict, explanation: str) -> list[Outcome]:
        return [unmeasured(verdict, explanation)] * len(self.identities)


def unmeasured(verdict: Verdict, explanation: str) -> Outcome:
    """The outcome where there is nothing to compare."""
    return Outcome(math.nan, math.nan, verdict, explanation)


def in_one_line(error: Exception) -> str:
    """Type and message of an exception."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def judge(comparison: Comparison, truth: Truth, dtype: str) -> Outcome:
    """Residual and tolerance at the worst time, the verdict and its explanation."""
    if len(comparison.times) == 0:
        return Outcome(0.0, 0.0, "holds", "nothing to check with so few steps")
    with np.errstate(all="ignore"):
        tolerance, coarse = _limits(comparison, truth, dtype)
        error, residual = _errors(comparison)
        fails = not np.all(residual <= coarse)
        worst = int(np.argmax(residual / (coarse if fails else tolerance)))
        numbers = float(residual[worst]), float(tolerance[worst])
        if np.all(residual <= tolerance):
            return Outcome(*numbers, "holds", comparison.note)
        at_worst = f"worst at t = {comparison.times[worst]}"
        if not fails:
            return Outcome(*numbers, "imprecise", at_worst)
        if np.all(error <= coarse):
            return Outcome(*numbers, "FAILS", f"{NONLINEAR}; {at_worst}")
        slip = recognise(comparison, truth, coarse) or comparison.hint
        return Outcome(*numbers, "FAILS", "; ".join(filter(None, [slip, _got(comparison, worst)])))


def _limits(c: Comparison, truth: Truth, dtype: str) -> tuple[Values, Values]:
    """What rounding explains at each time, and what float32 tables do; the latter is no less."""
    tolerance = truth.tolerance(c.times, dtype) * c.loss * c.cancellation
    band = truth.imprecision(c.times) * c.loss * c.cancellation
    most = LARGEST_IMPRECISION * (1.0 if np.all(c.cancellation == 1.0) else 10.0)
    return tolerance, np.maximum(tolerance, np.minimum(band, most))


def _errors(c: Comparison) -> tuple[Values, Values]:
    """The relative error at each time, and the same with the departure from linearity."""
    scale = np.abs(c.expected) if c.scale is None else np.broadcast_to(c.scale, c.expected.shape)
    error = worst_of(np.abs(c.measured - c.expected) / np.maximum(scale, 1e-300))
    residual = error + np.broadcast_to(c.defect, error.shape) / np.maximum(worst_of(scale), 1e-300)
    residual[~np.isfinite(residual)] = np.inf
    return error, residual


def _got(c: Comparison, worst: int) -> str:
    """The pair of numbers that differs most at the worst time."""
    place = int(np.argmax(np.abs(c.measured[worst] - c.expected[worst])))
    got, wanted = np.ravel(c.measured[worst])[place], np.ravel(c.expected[worst])[place]
    return f"at t = {c.times[worst]}: got {got:.6g}, should be {wanted:.6g}"
