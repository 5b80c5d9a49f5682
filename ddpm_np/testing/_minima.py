"""The minimum of a loss as a function of one entry of the prediction, by differences."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_np.testing._batches import STEP, Curves
from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing.protocol import Values

SQUARED = "a squared error"
ROOT = "the square root of a squared error"
LINEAR = "no squared error but one that is linear far out, such as |error| or Huber's"
OTHER = "neither a squared error nor one that is linear far out"
SAME = 1e-3  # far beyond rounding, far below what another function does


class Minima(NamedTuple):
    """Where curves have their minimum, its weight, and how differences amplify errors; shape (n,)."""

    t: TimeArray
    x0: Values
    eps: Values
    place: Values
    weight: Values
    cancellation: Values

    def where(self, chosen: NDArray[np.bool_]) -> "Minima":
        """Some of them."""
        return Minima._make(part[chosen] for part in self)

    def joined(self, others: "Minima") -> "Minima":
        """These and others."""
        return Minima._make(np.concatenate(parts) for parts in zip(self, others, strict=True))


def kind_of(curves: Curves) -> str:
    """What the loss is as a function of the error."""
    values = curves.values
    if _is_quadratic(values):
        return SQUARED
    if _is_quadratic(values**2):
        return ROOT
    right, left = values[:, 4] - values[:, 3], values[:, 0] - values[:, 1]
    linear = np.all(np.abs(right - left) <= SAME * np.abs(right)) and np.all(right != 0.0)
    return LINEAR if linear else OTHER


def minima(curves: Curves, kind: str) -> Minima:
    """The minima of curves of this kind; those that are flat are left out."""
    values = curves.values**2 if kind == ROOT else curves.values
    low, middle, high = values[:, 1:4].T
    size = np.max(np.abs(values[:, 1:4]), axis=1)
    with np.errstate(all="ignore"):
        if kind == LINEAR:
            weight = (values[:, 4] - high) / STEP
            place, bend = (low - high) / (2.0 * weight), np.abs(weight) * STEP
        else:
            weight = (low + high - 2.0 * middle) / (2.0 * STEP**2)
            place, bend = (low - high) / (4.0 * STEP * weight), np.abs(weight) * STEP**2
        found = Minima(curves.t, curves.x0, curves.eps, curves.base + place, weight, 1.0 + size / bend)
    return found.where(bend > 1e-7 * size)


def _is_quadratic(values: Values) -> bool:
    third = np.diff(values, 3, axis=1)
    return bool(np.all(np.abs(third) <= SAME * np.max(np.abs(values), axis=1, keepdims=True)))
