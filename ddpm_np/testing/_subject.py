"""The implementation under test, as functions that return host float64 of the right shape."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from ddpm_np._arrays import Array, Table, to_host
from ddpm_np._checks import describe
from ddpm_np.testing._claims import Claims
from ddpm_np.testing._precision import Precision, error_of_single_tables, is_single
from ddpm_np.testing._probes import coefficients
from ddpm_np.testing._truth import TimeArray, Truth
from ddpm_np.testing.protocol import (
    BatchPredict,
    CompleteImplementation,
    Implementation,
    Predict,
    Values,
)


@dataclass(frozen=True, eq=False)
class Subject:
    """An implementation, what it claims, what its betas imply, and the times at which to look.

    The methods are those of :class:`~ddpm_np.testing.CompleteImplementation`, plural where they
    return one entry per time. What an implementation does not offer must not be called. It gets
    copies of all arrays, and ``changed`` collects which of them it wrote to, as "method: argument".
    ``single`` says by method whether float32 holds all that it returned.
    """

    implementation: CompleteImplementation
    claims: Claims
    truth: Truth
    seed: int
    times: TimeArray
    changed: set[str] = field(default_factory=set)
    single: dict[str, bool] = field(default_factory=dict)

    @cached_property
    def own_variances(self) -> Table | None:
        """What ``reverse_variance`` says, length T + 1; None if it says nothing of use."""
        if not self.offers("reverse_variance"):
            return None
        try:
            return self.reverse_variances()
        except Exception:  # its own row says what is wrong
            return None

    @cached_property
    def single_tables(self) -> Table | None:
        """Relative errors of its tables at each t, if ``alpha_bars`` or ``q_sample`` show float32."""
        for method, read in (("alpha_bars", self._alpha_bar_table), ("q_sample", self._marginal_table)):
            if not self.offers(method):
                continue
            try:
                with np.errstate(all="ignore"):
                    error = error_of_single_tables(self.truth, *read())
            except Exception:  # its own row says what is wrong
                continue
            if error is not None:
                return error
        return None

    def _alpha_bar_table(self) -> tuple[Values, Values]:
        values = self.alpha_bars()
        return values, 1.0 - values

    def _marginal_table(self) -> tuple[Values, Values]:
        t = np.arange(1, self.truth.T + 1)
        found = coefficients(lambda x0, noise, time: self.q_sample(x0, time, noise), t)
        return found.of_u**2, found.of_v**2

    def precision(self, methods: Iterable[str]) -> Precision:
        """What is known of the arithmetic behind these methods."""
        single = any(self.single.get(method, False) for method in methods)
        return Precision(self.claims.dtype, single, self.single_tables)

    def offers(self, method: str) -> bool:
        """Whether the method is there."""
        return callable(getattr(self.implementation, method, None))

    def rng(self, purpose: int) -> np.random.Generator:
        """A generator for one check."""
        return np.random.default_rng([self.seed, purpose])

    def alpha_bars(self) -> Values:
        """alpha_bar_1 ... alpha_bar_T."""
        values, T = self._values("alpha_bars", self._call("alpha_bars"), ""), self.truth.T
        if values.shape != (T,):
            raise ValueError(
                f"alpha_bars() must have shape ({T},), no entry for t = 0, got {values.shape}"
            )
        return values

    def q_step(self, x_prev: Values, t: int, noise: Values) -> Values:
        """x_t."""
        x_t = self._call("q_step", x_prev=x_prev, t=t, noise=noise)
        return self._values("q_step", x_t, "", x_prev.shape)

    def q_sample(self, x0: Values, t: int, noise: Values) -> Values:
        """x_t."""
        x_t = self._call("q_sample", x0=x0, t=t, noise=noise)
        return self._values("q_sample", x_t, "", x0.shape)

    def q_posterior(self, x0: Values, x_t: Values, t: int) -> tuple[Values, Values]:
        """Mean and variance, both in the shape of x0."""
        mean, variance = self._call("q_posterior", x0=x0, x_t=x_t, t=t)
        spread = self._values("q_posterior", variance, "the variance of ")
        if not set(spread.shape) <= {1, *x0.shape} or spread.ndim > x0.ndim:
            raise ValueError(f"the variance of q_posterior(...) must broadcast, got {spread.shape}")
        if spread.shape == (len(x0),):
            spread = spread[:, None]
        centre = self._values("q_posterior", mean, "the mean of ", x0.shape)
        return centre, spread * np.ones_like(x0)

    def model_mean(self, x_t: Values, t: int, eps: Values) -> Values:
        """Mean of x_{t-1}."""
        mean = self._call("model_mean", x_t=x_t, t=t, eps=eps)
        return self._values("model_mean", mean, "", x_t.shape)

    def reverse_variances(self) -> Table:
        """The implementation's own sigma_t^2, length T + 1; entry 0 is 0."""
        return np.array([0.0, *self._numbers("reverse_variance", range(1, self.truth.T + 1))])

    def learned_variances(self, v: float, times: TimeArray) -> Values:
        """sigma_t^2 for this v at each of these times."""
        return np.array([self._number("learned_variance", v=v, t=t) for t in times.tolist()])

    def reverse_step(self, x_t: Values, t: int, eps: Values, z: Values) -> Values:
        """x_{t-1}."""
        x_prev = self._call("reverse_step", x_t=x_t, t=t, eps=eps, z=z)
        return self._values("reverse_step", x_prev, "", x_t.shape)

    def sample(self, predict: Predict, x_T: Values, noise: Values) -> Values:
        """x_0 of the whole loop."""
        x_0 = self._call("sample", predict=predict, x_T=x_T, noise=noise)
        return self._values("sample", x_0, "", x_T.shape)

    def loss_weights(self, target: str, times: TimeArray) -> Values:
        """The weight of a target's squared error, "eps", "x0", "v" or "mean", at each of these times."""
        return np.array(self._numbers(f"{target}_loss_weight", times.tolist()))

    def loss(self, predict: BatchPredict, x0: Values, rng: np.random.Generator) -> Values:
        """The training loss of one batch, shape () or (B,)."""
        value = self._values("loss", self._call("loss", predict=predict, x0=x0, rng=rng), "")
        if value.shape not in ((), (1,), (len(x0),)):
            raise ValueError(f"loss(...) must return a number or shape ({len(x0)},), got {value.shape}")
        return value.reshape(()) if value.size == 1 else value

    def elbo_terms(self, predict: Predict, x0: Values, noise: Values) -> tuple[Values, Values, Values]:
        """L_T (B,), L (T + 1, B) and L_0 (B,)."""
        L_T, L, L_0 = self._call("elbo_terms", predict=predict, x0=x0, noise=noise)
        batch = len(x0)
        return (
            self._values("elbo_terms", L_T, "L_T of ", (batch,)),
            self._values("elbo_terms", L, "L of ", (self.truth.T + 1, batch)),
            self._values("elbo_terms", L_0, "L_0 of ", (batch,)),
        )

    def _call(self, method: str, **arguments: Any) -> Any:
        """Call a method with copies of the arrays, by position, and look whether it wrote to them."""
        lent = {
            name: value.copy() if isinstance(value, np.ndarray) else value
            for name, value in arguments.items()
        }
        try:
            return getattr(self.implementation, method)(*lent.values())
        finally:
            for name, value in arguments.items():
                if isinstance(value, np.ndarray) and not np.array_equal(
                    value, lent[name], equal_nan=True
                ):
                    self.changed.add(f"{method}: {name}")

    def _numbers(self, method: str, times: Iterable[int]) -> list[float]:
        return [self._number(method, t=t) for t in times]

    def _number(self, method: str, **arguments: float) -> float:
        """Call a method that has to return one number."""
        asked = f"{method}({', '.join(f'{value:g}' for value in arguments.values())})"
        value = as_values(self._call(method, **arguments), asked)
        if value.size != 1:
            raise ValueError(f"{asked} must return one number, got {describe(value)}")
        self._note_precision(method, value)
        return float(value.reshape(()))

    def _values(
        self, method: str, result: Array | float, part: str, shape: tuple[int, ...] | None = None
    ) -> Values:
        """What a method returned, or a part of it, as host float64."""
        arguments = "()" if method == "alpha_bars" else "(...)"
        values = as_values(result, f"{part}{method}{arguments}", shape)
        self._note_precision(method, values)
        return values

    def _note_precision(self, method: str, values: Values) -> None:
        if np.any(values != 0.0):
            self.single[method] = self.single.get(method, True) and is_single(values)


def betas_of(implementation: Implementation, T: int) -> Values:
    """beta_1 ... beta_T, whatever their values."""
    betas = as_values(implementation.betas(), "betas()")
    if betas.shape == (T + 1,) and betas[0] in (0.0, 1.0):
        raise ValueError(f"betas() must have T = {T} entries, without one for t = 0, got {T + 1}")
    if betas.shape != (T,):
        raise ValueError(f"betas() must have shape ({T},), got {betas.shape}")
    return betas


def chosen_times(usable: TimeArray, seed: int) -> TimeArray:
    """All usable times if they are few, else both ends, some in between, and three at random."""
    n = len(usable)
    if n <= 16:
        return usable
    fixed = [0, 1, 2, n // 4 - 1, n // 2 - 1, 3 * n // 4 - 1, n - 2, n - 1]
    drawn = np.random.default_rng([seed, n]).integers(0, n, 3).tolist()
    return usable[sorted({*fixed, *drawn})]


def as_values(value: Array | float, what: str, shape: tuple[int, ...] | None = None) -> Values:
    """Return a result as host float64, after checking its shape."""
    if hasattr(value, "__dlpack__") and not isinstance(value, np.ndarray):
        value = to_host(value)
    array = np.asarray(value)
    if not np.issubdtype(array.dtype, np.floating) and not np.issubdtype(array.dtype, np.integer):
        raise TypeError(f"{what} must return real numbers, got {describe(array)}")
    if shape is not None and array.shape != shape:
        raise ValueError(f"{what} must return shape {shape}, got {array.shape}")
    return array.astype(np.float64)  # a copy: the next call may reuse the array
