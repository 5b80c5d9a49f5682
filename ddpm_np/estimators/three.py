"""The three Monte Carlo estimators of document D, all of one objective.

    J = E_q[sum over t = 1..T of log p_theta(x_{t-1} | x_t)],  ELBO = L_T + J + entropy_constant

The T-sample estimator sums over a whole chain, the two-sample estimator draws one t and the pair
(x_{t-1}, x_t), the one-sample estimator draws only x_t and integrates x_{t-1} out. Results have shape
(B,), in nats: one per example, so that variances can be measured. The decoder is the factor at t = 1.

x0 and noise share one shape, (B, ...); noise is standard normal. predict(x_t, t) is the network, and
target says what it predicts; it gets t on the host, as an int or an integer array of shape (B,). sigma2
is a positive table of length T + 1, decoder(x0, mean, variance) is log p(x_0 | x_1). Anything else
raises TypeError or ValueError.
"""

from dataclasses import dataclass

import numpy as np

from ddpm_np._arrays import (
    Array,
    BatchPredictor,
    Noise,
    Table,
    Times,
    array_namespace,
    ask,
    check_arrays,
    check_times,
    coefficient_array,
    device,
    noise_function,
    sum_features,
)
from ddpm_np._checks import check_callable, check_integer
from ddpm_np.decoders import Decoder, gaussian_decoder
from ddpm_np.forward import q_sample_unchecked, q_step, q_step_moments
from ddpm_np.gaussians import LOG_2PI, kl_isotropic_unchecked, normal_log_density
from ddpm_np.posterior import q_posterior_mean_unchecked
from ddpm_np.reverse import check_predictor, check_variances, model_mean_unchecked
from ddpm_np.schedules import Schedule, at, check_schedule
from ddpm_np.targets import Target, check_target


def t_sample_estimate(
    schedule: Schedule,
    predict: BatchPredictor,
    x0: Array,
    *,
    noise: Noise,
    sigma2: Table,
    decoder: Decoder = gaussian_decoder,
    target: Target = "eps",
) -> Array:
    """T-sample estimate of J: the whole chain, T evaluations of the network, D estimator 1.

        estimate = sum over t = 1..T of log p_theta(x_{t-1} | x_t),  x_1 ... x_T ~ q(. | x_0)

    noise is that of the step from x_{t-1} to x_t: a function of t, or an array of shape (T + 1, B, ...)
    whose entry 0 is not used.
    """
    T = check_schedule(schedule).T
    check_arrays(x0=x0)
    model = _Model(schedule, predict, sigma2, decoder, target)
    draw = noise_function(noise, x0, T)
    x_prev, total = x0, 0.0
    for t in range(1, T + 1):
        x_t = q_step(schedule, x_prev, t, draw(t))
        total = total + model.log_step(x0, x_prev, x_t, t)
        x_prev = x_t
    return total


def two_sample_estimate(
    schedule: Schedule,
    predict: BatchPredictor,
    x0: Array,
    t: Array | int,
    *,
    noise: Array,
    step_noise: Array,
    sigma2: Table,
    decoder: Decoder = gaussian_decoder,
    target: Target = "eps",
) -> Array:
    """Two-sample estimate of J: one t, x_{t-1} and x_t, D estimator 2.

        estimate = T * log p_theta(x_{t-1} | x_t),  x_{t-1} ~ q(. | x_0), x_t ~ q(. | x_{t-1})

    Unbiased for t uniform on 1..T. noise is that of x_{t-1} (not used at t = 1, where it is x0),
    step_noise that of the step from there to x_t.
    """
    t, _ = at(schedule, t, x0=x0, noise=noise)
    model = _Model(schedule, predict, sigma2, decoder, target)
    check_arrays(x0=x0, step_noise=step_noise)
    x_prev = q_sample_unchecked(schedule, x0, t - 1, noise)
    x_t = q_step(schedule, x_prev, t, step_noise)
    return schedule.T * model.log_step(x0, x_prev, x_t, t)


def one_sample_estimate(
    schedule: Schedule,
    predict: BatchPredictor,
    x0: Array,
    t: Array | int,
    *,
    noise: Array,
    sigma2: Table,
    decoder: Decoder = gaussian_decoder,
    target: Target = "eps",
) -> Array:
    """One-sample estimate of J + entropy_constant = ELBO - L_T: one t and x_t, D estimator 3.

        estimate = -T * KL(q(x_{t-1} | x_t, x_0) || p_theta(x_{t-1} | x_t)),  x_t ~ q(. | x_0)
        estimate = T * log p_theta(x_0 | x_1) at t = 1, where q(x_0 | x_1, x_0) is a point

    Unbiased for t uniform on 1..T. Given t and x_t, it is the average of the two-sample estimate
    over x_{t-1} plus T * posterior_entropy[t], which no network changes.
    """
    t, _ = at(schedule, t, x0=x0, noise=noise)
    model = _Model(schedule, predict, sigma2, decoder, target)
    x_t = q_sample_unchecked(schedule, x0, t, noise)
    mean = model.mean(x_t, t)
    mean_1 = q_posterior_mean_unchecked(schedule, x0, x_t, t)
    # At t = 1 any positive number will do: the decoder replaces the divergence there.
    var_1 = np.concatenate([model.sigma2[:2], schedule.posterior_variance[2:]])[t]
    var_2 = coefficient_array(model.sigma2[t], x0)
    minus_kl = -kl_isotropic_unchecked(mean_1, coefficient_array(var_1, x0), mean, var_2)
    return schedule.T * model.decode_first(x0, mean, t, minus_kl)


def two_sample_conditional_variance(
    schedule: Schedule,
    predict: BatchPredictor,
    x0: Array,
    t: Array | int,
    *,
    noise: Array,
    sigma2: Table,
    target: Target = "eps",
) -> Array:
    """Variance that drawing x_{t-1} adds to the two-sample estimate, given t and x_t; exact.

        variance = T^2 (beta_tilde[t] ||mu_tilde - mu_theta||^2 + d beta_tilde[t]^2 / 2) / sigma2[t]^2

    By the law of total variance, the variance of the two-sample estimate at t exceeds that of the
    one-sample estimate by the expectation of this. In squared nats; 0 at t = 1.
    """
    t, c = at(schedule, t, x0=x0, noise=noise)
    model = _Model(schedule, predict, sigma2, gaussian_decoder, target)
    x_t = q_sample_unchecked(schedule, x0, t, noise)
    scale = schedule.T * np.sqrt(schedule.posterior_variance[t]) / model.sigma2[t]
    ratio = schedule.T * schedule.posterior_variance[t] / model.sigma2[t]
    linear = (c(scale) * (q_posterior_mean_unchecked(schedule, x0, x_t, t) - model.mean(x_t, t))) ** 2
    return sum_features(linear + c(0.5 * ratio**2))


def posterior_entropy(schedule: Schedule, dimensions: int) -> Table:
    """Entropies of q(x_{t-1} | x_t, x_0), by which the estimators differ at each t; a table.

        entropy[t] = d/2 log(2 pi e beta_tilde[t]) for t = 2..T

    Entries 0 and 1 are 0: at t = 1 both estimators use the decoder.
    """
    d = check_integer("dimensions", dimensions, 1)
    table = np.zeros(check_schedule(schedule).T + 1)
    table[2:] = 0.5 * d * (LOG_2PI + 1.0 + np.log(schedule.posterior_variance[2:]))
    return table


def entropy_constant(schedule: Schedule, dimensions: int) -> float:
    """Constant by which the expected one-sample estimate exceeds the other two, in nats.

    constant = sum over t = 2..T of posterior_entropy[t]
    """
    return float(np.sum(posterior_entropy(schedule, dimensions)))


def consistency_triple_integrand(
    schedule: Schedule,
    predict: BatchPredictor,
    x_prev: Array,
    x_t: Array,
    x_next: Array,
    t: Array | int,
    *,
    sigma2: Table,
    target: Target = "eps",
) -> Array:
    """Integrand of a consistency term of L 6.1, corrected: not a divergence; t <= T - 1.

        integrand = log p_theta(x_t | x_{t+1}) - log q(x_t | x_{t-1})

    With (x_{t-1}, x_t, x_{t+1}) drawn from q(. | x_0),

        ELBO = E log p_theta(x_0 | x_1) - E KL(q(x_T | x_{T-1}) || p(x_T))
             + sum over t = 1..T-1 of E integrand

    L 6.1 and Luo 2022 (arXiv 2208.11970) print -KL(q(x_t | x_{t-1}) || p_theta(x_t | x_{t+1}))
    averaged over (x_{t-1}, x_{t+1}), which is not the same: given both neighbours, x_t does not
    follow q(x_t | x_{t-1}).
    """
    check_arrays(x_prev=x_prev, x_t=x_t, x_next=x_next)
    t = check_times(t, check_schedule(schedule).T - 1, x_t.shape[0])
    model = _Model(schedule, predict, sigma2, gaussian_decoder, target)
    log_p = model.log_density(x_t, model.mean(x_next, t + 1), t + 1)
    return log_p - normal_log_density(x_t, *q_step_moments(schedule, x_prev, t))


@dataclass(frozen=True)
class _Model:
    """The model's step p_theta(x_{t-1} | x_t) = N(mean(x_t, t), sigma2[t] I), (31), and its decoder."""

    schedule: Schedule
    predict: BatchPredictor
    sigma2: Table
    decoder: Decoder
    target: Target

    def __post_init__(self) -> None:
        check_predictor(self.schedule, self.predict)
        check_target(self.schedule, self.target)
        check_callable("decoder", self.decoder)
        object.__setattr__(self, "sigma2", check_variances(self.sigma2, self.schedule.T))

    def mean(self, x_t: Array, t: Times) -> Array:
        """mu_theta(x_t, t), (34)."""
        return model_mean_unchecked(self.schedule, x_t, t, ask(self.predict, x_t, t), self.target)

    def log_density(self, x_prev: Array, mean: Array, t: Times) -> Array:
        """Log-density of N(mean, sigma2[t] I) at x_{t-1}; shape (B,)."""
        return normal_log_density(x_prev, mean, coefficient_array(self.sigma2[t], x_prev))

    def log_step(self, x0: Array, x_prev: Array, x_t: Array, t: Times) -> Array:
        """Log p_theta(x_{t-1} | x_t), by the decoder at t = 1; shape (B,)."""
        mean = self.mean(x_t, t)
        return self.decode_first(x0, mean, t, self.log_density(x_prev, mean, t))

    def decode_first(self, x0: Array, mean: Array, t: Times, otherwise: Array) -> Array:
        """Take the decoder's log-likelihood where t = 1, ``otherwise`` elsewhere; shape (B,)."""
        first = np.broadcast_to(np.asarray(t) == 1, (x0.shape[0],))
        if not np.any(first):
            return otherwise
        xp, where = array_namespace(x0), device(x0)
        L_0 = self.decoder(x0, mean, float(self.sigma2[1]))
        return xp.where(xp.asarray(first.copy(), device=where), L_0, otherwise)
