"""Reading the coefficients of a map that should be linear off its values at two probes."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np

from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing.protocol import Values

# Entries that differ from each other, so that a mixed-up axis or a lost example shows.
PROBE: Values = np.array([[1.0, -0.5, 0.25], [0.75, 0.6, -1.0], [-0.3, 0.9, 0.4], [0.55, -0.8, -0.65]])
OTHER_PROBE: Values = np.roll(PROBE[::-1], 1, axis=1) * np.array([1.0, -1.0, 1.0])
ZERO: Values = np.zeros_like(PROBE)
for _array in (PROBE, OTHER_PROBE, ZERO):
    _array.flags.writeable = False
DIMENSIONS = PROBE.shape[1]

TimedMap: TypeAlias = Callable[[Values, Values, int], Values]
"""A function (u, v, t) of two arrays and a time."""


class Coefficients(NamedTuple):
    """f(u, v, t) = of_u u + of_v v, and by how much f is not of that form; each of shape (n,)."""

    of_u: Values
    of_v: Values
    defect_u: Values
    defect_v: Values


def coefficients(
    f: TimedMap, times: TimeArray, size_u: Values | float = 1.0, size_v: Values | float = 1.0
) -> Coefficients:
    """Measure a map at each time, with probes of these sizes."""
    a, b = np.broadcast_to(size_u, times.shape), np.broadcast_to(size_v, times.shape)
    settings = zip(times.tolist(), a.tolist(), b.tolist(), strict=True)
    found = np.array([_at_one_time(f, *setting) for setting in settings])
    return Coefficients(*found.reshape(-1, 4).T)


def _at_one_time(f: TimedMap, t: int, a: float, b: float) -> tuple[float, float, float, float]:
    u, v = PROBE, OTHER_PROBE
    f_u, f_v, both = f(a * u, ZERO, t), f(ZERO, b * v, t), f(a * u, b * v, t)
    of_u, of_v = float(np.sum(f_u * u) / np.sum(u * u)) / a, float(np.sum(f_v * v) / np.sum(v * v)) / b
    defect_u = float(np.max(np.abs(f_u - of_u * a * u))) / a
    defect_v = float(np.max(np.abs(f_v - of_v * b * v))) / b
    # What u and v do together is held against the larger contribution.
    joint = float(np.max(np.abs(both - f_u - f_v)))
    if abs(of_u) * a >= abs(of_v) * b:
        return of_u, of_v, defect_u + joint / a, defect_v
    return of_u, of_v, defect_u, defect_v + joint / b


def over_probe(numbers: Values) -> Values:
    """Repeat a number per time over the entries of a probe: shape (n,) to (n, B, d)."""
    return numbers.reshape(-1, 1, 1) * np.ones((1, *PROBE.shape))


def largest(values: Values) -> Values:
    """The largest entry at each time, as the scale of all: shape (n, B, d)."""
    return np.max(np.abs(values), axis=(1, 2), keepdims=True) * np.ones_like(values)
