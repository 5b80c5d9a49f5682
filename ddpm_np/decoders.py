"""Decoders p(x_0 | x_1): the last step of the model, scored by L_0.

A decoder takes x0 and the model mean mu_theta(x_1, 1), of one shape, (B, ...), and sigma_1^2, a
positive number; it returns log p(x_0 | x_1), of shape (B,), in nats. Anything else raises TypeError
or ValueError.
"""

import math
import sys
from typing import NamedTuple, Protocol

import numpy as np

from ddpm_np._arrays import (
    Array,
    array_namespace,
    check_arrays,
    check_dtype,
    clamp,
    sum_features,
    to_host,
)
from ddpm_np._checks import check_integer, check_real, describe
from ddpm_np.gaussians import LOG_2PI, normal_log_density

# Standard deviations that stand for infinity: their square is finite.
FAR = 1e150
# exp(-40) of an integral is less than its rounding.
NEGLIGIBLE = 40.0
# Gauss-Legendre on [0, 1]; converged to rounding for integrands that fall by exp(-NEGLIGIBLE).
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)
RULE = (0.5 * (_NODES + 1.0), 0.5 * _WEIGHTS)


class Decoder(Protocol):
    """Log-likelihood of x0 when the model's last step has this mean and variance."""

    def __call__(self, x0: Array, mean: Array, variance: float) -> Array:
        """Return log p(x_0 | x_1), shape (B,), in nats."""
        ...


def decode(decoder: Decoder, x0: Array, mean: Array, variance: float) -> Array:
    """Ask any decoder; it must return a float32 or float64 array of shape (B,)."""
    L_0 = decoder(x0, mean, variance)
    if getattr(L_0, "shape", None) != (x0.shape[0],):
        raise ValueError(
            f"decoder must return shape (B,) = ({x0.shape[0]},), one log-likelihood per "
            f"example, got {describe(L_0)}"
        )
    check_dtype("what decoder returns", L_0)
    return L_0


def gaussian_decoder(x0: Array, mean: Array, variance: float) -> Array:
    """Gaussian decoder p(x_0 | x_1) = N(mean, variance I), for continuous data.

    A log-density: it may be positive.
    """
    check_arrays(x0=x0, mean=mean)
    return normal_log_density(x0, mean, variance)


def discretised_gaussian(levels: int, low: float = -1.0, high: float = 1.0) -> Decoder:
    """Decoder for data on an even grid, such as pixels, Ho et al. 2020 section 3.3.

        log p(x_0 | x_1) = sum over coordinates of log(Phi(b) - Phi(a))
        a = (x0 - width / 2 - mean) / sigma_1, but -infinity at the lowest level
        b = (x0 + width / 2 - mean) / sigma_1, but +infinity at the highest
        width = (high - low) / (levels - 1)

    A log-probability: <= 0, with a relative error of about 1e-12 wherever the mean is, even where the
    probability underflows or rounds to 1. Computed in float64 whatever the dtype. levels is from 2 to
    65536; 8-bit images have 256, scaled to [-1, 1]. The decoder waits for the device once, to check
    that x0 lies on the grid, to within rounding; if not, it raises ValueError.
    """
    grid = _Grid.of(levels, low, high)

    def decoder(x0: Array, mean: Array, variance: float) -> Array:
        xp = check_arrays(x0=x0, mean=mean)
        a, b, width = grid.bins(x0, mean, variance)
        # The edge of the bin that is nearer to the mean; negative if the mean lies inside.
        near = xp.maximum(a, -b)
        density = _log_mass(clamp(near, -1.0, FAR), width)
        # With most of the mass inside, its logarithm comes from the little that is outside.
        outside = xp.exp(_log_mass(clamp(b, 0.0, FAR), FAR)) + xp.exp(
            _log_mass(clamp(-a, 0.0, FAR), FAR)
        )
        mostly = (near < 0.0) & (outside < 0.5)
        log_p = xp.where(mostly, xp.log1p(-clamp(outside, 0.0, 0.5)), density)
        return xp.astype(sum_features(log_p), x0.dtype)

    return decoder


class _Grid(NamedTuple):
    """Evenly spaced levels, and the bins around them."""

    levels: int
    low: float
    high: float

    @classmethod
    def of(cls, levels: object, low: object, high: object) -> "_Grid":
        """Check the arguments."""
        most = sys.float_info.max / 4.0
        grid = cls(
            check_integer("levels", levels, 2, 2**16),
            check_real("low", low, -most, most),
            check_real("high", high, -most, most),
        )
        if not grid.low < grid.high:
            raise ValueError(f"low must be less than high, got low = {grid.low:g}, high = {grid.high:g}")
        return grid

    def at(self, k: Array) -> Array:
        """Level k; half-integers are the edges between bins, the same float for both."""
        share = k / (self.levels - 1)
        return self.low * (1.0 - share) + self.high * share

    def bins(self, x0: Array, mean: Array, variance: float) -> tuple[Array, Array, Array]:
        """Edges and widths of the bins of x0, in standard deviations from the mean; float64.

        Infinite ones are cut at ``FAR``.
        """
        xp = array_namespace(x0)
        sigma = math.sqrt(check_real("variance", variance, 0.0, sys.float_info.max))
        k, mean = self.level(x0), xp.astype(mean, xp.float64)
        a = clamp((self.at(k - 0.5) - mean) / sigma, -FAR, FAR)
        b = clamp((self.at(k + 0.5) - mean) / sigma, -FAR, FAR)
        first, last = k == 0.0, k == self.levels - 1.0
        width = (self.high - self.low) / (self.levels - 1) / sigma
        return (
            xp.where(first, xp.full_like(a, -FAR), a),
            xp.where(last, xp.full_like(b, FAR), b),
            xp.where(first | last, xp.full_like(a, FAR), xp.full_like(a, width)),
        )

    def level(self, x0: Array) -> Array:
        """Levels of x0, counted from 0, as float64; waits for the device."""
        xp = array_namespace(x0)
        values = xp.astype(x0, xp.float64)
        # Rounding of x0 by scalings such as x / 127.5 - 1.
        slack = 8.0 * float(xp.finfo(x0.dtype).eps) * max(abs(self.low), abs(self.high))
        k = xp.round((values - self.low) / ((self.high - self.low) / (self.levels - 1)))
        k = clamp(k, 0.0, self.levels - 1.0)
        off = ~(xp.abs(values - self.at(k)) <= slack)
        if bool(xp.any(off)):
            worst = float(to_host(values)[to_host(off)][0])
            raise ValueError(
                f"x0 must lie on the grid of {self.levels} levels from {self.low:g} to {self.high:g}, "
                f"got {worst:g}"
            )
        return k


def _log_mass(start: Array, width: Array | float) -> Array:
    """Log of the standard normal mass from ``start`` >= -1 to ``start + width``; float64.

        integral of exp(-z^2 / 2) over z = exp(-start^2 / 2)
                                         * integral from 0 to width of exp(-s (start + s / 2)) ds

    Gauss-Legendre on the part of the interval that is not negligible: a sum of positive terms,
    so that nothing cancels, whether the interval is narrow, wide or far out.
    """
    xp = array_namespace(start)
    # Where the integrand has fallen to exp(-NEGLIGIBLE): s (start + s / 2) = NEGLIGIBLE.
    end = 2.0 * NEGLIGIBLE / (start + xp.sqrt(start**2 + 2.0 * NEGLIGIBLE))
    length = xp.minimum(end, width + xp.zeros_like(start))
    total = xp.zeros_like(start)
    for node, weight in zip(*RULE, strict=True):
        s = float(node) * length
        total += float(weight) * xp.exp(-s * (start + 0.5 * s))
    return xp.log(length * total) - 0.5 * start**2 - 0.5 * LOG_2PI
