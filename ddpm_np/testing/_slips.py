"""Guessing from the pattern of a measurement over time which slip made it.

A slip is named only if it explains the numbers to the tolerance, and far better than what they
should be does. Where several do, all are named.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Table
from ddpm_np.testing._comparison import Comparison, worst_of
from ddpm_np.testing._probes import DIMENSIONS
from ddpm_np.testing._truth import TimeArray, Truth
from ddpm_np.testing.protocol import Values

TINY = 1e-300
MOST_NAMES = 3


def recognise(comparison: Comparison, truth: Truth, limit: Values, failing: NDArray[np.bool_]) -> str:
    """What was probably done, as a sentence; empty if no slip explains the numbers."""
    infinite = worst_of(np.where(np.isfinite(comparison.measured), 0.0, 1.0)) > 0.0
    if infinite.any():
        return f"the result is not finite{_where(comparison.times, infinite)}"
    found = _names(comparison, truth, limit, failing)
    if found:
        return _either(found)
    where, part = _where(comparison.times, failing), comparison.at(failing)
    few = _specific(part, truth, limit[failing], failing[failing])
    if where:
        return f"right but{where}: {_either(few) or part.hint or 'no known slip'}"
    right = _where(comparison.times, ~failing)
    return f"{_either(few)}, but right{right}" if few and right else ""


def _names(c: Comparison, truth: Truth, limit: Values, failing: NDArray[np.bool_]) -> list[str]:
    """The slips of this formula; if there are none, those that any formula may have."""
    specific = _specific(c, truth, limit, failing)
    if specific:
        return specific
    bases = {f"if sigma_t^2 is {name}, ": values for name, values in c.guesses.items()}
    found = [
        f"{condition}{text}"
        for condition, base in (bases or {"": c.expected}).items()
        for text, values in [*_factors(c, base, truth), *_powers(c, base)]
        if _explains(c, values, limit, failing)
    ]
    return found if found or bases else _constant(c, limit, failing)


def _specific(c: Comparison, truth: Truth, limit: Values, failing: NDArray[np.bool_]) -> list[str]:
    bases = c.guesses.values() or [c.expected]
    wrong_signs = [] if any("sign is wrong" in text for text in c.candidates) else bases
    found = [
        text
        for text, values in c.candidates.items()
        if _explains(c, np.broadcast_to(values, c.measured.shape), limit, failing)
    ]
    if any(_explains(c, -values, limit, failing) for values in wrong_signs):
        found.append("the sign is wrong")
    return found or _other_time(c, truth, limit, failing)


def _other_time(c: Comparison, truth: Truth, limit: Values, failing: NDArray[np.bool_]) -> list[str]:
    found = []
    for shift, sign in ((1, "+"), (-1, "-")):
        at = c.times + shift
        inside = (at >= 1) & (at <= truth.T)
        if c.table is None or not np.any(inside & failing):
            continue
        values = np.where(
            inside.reshape(-1, *[1] * (c.measured.ndim - 1)),
            c.table[np.clip(at, 0, truth.T)],
            c.measured,
        )
        if _explains(c, values, limit, failing & inside):
            found.append(f"t seems to be off by one: it is the value of t {sign} 1")
    return found


def _factors(c: Comparison, base: Values, truth: Truth) -> Iterable[tuple[str, Values]]:
    for name, table in named_ratios(truth).items():
        if len(c.times) == 1 and np.any(table != table[0]):
            continue  # a pattern over time cannot be told from one time
        factor = table[c.times].reshape(-1, *[1] * (base.ndim - 1))
        at_last = f"{table[c.times[-1]]:.4g} at t = {c.times[-1]}"
        yield f"it is {name} times what it should be (ratio {at_last})", base * factor


def _powers(c: Comparison, base: Values) -> Iterable[tuple[str, Values]]:
    if c.scale is None:
        yield "it is the square of what it should be", base**2
        yield "it is the square root of what it should be", np.sqrt(np.abs(base))


def _constant(c: Comparison, limit: Values, failing: NDArray[np.bool_]) -> list[str]:
    """One unknown factor everywhere, if there are numbers enough to tell."""
    ratio = float(np.median(c.measured / c.expected))
    if (
        c.measured.size < 3
        or abs(ratio - 1.0) < 1e-4
        or not _explains(c, ratio * c.expected, limit, failing)
    ):
        return []
    return [f"it is {ratio:.6g} times what it should be{', at every t' if len(c.times) > 1 else ''}"]


def named_ratios(truth: Truth) -> dict[str, Table]:
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
        "d, the number of dimensions": DIMENSIONS * one,
        "T": truth.T * one,
    }
    ratios = {}
    for name, table in direct.items():
        ratios[name] = table
        ratios[f"1 / ({name})" if " " in name else f"1 / {name}"] = 1.0 / np.maximum(table, TINY)
    return ratios


def _explains(c: Comparison, values: Values, limit: Values, failing: NDArray[np.bool_]) -> bool:
    """Whether these values are what was measured, to the tolerance, at every time."""
    distance = np.abs(c.measured - values)
    itself = np.where(values == 0.0, np.abs(c.expected), np.abs(values))
    scale = itself if c.scale is None else np.maximum(itself, c.scale)
    error = worst_of(distance / np.maximum(scale, 1e-12))
    other = np.minimum(worst_of(np.abs(c.measured - c.expected)), worst_of(itself))
    better = worst_of(distance) <= 0.1 * other
    return bool(np.all(error <= np.maximum(limit, 1e-6)) and np.all(better[failing]))


def _either(found: list[str]) -> str:
    return ", or ".join(found[:MOST_NAMES])


def _where(times: TimeArray, chosen: NDArray[np.bool_]) -> str:
    """The times that were chosen, if they are few of many."""
    few = times[chosen].tolist()
    if len(few) > 3 or len(few) == len(times):
        return ""
    return f" at t = {' and '.join(map(str, few))}{' alone' if len(few) == 1 else ''}"
