"""Where a row of the report is made: a check measures, a measurement is judged, a row says so.

A module with checks ends in its ``CHECKS``: the rows in the order of the report, beside the
function that measures them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from ddpm_np.testing._comparison import Comparison, worst_of
from ddpm_np.testing._precision import Precision
from ddpm_np.testing._slips import recognise
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import LARGEST_IMPRECISION, Truth
from ddpm_np.testing.protocol import Values
from ddpm_np.testing.report import Row, Verdict

LARGEST_TOLERANCE = 0.1
SINGLE = 'no more than float32 explains: if it computes in float32, say dtype="float32"'
BAD_BETA = "cannot be judged while a beta is wrong"


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
    """The methods that are needed, the function that measures, and the identities in its order.

    A check of the whole chain says nothing as soon as one beta is bad.
    What needs another judgement than :func:`judge` is measured as an outcome; what does not apply,
    because of what is claimed, as None: it has no row.
    """

    needs: tuple[str, ...]
    measure: Callable[[Subject], Sequence[Comparison | Outcome | None]]
    identities: tuple[Identity, ...]
    whole: bool = False

    def rows(self, subject: Subject) -> list[Row]:
        """One row per identity that applies, whatever happens."""
        outcomes = zip(self.identities, self._outcomes(subject), strict=True)
        return [identity.row(outcome) for identity, outcome in outcomes if outcome is not None]

    def _outcomes(self, subject: Subject) -> Sequence[Outcome | None]:
        missing = [name for name in self.needs if not subject.offers(name)]
        if missing:
            return self._all("not offered", ", ".join(missing))
        if len(subject.times) == 0 or (self.whole and not subject.truth.is_whole):
            return self._all("remark", BAD_BETA)
        try:
            with np.errstate(all="ignore"):  # what comes out of it is judged
                comparisons = self.measure(subject)
        except NotImplementedError:
            return self._all("not offered", ", ".join(self.needs))
        except Exception as error:  # whatever a stranger's code raises is a finding
            return self._all("FAILS", in_one_line(error))
        precision = subject.precision(self.needs)
        return [
            judge(found, subject.truth, precision) if isinstance(found, Comparison) else found
            for found in comparisons
        ]

    def _all(self, verdict: Verdict, explanation: str) -> list[Outcome]:
        return [unmeasured(verdict, explanation)] * len(self.identities)


def unmeasured(verdict: Verdict, explanation: str) -> Outcome:
    """The outcome where there is nothing to compare."""
    return Outcome(math.nan, math.nan, verdict, explanation)


def in_one_line(error: Exception) -> str:
    """Type and message of an exception."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def judge(comparison: Comparison, truth: Truth, precision: Precision) -> Outcome:
    """Residual and tolerance at the worst time, the verdict and its explanation."""
    usable = np.isin(comparison.times, truth.times)
    if len(usable) and not usable.any():
        return unmeasured("remark", BAD_BETA)
    comparison = comparison.at(usable)
    if len(comparison.times) == 0:
        return unmeasured("remark", comparison.note or "nothing to check with so few steps")
    with np.errstate(all="ignore"):
        tolerance, coarse = _limits(comparison, truth, precision)
        error, residual = _errors(comparison)
        failing = ~(residual <= coarse)
        worst = int(np.argmax(residual / (coarse if failing.any() else tolerance)))
        numbers = float(residual[worst]), float(tolerance[worst])
        if failing.any():
            why = _why(comparison, truth, precision, coarse, error, residual)
            return Outcome(*numbers, "FAILS", "; ".join(filter(None, [*why, _got(comparison, worst)])))
        if np.any(coarse > LARGEST_TOLERANCE):
            return _judged_in_part(comparison, truth, precision, coarse)
        if np.all(residual <= tolerance):
            return Outcome(*numbers, "holds", comparison.note)
        return Outcome(
            *numbers, "imprecise", f"{precision.reason}; worst at t = {comparison.times[worst]}"
        )


def _judged_in_part(c: Comparison, truth: Truth, precision: Precision, limit: Values) -> Outcome:
    """The outcome at the times where rounding does not explain nearly everything."""
    clear = limit <= LARGEST_TOLERANCE
    if not clear.any():
        explained = f"rounding explains a relative error of {limit.min():.1g}"
        return unmeasured("remark", f"cannot be judged in this precision: {explained}")
    outcome = judge(c.at(clear), truth, precision)
    unclear = f"too imprecise to be judged at {np.sum(~clear)} of {len(c.times)} times"
    return outcome._replace(explanation="; ".join(filter(None, [outcome.explanation, unclear])))


def _why(
    c: Comparison,
    truth: Truth,
    precision: Precision,
    limit: Values,
    error: Values,
    residual: Values,
) -> list[str]:
    """What a failure probably means."""
    failing = ~(residual <= limit)
    if np.all(error[failing] <= limit[failing]):
        return [c.nonlinear]
    slip = recognise(c, truth, limit, failing)
    if slip:
        return [slip]
    if np.any((residual - error)[failing] > np.maximum(error, limit)[failing]):
        return [c.nonlinear]
    explained = np.minimum(_limits(c, truth, replace(precision, results=True))[1], LARGEST_TOLERANCE)
    return [SINGLE, c.hint] if np.all(residual <= explained) else [c.hint]


def _limits(c: Comparison, truth: Truth, precision: Precision) -> tuple[Values, Values]:
    """What rounding explains at each time, and what float32 does; the latter is no less."""
    amplified, dtype = c.loss * c.cancellation, precision.dtype
    tolerance = truth.tolerance(c.times, dtype) * amplified
    rounding = truth.tolerance(c.times, "float32" if precision.results else dtype) * amplified
    band = precision.band(truth, c.times)
    if band is None:
        return tolerance, tolerance
    is_direct = precision.tables is None and np.all(c.cancellation == 1.0)
    most = LARGEST_IMPRECISION if is_direct else LARGEST_TOLERANCE
    return tolerance, np.maximum(rounding, np.minimum(band * amplified, most))


def _errors(c: Comparison) -> tuple[Values, Values]:
    """The relative error at each time, and the same with the departure from linearity."""
    scale = np.abs(c.expected) if c.scale is None else np.broadcast_to(c.scale, c.expected.shape)
    scale = np.where(scale == 0.0, 1.0, scale)  # what has to be 0 is held against 1
    error = worst_of(np.abs(c.measured - c.expected) / np.maximum(scale, 1e-300))
    residual = error + np.broadcast_to(c.defect, error.shape) / worst_of(scale)
    residual[~np.isfinite(residual)] = np.inf
    return error, residual


def _got(c: Comparison, worst: int) -> str:
    """The pair of numbers that differs most at the worst time; only what is known for certain."""
    place = int(np.argmax(np.abs(c.measured[worst] - c.expected[worst])))
    got, wanted = np.ravel(c.measured[worst])[place], np.ravel(c.expected[worst])[place]
    should = "" if c.guesses else f", should be {wanted:.6g}"
    return f"at t = {c.times[worst]}: got {got:.6g}{should}"
