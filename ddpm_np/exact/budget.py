"""Where the nats of a gap went: the start, the number of steps, the variance, the network.

    -ELBO - H = start + sum over t = 1..T of (steps[t] + variance[t] + network[t])

in expectation over the data, with the Gaussian decoder; H is the entropy of the data, and no term is
negative. With m[t] = E[x_{t-1} | x_t] and s[t] = E tr Cov(x_{t-1} | x_t) / d,

    start       = KL(q(x_T) || N(0, I))
    steps[t]    = E KL(q(x_{t-1} | x_t) || N(m[t], s[t] I))
    variance[t] = d/2 (s[t] / sigma2[t] - 1 - log(s[t] / sigma2[t]))
    network[t]  = E||m[t] - mu_theta(x_t, t)||^2 / (2 sigma2[t])

Everything is host float64, in nats: exact by quadrature in one dimension, else from draws, with
standard errors.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ddpm_np._arrays import MeanFunction, Predictor, Samples, Table, ask, from_1
from ddpm_np._checks import check_integer, describe
from ddpm_np.data.toy import Seed, as_generator
from ddpm_np.decoders import gaussian_decoder
from ddpm_np.estimators.step_errors import elbo_from_errors, step_errors
from ddpm_np.exact._points import Law, Seen, as_mixture, nodes_of_pairs, points_of
from ddpm_np.exact._remainder import Remainder, blurred_variance, measure_remainder
from ddpm_np.exact.curves import NoisyCurve
from ddpm_np.exact.mixtures import IsotropicMixture
from ddpm_np.gaussians import kl_isotropic_unchecked
from ddpm_np.paths import draw_path, elbo_integrand_expanded
from ddpm_np.posterior import q_posterior_mean_unchecked
from ddpm_np.reverse import check_predictor, check_variances, model_mean_unchecked
from ddpm_np.schedules import Schedule, check_schedule
from ddpm_np.targets import Target, check_target

CHUNK = 2**22
"""Squared errors that are held at a time."""


class Nats(NamedTuple):
    """A number of nats and its standard error, 0 by quadrature."""

    total: float
    se: float


class NatsPerStep(NamedTuple):
    """Nats of all steps, their standard error, 0 by quadrature, and those of each step."""

    total: float
    se: float
    per_t: Table
    """Length T + 1, entry 0 is 0. From draws, a term that is nearly 0 can come out below it."""


class Budget(NamedTuple):
    """The four parts of a gap, the gap itself, and the sum of the four."""

    start: Nats
    """x_T is not the noise that the model starts from: less signal at T helps."""
    steps: NatsPerStep
    """Reversed steps are not Gaussian, or vary from place to place: more steps help."""
    variance: NatsPerStep
    """sigma2 is not the best table: that of :func:`ddpm_np.exact.optimal_variance` helps."""
    network: NatsPerStep
    """The network is not the posterior mean: training helps."""
    gap: Nats
    """-ELBO - H, as the mean of log q(x_0) - ELBO over points of its own: no part enters."""
    sum: Nats


class _Part(NamedTuple):
    """A term before it is averaged."""

    per_t: Table
    parts: Table
    """Shape (m,), one number for each draw; their mean is the sum of ``per_t``."""


def error_budget(
    schedule: Schedule,
    predict: Predictor,
    law: Law,
    *,
    sigma2: Table,
    target: Target = "eps",
    n: int = 4096,
    seed: Seed = 0,
) -> Budget:
    """Say how many nats the start, the number of steps, the variance and the network cost.

    Parameters
    ----------
    predict : callable (x_t, t) -> array of the shape of x_t
        The network, asked with NumPy arrays of shape (n, d), float64, and an int t.
    law : IsotropicMixture or NoisyCurve
        Of the data. If d = 1 it is integrated, and n and seed play no part.
    sigma2 : Table, length T + 1
        Reverse variances.
    target : {"eps", "x0", "mean", "v"}
        What the network predicts.
    n : int
        Draws for the parts, and as many others for the gap; >= 2.
    seed : int or numpy.random.Generator
        For the draws and their noise.

    Raises
    ------
    TypeError, ValueError
        If an argument does not fit.
    """
    T = check_schedule(schedule).T
    check_target(schedule, target)
    check_predictor(schedule, predict)
    variances = check_variances(sigma2, T)
    if not isinstance(law, IsotropicMixture | NoisyCurve):
        raise TypeError(f"law must be an IsotropicMixture or a NoisyCurve, got {describe(law)}")
    n, rng = check_integer("n", n, 2), as_generator(seed)

    def mean(x_t: Samples, t: int) -> Samples:
        return model_mean_unchecked(schedule, x_t, t, ask(predict, x_t, t), target)

    seen = points_of(law, n, rng)
    remainder = measure_remainder(law, seen())
    start, steps = _start(schedule, law, remainder), _steps(schedule, law.d, remainder)
    variance = _variance(schedule, law.d, remainder, variances)
    network = _network(schedule, mean, law, variances, seen)
    if law.d == 1:
        gap = _gap_by_quadrature(schedule, mean, law, variances)
    else:
        gap = _gap_by_paths(schedule, mean, law, variances, n, rng)
    together = start.parts + steps.parts + variance.parts + network.parts
    return Budget(
        _nats(start.parts),
        _per_step(steps),
        _per_step(variance),
        _per_step(network),
        _nats(gap),
        _nats(together),
    )


# --- the four parts -----------------------------------------------------------------------


def _start(schedule: Schedule, law: Law, remainder: Remainder) -> _Part:
    """KL(q(x_T) || N(0, I)), from the entropy of x_T and its squares.

    start = d/2 (v[T] - 1 - log v[T]) + (alpha_bar[T] E||mean||^2
                                         - d integral of remainder from 0 to level[T]) / 2
    """
    mixture, zero = as_mixture(law), np.zeros((1, law.d))
    squares = float(mixture.weights @ np.sum(mixture.means**2, axis=1))
    v = blurred_variance(schedule, mixture.std)[-1:, None]
    known = float(kl_isotropic_unchecked(zero, v, zero, np.ones((1, 1)))[0])
    _, integral = remainder.interpolation(remainder.level(schedule)[-1:])
    parts = known + 0.5 * (schedule.alpha_bar[-1] * squares - law.d * integral[0] @ remainder.values)
    return _Part(np.zeros(1), parts)


def _steps(schedule: Schedule, d: int, remainder: Remainder) -> _Part:
    """E KL(q(x_{t-1} | x_t) || N(m[t], s[t] I)) = H(x_t) - H(x_{t-1}) + d/2 log(s[t] / beta[t]).

    steps[t] = d/2 (log(1 + growth[t] remainder[t])
                    - integral of remainder from level[t] to level[t-1])
    growth[t] = exp(level[t-1] - level[t]) - 1
    """
    level = remainder.level(schedule)
    growth = np.expm1(level[:-1] - level[1:])
    value, integral = remainder.interpolation(level)
    between, mean = integral[:-1] - integral[1:], np.mean(remainder.values, axis=1)
    per_t = 0.5 * d * (np.log1p(growth * (value[1:] @ mean)) - between @ mean)
    slope = growth / (1.0 + growth * (value[1:] @ mean))
    change = 0.5 * d * (slope @ value[1:] - np.sum(between, axis=0))
    return _Part(from_1(per_t), np.sum(per_t) + change @ (remainder.values - mean[:, None]))


def _variance(schedule: Schedule, d: int, remainder: Remainder, sigma2: Table) -> _Part:
    """KL(N(0, s[t] I) || N(0, sigma2[t] I)).

    s[t] = beta_tilde[t] + c_x0[t]^2 E tr Cov(x_0 | x_t) / d
    E tr Cov(x_0 | x_t) / d = w std^2 + w^2 spread exp(-level[t]) remainder[t]
    w = (1 - alpha_bar[t]) / v[t]
    """
    level = remainder.level(schedule)
    value, _ = remainder.interpolation(level)
    mean = np.mean(remainder.values, axis=1)
    w = schedule.one_minus_alpha_bar / blurred_variance(schedule, remainder.std)
    slope = (schedule.c_x0 * w) ** 2 * remainder.spread * np.exp(-level)
    best = schedule.posterior_variance + schedule.c_x0**2 * w * remainder.std**2 + slope * (value @ mean)
    zero, s, sigma2 = np.zeros((schedule.T, d)), best[1:], sigma2[1:]
    per_t = kl_isotropic_unchecked(zero, s[:, None], zero, sigma2[:, None])
    change = 0.5 * d * (1.0 / sigma2 - 1.0 / s) * slope[1:] @ value[1:]
    return _Part(from_1(per_t), np.sum(per_t) + change @ (remainder.values - mean[:, None]))


def _network(
    schedule: Schedule, mean: MeanFunction, law: Law, sigma2: Table, seen: Callable[[], Seen]
) -> _Part:
    """E||m[t] - mu_theta(x_t, t)||^2 / (2 sigma2[t]), m[t] being (26) at E[x_0 | x_t]."""
    rows = []
    for t in range(1, schedule.T + 1):
        points = seen()(float(schedule.sqrt_alpha_bar[t]), float(schedule.sqrt_one_minus_alpha_bar[t]))
        x0 = law.posterior_x0(schedule, points.x, t)
        best = q_posterior_mean_unchecked(schedule, x0, points.x, t)
        error = np.sum((best - mean(points.x, t)) ** 2, axis=1)
        rows.append(points.parts(error) / (2.0 * sigma2[t]))
    return _Part(from_1(np.array([np.mean(row) for row in rows])), np.sum(rows, axis=0))


# --- the whole ----------------------------------------------------------------------------


def _gap_by_paths(
    schedule: Schedule, mean: MeanFunction, law: Law, sigma2: Table, n: int, rng: np.random.Generator
) -> Table:
    """Log-ratio of q(x_{0:T}) and p_theta(x_{0:T}), whose mean is -ELBO - H, on n paths drawn from q.

    It is 0 on every path if the model is right: its variance falls with the gap.
    """
    rows, found = max(1, CHUNK // ((schedule.T + 1) * law.d)), []
    for start in range(0, n, rows):
        x0 = law.sample(min(rows, n - start), rng)
        path = draw_path(schedule, x0, rng.standard_normal((schedule.T + 1, *x0.shape)))
        found.append(law.log_density(x0) - elbo_integrand_expanded(schedule, path, mean, sigma2))
    return np.concatenate(found)


def _gap_by_quadrature(schedule: Schedule, mean: MeanFunction, law: Law, sigma2: Table) -> Table:
    """-ELBO - H, one number, by quadrature over x_0 and the noise of x_t."""

    def part(x0: Samples, eps: Samples, weights: Table) -> float:
        errors = step_errors(schedule, mean, x0, noise=lambda _: eps, target="mean")
        elbo = elbo_from_errors(schedule, errors, sigma2, gaussian_decoder)
        return float(weights @ (law.log_density(x0) - elbo.total))

    rows = max(1, CHUNK // (schedule.T + 1))
    return np.array([sum(part(*nodes) for nodes in nodes_of_pairs(law, rows))])


def _per_step(part: _Part) -> NatsPerStep:
    return NatsPerStep(*_nats(part.parts), part.per_t)


def _nats(parts: Table) -> Nats:
    """Mean and standard error of independent parts; a single one is exact."""
    m = len(parts)
    return Nats(float(np.mean(parts)), float(np.std(parts, ddof=1)) / math.sqrt(m) if m > 1 else 0.0)
