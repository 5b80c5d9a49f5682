"""Points that stand for a law and its noise: draws, or the nodes of a quadrature if d = 1."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeAlias

import numpy as np

from ddpm_np._arrays import Samples, Table
from ddpm_np.exact._quadrature import cells_around
from ddpm_np.exact.curves import NoisyCurve
from ddpm_np.exact.mixtures import REACH, IsotropicMixture

Law: TypeAlias = IsotropicMixture | NoisyCurve
"""A mixture, or what is one to quadrature accuracy."""

NODES = 10
"""Of a Gauss-Legendre rule, for each standard deviation."""


class Points(NamedTuple):
    """Points and their weights."""

    x: Samples
    weights: Table | None
    """None: draws, which all weigh the same."""

    def parts(self, values: Table) -> Table:
        """Independent numbers whose mean is the expectation: one for each draw, or one in all."""
        return values if self.weights is None else np.array([self.weights @ values])


Seen: TypeAlias = Callable[[float, float], Points]
"""(signal, noise) to points of the law of signal * x_0 + noise * eps, eps the same at each call."""


def points_of(law: Law, n: int, rng: np.random.Generator) -> Callable[[], Seen]:
    """Return a function that makes one :data:`Seen` after another: the same x_0, other noise."""
    if law.d == 1:
        return lambda: lambda signal, noise: Points(*_nodes(law, signal, noise))
    x0 = law.sample(n, rng)

    def seen() -> Seen:
        eps = rng.standard_normal(x0.shape)
        return lambda signal, noise: Points(signal * x0 + noise * eps, None)

    return seen


def nodes_of_pairs(law: Law, rows: int) -> Iterator[tuple[Samples, Samples, Table]]:
    """Yield x_0, its noise and weights for both together, about ``rows`` at a time; d = 1."""
    (x0, p), (eps, q) = _nodes(law, 1.0, 0.0), _nodes(NORMAL, 1.0, 0.0)
    step = max(1, rows // len(eps))
    for some in np.split(np.arange(len(x0)), range(step, len(x0), step)):
        pairs = np.repeat(x0[some], len(eps), axis=0), np.tile(eps, (len(some), 1))
        yield *pairs, np.outer(p[some], q).ravel()


def as_mixture(law: Law, signal: float = 1.0, noise: float = 0.0) -> IsotropicMixture:
    """Return a mixture that equals the law when signal * x_0 + noise * eps is seen."""
    return law if isinstance(law, IsotropicMixture) else law.mixture(noise / max(signal, 1e-100))


def _nodes(law: Law, signal: float, noise: float) -> tuple[Samples, Table]:
    """Nodes and weights for the law of signal * x_0 + noise * eps; d = 1."""
    mixture = as_mixture(law, signal, noise)
    std = math.hypot(signal * mixture.std, noise)
    seen = IsotropicMixture(mixture.weights, signal * mixture.means, std)
    cells = [*cells_around(seen.means / std, REACH, NODES)]
    x = std * np.concatenate([points for points, _ in cells])
    volumes = std * np.concatenate([volumes for _, volumes in cells])
    return x, volumes * np.exp(seen.log_density(x))


NORMAL = IsotropicMixture(np.ones(1), np.zeros((1, 1)), 1.0)
