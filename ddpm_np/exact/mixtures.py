"""Gaussian mixtures: data whose densities and Bayes-optimal denoisers are known in closed form.

Diffusion keeps them in the family: if x_0 is drawn from a mixture with means m_k and standard
deviation s, then x_t has means sqrt(alpha_bar[t]) m_k and variance
alpha_bar[t] s^2 + 1 - alpha_bar[t], M2 (22) and (37).

x and x_t are real floating arrays of any library, shape (B, d); t is an int, or, where stated, an
integer array of shape (B,). Tables are host float64. Anything else raises TypeError or ValueError.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Array, Samples, Table, check_arrays, check_finite, check_times, coefficient
from ddpm_np._checks import check_integer, check_real, describe
from ddpm_np.data import toy as data
from ddpm_np.data.toy import Seed, as_generator
from ddpm_np.exact._gaussian import finite_array
from ddpm_np.exact._quadrature import cells_around
from ddpm_np.exact._quantiles import keep_quantiles
from ddpm_np.exact._weigh import weigh_means
from ddpm_np.gaussians import LOG_2PI
from ddpm_np.schedules import Schedule, check_schedule

# In standard deviations: what lies further from every mean weighs less than 1e-17.
REACH = 9
# Its square is finite.
LARGEST_STD = 1e150


@dataclass(frozen=True, eq=False)
class IsotropicMixture:
    """Mixture of Gaussians that share one isotropic covariance.

        p(x) = sum over k of weights[k] * N(x; means[k], std^2 I)

    Parameters
    ----------
    weights : array, shape (K,)
        Positive, with sum 1 (rounding is divided out). Read-only.
    means : array, shape (K, d)
        Read-only.
    std : float
        Positive, below 1e150.
    """

    weights: Table
    means: Samples
    std: float

    def __post_init__(self) -> None:
        weights, means = _as_array("weights", self.weights, 1), _as_array("means", self.means, 2)
        if len(weights) != len(means):
            raise ValueError(
                "weights must have one entry for each of the rows of means, "
                f"got {len(weights)} weights and {len(means)} means"
            )
        total = float(np.sum(weights))
        if not np.all(weights > 0.0) or abs(total - 1.0) > 1e-9:
            raise ValueError(
                f"weights must be positive and sum to 1, got minimum {weights.min():g}, sum {total:.12g}"
            )
        weights = weights / total
        weights.flags.writeable = means.flags.writeable = False
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "means", means)
        object.__setattr__(self, "std", check_real("std", self.std, 0.0, LARGEST_STD))

    @property
    def d(self) -> int:
        """The number of dimensions of one observation."""
        return int(self.means.shape[1])

    def __repr__(self) -> str:
        return f"IsotropicMixture(K={len(self.weights)}, d={self.d}, std={self.std:.4g})"

    def sample(self, n: int, seed: Seed) -> Samples:
        """Draw n observations; host float64, shape (n, d)."""
        n, rng = check_integer("n", n, 1), as_generator(seed)
        chosen = rng.choice(len(self.weights), size=n, p=self.weights)
        return self.means[chosen] + self.std * rng.standard_normal((n, self.d))

    def diffused(self, schedule: Schedule, t: int) -> "IsotropicMixture":
        """Law of x_t when x_0 has this law, by M2 (22) and (37); 0 <= t <= T.

        means_t = sqrt(alpha_bar[t]) * means
        std_t^2 = alpha_bar[t] * std^2 + 1 - alpha_bar[t]
        """
        t = check_integer("t", t, 0, check_schedule(schedule).T)
        signal = math.sqrt(schedule.alpha_bar[t])
        std = math.hypot(signal * self.std, math.sqrt(schedule.one_minus_alpha_bar[t]))
        return IsotropicMixture(self.weights, signal * self.means, std)

    def log_density(self, x: Array) -> Array:
        """Log-density, log p(x), in nats; shape (B,).

        Beyond about 1e150 standard deviations (1e18 in float32) the result saturates.
        """
        self._check(x=x)
        log_total, _ = self._weigh(x, 1.0 / self.std, 1.0)
        return log_total - self.d * (math.log(self.std) + 0.5 * LOG_2PI)

    def score(self, x: Array) -> Array:
        """Gradient of the log-density; shape (B, d).

        score(x) = (E[mean | x] - x) / std^2
        """
        self._check(x=x)
        _, centre = self._weigh(x, 1.0 / self.std, 1.0)
        return (centre - x) / self.std / self.std

    def posterior_x0(self, schedule: Schedule, x_t: Array, t: Array | int) -> Array:
        """Bayes-optimal prediction of the observation, E[x_0 | x_t]; shape (B, d), 1 <= t <= T.

            v = alpha_bar[t] std^2 + 1 - alpha_bar[t]
            E[x_0 | x_t] = (1 - alpha_bar[t]) / v * E[mean | x_t]
                         + sqrt(alpha_bar[t]) std^2 / v * x_t

        t may be an array.
        """
        self._check(x_t=x_t)
        t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
        signal, variance = schedule.sqrt_alpha_bar[t], self._variance(schedule, t)
        _, centre = self._weigh(x_t, 1.0 / np.sqrt(variance), signal)
        shrink = coefficient(schedule.one_minus_alpha_bar[t] / variance, x_t)
        return shrink * centre + coefficient(signal * (self.std / variance) * self.std, x_t) * x_t

    def bayes_eps(self, schedule: Schedule, x_t: Array, t: Array | int) -> Array:
        """Bayes-optimal prediction of the noise, E[eps | x_t]; shape (B, d), 1 <= t <= T.

            E[eps | x_t] = sqrt(1 - alpha_bar[t]) / v * (x_t - sqrt(alpha_bar[t]) * E[mean | x_t])

        with v as in :meth:`posterior_x0`; this is -sqrt(1 - alpha_bar[t]) times the score of
        x_t (Tweedie). t may be an array.
        """
        self._check(x_t=x_t)
        t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
        signal, variance = schedule.sqrt_alpha_bar[t], self._variance(schedule, t)
        _, centre = self._weigh(x_t, 1.0 / np.sqrt(variance), signal)
        scale = coefficient(schedule.sqrt_one_minus_alpha_bar[t] / variance, x_t)
        return scale * (x_t - coefficient(signal, x_t) * centre)

    def flow(self, schedule: Schedule, x_T: Samples) -> Samples:
        """Where the probability flow takes x_T, if it follows the exact score down to t = 0.

            F_0(x_0) = F_T(x_T),  F_t the distribution function of x_t,  d = 1
            x_0 = m + std / std_T * (x_T - sqrt(alpha_bar[T]) * m),  one component, any d

        x_T is a NumPy array, shape (B, d); the result is float64. Quantiles are kept to rounding, by the
        logarithm of the smaller tail; what rounding there does to x_0 is divided by its density.
        """
        return self._transport(self.diffused(schedule, check_schedule(schedule).T), self, x_T=x_T)

    def flow_inverse(self, schedule: Schedule, x0: Samples) -> Samples:
        """The x_T from which :meth:`flow` leads to x0; as there."""
        return self._transport(self, self.diffused(schedule, check_schedule(schedule).T), x0=x0)

    def entropy(self, *, nodes: int = 10) -> float:
        """Differential entropy, -E[log p(x)], in nats, by quadrature; d <= 2.

        Composite Gauss-Legendre on the cells of a grid of side ``std``, as far as 9 std from
        the means; the density in a cell is summed over the means near it. There are ``nodes`` per
        cell and axis, >= 2; the default is converged to about 1e-11.
        """
        cells = self._cells("entropy", nodes)
        total = -sum(float(np.sum(p * log_p)) for p, log_p, _ in cells)
        return total + self.d * math.log(self.std)

    def fisher_information(self, *, nodes: int = 10) -> float:
        """Mean square of the score, E||score(x)||^2, by quadrature; as :meth:`entropy`."""
        cells = self._cells("fisher_information", nodes)
        return sum(float(np.sum(p[:, None] * score**2)) for p, _, score in cells) / self.std**2

    def _cells(self, name: str, nodes: int) -> Iterator[tuple[Table, Table, Samples]]:
        """In blocks that cover the law: probabilities, log-densities and scores of x / std."""
        nodes = check_integer("nodes", nodes, 2)
        if self.d > 2:
            raise ValueError(
                f"{name} is computed by quadrature for d = 1 and d = 2 only, got d = {self.d}"
            )
        means, log_weights = self.means / self.std, np.log(self.weights)
        for x, volume in cells_around(means, REACH, nodes):
            # A cell is there because of a mean at most REACH + sqrt(d) away, so one is near.
            low, high = x.min(axis=0) - REACH - 2, x.max(axis=0) + REACH + 2
            near = np.all((means > low) & (means < high), axis=1)
            log_p, centre = weigh_means(x, log_weights[near], means[near], 1.0, 1.0)
            log_p -= 0.5 * self.d * LOG_2PI
            yield volume * np.exp(log_p), log_p, centre - x

    def _transport(
        self, source: "IsotropicMixture", target: "IsotropicMixture", **given: Samples
    ) -> Samples:
        """Map that keeps quantiles, from one law to another with the same weights."""
        self._check(**given)
        ((name, x),) = given.items()
        if not isinstance(x, np.ndarray):
            raise TypeError(f"{name} must be a NumPy array, got {describe(x)}")
        check_finite(name, x)
        if len(self.weights) == 1:
            return target.means + target.std / source.std * (x - source.means)
        if self.d > 1:
            raise ValueError(
                "the flow of a mixture is known for d = 1, or for one component, "
                f"got d = {self.d} and {len(self.weights)} components"
            )
        if not np.max(np.abs(x)) < LARGEST_STD * source.std:
            raise ValueError(
                f"{name} must lie within 1e150 standard deviations, got {np.max(np.abs(x)):g}"
            )
        ends = (source.means[:, 0], source.std), (target.means[:, 0], target.std)
        return keep_quantiles(x[:, 0].astype(np.float64), self.weights, *ends)[:, None]

    def _variance(self, schedule: Schedule, t: int | NDArray[np.integer[Any]]) -> Table:
        """Variance of x_t around its mean sqrt(alpha_bar[t]) m_k, M2 (37)."""
        return schedule.alpha_bar[t] * self.std**2 + schedule.one_minus_alpha_bar[t]

    def _weigh(self, x: Array, inverse_std: float | Table, signal: float | Table) -> tuple[Array, Array]:
        return weigh_means(x, np.log(self.weights), self.means, inverse_std, signal)

    def _check(self, **arrays: Array) -> None:
        check_arrays(**arrays)
        for name, x in arrays.items():
            if len(x.shape) != 2 or x.shape[1] != self.d:
                raise ValueError(f"{name} must have shape (B, {self.d}), got {x.shape}")


def eight_gaussians_exact() -> IsotropicMixture:
    """Return the exact law of :func:`ddpm_np.data.eight_gaussians` at its default noise."""
    return IsotropicMixture(np.full(8, 1 / 8), data.eight_gaussians_means(), data.EIGHT_GAUSSIANS_NOISE)


def mixture_1d_exact() -> IsotropicMixture:
    """Return the exact law of :func:`ddpm_np.data.mixture_1d` at its default noise."""
    means = np.array(data.MIXTURE_1D_MEANS)[:, None]
    return IsotropicMixture(np.array(data.MIXTURE_1D_WEIGHTS), means, data.MIXTURE_1D_NOISE)


def _as_array(name: str, values: object, ndim: int) -> Table:
    """Return finite values as a non-empty float64 array with this number of axes."""
    array = finite_array(name, values)
    if array.ndim != ndim or array.size == 0:
        wanted = "(K,)" if ndim == 1 else "(K, d)"
        raise ValueError(f"{name} must have shape {wanted} and not be empty, got {array.shape}")
    return array
