"""Laws of what was drawn: tests that a right implementation fails less than once in a million reports.

Each test compares a measured deviation with the limit that it exceeds with probability LEVEL if
the law is right, whatever the number of draws: exact laws of the mean, the variance and the
correlation of normal draws, and for a distribution function the inequality of Dvoretzky, Kiefer,
Wolfowitz and Massart. A report makes fewer than a hundred of them.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from scipy.special import chdtri, gammaincinv, ndtr, ndtri, stdtrit

from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing.protocol import Values

LEVEL = 1e-8
FALSE_ALARM = "false alarm: less than 1e-6 per report"
GROUPS = 16
ENOUGH = 25.0  # draws expected where none came: exp(-25) is the chance that they do not

Distribution = Callable[[Values], Values]
"""A distribution function."""

LAWS: dict[str, Distribution] = {
    "uniform on [0, 1)": lambda x: np.clip(x, 0.0, 1.0),
    "uniform on [-1, 1)": lambda x: np.clip(0.5 * (x + 1.0), 0.0, 1.0),
    "uniform with variance 1": lambda x: np.clip(0.5 + x / math.sqrt(12.0), 0.0, 1.0),
    "uniform on [-0.5, 0.5)": lambda x: np.clip(x + 0.5, 0.0, 1.0),
    "Laplace": lambda x: 0.5 - 0.5 * np.sign(x) * np.expm1(-np.abs(x)),
    "Laplace with variance 1": lambda x: 0.5 - 0.5 * np.sign(x) * np.expm1(-math.sqrt(2.0) * np.abs(x)),
    "the absolute value of a normal draw": lambda x: np.maximum(2.0 * ndtr(x) - 1.0, 0.0),
}


class Deviation(NamedTuple):
    """What was measured, how far it is from what it should be, and how far chance can bring it."""

    what: str
    value: float
    limit: float

    @property
    def excess(self) -> float:
        """Above 1 where chance does not explain it."""
        ratio = self.value / self.limit
        return ratio if ratio == ratio else math.inf


def worst(deviations: Iterable[Deviation]) -> Deviation:
    """The one that chance explains least."""
    return max(deviations, key=lambda deviation: deviation.excess)


def normal(z: Values) -> list[Deviation]:
    """Deviations from N(0, 1) of independent draws, in order of t: mean, variance, distribution."""
    mean = float(np.mean(z))
    return [
        Deviation(f"mean {mean:.3g}", abs(mean), -float(ndtri(LEVEL / 2.0)) / math.sqrt(z.size)),
        *[_variance(part) for part in np.array_split(z, GROUPS)],
        distribution(z, ndtr),
    ]


def distribution(x: Values, law: Distribution) -> Deviation:
    """The largest distance of the empirical distribution function from a continuous one."""
    ordered = np.sort(x.ravel())
    at, steps = law(ordered), np.arange(len(ordered) + 1) / len(ordered)
    distance = float(max(np.max(steps[1:] - at), np.max(at - steps[:-1])))
    return Deviation(f"distribution function off by {distance:.3g}", distance, _dkw(len(ordered)))


def uniform_times(t: TimeArray, share: Values) -> Deviation:
    """Distance of those times drawn that are in 1..T from a law there, ``share`` its T probabilities.

    Half the draws count, as times may come in pairs t, T + 1 - t; strata only come closer.
    """
    t = t[(t >= 1) & (t <= len(share))]
    found = np.bincount(t, minlength=len(share) + 1)[1:] / max(t.size, 1)
    distance = float(np.max(np.abs(np.cumsum(found - share))))
    return Deviation(f"off by {distance:.3g}", distance, _dkw(max(t.size // 4, 1)))


def never_drawn(t: TimeArray, allowed: TimeArray) -> TimeArray:
    """Allowed times that never came, though those around them came so often that they had to."""
    counts = np.bincount(t.ravel(), minlength=allowed[-1] + 1)
    came = np.flatnonzero(counts)
    silent = []
    for time in allowed[counts[allowed] == 0].tolist():
        place = int(np.searchsorted(came, time))
        around = came[max(place - 10, 0) : place + 10]
        if np.sum(counts[around]) >= ENOUGH * max(len(around), 1):
            silent.append(time)
    return np.array(silent, dtype=np.int64)


def correlation(what: str, a: Values, b: Values) -> Deviation:
    """Correlation of two sets of draws that are independent, one of them normal."""
    a, b = a.ravel(), b.ravel()
    both = np.isfinite(a) & np.isfinite(b)
    a, b, n = a[both] - np.mean(a[both]), b[both] - np.mean(b[both]), int(both.sum())
    r = float(np.sum(a * b) / max(math.sqrt(float(np.sum(a * a) * np.sum(b * b))), 1e-300))
    quantile = -float(stdtrit(n - 2.0, LEVEL / 2.0))
    return Deviation(
        f"{what} (correlation {r:.3g})", abs(r), quantile / math.sqrt(n - 2.0 + quantile**2)
    )


def _variance(z: Values) -> Deviation:
    square = float(np.mean(z * z))
    low = 2.0 * float(gammaincinv(z.size / 2.0, LEVEL / 2.0)) / z.size
    high = float(chdtri(z.size, LEVEL / 2.0)) / z.size
    limit = high - 1.0 if square > 1.0 else 1.0 - low
    return Deviation(f"variance {square:.3g} at some t", abs(square - 1.0), limit)


def _dkw(n: int) -> float:
    return math.sqrt(math.log(2.0 / LEVEL) / (2.0 * n))
