"""What the betas of an implementation imply, by routes that share no code with ddpm_np.

Tables come from composing the steps (20) one by one; the posterior from Bayes' rule on a grid;
log p(x_0) and the gap from composing affine Gaussians. Everything is host float64.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Table

EPS = {"float64": float(np.finfo(np.float64).eps), "float32": float(np.finfo(np.float32).eps)}
LARGEST_IMPRECISION = 0.01

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Truth:
    """Tables of length T + 1, from composing the steps x_t = root_alpha x_{t-1} + root_beta z.

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
        """Compose the steps with these beta_1 ... beta_T."""
        slope, variance = [1.0], [0.0]
        for beta in betas.tolist():
            slope.append(math.sqrt(1.0 - beta) * slope[-1])
            variance.append((1.0 - beta) * variance[-1] + beta)
        beta = np.concatenate([[0.0], betas])
        return cls(beta, 1.0 - beta, np.array(slope), np.array(variance))

    @property
    def T(self) -> int:
        """The number of steps."""
        return len(self.beta) - 1

    @property
    def alpha_bar(self) -> Table:
        """The square of the slope."""
        result: Table = self.slope**2
        return result

    @property
    def sigma(self) -> Table:
        """Standard deviation of x_t given x_0."""
        result: Table = np.sqrt(self.variance)
        return result

    @property
    def c_xt(self) -> Table:
        """Regression of x_{t-1} on x_t given x_0: covariance over variance; entry 0 unused."""
        return _from_1(np.sqrt(self.alpha[1:]) * self.variance[:-1] / self.variance[1:])

    @property
    def c_x0(self) -> Table:
        """What is left of the slope: slope[t-1] - c_xt[t] slope[t], without its cancellation."""
        return _from_1(self.slope[:-1] * self.beta[1:] / self.variance[1:])

    @property
    def posterior_variance(self) -> Table:
        """Variance of x_{t-1} left by that regression; 0 at t = 1."""
        return _from_1(self.variance[:-1] * self.beta[1:] / self.variance[1:])

    @property
    def mean_eps(self) -> Table:
        """Coefficient of eps in the posterior mean: x_0 = (x_t - sigma eps) / slope put into it."""
        return _from_1(-self.beta[1:] / (self.sigma[1:] * np.sqrt(self.alpha[1:])))

    def model_mean(self, x_t: Values, t: int, eps: Values) -> Values:
        """Mean of x_{t-1} when the network says eps, M2 (34)."""
        result: Values = x_t / math.sqrt(self.alpha[t]) + self.mean_eps[t] * eps
        return result

    def tolerance(self, t: NDArray[Any], dtype: str) -> Values:
        """Relative error that rounding explains: the dtype's, and that of float64 tables."""
        return 256.0 * EPS[dtype] + 16.0 * EPS["float64"] * self._condition(t)

    def imprecision(self, t: NDArray[Any]) -> Values:
        """Relative error that float32 tables made by a running product explain; at most 0.01."""
        return np.minimum(EPS["float32"] * (64.0 + 16.0 * self._condition(t)), LARGEST_IMPRECISION)

    def _condition(self, t: NDArray[Any]) -> Values:
        """Amplification of rounding in 1 - alpha_bar (at t and t - 1), and in 1 - alpha for beta."""
        alpha_bar, before = self.alpha_bar, np.maximum(t - 1, 1)
        result: Values = (
            (1.0 + t * alpha_bar[t]) / self.variance[t]
            + (1.0 + t * alpha_bar[before]) / self.variance[before]
            + 1.0 / self.beta[t]
            + 1.0 / self.alpha[t]
        )
        return result

    def bayes(self, t: int, x0: float, x_t: float) -> tuple[float, float]:
        """Mean and variance of q(x_{t-1} | x_t, x_0) by Bayes' rule on a grid, M2 (8); t >= 2.

            q(x_{t-1} | x_t, x_0) is proportional to q(x_t | x_{t-1}) q(x_{t-1} | x_0)

        The trapezoidal rule is exact to rounding for Gaussians as long as the centres of the
        two factors, as functions of x_{t-1}, are a few standard deviations apart.
        """
        root = math.sqrt(self.alpha[t])
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


def gap_and_evidence(
    truth: Truth, x0: Values, slopes: Values, offsets: Values, sigma2: Values
) -> tuple[Values, Values]:
    """KL(q(x_{1:T} | x_0) || p(x_{1:T} | x_0)) and log p(x_0) of a model with affine steps.

        x_{t-1} = slopes[t] x_t + offsets[t] + sqrt(sigma2[t]) z,  x_T = z

    The model is composed from T to 0, each step is inverted by Gaussian conditioning, and the
    divergence is summed forwards along the chain; nothing is telescoped. Elementwise in x0.

    Returns
    -------
    gap, log_p : array, shape of x0
        Nats per coordinate.
    """
    T = truth.T
    mean, var = np.zeros(T + 1), np.ones(T + 1)  # of x_t under the model
    for t in range(T, 0, -1):
        mean[t - 1] = slopes[t] * mean[t] + offsets[t]
        var[t - 1] = slopes[t] ** 2 * var[t] + sigma2[t]
    gap = np.zeros_like(x0)
    for t in range(1, T + 1):
        gain = slopes[t] * var[t] / var[t - 1]
        left = var[t] * sigma2[t] / var[t - 1]
        extra = math.sqrt(truth.alpha[t]) - gain
        shift = extra * truth.slope[t - 1] * x0 - (mean[t] - gain * mean[t - 1])
        ratio = truth.beta[t] / left
        square = extra**2 * truth.variance[t - 1] + shift**2
        gap += 0.5 * (ratio - 1.0 - math.log(ratio) + square / left)
    return gap, log_normal(x0, mean[0], var[0])


def log_normal(x: Values, mean: Any, variance: Any) -> Values:
    """Log-density of a normal law, elementwise, in nats."""
    result: Values = -0.5 * ((x - mean) ** 2 / variance + np.log(2.0 * math.pi * variance))
    return result


def _from_1(values: Values) -> Table:
    return np.concatenate([[0.0], values])
