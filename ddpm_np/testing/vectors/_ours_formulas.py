"""ddpm_np's formulas under the names and arguments of the vectors, each on the betas it is given."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddpm_np import decoders, forward, gaussians, losses, posterior, reverse, schedules, targets
from ddpm_np.elbo import middle_term, prior_term
from ddpm_np.guidance import clipped, guided

Values = NDArray[Any]
TABLES = ("beta", "alpha_bar", "log_alpha_bar", "one_minus_alpha_bar", "posterior_variance")


def _on_schedule(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, of beta_1 ... beta_T in place of a schedule."""

    def call(beta: Values, **arguments: Any) -> Any:
        return function(schedules.schedule_from_beta(beta), **arguments)

    return functools.update_wrapper(call, function, updated=())


def _moments(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of beta, whose variance has one number for each example."""

    def call(beta: Values, **arguments: Any) -> dict[str, Values]:
        mean, variance = _on_schedule(function)(beta, **arguments)
        return {"mean": mean, "variance": variance.reshape(-1)}

    return functools.update_wrapper(call, function, updated=())


def _tables(make: Callable[..., schedules.Schedule]) -> Callable[..., Any]:
    """The tables of a schedule at the times that are asked."""

    def call(at: Values, **arguments: Any) -> dict[str, Values]:
        schedule = make(**arguments)
        return {name: getattr(schedule, name)[at] for name in TABLES}

    return functools.update_wrapper(call, make, updated=())


def respaced_schedule(beta: Values, times: Values) -> dict[str, Values]:
    """Tables of the chain that visits some times, whole."""
    short = schedules.respaced_schedule(schedules.schedule_from_beta(beta), times)
    names = ("beta", "alpha_bar", "one_minus_alpha_bar", "posterior_variance")
    return {name: getattr(short, name) for name in names}


def zero_terminal_snr(beta: Values) -> dict[str, Values]:
    """:func:`ddpm_np.zero_terminal_snr`, whole."""
    schedule = schedules.zero_terminal_snr(schedules.schedule_from_beta(beta))
    return {name: getattr(schedule, name) for name in ("beta", "alpha_bar", "one_minus_alpha_bar")}


def reverse_step(
    beta: Values,
    x_t: Values,
    t: Values,
    prediction: Values,
    target: targets.Target,
    sigma2: Values,
    noise: Values,
) -> Values:
    """One pass of the loop of :func:`ddpm_np.ancestral_sample`, J (13), each example at its own t."""
    schedule = schedules.schedule_from_beta(beta)
    scale = np.where(t > 1, np.sqrt(sigma2[t]), 0.0).astype(x_t.dtype)
    return reverse.model_mean(schedule, x_t, t, prediction, target) + scale[:, None] * noise


def loss_constant(beta: Values, t: Values, sigma2: Values, d: int) -> Values:
    """:func:`ddpm_np.loss_constant`."""
    return losses.loss_constant(schedules.schedule_from_beta(beta), t, sigma2, d)


def kl_normal_1d(mean_1: float, std_1: float, mean_2: float, std_2: float) -> Values:
    """:func:`ddpm_np.kl_normal_1d`, of numbers."""
    numbers = (np.atleast_1d(value) for value in (mean_1, std_1, mean_2, std_2))
    return gaussians.kl_normal_1d(*numbers).reshape(np.shape(mean_1))


def kl_isotropic(mean_1: Values, var_1: Values, mean_2: Values, var_2: Values) -> Values:
    """:func:`ddpm_np.kl_isotropic`, with a variance for each example."""
    return gaussians.kl_isotropic(mean_1, var_1[:, None], mean_2, var_2[:, None])


def normal_log_density(x: Values, mean: Values, variance: Values) -> Values:
    """:func:`ddpm_np.normal_log_density`, with a variance for each example."""
    return gaussians.normal_log_density(x, mean, variance[:, None])


def gaussian_decoder(x0: Values, mean: Values, variance: float) -> Values:
    """:func:`ddpm_np.gaussian_decoder`."""
    return decoders.gaussian_decoder(x0, mean, variance)


def discretised_gaussian(x0: Values, mean: Values, variance: float, levels: int) -> Values:
    """:func:`ddpm_np.discretised_gaussian`, on [-1, 1]."""
    return decoders.discretised_gaussian(levels)(x0, mean, variance)


def guided_prediction(conditional: Values, unconditional: Values, guidance: float) -> Values:
    """:func:`ddpm_np.guidance.guided`, of two predictions."""
    return guided(lambda x, t: conditional, lambda x, t: unconditional, guidance)(conditional, 1)


def clipped_x0(
    beta: Values,
    x_t: Values,
    t: Values,
    prediction: Values,
    target: targets.Target,
    low: float,
    high: float,
) -> Values:
    """:func:`ddpm_np.guidance.clipped`, of one prediction; each example at its own t."""
    schedule = schedules.schedule_from_beta(beta)
    predict: Any = clipped(schedule, lambda x, t: prediction, target, low, high)
    return predict(x_t, t)


FORMULAS: dict[str, Callable[..., Any]] = {
    **{
        make.__name__: _tables(make)
        for make in (
            schedules.linear_schedule,
            schedules.scaled_linear_schedule,
            schedules.quadratic_schedule,
            schedules.sigmoid_schedule,
            schedules.cosine_schedule,
            schedules.log_snr_schedule,
            schedules.schedule_from_beta,
            schedules.schedule_from_alpha_bar,
        )
    },
    **{
        function.__name__: function
        for function in (
            schedules.uniform_times,
            schedules.quadratic_times,
            schedules.trailing_times,
            respaced_schedule,
            zero_terminal_snr,
            reverse_step,
            loss_constant,
            kl_normal_1d,
            kl_isotropic,
            gaussians.kl_full,
            gaussians.marginalise,
            normal_log_density,
            gaussian_decoder,
            discretised_gaussian,
            clipped_x0,
        )
    },
    **{
        function.__name__: _moments(function)
        for function in (
            forward.q_step_moments,
            forward.q_two_step_moments,
            forward.q_moments,
            posterior.q_posterior,
        )
    },
    **{
        function.__name__: _on_schedule(function)
        for function in (
            forward.q_step,
            forward.q_sample,
            posterior.posterior_mean_from_eps,
            targets.x0_from_eps,
            targets.eps_from_x0,
            targets.x0_from_mean,
            targets.eps_from_mean,
            targets.v_from_x0_and_eps,
            targets.x0_from_v,
            targets.eps_from_v,
            reverse.model_mean,
            reverse.reverse_variance,
            reverse.learned_variance,
            losses.eps_loss_weight,
            losses.x0_loss_weight,
            losses.v_loss_weight,
            losses.mean_loss_weight,
            losses.min_snr_weight,
            prior_term,
            middle_term,
        )
    },
    "guided": guided_prediction,
}
"""By the names of the vectors."""
