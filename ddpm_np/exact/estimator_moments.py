"""Exact mean and variance of the three estimators, where the denoiser is linear."""

from typing import NamedTuple

import numpy as np

from ddpm_np._arrays import Table, check_arrays, sum_features
from ddpm_np._checks import as_floats, describe
from ddpm_np.estimators.three import posterior_entropy
from ddpm_np.gaussians import LOG_2PI
from ddpm_np.losses import loss_constant
from ddpm_np.reverse import check_variances
from ddpm_np.schedules import Schedule, check_eps, check_schedule


class Moments(NamedTuple):
    """Exact mean and variance of an estimate for each example, host float64, shape (B,)."""

    mean: Table
    variance: Table


class EstimatorMoments(NamedTuple):
    """Moments of the three estimators; t uniform on 1..T for the last two."""

    t_sample: Moments
    two_sample: Moments
    one_sample: Moments


def linear_gaussian_moments(
    schedule: Schedule, slope: Table, x0: Table, sigma2: Table
) -> EstimatorMoments:
    """Exact moments of the three estimators for a linear denoiser, from Gaussian quadratic forms.

        eps_theta(x_t, t) = slope[t] * x_t,  decoder N(mu_theta(x_1, 1), sigma2[1] I)

    The Bayes-optimal denoiser of x_0 ~ N(0, s2 I) is linear, with
    slope = sqrt(1 - alpha_bar) / (alpha_bar s2 + 1 - alpha_bar). Moments are given x0, in nats and
    squared nats. Needs O(T^2) memory.

    Parameters
    ----------
    schedule : Schedule
    slope : Table, length T + 1
        Finite; entry 0 is not used.
    x0 : host array, shape (B, ...)
    sigma2 : Table, length T + 1
        Reverse variances.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """
    T = check_schedule(schedule).T
    check_eps(schedule, T)
    check_arrays(x0=x0)
    variance = check_variances(sigma2, T)
    c = as_floats("slope", slope)
    if c.shape != (T + 1,) or not np.all(np.isfinite(c[1:])):
        raise ValueError(f"slope must be finite and have length T + 1 = {T + 1}, got {describe(slope)}")
    square, d = sum_features(np.asarray(x0, dtype=np.float64) ** 2), int(np.prod(x0.shape[1:]))
    one, two = _moments_by_time(schedule, c, square, d, variance)
    return EstimatorMoments(
        _chain_moments(schedule, c, square, d, variance), _over_times(two), _over_times(one)
    )


def _moments_by_time(
    schedule: Schedule, slope: Table, square: Table, d: int, variance: Table
) -> tuple[Moments, Moments]:
    """Moments of -KL, and of log p_theta(x_{t-1} | x_t), at each t; shape (B, T)."""
    # mu_tilde - mu_theta = -k (eps - slope x_t), normal with mean shift * x0 and variance spread.
    s, beta, tilde = variance[1:], schedule.beta[1:], schedule.posterior_variance[1:]
    root = schedule.sqrt_one_minus_alpha_bar[1:]
    k2 = beta**2 / (schedule.alpha[1:] * root**2)
    shift2 = k2 * slope[1:] ** 2 * schedule.alpha_bar[1:] * square[:, None]
    spread = k2 * (1.0 - slope[1:] * root) ** 2
    first = -0.5 * d * (LOG_2PI + np.log(s[:1]))
    rest = loss_constant(schedule, np.arange(2, schedule.T + 1), variance, d)
    mean = np.concatenate([first, rest]) - (shift2 + d * spread) / (2.0 * s)
    one = Moments(mean, (0.5 * d * spread**2 + shift2 * spread) / s**2)
    added = (tilde * (shift2 + d * spread) + 0.5 * d * tilde**2) / s**2
    return one, Moments(mean - posterior_entropy(schedule, d)[1:], one.variance + added)


def _over_times(terms: Moments) -> Moments:
    """Moments of T times the term at a uniform t."""
    T, mean = terms.mean.shape[1], np.sum(terms.mean, axis=1)
    between = T * np.sum((terms.mean - mean[:, None] / T) ** 2, axis=1)
    return Moments(mean, between + T * np.sum(terms.variance, axis=1))


def _chain_moments(schedule: Schedule, slope: Table, square: Table, d: int, variance: Table) -> Moments:
    """Moments of the sum over a chain: with z the steps' noise, -|m x0 + G z|^2 / 2 + const."""
    log_alpha_bar, T = schedule.log_alpha_bar, schedule.T
    # x_t = signal[t] x0 + sum over s of steps[t, s] z_s
    signal = schedule.sqrt_alpha_bar
    decay = np.exp(0.5 * np.minimum(log_alpha_bar[:, None] - log_alpha_bar[None, 1:], 0.0))
    steps = np.tril(decay * np.sqrt(schedule.beta[1:]), -1)
    gain = (1.0 - schedule.beta[1:] / schedule.sqrt_one_minus_alpha_bar[1:] * slope[1:]) / np.sqrt(
        schedule.alpha[1:]
    )
    sigma = np.sqrt(variance[1:])
    m = (signal[:-1] - gain * signal[1:]) / sigma
    G = (steps[:-1] - gain[:, None] * steps[1:]) / sigma[:, None]
    normaliser = -0.5 * d * (T * LOG_2PI + float(np.sum(np.log(variance[1:]))))
    mean = normaliser - 0.5 * (float(m @ m) * square + d * float(np.sum(G**2)))
    quadratic, linear = 0.5 * float(np.sum((G.T @ G) ** 2)), float(np.sum((m @ G) ** 2))
    return Moments(mean, d * quadratic + linear * square)
