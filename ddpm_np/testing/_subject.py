"""The implementation under test, as functions that return host float64 of the right shape."""

from dataclasses import dataclass

import numpy as np

from ddpm_np._arrays import Array, Table, to_host
from ddpm_np._checks import describe
from ddpm_np.testing._truth import TimeArray, Truth
from ddpm_np.testing.protocol import CompleteImplementation, Implementation, Predict, Values


@dataclass(frozen=True, eq=False)
class Subject:
    """An implementation, what its betas imply, and the times at which to look.

    The methods are those of :class:`~ddpm_np.testing.CompleteImplementation`, plural where they
    return one entry per time. What an implementation does not offer must not be called.
    """

    implementation: CompleteImplementation
    truth: Truth
    dtype: str
    seed: int
    times: TimeArray

    def offers(self, method: str) -> bool:
        """Whether the method is there."""
        return callable(getattr(self.implementation, method, None))

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator for one check."""
        return np.random.default_rng([self.seed, purpose])

    def alpha_bars(self) -> Values:
        """alpha_bar_1 ... alpha_bar_T."""
        values, T = as_values(self.implementation.alpha_bars(), "alpha_bars()"), self.truth.T
        if values.shape != (T,):
            raise ValueError(
                f"alpha_bars() must have shape ({T},), no entry for t = 0, got {values.shape}"
            )
        return values

    def q_sample(self, x0: Values, t: int, noise: Values) -> Values:
        """x_t."""
        return as_values(self.implementation.q_sample(x0, t, noise), "q_sample(...)", x0.shape)

    def q_posterior(self, x0: Values, x_t: Values, t: int) -> tuple[Values, Values]:
        """Mean and variance, both in the shape of x0."""
        mean, variance = self.implementation.q_posterior(x0, x_t, t)
        spread = as_values(variance, "the variance of q_posterior(...)")
        if not set(spread.shape) <= {1, *x0.shape} or spread.ndim > x0.ndim:
            raise ValueError(f"the variance of q_posterior(...) must broadcast, got {spread.shape}")
        if spread.shape == (len(x0),):
            spread = spread[:, None]
        return as_values(mean, "the mean of q_posterior(...)", x0.shape), spread * np.ones_like(x0)

    def model_mean(self, x_t: Values, t: int, eps: Values) -> Values:
        """Mean of x_{t-1}."""
        return as_values(self.implementation.model_mean(x_t, t, eps), "model_mean(...)", x_t.shape)

    def reverse_variances(self) -> Table:
        """The implementation's own sigma_t^2, length T + 1; entry 0 is 0."""
        times = range(1, self.truth.T + 1)
        own = [_number(self.implementation.reverse_variance(t), f"reverse_variance({t})") for t in times]
        return np.array([0.0, *own])

    def reverse_step(self, x_t: Values, t: int, eps: Values, z: Values) -> Values:
        """x_{t-1}."""
        x_prev = self.implementation.reverse_step(x_t, t, eps, z)
        return as_values(x_prev, "reverse_step(...)", x_t.shape)

    def sample(self, predict: Predict, x_T: Values, noise: Values) -> Values:
        """x_0 of the whole loop."""
        return as_values(self.implementation.sample(predict, x_T, noise), "sample(...)", x_T.shape)

    def eps_loss_weights(self, times: TimeArray) -> Values:
        """The weight at each of these times."""
        weight = self.implementation.eps_loss_weight
        return np.array([_number(weight(t), f"eps_loss_weight({t})") for t in times.tolist()])

    def elbo_terms(self, predict: Predict, x0: Values, noise: Values) -> tuple[Values, Values, Values]:
        """L_T (B,), L (T + 1, B) and L_0 (B,)."""
        L_T, L, L_0 = self.implementation.elbo_terms(predict, x0, noise)
        batch = len(x0)
        return (
            as_values(L_T, "L_T of elbo_terms(...)", (batch,)),
            as_values(L, "L of elbo_terms(...)", (self.truth.T + 1, batch)),
            as_values(L_0, "L_0 of elbo_terms(...)", (batch,)),
        )


def betas_of(implementation: Implementation, T: int) -> Values:
    """beta_1 ... beta_T, each between 0 and 1."""
    betas = as_values(implementation.betas(), "betas()")
    if betas.shape == (T + 1,) and betas[0] in (0.0, 1.0):
        raise ValueError(f"betas() must have T = {T} entries, without one for t = 0, got {T + 1}")
    if betas.shape != (T,):
        raise ValueError(f"betas() must have shape ({T},), got {betas.shape}")
    inside = (betas > 0.0) & (betas < 1.0)
    if not inside.all():
        t = 1 + int(np.argmin(inside))
        raise ValueError(f"betas() must lie strictly between 0 and 1, got {betas[t - 1]:g} for t = {t}")
    return betas


def chosen_times(T: int, seed: int) -> TimeArray:
    """All times if there are few, else both ends, some in between, and three at random."""
    if T <= 16:
        return np.arange(1, T + 1)
    fixed = [1, 2, 3, T // 4, T // 2, 3 * T // 4, T - 1, T]
    drawn = np.random.default_rng([seed, T]).integers(1, T + 1, 3).tolist()
    return np.array(sorted({*fixed, *drawn}))


def as_values(value: Array | float, what: str, shape: tuple[int, ...] | None = None) -> Values:
    """Return a result as host float64, after checking its shape."""
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        value = to_host(value)
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating) and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{what} must return real numbers, got {describe(array)}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{what} must return shape {shape}, got {array.shape}")
    return array.astype(np.float64)


def _number(result: Array | float, what: str) -> float:
    """Return a result that has to be one number."""
    value = as_values(result, what)
    if value.size != 1:
        raise ValueError(f"{what} must return one number, got {describe(value)}")
    return float(value.reshape(()))
