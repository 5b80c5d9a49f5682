"""A curve with Gaussian noise around it, solved by quadrature along the curve.

A Gauss-Legendre rule over the curve's parameter turns the law into a Gaussian mixture, and
:class:`~ddpm_np.exact.mixtures.IsotropicMixture` does the rest. The more noise the curve is
seen through, the fewer nodes it takes.
"""

import functools
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Array, Samples, Table, array_namespace, check_arrays, check_times, device
from ddpm_np._checks import check_integer, check_plain, check_real, describe
from ddpm_np.data.toy import SWISS_ROLL_NOISE, SWISS_ROLL_RANGE, Seed, as_generator, swiss_roll_curve
from ddpm_np.exact._quadrature import composite_rule
from ddpm_np.exact.mixtures import LARGEST_STD, IsotropicMixture
from ddpm_np.schedules import Schedule, check_schedule

NODES_PER_PANEL = 48
MAX_PANELS = 10_000


@dataclass(frozen=True, eq=False)
class NoisyCurve:
    """Points spread along a smooth curve, with isotropic Gaussian noise.

        u ~ Uniform[low, high],  x_0 = curve(u) + std * N(0, I)

    Parameters
    ----------
    curve : callable, array of shape (n,) to array of shape (n, d)
        Smooth, host float64, and a pure function.
    low, high : float
        Range of the parameter, low < high.
    std : float
        Standard deviation of the noise, > 0 and below 1e150.
    panel : float
        Length of a quadrature panel of 48 nodes along the curve, in standard deviations.
        At the default of 20, densities and denoisers of points that the law could have drawn
        are converged to about 1e-11 (halve it to see); five standard deviations off, to 1e-4.

    Raises
    ------
    TypeError, ValueError
        If a value is out of range, or ``curve`` returns anything but finite values of shape
        (n, d) or does not move, or std is so small that 10,000 panels do not suffice.
    """

    curve: Callable[[Table], Samples]
    low: float
    high: float
    std: float
    panel: float = 20.0

    def __post_init__(self) -> None:
        most = sys.float_info.max
        bounds = {"low": (-most, most), "high": (-most, most)}
        bounds |= {"std": (0.0, LARGEST_STD), "panel": (0.0, most)}
        for name, (low, high) in bounds.items():
            object.__setattr__(self, name, check_real(name, getattr(self, name), low, high))
        if not self.low < self.high:
            raise ValueError(f"low must be less than high, got low = {self.low:g}, high = {self.high:g}")
        if not callable(self.curve):
            raise TypeError(f"curve must be a function of u, got {describe(self.curve)}")
        if self._panels(0.0) > MAX_PANELS:
            raise ValueError(
                f"std must be at least length / ({MAX_PANELS} * panel) = "
                f"{self.length / (MAX_PANELS * self.panel):.3g}, got {self.std:g}"
            )

    @property
    def length(self) -> float:
        """Arc length of the curve."""
        return float(_arc(self)[1][-1])

    @property
    def d(self) -> int:
        """The number of dimensions of one observation."""
        return self.mixture().d

    def sample(self, n: int, seed: Seed) -> Samples:
        """Draw n observations; host float64, shape (n, d)."""
        n, rng = check_integer("n", n, 1), as_generator(seed)
        x = self.curve(rng.uniform(self.low, self.high, size=n))
        return x + self.std * rng.standard_normal(x.shape)

    def mixture(self, blur: float = 0.0) -> IsotropicMixture:
        """Mixture that equals this law to quadrature accuracy.

        ``blur`` is the standard deviation, >= 0 and in units of x_0, of the noise through which the
        mixture will be seen. More noise takes fewer nodes; seen through less, the nodes show as
        separate Gaussians.
        """
        blur = check_real("blur", blur, 0.0, sys.float_info.max, closed=True)
        return _mixture(self, self._panels(blur))

    def diffused(self, schedule: Schedule, t: int) -> IsotropicMixture:
        """Law of x_t, as :meth:`IsotropicMixture.diffused`; 0 <= t <= T."""
        t = check_integer("t", t, 0, check_schedule(schedule).T)
        return self.mixture(_blur(schedule, t)).diffused(schedule, t)

    def log_density(self, x: Array) -> Array:
        """Log-density of x_0 in nats, shape (B,); as :meth:`IsotropicMixture.log_density`."""
        return self.mixture().log_density(x)

    def score(self, x: Array) -> Array:
        """Gradient of the log-density, shape (B, d); as :meth:`IsotropicMixture.score`."""
        return self.mixture().score(x)

    def posterior_x0(self, schedule: Schedule, x_t: Array, t: Array | int) -> Array:
        """E[x_0 | x_t], shape (B, d); as :meth:`IsotropicMixture.posterior_x0`."""
        return self._by_resolution(IsotropicMixture.posterior_x0, schedule, x_t, t)

    def bayes_eps(self, schedule: Schedule, x_t: Array, t: Array | int) -> Array:
        """E[eps | x_t], shape (B, d); as :meth:`IsotropicMixture.bayes_eps`."""
        return self._by_resolution(IsotropicMixture.bayes_eps, schedule, x_t, t)

    def entropy(self, *, nodes: int = 10) -> float:
        """Differential entropy in nats; as :meth:`IsotropicMixture.entropy`, d <= 2."""
        return self.mixture().entropy(nodes=nodes)

    def _panels(self, blur: float) -> int:
        """Panels that resolve the law seen through ``blur``: 2, 3, 4, 6, 8, 12, 16, ...

        At least two, for the shape of the curve; few values, so that few mixtures serve all t.
        """
        size, most = self.panel * math.hypot(self.std, blur), 4.0 * MAX_PANELS
        needed = self.length / size if size > self.length / most else most
        power: int = 2 ** max(1, math.ceil(math.log2(needed))) if needed > 2.0 else 2
        return power * 3 // 4 if power * 3 // 4 >= max(needed, 2.0) else power

    def _by_resolution(
        self,
        method: Callable[[IsotropicMixture, Schedule, Array, Array | int], Array],
        schedule: Schedule,
        x_t: Array,
        t: Array | int,
    ) -> Array:
        """Call a method, for each example, of the mixture with as many panels as its time needs."""
        xp = check_arrays(x_t=x_t)
        t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
        if isinstance(t, int):
            return method(self.mixture(_blur(schedule, t)), schedule, x_t, t)
        unique, where = np.unique(t, return_inverse=True)
        panels = np.array([self._panels(_blur(schedule, s)) for s in unique])[where]
        order = np.argsort(panels, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(panels[order])) + 1)
        results = [
            method(_mixture(self, int(panels[rows[0]])), schedule, _take(x_t, rows), t[rows])
            for rows in groups
        ]
        return _take(xp.concat(results), np.argsort(order))


def swiss_roll_exact() -> NoisyCurve:
    """Return the exact law of :func:`ddpm_np.data.swiss_roll` at its default noise."""
    return NoisyCurve(swiss_roll_curve, *SWISS_ROLL_RANGE, std=SWISS_ROLL_NOISE)


@functools.lru_cache(maxsize=16)
def _arc(law: NoisyCurve) -> tuple[Table, Table]:
    """Arc length along the curve, by chords: parameters u and lengths, shape (4097,) each."""
    u = np.linspace(law.low, law.high, 4097)
    points = law.curve(u)
    check_plain("curve(u)", points)
    if (
        not isinstance(points, np.ndarray)
        or points.ndim != 2
        or len(points) != len(u)
        or points.size == 0
        or points.dtype.kind != "f"
    ):
        raise ValueError(
            f"curve must map shape ({len(u)},) to shape ({len(u)}, d), got {describe(points)}"
        )
    lengths = np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))
    if not (np.isfinite(lengths[-1]) and lengths[-1] > 0.0):
        raise ValueError(f"curve must be finite and move, got arc length {lengths[-1]:g}")
    return u, np.concatenate([[0.0], lengths])


@functools.lru_cache(maxsize=64)
def _mixture(law: NoisyCurve, panels: int) -> IsotropicMixture:
    """Mixture of panels of nearly equal arc length; the weights take up the difference."""
    u, lengths = _arc(law)
    edges = np.interp(np.linspace(0.0, lengths[-1], panels + 1), lengths, u)
    points, weights = composite_rule(edges, NODES_PER_PANEL)
    return IsotropicMixture(weights / (law.high - law.low), law.curve(points), law.std)


def _blur(schedule: Schedule, t: int) -> float:
    """Return the standard deviation of the noise in x_t / sqrt(alpha_bar[t])."""
    # Capped where alpha_bar underflows: by then no two nodes can be told apart.
    inverse_signal = math.exp(min(-0.5 * float(schedule.log_alpha_bar[t]), 300.0))
    return math.sqrt(schedule.one_minus_alpha_bar[t]) * inverse_signal


def _take(x: Array, rows: NDArray[np.integer[Any]]) -> Array:
    xp = array_namespace(x)
    return xp.take(x, xp.asarray(rows, device=device(x)), axis=0)
