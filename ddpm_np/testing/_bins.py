"""Probabilities of bins under a normal law, and the mistakes that are made with them; in nats."""

import math
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import erf, erfc, erfcx

from ddpm_np.testing._quadrature import log_normal
from ddpm_np.testing.protocol import Values

FLOOR = 1e-12


@dataclass(frozen=True)
class Bins:
    """A discretised decoder for data on [-1, 1]: half the width of a bin, and how it is scored.

    ``open_low`` and ``open_high`` say whether the bins at -1 and at 1 reach to infinity.
    """

    half: float
    open_low: bool = True
    open_high: bool = True
    tanh: bool = False

    @classmethod
    def of(cls, levels: int) -> "Bins":
        """Ho et al. 2020, section 3.3."""
        return cls(1.0 / (levels - 1))

    def log_p(self, x0: Values, mean: Values, variance: float) -> Values:
        """Log-probability of each coordinate."""
        sigma = math.sqrt(variance)
        a, b = (x0 - self.half - mean) / sigma, (x0 + self.half - mean) / sigma
        low, high = self.open_low & (x0 <= -1.0), self.open_high & (x0 >= 1.0)
        mass = _by_tanh if self.tanh else log_mass
        return mass(np.where(low, -np.inf, a), np.where(high, np.inf, b))

    def score(self, x0: Values, mean: Values, variance: float) -> Values:
        """Their sum, shape (B,)."""
        total: Values = self.log_p(x0, mean, variance).sum(axis=1)
        return total

    def slips(self, levels: int) -> dict[str, "Bins"]:
        """Decoders that people write, by what is wrong with them."""
        halves = {
            f"the half width of a bin is 1/{levels}, not 1/{levels - 1}": 1.0 / levels,
            "half the half width of a bin, as for data on [0, 1]": 0.5 * self.half,
            "the width of a bin is taken for half of it": 2.0 * self.half,
            f"the half width of a bin is 1/(2 * {levels}), not 1/{levels - 1}": 0.5 / levels,
            f"the half width of a bin is 2/{levels}, not 1/{levels - 1}": 2.0 / levels,
            f"the half width of a bin is 1/255, that of 256 levels, not 1/{levels - 1}": 1.0 / 255.0,
        }
        shapes = {
            **{text: replace(self, half=half) for text, half in halves.items() if half != self.half},
            "the tails are closed: the bins of the lowest and highest level have to be open": replace(
                self, open_low=False, open_high=False
            ),
            "the lower tail is closed: the bin of the lowest level has to be open": replace(
                self, open_low=False
            ),
            "the upper tail is closed: the bin of the highest level has to be open": replace(
                self, open_high=False
            ),
        }
        tanh = "a tanh approximation of the normal distribution function: nats off in the tails"
        approximate = {f"{tanh}; and {text}": replace(bins, tanh=True) for text, bins in shapes.items()}
        return {**shapes, tanh: replace(self, tanh=True), **approximate}


def log_mass(a: Values, b: Values) -> Values:
    """Log of the standard normal probability of a < z < b; either may be infinite."""
    mirrored = a + b < 0.0
    a, b = np.where(mirrored, -b, a), np.where(mirrored, -a, b)  # the nearer edge is a
    with np.errstate(all="ignore"):
        outside = a > 0.0
        near, far = np.where(outside, a, 1.0), np.where(outside, b, 2.0)
        ratio = np.log(_mills(far) / _mills(near)) - 0.5 * (far - near) * (far + near)
        tail = np.log(_mills(near)) - 0.5 * near**2 - 0.5 * np.log(2.0 * np.pi)
        around = 0.5 * (erf(b / math.sqrt(2.0)) - erf(a / math.sqrt(2.0)))
        rest = 0.5 * (erfc(b / math.sqrt(2.0)) + erfc(-a / math.sqrt(2.0)))
        inside = np.where(around < 0.5, np.log(around), np.log1p(-np.minimum(rest, 0.75)))
        return np.where(outside, tail + np.log(-np.expm1(ratio)), inside)


def density_in_bins(half: float, x0: Values, mean: Values, variance: float) -> Values:
    """The density at the centre of each bin times its width, summed; shape (B,)."""
    total: Values = (log_normal(x0, mean, variance) + math.log(2.0 * half)).sum(axis=1)
    return total


def _mills(z: Values) -> Values:
    """(1 - Phi(z)) / phi(z) for z > 0."""
    ratio: Values = math.sqrt(0.5 * math.pi) * erfcx(z / math.sqrt(2.0))
    return ratio


def _by_tanh(a: Values, b: Values) -> Values:
    """What public code puts in its place, limited to 1e-12 as there."""

    def below(z: Values) -> Values:
        z = np.clip(z, -1e3, 1e3)
        value: Values = 0.5 * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))
        return value

    return np.log(np.maximum(below(b) - below(a), FLOOR))
