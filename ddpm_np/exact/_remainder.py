"""How much of a law's means x_t leaves open, as a function of the noise.

A law is a mixture here: x_0 = mean + std * N(0, I), with means of variance ``spread`` in each
coordinate. Its level is what x_t would say of Gaussian means, in nats per half coordinate,

    level[t] = log(1 + alpha_bar[t] spread / v[t]),  v[t] = alpha_bar[t] std^2 + 1 - alpha_bar[t]

from 0, where nothing is left of x_0, to log(1 + spread / std^2) at t = 0; and its remainder

    remainder = E tr Cov(mean | x_t) exp(level[t]) / (d spread)

would be 1. Entropies follow from it by I-MMSE (Guo, Shamai & Verdu 2005):

    H(x_t) = d/2 (log(2 pi e v[t]) + integral of remainder from 0 to level[t])

It is a smooth function, interpolated between Chebyshev nodes. Draws are the same at all of them: what
two neighbouring times differ by is as smooth, and has little noise.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.polynomial.chebyshev import chebint, chebpts1, chebvander

from ddpm_np._arrays import Samples, Table
from ddpm_np.exact._points import Law, Seen, as_mixture
from ddpm_np.exact._weigh import weigh_means
from ddpm_np.schedules import Schedule

EXTRA_NODES, NODES_PER_LEVEL = 32, 16
"""So many nodes interpolate the remainder of well separated means, in 1-D, to 1e-10."""


class Remainder(NamedTuple):
    """The remainder at some levels, and what levels are made of."""

    std: float
    spread: float
    nodes: Table
    """Levels, shape (N,)."""
    values: Table
    """Shape (N, m), one column for each of m draws; m = 1 by quadrature."""

    @property
    def largest(self) -> float:
        """The level of x_0."""
        return math.log1p(self.spread / self.std**2)

    def level(self, schedule: Schedule) -> Table:
        """Level of each x_t, shape (T + 1,)."""
        return np.log1p(schedule.alpha_bar * self.spread / blurred_variance(schedule, self.std))

    def interpolation(self, level: Table) -> tuple[Table, Table]:
        """Matrices from values at the nodes to those at ``level``, and to integrals from 0 to it."""
        N, half = len(self.nodes), 0.5 * self.largest
        coefficients = np.linalg.inv(chebvander(self.nodes / half - 1.0, N - 1))
        at = chebvander(level / half - 1.0, N)
        return at[:, :-1] @ coefficients, half * at @ chebint(np.eye(N), lbnd=-1) @ coefficients


def blurred_variance(schedule: Schedule, std: float) -> Table:
    """Variance of x_t around its mean sqrt(alpha_bar[t]) m_k, M2 (37)."""
    return schedule.alpha_bar * std**2 + schedule.one_minus_alpha_bar


def measure_remainder(law: Law, seen: Seen) -> Remainder:
    """Measure the remainder of a law at Chebyshev nodes."""
    mixture = as_mixture(law)
    centre = mixture.weights @ mixture.means
    spread = float(mixture.weights @ np.sum((mixture.means - centre) ** 2, axis=1)) / mixture.d
    # All of this holds for any positive number in its place; one mean has no spread.
    spread = max(spread, mixture.std**2)
    largest = math.log1p(spread / mixture.std**2)
    N = EXTRA_NODES + math.ceil(NODES_PER_LEVEL * largest)
    nodes, rows = 0.5 * largest * (1.0 + chebpts1(N)), []
    for level in nodes:
        # The noise in x_t / sqrt(alpha_bar[t]) at this level:
        blur = math.sqrt(max(spread / math.expm1(level) - mixture.std**2, 0.0))
        signal, noise = 1.0 / math.hypot(1.0, blur), blur / math.hypot(1.0, blur)
        points = seen(signal, noise)
        trace = points.parts(_trace(law, points.x, signal, noise, centre))
        rows.append(trace * (math.exp(level) / (mixture.d * spread)))
    return Remainder(mixture.std, spread, nodes, np.stack(rows))


def _trace(law: Law, x: Samples, signal: float, noise: float, centre: Table) -> Table:
    """Trace of Cov(mean | x), shape (B,), for x = signal * x_0 + noise * N(0, I)."""
    mixture = as_mixture(law, signal, noise)
    squares = np.sum((mixture.means - centre) ** 2, axis=1, keepdims=True)
    columns = np.concatenate([mixture.means, squares], axis=1)
    std = math.hypot(signal * mixture.std, noise)
    _, average = weigh_means(x, np.log(mixture.weights), columns, 1.0 / std, signal)
    trace: Table = average[:, -1] - np.sum((average[:, :-1] - centre) ** 2, axis=1)
    return trace
