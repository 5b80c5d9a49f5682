"""The tables of a chain in 40 digits, and the chains that the cases use."""

import itertools
from typing import Any

import mpmath
import numpy as np

from tests.vectors.draws import f32, rounded

BETA = "beta_1 ... beta_T, shape (T,)"
TIMES = "a time for each example, shape (B,)"
ROWS = "shape (B, d)"
PER_EXAMPLE = "shape (B,)"
SIGMA2 = "variances of the reverse steps, shape (T + 1,); entry 0 is 0 and not used"

root = np.frompyfunc(mpmath.sqrt, 1, 1)
log = np.frompyfunc(mpmath.log, 1, 1)
exp = np.frompyfunc(mpmath.exp, 1, 1)
sine = np.frompyfunc(mpmath.sin, 1, 1)


class Chain:
    """Tables of t = 0 ... T, from beta_1 ... beta_T."""

    def __init__(self, beta: Any) -> None:
        self.T = len(beta)
        self.beta = np.array([mpmath.mpf(0), *beta])
        self.alpha = 1 - self.beta
        self.alpha_bar = np.array(list(itertools.accumulate(self.alpha, lambda a, b: a * b)))

    def before(self, t: Any) -> Any:
        """alpha_bar[t-1]."""
        return self.alpha_bar[t - 1]

    def c_xt(self, t: Any) -> Any:
        """The coefficient of x_t in (26)."""
        return root(self.alpha[t]) * (1 - self.before(t)) / (1 - self.alpha_bar[t])

    def c_x0(self, t: Any) -> Any:
        """The coefficient of x_0 in (26)."""
        return root(self.before(t)) * self.beta[t] / (1 - self.alpha_bar[t])

    def posterior_variance(self, t: Any) -> Any:
        """(25)."""
        return (1 - self.before(t)) / (1 - self.alpha_bar[t]) * self.beta[t]

    def x0(self, x_t: Any, t: Any, prediction: Any, target: str) -> Any:
        """What a prediction says of x_0; t is an int, or a column."""
        a = self.alpha_bar[t]
        if target == "eps":
            return (x_t - root(1 - a) * prediction) / root(a)
        if target == "v":
            return root(a) * x_t - root(1 - a) * prediction
        if target == "mean":
            return (prediction - self.c_xt(t) * x_t) / self.c_x0(t)
        return prediction

    def eps(self, x_t: Any, t: Any, prediction: Any, target: str) -> Any:
        """What it says of the noise."""
        if target == "eps":
            return prediction
        a, x0 = self.alpha_bar[t], self.x0(x_t, t, prediction, target)
        return (x_t - root(a) * x0) / root(1 - a)

    def mean(self, x_t: Any, t: Any, prediction: Any, target: str) -> Any:
        """The model's mean: (26) at the x_0 that the prediction implies."""
        if target == "mean":
            return prediction
        return self.c_xt(t) * x_t + self.c_x0(t) * self.x0(x_t, t, prediction, target)


def column(t: Any) -> Any:
    """One number for each example, beside arrays of shape (B, d)."""
    return t[:, None]


# --- chains of the cases ------------------------------------------------------------------

ONE = f32([0.375])
THREE = f32([0.125, 0.25, 0.5])
UNEVEN = f32([0.5, 0.0625, 0.25, 0.015625, 0.375])
"""Neither beta nor alpha can be mistaken for that of a neighbour."""
LINEAR = rounded(np.linspace(0.02, 0.45, 10), 10)
HO = rounded(np.linspace(1e-4, 0.02, 50), 18)
TINY = f32([2.0**-20, 2.0**-18, 2.0**-19, 2.0**-17])
SHARP = f32([0.5, 0.9990234375, 0.75, 0.984375])
"""Betas near 1."""
DEEP = f32([0.25, 0.5, 0.75, 0.9375, 0.9375, 0.96875])
"""alpha_bar_T is 1e-5."""
GROWING = f32([0.0078125 * 1.5**k for k in range(10)])
