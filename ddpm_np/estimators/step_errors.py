"""The bound for every choice of the reverse variances, from one pass over the times.

With one variance for all coordinates, a network enters the bound only through its squared errors

    error[t] = ||mu_tilde - mu_theta||^2,  2 <= t <= T

and its mean at t = 1. They are measured once; terms and best variances follow from them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import (
    Array,
    Predictor,
    Table,
    ask,
    check_arrays,
    check_finite,
    sum_features,
)
from ddpm_np._checks import check_callable
from ddpm_np.decoders import Decoder
from ddpm_np.elbo import Elbo, prior_term
from ddpm_np.forward import q_sample
from ddpm_np.losses import loss_constant, mean_loss_weight
from ddpm_np.posterior import q_posterior_mean_unchecked
from ddpm_np.reverse import check_predictor, check_variances, model_mean_unchecked
from ddpm_np.schedules import Schedule, check_schedule
from ddpm_np.targets import Target, check_target


class StepErrors(NamedTuple):
    """What a network gets wrong at each step; host arrays.

    Attributes
    ----------
    x0 : array, shape (B, ...)
        The observations that were measured.
    squared : array, shape (T + 1, B)
        ||mu_tilde - mu_theta||^2 for one draw of x_t each, float64; entry 0 is 0.
    mean : array, shape of x0
        mu_theta(x_1, 1), for the decoder.
    """

    x0: NDArray[Any]
    squared: NDArray[np.float64]
    mean: NDArray[Any]


def step_errors(
    schedule: Schedule,
    predict: Predictor,
    x0: NDArray[Any],
    *,
    noise: Callable[[int], NDArray[Any]],
    target: Target = "eps",
    asarray: Callable[[NDArray[Any]], Array] = np.asarray,
    to_numpy: Callable[[Array], NDArray[Any]] = np.asarray,
) -> StepErrors:
    """Measure what a network gets wrong at each step.

    x0 and the noise, a function of t, are on the host; ``asarray`` and ``to_numpy`` bring arrays to
    where ``predict`` computes, and results back. Repeat x0 to average over more draws of x_t.
    Anything else raises TypeError or ValueError.
    """
    T = check_schedule(schedule).T
    check_predictor(schedule, predict)
    check_target(schedule, target)
    functions = {"predict": predict, "noise": noise, "asarray": asarray, "to_numpy": to_numpy}
    for name, function in functions.items():
        check_callable(name, function)
    check_arrays(x0=x0)
    check_finite("x0", x0)
    there = asarray(x0)
    squared = np.zeros((T + 1, len(x0)))
    for t in range(T, 0, -1):
        x_t = q_sample(schedule, there, t, asarray(noise(t)))
        mean = model_mean_unchecked(schedule, x_t, t, ask(predict, x_t, t), target)
        squared[t] = to_numpy(
            sum_features((q_posterior_mean_unchecked(schedule, there, x_t, t) - mean) ** 2)
        )
    return StepErrors(x0, squared, to_numpy(mean))


def elbo_from_errors(schedule: Schedule, errors: StepErrors, sigma2: Table, decoder: Decoder) -> Elbo:
    """The bound for any reverse variances, as :func:`ddpm_np.elbo_decomposition` returns it.

        L_{t-1} = -weight[t] error[t] + const[t]

    with the weight of :func:`ddpm_np.mean_loss_weight` and the constant of
    :func:`ddpm_np.loss_constant`. Host float64.
    """
    T = check_errors(schedule, errors)
    check_callable("decoder", decoder)
    variances = check_variances(sigma2, T)
    L = np.zeros_like(errors.squared)
    if T > 1:
        t = np.arange(2, T + 1)
        constant = loss_constant(schedule, t, variances, errors.x0[0].size)
        L[2:] = (
            constant[:, None] - mean_loss_weight(schedule, t, variances)[:, None] * errors.squared[2:]
        )
    L_T = prior_term(schedule, errors.x0.astype(np.float64))
    L_0 = np.asarray(decoder(errors.x0, errors.mean, float(variances[1])), dtype=np.float64)
    return Elbo(L_T, L, L_0, L_T + np.sum(L, axis=0) + L_0)


def check_errors(schedule: Schedule, errors: StepErrors) -> int:
    """Return the schedule's T, if the errors were measured on as many steps."""
    T, measured = check_schedule(schedule).T, len(errors.squared) - 1
    if measured != T:
        raise ValueError(f"errors were measured for T = {measured}, and the schedule has T = {T}")
    return T
