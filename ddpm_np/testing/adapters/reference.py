"""ddpm_np itself as an implementation to be checked: the adapter that has to pass."""

import warnings
from dataclasses import dataclass, field

import numpy as np

from ddpm_np._arrays import Array
from ddpm_np.elbo import PriorWarning, elbo_decomposition
from ddpm_np.forward import q_sample, q_step
from ddpm_np.losses import bound_weight, simple_loss
from ddpm_np.posterior import q_posterior
from ddpm_np.reverse import VarianceKind, model_mean, reverse_variance
from ddpm_np.samplers import ancestral_sample
from ddpm_np.schedules import Schedule, linear_schedule
from ddpm_np.targets import Target, training_target
from ddpm_np.testing.protocol import BatchPredict, Predict, Values


def _default_schedule() -> Schedule:
    return linear_schedule(1000)


@dataclass(frozen=True)
class Reference:
    """ddpm_np itself, as a :class:`~ddpm_np.testing.CompleteImplementation`.

    Parameters
    ----------
    schedule : Schedule
        By default ``linear_schedule(1000)``.
    variance : {"posterior", "beta", "unit"}
        Kind of sigma_t^2; see :func:`ddpm_np.reverse_variance`.
    target : {"eps", "x0", "mean", "v"}
        What ``predict`` returns; to be announced to the checker too.
    """

    schedule: Schedule = field(default_factory=_default_schedule)
    variance: VarianceKind = "posterior"
    target: Target = "eps"

    @property
    def T(self) -> int:
        """The number of steps."""
        return self.schedule.T

    def betas(self) -> Values:
        """beta_1 ... beta_T."""
        return self.schedule.beta[1:]

    def alpha_bars(self) -> Values:
        """alpha_bar_1 ... alpha_bar_T."""
        return self.schedule.alpha_bar[1:]

    def q_step(self, x_prev: Values, t: int, noise: Values) -> Array:
        """:func:`ddpm_np.q_step`."""
        return q_step(self.schedule, x_prev, t, noise)

    def q_sample(self, x0: Values, t: int, noise: Values) -> Array:
        """:func:`ddpm_np.q_sample`."""
        return q_sample(self.schedule, x0, t, noise)

    def q_posterior(self, x0: Values, x_t: Values, t: int) -> tuple[Array, Array]:
        """:func:`ddpm_np.q_posterior`."""
        return q_posterior(self.schedule, x0, x_t, t)

    def model_mean(self, x_t: Values, t: int, eps: Values) -> Array:
        """:func:`ddpm_np.model_mean` of target "eps"."""
        return model_mean(self.schedule, x_t, t, eps)

    def reverse_variance(self, t: int) -> float:
        """:func:`ddpm_np.reverse_variance` at t."""
        return float(reverse_variance(self.schedule, self.variance)[t])

    def reverse_step(self, x_t: Values, t: int, eps: Values, z: Values) -> Array:
        """One pass of the loop in :func:`ddpm_np.ancestral_sample`."""
        mean = model_mean(self.schedule, x_t, t, eps)
        return mean + np.sqrt(self.reverse_variance(t)) * z if t > 1 else mean

    def sample(self, predict: Predict, x_T: Values, noise: Values) -> Array:
        """:func:`ddpm_np.ancestral_sample`."""
        sigma2 = reverse_variance(self.schedule, self.variance)
        return ancestral_sample(
            self.schedule, predict, x_T, noise=lambda t: noise[t], sigma2=sigma2, target=self.target
        )

    def eps_loss_weight(self, t: int) -> float:
        """:func:`ddpm_np.eps_loss_weight`."""
        return self._loss_weight(t, "eps")

    def x0_loss_weight(self, t: int) -> float:
        """:func:`ddpm_np.x0_loss_weight`."""
        return self._loss_weight(t, "x0")

    def v_loss_weight(self, t: int) -> float:
        """:func:`ddpm_np.v_loss_weight`."""
        return self._loss_weight(t, "v")

    def mean_loss_weight(self, t: int) -> float:
        """:func:`ddpm_np.mean_loss_weight`."""
        return self._loss_weight(t, "mean")

    def _loss_weight(self, t: int, target: Target) -> float:
        sigma2 = reverse_variance(self.schedule, self.variance)
        return float(bound_weight(self.schedule, t, sigma2, target))

    def learned_variance(self, v: float, t: int) -> float:
        """Between the ends of :func:`ddpm_np.reverse_variance`, ND (15)."""
        low = reverse_variance(self.schedule, "posterior")[t]
        return float(np.exp(v * np.log(self.schedule.beta[t]) + (1.0 - v) * np.log(low)))

    def loss(self, predict: BatchPredict, x0: Values, rng: np.random.Generator) -> Array:
        """:func:`ddpm_np.simple_loss`, Ho Algorithm 1."""
        t = rng.integers(1, self.T, len(x0), endpoint=True)
        noise = rng.standard_normal(x0.shape)
        truth = training_target(self.schedule, x0, t, noise, self.target)
        return simple_loss(truth, predict(q_sample(self.schedule, x0, t, noise), t))

    def elbo_terms(self, predict: Predict, x0: Values, noise: Values) -> tuple[Array, Array, Array]:
        """:func:`ddpm_np.elbo_decomposition` with its Gaussian decoder."""
        sigma2 = reverse_variance(self.schedule, self.variance)
        with warnings.catch_warnings():
            # Short schedules are checked too; how good their prior is does not matter here.
            warnings.simplefilter("ignore", PriorWarning)
            terms = elbo_decomposition(
                self.schedule, predict, x0, noise=noise, sigma2=sigma2, target=self.target
            )
        return terms.L_T, terms.L, terms.L_0
