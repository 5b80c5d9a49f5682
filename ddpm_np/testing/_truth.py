"""What the betas of an implementation imply, by routes that share no code with ddpm_np.

Tables come from composing the steps (20) one by one, the posterior from Bayes' rule on a grid.
Everything is host float64; tables have length T + 1.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Table
from ddpm_np.testing.protocol import Values

EPS = {"float64": float(np.finfo(np.float64).eps), "float32": float(np.finfo(np.float32).eps)}
LARGEST_IMPRECISION = 0.01

TimeArray: TypeAlias = NDArray[np.int64]
"""Several times, shape (n,)."""


@dataclass(frozen=True, eq=False)
class Truth:
    """Tables from composing the steps x_t = root_alpha x_{t-1} + root_beta z.

    Attributes
    ----------
    beta, alpha : Table
        Entry 0 is 0 and 1.
    slope : Table
        Of x_t on x_0: slope[t] = sqrt(alpha[t]) slope[t-1].
    variance : Table
        Of x_t given x_0, by the lemma (37): variance[t] = alpha[t] variance[t-1] + beta[t].
    """

    beta: Table
    alpha: Table
    slope: Table
    variance: Table

    @classmethod
    def of(cls, betas: Values) -> "Truth":
        """Compose the steps with these beta_1 ... beta_T; NaN from the first that is no step."""
        slope, variance = [1.0], [0.0]
        for t, beta in enumerate(betas.tolist(), 1):
            alpha = 1.0 - beta if is_step(beta, last=t == len(betas)) else math.nan
            slope.append(math.sqrt(alpha) * slope[-1])
            variance.append(alpha * variance[-1] + beta)
        beta = np.concatenate([[0.0], betas])
        return cls(beta, 1.0 - beta, np.array(slope), np.array(variance))

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.beta) - 1

    @cached_property
    def times(self) -> TimeArray:
        """Where a formula can be judged: all of 1..T, unless a beta is bad."""
        noisy = (self.beta[1:] > 0.0) & (self.variance[1:] > 0.0)
        noisy[1:] &= self.variance[1:-1] > 0.0
        return 1 + np.flatnonzero(noisy)

    @property
    def is_whole(self) -> bool:
        """Whether all times can be judged."""
        return len(self.times) == self.T

    def with_signal(self, t: TimeArray) -> TimeArray:
        """The times at which x_t holds something of x_{t-1}: without T if beta[T] is 1."""
        return t[self.alpha[t] > 0.0]

    @cached_property
    def alpha_bar(self) -> Table:
        """The square of the slope."""
        return self.slope**2

    @cached_property
    def sigma(self) -> Table:
        """Standard deviation of x_t given x_0."""
        return np.sqrt(self.variance)

    @cached_property
    def c_xt(self) -> Table:
        """Regression of x_{t-1} on x_t given x_0: covariance over variance; entry 0 unused."""
        return _from_1(np.sqrt(self.alpha[1:]) * self.variance[:-1] / self.variance[1:])

    @cached_property
    def c_x0(self) -> Table:
        """What is left of the slope: slope[t-1] - c_xt[t] slope[t], without its cancellation."""
        return _from_1(self.slope[:-1] * self.beta[1:] / self.variance[1:])

    @cached_property
    def posterior_variance(self) -> Table:
        """Variance of x_{t-1} left by that regression; 0 at t = 1."""
        return _from_1(self.variance[:-1] * self.beta[1:] / self.variance[1:])

    @cached_property
    def mean_eps(self) -> Table:
        """Coefficient of eps in the posterior mean: x_0 = (x_t - sigma eps) / slope put into it."""
        with np.errstate(divide="ignore"):  # at alpha = 0 eps says nothing
            return _from_1(-self.beta[1:] / (self.sigma[1:] * np.sqrt(self.alpha[1:])))

    def model_mean(self, x_t: Values, t: int, eps: Values) -> Values:
        """Mean of x_{t-1} when the network says eps, M2 (34)."""
        return x_t / math.sqrt(self.alpha[t]) + self.mean_eps[t] * eps

    def tolerance(self, t: TimeArray, dtype: str) -> Values:
        """Relative error that rounding explains: the dtype's, and that of float64 tables."""
        return 256.0 * EPS[dtype] + 16.0 * EPS["float64"] * self._condition(t)

    def imprecision(self, t: TimeArray) -> Values:
        """Relative error that float32 tables made by a running product explain; at most 0.01."""
        return np.minimum(EPS["float32"] * (64.0 + 16.0 * self._condition(t)), LARGEST_IMPRECISION)

    def _condition(self, t: TimeArray) -> Values:
        """Amplification of rounding in 1 - alpha_bar (at t and t - 1), and in 1 - alpha for beta."""
        alpha_bar, before = self.alpha_bar, np.maximum(t - 1, 1)
        return (
            (1.0 + t * alpha_bar[t]) / self.variance[t]
            + (1.0 + t * alpha_bar[before]) / self.variance[before]
            + self.condition_of_step(t)
        )

    def condition_of_step(self, t: TimeArray) -> Values:
        """Amplification of rounding in 1 - alpha for beta, and the reverse; 1 - 1 is exact."""
        alpha = self.alpha[t]
        return 1.0 / self.beta[t] + np.divide(1.0, alpha, out=np.zeros_like(alpha), where=alpha > 0.0)

    def bayes(self, t: int, x0: float, x_t: float) -> tuple[float, float]:
        """Mean and variance of q(x_{t-1} | x_t, x_0) by Bayes' rule on a grid, M2 (8); t >= 2.

            q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0)

        The trapezoidal rule is exact to rounding for Gaussians as long as the centres of the
        two factors, as functions of x_{t-1}, are a few standard deviations apart at most.
        """
        root = math.sqrt(self.alpha[t])
        if root == 0.0:  # x_t holds nothing of x_{t-1}
            return float(self.slope[t - 1] * x0), float(self.variance[t - 1])
        centres = np.array([self.slope[t - 1] * x0, x_t / root])
        widths = np.array([self.sigma[t - 1], math.sqrt(self.beta[t]) / root])
        narrow = int(np.argmin(widths))
        u = np.linspace(-16.0, 16.0, 513) * widths[narrow]  # x_{t-1} less the centre
        shift = centres[1 - narrow] - centres[narrow]
        log_density = -0.5 * ((u / widths[narrow]) ** 2 + ((u - shift) / widths[1 - narrow]) ** 2)
        density = np.exp(log_density - log_density.max())
        density /= density.sum()
        mean = float(density @ u)
        return float(centres[narrow]) + mean, float(density @ (u - mean) ** 2)


def is_step(beta: float, *, last: bool) -> bool:
    """Whether a step of this beta can be composed with others; 1 ends a chain (zero terminal SNR)."""
    return 0.0 <= beta < 1.0 or (last and beta == 1.0)


def _from_1(values: Values) -> Table:
    """Prepend the entry for t = 0."""
    return np.concatenate([[0.0], values])
