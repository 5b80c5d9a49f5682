"""The reverse variances that make the bound tightest, for any denoiser.

As a function of sigma2[t] the expected term of the bound is

    L_{t-1} = -d/2 (log(sigma2[t]) + (beta_tilde[t] + error[t]) / sigma2[t]) + const
    error[t] = E||mu_tilde - mu_theta||^2 / d

whose only maximum is at sigma2[t] = beta_tilde[t] + error[t]. At t = 1, where beta_tilde is 0 and
mu_tilde is x_0, the same holds of L_0 with the Gaussian decoder.

Variances are host float64 tables of length T + 1, whose entry 0 is 0. They are measured with one draw
of x_t for each example and time, and fit those draws: use others for the bound. Arguments are those
of :func:`ddpm_np.elbo_decomposition`; anything else raises TypeError or ValueError. Measuring waits
for the device.
"""

from collections.abc import Callable

import numpy as np

from ddpm_np._arrays import (
    Array,
    Noise,
    Predictor,
    Table,
    ask,
    check_arrays,
    check_finite,
    from_1,
    noise_function,
    to_host,
)
from ddpm_np._checks import as_floats, check_callable, describe
from ddpm_np.decoders import Decoder
from ddpm_np.estimators.step_errors import StepErrors, check_errors
from ddpm_np.forward import q_sample_unchecked
from ddpm_np.losses import bound_weight, eps_loss_weight
from ddpm_np.reverse import check_predictor
from ddpm_np.schedules import Schedule, check_eps, check_schedule
from ddpm_np.targets import Target, check_target, predicted_eps, training_target_unchecked


def variance_from_eps_error(schedule: Schedule, error: Table) -> Table:
    """Best reverse variances of a denoiser whose mean squared error is known.

        sigma2[t] = beta_tilde[t] + beta[t]^2 / (alpha[t] (1 - alpha_bar[t])) * error[t]
        error[t] = E||eps - eps_theta(x_t, t)||^2 / d, finite and >= 0

    The factor turns an error of eps into one of the mean, M2 (34). From ``error = 0``, the noise
    known, to ``error = 1``, nothing known, this runs from beta_tilde[t] (25) to beta[t] / alpha[t].
    Entry 1 is 0, hence not a valid variance, if error[1] is 0. Refused if alpha_bar[T] = 0, where an
    error of eps says nothing about the mean. For data N(0, s2 I) and the best denoiser
    error = alpha_bar s2 / (alpha_bar s2 + 1 - alpha_bar).
    """
    T = check_schedule(schedule).T
    values = as_floats("error", error)
    if values.shape != (T + 1,):
        raise ValueError(f"error must have length T + 1 = {T + 1}, got {describe(error)}")
    if not np.all(np.isfinite(values[1:]) & (values[1:] >= 0.0)):
        t = 1 + int(np.argmin(np.isfinite(values[1:]) & (values[1:] >= 0.0)))
        raise ValueError(f"error must be finite and >= 0 for t = 1..T, got error[{t}] = {values[t]:g}")
    table = schedule.posterior_variance.copy()
    # Half the squared ratio of the errors of mean and eps is the weight (35) at sigma2 = 1.
    table[1:] += 2.0 * eps_loss_weight(schedule, np.arange(1, T + 1), np.ones(T + 1)) * values[1:]
    return table


def optimal_variance(
    schedule: Schedule, predict: Predictor, x0: Array, *, noise: Noise, target: Target = "eps"
) -> Table:
    """Measure the best reverse variances of any denoiser, well trained or not.

    sigma2[t] = beta_tilde[t] + E||mu_tilde - mu_theta||^2 / d
    """

    def error(t: int, x_t: Array, eps: Array) -> Array:
        truth = training_target_unchecked(schedule, x0, t, eps, target)
        return truth - ask(predict, x_t, t)

    squares = _mean_squares(schedule, predict, x0, noise, target, error)
    # Half the squared ratio of the errors of the mean and of the target is its weight at sigma2 = 1.
    t, one = np.arange(1, schedule.T + 1), np.ones(schedule.T + 1)
    return schedule.posterior_variance + from_1(
        2.0 * bound_weight(schedule, t, one, target) * squares[1:]
    )


def analytic_dpm_variance(
    schedule: Schedule, predict: Predictor, x0: Array, *, noise: Noise, target: Target = "eps"
) -> Table:
    """Best reverse variances of the Bayes-optimal denoiser, Analytic-DPM, Bao et al. 2022.

        sigma2[t] = beta_tilde[t]
                  + beta[t]^2 / (alpha[t] (1 - alpha_bar[t])) * (1 - E||eps_theta(x_t, t)||^2 / d)

    Bao et al. 2022 (arXiv 2201.06503), theorem 1, in this notation: if eps_theta = E[eps | x_t], then
    E||eps - eps_theta||^2 = d - E||eps_theta||^2, so eps need not be known. For any other
    denoiser the best variance is :func:`optimal_variance`, not this. As in the paper, the second term is
    never below 0. Raises ValueError if E||eps_theta||^2 / d >= 1 at t = 1, where beta_tilde is 0 and no
    positive variance is left. Refused if alpha_bar[T] = 0, as :func:`variance_from_eps_error` is.
    """
    check_eps(schedule, check_schedule(schedule).T)

    def eps_theta(t: int, x_t: Array, _: Array) -> Array:
        return predicted_eps(schedule, x_t, t, predict(x_t, t), target)

    known = _mean_squares(schedule, predict, x0, noise, target, eps_theta)
    if known[1] >= 1.0:
        raise ValueError(
            "predict must have a mean square below 1 at t = 1, as E[eps | x_t] has, "
            f"got {known[1]:.6g}: take optimal_variance instead"
        )
    return variance_from_eps_error(schedule, np.maximum(1.0 - known, 0.0))


def best_variance(schedule: Schedule, errors: StepErrors, decoder: Decoder) -> Table:
    """Reverse variances that give these observations the highest bound, with any decoder.

        sigma2[t] = beta_tilde[t] + mean of error[t] / d,  2 <= t <= T
        sigma2[1] = argmax of the mean of decoder(x0, mean, sigma2[1])

    The latter is searched for between beta_1 / 10^4 and 10 beta_1.
    """
    from scipy.optimize import minimize_scalar

    check_errors(schedule, errors)
    check_callable("decoder", decoder)
    d = errors.x0[0].size
    table: Table = schedule.posterior_variance + np.mean(errors.squared, axis=1) / d
    table[1] = schedule.beta[1]
    table[1] *= np.exp(
        minimize_scalar(
            lambda shift: -np.mean(decoder(errors.x0, errors.mean, table[1] * np.exp(shift))),
            bounds=(np.log(1e-4), np.log(10.0)),
            method="bounded",
            options={"xatol": 1e-3},
        ).x
    )
    return table


def _mean_squares(
    schedule: Schedule,
    predict: Predictor,
    x0: Array,
    noise: Noise,
    target: Target,
    part: Callable[[int, Array, Array], Array],
) -> Table:
    """Mean square over examples and coordinates of part(t, x_t, eps), for each t."""
    T = check_schedule(schedule).T
    check_predictor(schedule, predict)
    check_target(schedule, target)
    xp = check_arrays(x0=x0)
    check_finite("x0", x0)
    draw = noise_function(noise, x0, T)
    means = []
    for t in range(1, T + 1):
        eps = draw(t)
        x_t = q_sample_unchecked(schedule, x0, t, eps)
        means.append(xp.mean(part(t, x_t, eps) ** 2))
    return np.concatenate([[0.0], to_host(xp.stack(means))])
