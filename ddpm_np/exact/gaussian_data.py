"""Gaussian data, for which everything is linear: its law, and the best model of it, as a chain.

x and x_t are real floating arrays of any library, shape (B, d); t is an int or an integer array of
shape (B,). Tables are host float64. Anything else raises TypeError or ValueError.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ddpm_np._arrays import (
    Array,
    Samples,
    Table,
    Times,
    array_namespace,
    check_arrays,
    check_times,
    clamp,
    coefficient,
    device,
    from_1,
    sum_features,
)
from ddpm_np._checks import check_integer, describe
from ddpm_np.data.toy import Seed, as_generator
from ddpm_np.exact._gaussian import finite_array, principal_axes
from ddpm_np.exact.chains import LinearGaussianChain
from ddpm_np.gaussians import LOG_2PI, kl_full, kl_isotropic, wasserstein2_full
from ddpm_np.schedules import Schedule, check_schedule


@dataclass(frozen=True, eq=False)
class GaussianData:
    """Data x_0 ~ N(mean, covariance).

    Diffusion keeps its principal axes: along one with variance v, that of x_t is

        v_t = alpha_bar[t] v + 1 - alpha_bar[t]

    Parameters
    ----------
    mean : array, shape (d,)
        Read-only.
    covariance : array, shape (d, d) or (d,)
        Symmetric positive definite; or its diagonal, then nothing costs more than O(d). Read-only.

    Attributes
    ----------
    variances : array, shape (d,)
        Along the principal axes.
    axes : array, shape (d, d), or None
        These axes, as columns; None are those of the coordinates.
    """

    mean: Table
    covariance: Table
    variances: Table = field(init=False)
    axes: Table | None = field(init=False)

    def __post_init__(self) -> None:
        covariance = finite_array("covariance", self.covariance)
        if covariance.ndim == 1:
            mean, axes, variances = finite_array("mean", self.mean), None, covariance
            if mean.shape != variances.shape or not variances.size:
                raise ValueError(
                    f"mean must have the shape of a diagonal covariance, got {mean.shape} "
                    f"and {variances.shape}"
                )
            if not np.all(variances > 0.0):
                raise ValueError(f"covariance must be positive, got minimum {variances.min():g}")
        else:
            mean, axes, variances = principal_axes(self.mean, covariance)
        tables = {"mean": mean, "covariance": covariance, "variances": variances, "axes": axes}
        for name, table in tables.items():
            if table is not None:
                table.flags.writeable = False
            object.__setattr__(self, name, table)

    @property
    def d(self) -> int:
        """The number of dimensions of one observation."""
        return len(self.mean)

    def __repr__(self) -> str:
        low, high = self.variances.min(), self.variances.max()
        return f"GaussianData(d={self.d}, variances={low:.4g}..{high:.4g})"

    def sample(self, n: int, seed: Seed) -> Samples:
        """Draw n observations; host float64, shape (n, d)."""
        n, rng = check_integer("n", n, 1), as_generator(seed)
        noise = rng.standard_normal((n, self.d))
        return self.mean + self.from_axes(np.sqrt(self.variances) * noise)

    def diffused(self, schedule: Schedule, t: int) -> "GaussianData":
        """Law of x_t, by M2 (22) and (37); 0 <= t <= T.

        N(sqrt(alpha_bar[t]) mean, alpha_bar[t] covariance + (1 - alpha_bar[t]) I)
        """
        t = check_integer("t", t, 0, check_schedule(schedule).T)
        noise = float(schedule.one_minus_alpha_bar[t])
        identity = noise if self.axes is None else noise * np.eye(self.d)
        covariance = schedule.alpha_bar[t] * self.covariance + identity
        return GaussianData(schedule.sqrt_alpha_bar[t] * self.mean, covariance)

    def log_density(self, x: Array) -> Array:
        """Log-density, log p(x), in nats; shape (B,). Far away, as of mixtures, it saturates."""
        xp = self._check(x=x)
        std = np.sqrt(self.variances)
        # The squares must not overflow.
        limit = math.sqrt(float(xp.finfo(x.dtype).max)) / (4 * self.d) * float(np.min(std))
        centred = clamp(x, -limit, limit) - _as_array(self.mean, x)
        square = sum_features((self.to_axes(centred) / _as_array(std, x)) ** 2)
        return -0.5 * square - (float(np.sum(np.log(std))) + 0.5 * self.d * LOG_2PI)

    def score(self, x: Array) -> Array:
        """Gradient of the log-density; shape (B, d).

        score(x) = covariance^-1 (mean - x)
        """
        self._check(x=x)
        return self._along_axes(_as_array(self.mean, x) - x, 1.0 / self.variances)

    def posterior_x0(self, schedule: Schedule, x_t: Array, t: Array | int) -> Array:
        """Bayes-optimal prediction of the observation, E[x_0 | x_t]; shape (B, d), 1 <= t <= T.

        E[x_0 | x_t] = mean + sqrt(alpha_bar[t]) v / v_t * (x_t - sqrt(alpha_bar[t]) mean)
        """
        t, centred, diffused = self._seen(schedule, x_t, t)
        shrink = schedule.sqrt_alpha_bar[t][..., None] * (self.variances / diffused)
        return _as_array(self.mean, x_t) + self._along_axes(centred, shrink)

    def bayes_eps(self, schedule: Schedule, x_t: Array, t: Array | int) -> Array:
        """Bayes-optimal prediction of the noise, E[eps | x_t]; shape (B, d), 1 <= t <= T.

        E[eps | x_t] = sqrt(1 - alpha_bar[t]) / v_t * (x_t - sqrt(alpha_bar[t]) mean)
        """
        t, centred, diffused = self._seen(schedule, x_t, t)
        return self._along_axes(centred, schedule.sqrt_one_minus_alpha_bar[t][..., None] / diffused)

    def flow(self, schedule: Schedule, x_T: Array) -> Array:
        """Where the probability flow takes x_T, if it follows the exact score down to t = 0.

        x_0 = mean + sqrt(v / v_T) * (x_T - sqrt(alpha_bar[T]) mean)
        """
        mean, variances = self._at_T(schedule)
        self._check(x_T=x_T)
        moved = self._along_axes(x_T - _as_array(mean, x_T), np.sqrt(self.variances / variances))
        return _as_array(self.mean, x_T) + moved

    def flow_inverse(self, schedule: Schedule, x0: Array) -> Array:
        """The x_T from which :meth:`flow` leads to x0."""
        mean, variances = self._at_T(schedule)
        self._check(x0=x0)
        moved = self._along_axes(x0 - _as_array(self.mean, x0), np.sqrt(variances / self.variances))
        return _as_array(mean, x0) + moved

    def entropy(self) -> float:
        """Differential entropy, 1/2 * sum(log(2 pi e variances)), in nats."""
        return 0.5 * float(np.sum(np.log(self.variances) + (LOG_2PI + 1.0)))

    def kl(self, other: "GaussianData") -> float:
        """KL(this || other), in nats."""
        self._check_other(other)
        if self.axes is None and other.axes is None:
            laws = (self.mean[None], self.variances[None], other.mean[None], other.variances[None])
            return float(kl_isotropic(*laws)[0])
        return kl_full(*self._dense(), *other._dense())

    def wasserstein2(self, other: "GaussianData") -> float:
        """Wasserstein-2 distance, not squared."""
        self._check_other(other)
        if self.axes is None and other.axes is None:
            stretch = np.sqrt(self.variances) - np.sqrt(other.variances)
            return float(np.linalg.norm(np.concatenate([self.mean - other.mean, stretch])))
        return wasserstein2_full(*self._dense(), *other._dense())

    def to_axes(self, x: Array) -> Array:
        """Coordinates of x along the principal axes; shape (B, d)."""
        return x if self.axes is None else x @ _as_array(self.axes, x)

    def from_axes(self, z: Array) -> Array:
        """Invert :meth:`to_axes`."""
        return z if self.axes is None else z @ _as_array(self.axes.T, z)

    def _along_axes(self, x: Array, factors: Table) -> Array:
        """Multiply x along each axis by its factor; shape (d,), or (B, d)."""
        return self.from_axes(_as_array(factors, x) * self.to_axes(x))

    def _at_T(self, schedule: Schedule) -> tuple[Table, Table]:
        """Mean of x_T, and its variances along the axes."""
        T = check_schedule(schedule).T
        return schedule.sqrt_alpha_bar[T] * self.mean, _diffused(schedule, T, self.variances)

    def _seen(self, schedule: Schedule, x_t: Array, t: Array | int) -> tuple[Times, Array, Table]:
        """Return t on the host, x_t less its mean, and the variances of x_t along the axes."""
        self._check(x_t=x_t)
        t = check_times(t, check_schedule(schedule).T, x_t.shape[0])
        mean = schedule.sqrt_alpha_bar[t][..., None] * self.mean
        return t, x_t - _as_array(mean, x_t), _diffused(schedule, t, self.variances)

    def _dense(self) -> tuple[Table, Table]:
        return self.mean, np.diag(self.covariance) if self.axes is None else self.covariance

    def _check(self, **arrays: Array) -> Any:
        xp = check_arrays(**arrays)
        for name, x in arrays.items():
            if len(x.shape) != 2 or x.shape[1] != self.d:
                raise ValueError(f"{name} must have shape (B, {self.d}), got {x.shape}")
        return xp

    def _check_other(self, other: object) -> None:
        if not isinstance(other, GaussianData):
            raise TypeError(f"other must be a GaussianData, got {describe(other)}")
        if other.d != self.d:
            raise ValueError(f"other must have d = {self.d}, got {other.d}")


def gaussian_data_chain(
    schedule: Schedule, mean: Table, covariance: Table, sigma2: Table
) -> LinearGaussianChain:
    """Bayes-optimal model of data x_0 ~ N(mean, covariance): its means are E[x_{t-1} | x_t].

        C_t = alpha_bar[t] covariance + (1 - alpha_bar[t]) I, the covariance of x_t
        slopes[t] = sqrt(alpha[t]) C_{t-1} C_t^-1
        offsets[t] = sqrt(alpha_bar[t-1]) beta[t] C_t^-1 mean

    ``mean``, ``covariance`` and errors as for :func:`ddpm_np.exact.gaussian_points`; the best
    reverse variances, sigma2, are those of :func:`optimal_variance_gaussian`.
    """
    T, (centre, axes, of_x0) = check_schedule(schedule).T, principal_axes(mean, covariance)
    variances = _diffused(schedule, slice(None), of_x0)
    ratios = from_1(np.sqrt(schedule.alpha[1:, None]) * variances[:-1] / variances[1:])
    shifts = from_1(schedule.sqrt_alpha_bar[:T, None] * schedule.beta[1:, None] / variances[1:])
    slopes, offsets = (axes * ratios[:, None]) @ axes.T, (shifts * (centre @ axes)) @ axes.T
    return LinearGaussianChain(schedule, slopes, offsets, sigma2)


def optimal_variance_gaussian(schedule: Schedule, covariance: Table) -> Table:
    """Best reverse variances for Gaussian data and the Bayes-optimal means.

        sigma2[t] = tr Cov[x_{t-1} | x_t] / d = beta[t] tr(C_{t-1} C_t^-1) / d,  t = 1 ... T

    with C_t as in :func:`gaussian_data_chain`; for t >= 2 they maximise the expected L_{t-1},
    at t = 1 the expected L_0.

    Length T + 1, entry 0 is 0; errors as for :func:`ddpm_np.exact.gaussian_points`.
    """
    check_schedule(schedule)
    _, _, of_x0 = principal_axes(np.zeros(len(np.atleast_1d(covariance))), covariance)
    variances = _diffused(schedule, slice(None), of_x0)
    ratios = np.mean(variances[:-1] / variances[1:], axis=1)
    return from_1(schedule.beta[1:] * ratios)


def _diffused(schedule: Schedule, t: Times | slice, variances: Table) -> Table:
    """Variances of x_t along the axes, shape (d,), or (number of times, d)."""
    noise = schedule.one_minus_alpha_bar[t]
    return np.multiply.outer(schedule.alpha_bar[t], variances) + np.expand_dims(noise, -1)


def _as_array(values: Table, like: Array) -> Array:
    """Host values as an array like another."""
    coefficient(float(np.max(np.abs(values))), like)  # refuses what its dtype cannot hold
    # A copy, as values may be read-only.
    return array_namespace(like).asarray(values.copy(), dtype=like.dtype, device=device(like))
