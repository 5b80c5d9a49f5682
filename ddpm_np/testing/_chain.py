"""What the steps of a sampling loop should be: from each visited time to the one before it.

Steps are counted from 0, the one that ends at x_0. A network predicts eps, x_0, v or the mean; its
prediction p and x_t imply x_0 and eps, so every step is a map of x_t and p,

    x_s = of_x x_t + of_p p + sigma z
"""

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.targets import Target
from ddpm_np.testing._truth import TimeArray, Truth
from ddpm_np.testing.protocol import Values


class Pair(NamedTuple):
    """Coefficients of x_t and of the prediction, a number per step."""

    of_x: Values
    of_p: Values


@dataclass(frozen=True, eq=False)
class Chain:
    """The chain of the visited times, and what its predictions mean.

    Attributes
    ----------
    t : integer array, shape (S,)
        The visited times, increasing.
    short : Truth
        Of the chain that consists of these times alone, [ND].
    eta : float, optional
        Of DDIM; None is ancestral sampling.
    x0, eps : Pair
        What x_t and the prediction imply.
    """

    t: TimeArray
    short: Truth
    eta: float | None
    x0: Pair
    eps: Pair

    @classmethod
    def of(cls, truth: Truth, times: TimeArray, target: Target, eta: float | None) -> "Chain":
        """The chain of these times."""
        if len(times) == truth.T:
            short = truth
        else:
            ends = [0, *times.tolist()]
            short = Truth.of(np.array([_composed(truth, s, t) for s, t in itertools.pairwise(ends)]))
        return cls(times, short, eta, *meaning(truth, times, target))

    @property
    def s(self) -> TimeArray:
        """Where each step ends."""
        return np.concatenate([[0], self.t[:-1]])

    @property
    def beta(self) -> Values:
        """1 - alpha_bar[t] / alpha_bar[s]."""
        return self.short.beta[1:]

    @property
    def alpha(self) -> Values:
        """alpha_bar[t] / alpha_bar[s]."""
        return self.short.alpha[1:]

    @property
    def beta_tilde(self) -> Values:
        """Variance of x_s given x_t and x_0."""
        return self.short.posterior_variance[1:]

    @cached_property
    def slope(self) -> tuple[Values, Values]:
        """The root of alpha_bar at t and at s."""
        return self.short.slope[1:], self.short.slope[:-1]

    @cached_property
    def sigma(self) -> tuple[Values, Values]:
        """The root of 1 - alpha_bar at t and at s."""
        return self.short.sigma[1:], self.short.sigma[:-1]

    def from_x0(self, of_x: Values, of_x0: Values, x0: Pair | None = None) -> Pair:
        """The step of_x x_t + of_x0 x_0."""
        x0 = x0 or self.x0
        return Pair(of_x + of_x0 * x0.of_x, of_x0 * x0.of_p)

    def from_eps(self, of_x: Values, of_eps: Values, eps: Pair | None = None) -> Pair:
        """The step of_x x_t + of_eps eps."""
        eps = eps or self.eps
        return Pair(of_x + of_eps * eps.of_x, of_eps * eps.of_p)

    def from_both(
        self, of_x0: Values, of_eps: Values, x0: Pair | None = None, eps: Pair | None = None
    ) -> Pair:
        """The step of_x0 x_0 + of_eps eps."""
        x0, eps = x0 or self.x0, eps or self.eps
        return Pair(
            of_x0 * x0.of_x + of_eps * eps.of_x,
            of_x0 * x0.of_p + of_eps * eps.of_p,
        )

    @property
    def posterior(self) -> tuple[Values, Values]:
        """Coefficients of x_t and x_0 in (26)."""
        return self.short.c_xt[1:], self.short.c_x0[1:]

    def ddim_variance(self, eta: float) -> Values:
        """sigma^2 of [DDIM]."""
        return eta**2 * self.beta_tilde

    def ddim_eps(self, eta: float) -> Values:
        """sqrt(1 - alpha_bar[s] - sigma^2), the coefficient of eps in [DDIM]."""
        (sigma, sigma_s), share = self.sigma, self.beta / self.short.variance[1:]
        return sigma_s * np.sqrt(np.maximum(1.0 - eta**2 * share, 0.0)) * np.ones_like(sigma)

    def ddim(self, eta: float) -> tuple[Values, Values]:
        """Coefficients of x_t and x_0 in [DDIM], as (26) has them."""
        of_x = self.ddim_eps(eta) / self.sigma[0]
        return of_x, self.slope[1] - of_x * self.slope[0]

    @property
    def expected(self) -> Pair:
        """The mean of the step: ancestral (26), or [DDIM]."""
        return self.from_x0(*(self.posterior if self.eta is None else self.ddim(self.eta)))

    def largest_terms(self) -> Pair:
        """How large the terms of these coefficients get in any of the usual ways to compute them."""
        of_x, of_x0 = self.posterior
        through_x0 = _sizes((of_x, 1.0), (of_x0, self.x0))
        root = np.sqrt(np.maximum(self.alpha, 1e-300))
        shift = np.where(self.alpha > 0.0, self.beta / (self.sigma[0] * root), 0.0)
        through_eps = _sizes((np.where(self.alpha > 0.0, 1.0 / root, 0.0), 1.0), (shift, self.eps))
        ways = [through_x0, through_eps]
        if self.eta is not None:
            ways.append(_sizes((self.slope[1], self.x0), (self.sigma[1], self.eps)))
        return Pair(
            np.max([way.of_x for way in ways], axis=0), np.max([way.of_p for way in ways], axis=0)
        )


def meaning(truth: Truth, t: TimeArray, target: Target) -> tuple[Pair, Pair]:
    """x_0 and eps as functions of x_t and the prediction."""
    slope, sigma, one = truth.slope[t], truth.sigma[t], np.ones(len(t))
    zero = 0.0 * one
    if target == "eps":
        return Pair(1.0 / slope, -sigma / slope), Pair(zero, one)
    if target == "x0":
        return Pair(zero, one), Pair(1.0 / sigma, -slope / sigma)
    if target == "v":
        return Pair(slope, -sigma), Pair(sigma, slope)
    ratio, inverse = truth.c_xt[t] / truth.c_x0[t], 1.0 / truth.c_x0[t]
    return Pair(-ratio, inverse), Pair((1.0 + slope * ratio) / sigma, -slope * inverse / sigma)


def predicted(truth: Truth, target: Target, x_t: Values, t: int, x0: Values) -> Values:
    """What the network says if it means this x_0."""
    if target == "x0":
        return x0
    if target == "mean":
        return truth.c_xt[t] * x_t + truth.c_x0[t] * x0
    eps = (x_t - truth.slope[t] * x0) / truth.sigma[t]
    return eps if target == "eps" else truth.slope[t] * eps - truth.sigma[t] * x0


def _composed(truth: Truth, s: int, t: int) -> float:
    """Variance of x_t given x_s, by composing the steps between them."""
    variance = 0.0
    for time in range(s + 1, t + 1):
        variance = truth.alpha[time] * variance + truth.beta[time]
    return float(variance)


def _sizes(*terms: tuple[Table, Pair | float]) -> Pair:
    """Sums of absolute values; a number stands for x_t itself."""
    of_x = sum(np.abs(size * (part.of_x if isinstance(part, Pair) else part)) for size, part in terms)
    of_p = sum(np.abs(size * part.of_p) for size, part in terms if isinstance(part, Pair))
    return Pair(np.asarray(of_x), np.asarray(of_p))
