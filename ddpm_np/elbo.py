"""The variational bound, term by term, in nats per example.

    log p(x_0) >= ELBO = L_T + sum over t = 2..T of L_{t-1} + L_0,  M2 (3) and (19)

Signs are M2's: the terms are to be maximised; L_T and every L_{t-1} are <= 0. Arrays share one
shape, (B, ...); terms have shape (B,); sigma2 is a positive table of length T + 1. Anything else
raises TypeError or ValueError.
"""

import math
import warnings
from typing import NamedTuple

from ddpm_np._arrays import (
    Array,
    Noise,
    Predictor,
    Table,
    ask,
    check_arrays,
    check_finite,
    coefficient_array,
    noise_function,
    sum_features,
)
from ddpm_np._checks import check_callable, check_integer, describe
from ddpm_np.decoders import Decoder, gaussian_decoder
from ddpm_np.forward import q_moments_unchecked, q_sample_unchecked
from ddpm_np.gaussians import kl_isotropic_unchecked
from ddpm_np.posterior import q_posterior_mean_unchecked
from ddpm_np.reverse import check_predictor, check_variances, model_mean_unchecked
from ddpm_np.schedules import Schedule, check_schedule
from ddpm_np.targets import Target, check_target

PRIOR_LIMIT = 0.025
"""Nats of -L_T per dimension above which x_T is not close to the prior, and a PriorWarning is issued.

In two dimensions that is 0.05 nats, about what a well trained network loses at all steps together.
Data of root mean square 1 reach it where x_T keeps 0.22 of them; Ho et al.'s schedule keeps 0.006.
"""


class PriorWarning(UserWarning):
    """Too much of x_0 is left in x_T: sampling starts from the wrong distribution."""


class Elbo(NamedTuple):
    """The terms of the bound for each example, in nats."""

    L_T: Array
    """Prior term, M2 (36), shape (B,)."""
    L: Array
    """Entry t is L_{t-1} for t = 2..T, so L[2] is L_1; entries 0 and 1 are 0. Shape (T + 1, B)."""
    L_0: Array
    """Reconstruction term, shape (B,)."""
    total: Array
    """Their sum, the ELBO, M2 (19), shape (B,)."""


def prior_term(schedule: Schedule, x0: Array) -> Array:
    """L_T, the part of the bound that no network can change, M2 (36).

        L_T = -KL(q(x_T | x_0) || p(x_T)),  p(x_T) = N(0, I)

    It is exactly 0 if alpha_bar[T] = 0, and for no other schedule.
    """
    check_schedule(schedule)
    xp = check_arrays(x0=x0)
    mean, variance = q_moments_unchecked(schedule, x0, schedule.T)
    # 0 less it, so that no KL gives 0, not -0
    return 0.0 - kl_isotropic_unchecked(mean, variance, xp.zeros_like(x0), coefficient_array(1.0, x0))


def warn_of_prior(schedule: Schedule, L_T: Array, x0: Array) -> None:
    """Issue a :class:`PriorWarning` if -L_T averages more than ``PRIOR_LIMIT`` nats per dimension.

    Waits for the device.
    """
    check_arrays(L_T=L_T)
    xp = check_arrays(x0=x0)
    nats, d = -float(xp.mean(L_T)), math.prod(x0.shape[1:])
    if nats > PRIOR_LIMIT * d:
        alpha_bar, rms = float(schedule.alpha_bar[-1]), math.sqrt(float(xp.mean(x0**2)))
        # Would data of root mean square 1 have been within the limit?
        small = -0.5 * math.log1p(-alpha_bar) <= PRIOR_LIMIT
        advice = (
            "the data are too large for any usual schedule: standardise them, or scale them to [-1, 1]"
            if small
            else "take more steps or larger betas, such as scaled_linear_schedule(T)"
        )
        warnings.warn(
            f"the prior is off by {nats:.3g} nats, {nats / d:.2g} per dimension (-L_T, which no "
            f"training can reduce): at T = {schedule.T}, x_T still is {math.sqrt(alpha_bar):.2g} x_0 + "
            f"noise, with an x_0 of root mean square {rms:.3g}, but sampling starts from pure noise; "
            f"{advice}",
            PriorWarning,
            stacklevel=3,
        )


def middle_term(schedule: Schedule, x0: Array, x_t: Array, t: int, mean: Array, sigma2: Table) -> Array:
    """L_{t-1} for one draw of x_t, M2 (14), M2 (15), M2 (16), M2 (17), M2 (18).

        L_{t-1} = -KL(q(x_{t-1} | x_t, x_0) || N(mean, sigma2[t] I))

    t is from 2 to T, mean is mu_theta(x_t, t).
    """
    T = check_schedule(schedule).T
    t = check_integer("t", t, 2, T)
    variance = float(check_variances(sigma2, T)[t])
    check_arrays(x0=x0, x_t=x_t, mean=mean)
    return _middle_term(schedule, x0, x_t, t, mean, variance)


def _middle_term(
    schedule: Schedule, x0: Array, x_t: Array, t: int, mean: Array, variance: float
) -> Array:
    mean_1 = q_posterior_mean_unchecked(schedule, x0, x_t, t)
    var_1 = coefficient_array(schedule.posterior_variance[t], mean)
    return -kl_isotropic_unchecked(mean_1, var_1, mean, coefficient_array(variance, mean))


def elbo_decomposition(
    schedule: Schedule,
    predict: Predictor,
    x0: Array,
    *,
    noise: Noise,
    sigma2: Table,
    decoder: Decoder = gaussian_decoder,
    target: Target = "eps",
) -> Elbo:
    """Estimate every term of the bound with one draw of x_t per example and time, M2 (19).

        ELBO = L_T + sum over t = 2..T of L_{t-1} + L_0

    Each term is unbiased. Times are processed one by one: memory is what the network needs at batch
    size B, plus T + 1 numbers per example. A NaN in a prediction makes its term NaN.

    Parameters
    ----------
    predict : callable (x_t, t) -> array of the shape of x_t
        The network; ``t`` is an int. With ``target="eps"``, epsilon_theta. If it has an attribute T,
        as those of :func:`ddpm_np.runs.evaluation.predictor` have, that must be the schedule's.
    x0 : array, shape (B, ...)
        Observations, finite.
    noise : callable t -> array of the shape of x0, or array of shape (T + 1, B, ...)
        Standard normal draws for x_t; entry 0 of an array is not used.
    sigma2 : Table, length T + 1
        Reverse variances, from :func:`ddpm_np.reverse_variance` or elsewhere.
    decoder : callable (x0, mean, variance) -> array of shape (B,)
        log p(x_0 | x_1); :func:`ddpm_np.gaussian_decoder` or another.
    target : {"eps", "x0", "mean", "v"}
        What the network predicts; not "eps" if alpha_bar[T] = 0.

    Returns
    -------
    Elbo
        For bits per dimension, divide by -d log(2).
    """
    T = check_schedule(schedule).T
    check_target(schedule, target)
    check_predictor(schedule, predict)
    check_callable("decoder", decoder)
    variances = check_variances(sigma2, T)
    xp = check_arrays(x0=x0)
    check_finite("x0", x0)
    draw = noise_function(noise, x0, T)
    zeros = sum_features(xp.zeros_like(x0))
    rows = [zeros, zeros]
    for t in range(1, T + 1):
        x_t = q_sample_unchecked(schedule, x0, t, draw(t))
        mean = model_mean_unchecked(schedule, x_t, t, ask(predict, x_t, t), target)
        if t == 1:
            L_0 = decoder(x0, mean, float(variances[1]))
            if getattr(L_0, "shape", None) != (x0.shape[0],):
                raise ValueError(
                    f"decoder must return shape (B,) = ({x0.shape[0]},), one log-likelihood per "
                    f"example, got {describe(L_0)}"
                )
        else:
            rows.append(_middle_term(schedule, x0, x_t, t, mean, float(variances[t])))
    L = xp.stack(rows)
    L_T = prior_term(schedule, x0)
    warn_of_prior(schedule, L_T, x0)
    return Elbo(L_T, L, L_0, L_T + xp.sum(L, axis=0) + L_0)  # M2 (19)


def bits_per_dim(nll: Array | float, dimensions: int) -> Array | float:
    """Convert a negative log-likelihood in nats per example to bits per dimension.

    bits = nll / (d log 2)
    """
    return nll / (check_integer("dimensions", dimensions, 1) * math.log(2.0))
