"""The reverse process p_theta, the generative model: x_T -> ... -> x_1 -> x_0, M2 (30), (31) and (34).

Arrays share one shape, (B, ...). t is an int or an integer array of shape (B,), from 1 to T.
Anything else raises TypeError or ValueError.
"""

from typing import Literal, TypeAlias, get_args

import numpy as np

from ddpm_np._arrays import (
    Array,
    BatchPredictor,
    Table,
    Times,
    array_namespace,
    cast,
    check_arrays,
    check_table,
)
from ddpm_np._checks import check_callable, check_choice
from ddpm_np.gaussians import normal_log_density
from ddpm_np.posterior import posterior_mean_from_eps_unchecked, q_posterior_mean_unchecked
from ddpm_np.schedules import Schedule, at, check_eps, check_schedule
from ddpm_np.targets import TARGETS, Target

VarianceKind: TypeAlias = Literal["posterior", "beta", "unit"]
VARIANCES: tuple[VarianceKind, ...] = get_args(VarianceKind)


def prior_log_density(x_T: Array) -> Array:
    """Log-density of the prior, p(x_T) = N(0, I), M2 (30); shape (B,), in nats."""
    check_arrays(x_T=x_T)
    return normal_log_density(x_T, array_namespace(x_T).zeros_like(x_T), 1.0)


def model_mean(
    schedule: Schedule, x_t: Array, t: Array | int, prediction: Array, target: Target = "eps"
) -> Array:
    """Mean of the model's step p_theta(x_{t-1} | x_t), M2 (34) for any target.

    "eps"   mean = (x_t - (1 - alpha[t]) / sqrt(1 - alpha_bar[t]) * prediction) / sqrt(alpha[t])
    "x0"    mean = the posterior mean (26) at x_0 = prediction
    "mean"  mean = prediction
    "v"     mean = sqrt(alpha[t]) * x_t
                 - sqrt(alpha_bar[t-1]) (1 - alpha[t]) / sqrt(1 - alpha_bar[t]) * prediction
    """
    check_choice("target", target, TARGETS)
    t, _ = at(schedule, t, x_t=x_t, prediction=prediction)
    if target == "eps":
        check_eps(schedule, t)
    return model_mean_unchecked(schedule, x_t, t, prediction, target)


def model_mean_unchecked(
    schedule: Schedule, x_t: Array, t: Times, prediction: Array, target: Target
) -> Array:
    """Compute :func:`model_mean` for checked arguments, M2 (34)."""
    if target == "mean":
        return prediction
    if target == "x0":
        return q_posterior_mean_unchecked(schedule, prediction, x_t, t)
    if target == "v":  # (26) at the x_0 that v implies; c_xt + c_x0 sqrt(alpha_bar) = sqrt(alpha)
        scale = schedule.c_x0[t] * schedule.sqrt_one_minus_alpha_bar[t]
        return cast(np.sqrt(schedule.alpha[t]), x_t) * x_t - cast(scale, x_t) * prediction
    return posterior_mean_from_eps_unchecked(schedule, x_t, t, prediction)  # (34) is (29) at eps_theta


def reverse_variance(schedule: Schedule, kind: VarianceKind) -> Table:
    """Variances sigma_t^2 of the model's steps, M2 (31); entry 0 is 0 and unused.

    "posterior"  beta_tilde[t] (25); at t = 1, where that is 0, beta_tilde[2], as in Ho et al.
    "beta"       beta[t], t = 1 included (where Ho et al.'s code has beta_tilde[2])
    "unit"       1, the first model of document D

    With T = 1 the posterior table falls back to beta[1].
    """
    check_choice("kind", kind, VARIANCES)
    T = check_schedule(schedule).T
    if kind == "beta":
        return schedule.beta.copy()
    if kind == "unit":
        return np.concatenate([[0.0], np.ones(T)])
    table = schedule.posterior_variance.copy()
    table[1] = table[2] if T > 1 else schedule.beta[1]
    return table


def learned_variance(schedule: Schedule, v: Array, t: Array | int) -> Array:
    """Variances that a network interpolates, Nichol & Dhariwal 2021 (arXiv 2102.09672), (15).

        sigma2 = exp(v log(beta[t]) + (1 - v) log(beta_tilde[t])),  beta_tilde[2] at t = 1

    v has any shape (B, ...), one number per coordinate; it need not lie in [0, 1], since the best
    variance may lie outside [beta_tilde[t], beta[t]].
    """
    t, c = at(schedule, t, v=v)
    low = np.log(reverse_variance(schedule, "posterior")[t])
    return array_namespace(v).exp(c(np.log(schedule.beta[t]) - low) * v + c(low))


# --- the arguments of a chain -------------------------------------------------------------


def check_variances(sigma2: object, T: int) -> Table:
    """Return reverse variances as a positive host table of length T + 1 (entry 0 is ignored)."""
    try:
        return check_table("sigma2", sigma2, T)
    except ValueError as error:
        if len(sigma2) == T + 1 and sigma2[1] == 0.0:  # type: ignore[arg-type, index]
            raise ValueError(
                f"{error}; schedule.posterior_variance is 0 there, "
                'reverse_variance(schedule, "posterior") is not'
            ) from None
        raise


def made_for(T: int | None, predict: BatchPredictor) -> BatchPredictor:
    """Note on a predictor the T that it was made for, as its attribute T; None if unknown."""
    predict.T = T  # type: ignore[attr-defined]
    return predict


def steps_of(predict: BatchPredictor) -> int | None:
    """The T that a predictor was made for, or None if it does not say."""
    T = getattr(predict, "T", None)
    return int(T) if isinstance(T, int | np.integer) else None


def check_predictor(schedule: Schedule, predict: BatchPredictor) -> None:
    """Raise unless ``predict`` can be called, and was made for this T if it says for which."""
    check_callable("predict", predict)
    T = steps_of(predict)
    if T not in (None, check_schedule(schedule).T):
        raise ValueError(
            f"predict was made for T = {T}, and the schedule has T = {schedule.T}: "
            "a network needs the schedule it was trained with, or respaced_predictor(predict, times)"
        )
