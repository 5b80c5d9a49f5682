"""Reading numbers off an implementation: calls, conversions, and coefficients of linear maps."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import to_host
from ddpm_np._checks import describe
from ddpm_np.testing._truth import Truth, Values

# Entries that differ from each other, so that a mixed-up axis or a lost example shows.
P: Values = np.array([[1.0, -0.5, 0.25], [0.75, 0.6, -1.0], [-0.3, 0.9, 0.4], [0.55, -0.8, -0.65]])
Q: Values = np.roll(P[::-1], 1, axis=1) * np.array([1.0, -1.0, 1.0])
BATCH, DIMENSIONS = P.shape
ZERO: Values = np.zeros_like(P)

Times: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Subject:
    """The implementation under test, what its betas imply, and the times at which to look."""

    implementation: Any
    truth: Truth
    dtype: str
    seed: int
    times: NDArray[np.int64]

    def offers(self, method: str) -> bool:
        """Whether the method is there."""
        return callable(getattr(self.implementation, method, None))

    def array(self, method: str, *arguments: Any, shape: tuple[int, ...] = P.shape) -> Values:
        """Call a method whose result has to have this shape."""
        return as_values(getattr(self.implementation, method)(*arguments), f"{method}(...)", shape)

    def array_of_posterior(self, x0: Values, x_t: Values, t: int) -> tuple[Values, Values]:
        """Mean and variance of q_posterior, both in the shape of x0."""
        mean, variance = self.implementation.q_posterior(x0, x_t, t)
        spread = as_values(variance, "the variance of q_posterior(...)")
        if not set(spread.shape) <= {1, *x0.shape} or spread.ndim > x0.ndim:
            raise ValueError(f"the variance of q_posterior(...) must broadcast, got {spread.shape}")
        if spread.shape == (len(x0),):
            spread = spread[:, None]
        return as_values(mean, "the mean of q_posterior(...)", x0.shape), spread * np.ones_like(x0)

    def number(self, method: str, t: int) -> float:
        """Call a method of t whose result has to be one number."""
        value = as_values(getattr(self.implementation, method)(t), f"{method}({t})")
        if value.size != 1:
            raise ValueError(f"{method}({t}) must return one number, got {describe(value)}")
        return float(value.reshape(()))

    def numbers(self, method: str, times: NDArray[np.int64]) -> Values:
        """Call it at several times."""
        return np.array([self.number(method, t) for t in times.tolist()])

    def sigma2(self) -> Values:
        """The implementation's own reverse variances, length T + 1; entry 0 is 0."""
        times = np.arange(1, self.truth.T + 1)
        return np.concatenate([[0.0], self.numbers("reverse_variance", times)])

    def variance_choices(self) -> dict[str, Values]:
        """Tables of sigma_t^2 to try: the implementation's own, or if it keeps silent the usual."""
        if self.offers("reverse_variance"):
            return {"reverse_variance(t)": self.sigma2()}
        return usual_variances(self.truth)

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator for one check."""
        return np.random.default_rng([self.seed, purpose])


def usual_variances(truth: Truth) -> dict[str, Values]:
    """Return the usual choices of sigma_t^2: beta_tilde (with beta_tilde[2] at t = 1), beta, 1."""
    posterior = truth.posterior_variance.copy()
    posterior[1] = posterior[2] if truth.T > 1 else truth.beta[1]
    unit = np.ones(truth.T + 1)
    return {"beta_tilde[t] (25)": posterior, "beta[t]": truth.beta, "1": unit}


def as_values(value: Any, what: str, shape: tuple[int, ...] | None = None) -> Values:
    """Return a result as host float64, after checking its shape."""
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        value = to_host(value)
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating) and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{what} must return real numbers, got {describe(array)}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{what} must return shape {shape}, got {array.shape}")
    return array.astype(np.float64)


@dataclass(frozen=True)
class Coefficients:
    """A map f(u, v) = of_u * u + of_v * v, and by how much it is not of that form."""

    of_u: float
    of_v: float
    defect_u: float
    defect_v: float


def coefficients(f: Callable[[Values, Values], Values], a: float, b: float) -> Coefficients:
    """Measure the coefficients of an elementwise linear map with probes of sizes a and b."""
    f_u, f_v, both = f(a * P, ZERO), f(ZERO, b * Q), f(a * P, b * Q)
    of_u, of_v = float(np.sum(f_u * P) / np.sum(P * P)) / a, float(np.sum(f_v * Q) / np.sum(Q * Q)) / b
    defect_u = float(np.max(np.abs(f_u - of_u * a * P))) / a
    defect_v = float(np.max(np.abs(f_v - of_v * b * Q))) / b
    # What u and v do together is held against the larger contribution.
    joint = float(np.max(np.abs(both - f_u - f_v)))
    if abs(of_u) * a >= abs(of_v) * b:
        return Coefficients(of_u, of_v, defect_u + joint / a, defect_v)
    return Coefficients(of_u, of_v, defect_u, defect_v + joint / b)


def at_time(f: Callable[[Values, Values, int], Values], t: int) -> Callable[[Values, Values], Values]:
    """Fix the time of a map."""
    return lambda u, v: f(u, v, t)


def chosen_times(T: int, seed: int) -> NDArray[np.int64]:
    """All times if there are few, else both ends, some in between, and three at random."""
    if T <= 16:
        return np.arange(1, T + 1)
    fixed = [1, 2, 3, T // 4, T // 2, 3 * T // 4, T - 1, T]
    drawn = np.random.default_rng([seed, T]).integers(1, T + 1, 3).tolist()
    return np.array(sorted({*fixed, *drawn}))


def closest(choices: Mapping[str, Values], measured: Values) -> str:
    """The name of the table that is closest to what was measured."""
    if measured.size == 0:
        return next(iter(choices))
    with np.errstate(all="ignore"):
        errors = {
            name: np.max(np.abs(measured - table) / np.maximum(np.abs(table), 1e-300))
            for name, table in choices.items()
        }
    return min(errors, key=lambda name: float(np.nan_to_num(errors[name], nan=np.inf)))


def columns(found: list[Coefficients]) -> tuple[Values, Values, Values, Values]:
    """Coefficients at several times as four arrays of shape (n,)."""
    table = np.array([(c.of_u, c.of_v, c.defect_u, c.defect_v) for c in found]).reshape(-1, 4)
    return table[:, 0], table[:, 1], table[:, 2], table[:, 3]


def largest(values: Values) -> Values:
    """The largest entry at each time, as the scale of all: shape (n, B, d)."""
    result: Values = np.max(np.abs(values), axis=(1, 2), keepdims=True) * np.ones_like(values)
    return result
