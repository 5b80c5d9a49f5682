"""The estimators that examples/estimators.py compares, measured on a problem whose answer is known."""

import math
from typing import Any, NamedTuple

import _command_line  # noqa: F401  # before NumPy: it sets BLAS threads

# isort: split
import numpy as np

import ddpm_np as ddpm
from ddpm_np import Array, Table
from ddpm_np.estimators.three import (
    entropy_constant,
    one_sample_estimate,
    t_sample_estimate,
    two_sample_conditional_variance,
    two_sample_estimate,
)
from ddpm_np.estimators.times import importance_weight, spread_uniforms, times_from_uniforms
from ddpm_np.exact import NoisyCurve
from ddpm_np.randomness import BOUND, TEST, generator
from ddpm_np.schedules import Schedule

BATCH = 64
"""The number of times that are spread evenly together."""
BY_TIME, T_SAMPLE, TWO_SAMPLE, ONE_SAMPLE, IMPORTANCE, SPREAD, SPREAD_IMPORTANCE = range(7)
"""What random numbers are for: each purpose has its own."""


class Problem(NamedTuple):
    """A law, a denoiser and a schedule: all that an estimator is given."""

    law: NoisyCurve
    schedule: Schedule
    sigma2: Table
    seed: int

    def predict(self, x_t: Array, t: Array | int) -> Array:
        """Bayes-optimal epsilon_theta."""
        return self.law.bayes_eps(self.schedule, x_t, t)

    def draw(self, n: int, purpose: int, part: int = 0) -> tuple[np.ndarray, np.random.Generator]:
        """Fresh observations, and a generator for the rest."""
        x0 = self.law.sample(n, generator(self.seed, TEST, purpose, part))
        return x0, generator(self.seed, BOUND, purpose, part)

    def uniforms(self, n: int, purpose: int) -> np.ndarray:
        """Independent uniform draws, from which times are made."""
        return generator(self.seed, BOUND, purpose, 1).random(n)


class ByTime(NamedTuple):
    """Moments of single estimates given t, tables of length T + 1; entry 0 is unused."""

    mean: Table
    one_sample: Table
    two_sample: Table
    conditional: Table


class Row(NamedTuple):
    """One estimator: single estimates of the ELBO, and the evaluations that each takes."""

    name: str
    estimates: np.ndarray
    cost: int


def measure_by_time(problem: Problem, points: int) -> ByTime:
    """Mean and variances of single estimates at each t, over fresh data and noise."""
    schedule, predict, sigma2 = problem.schedule, problem.predict, problem.sigma2
    rows = [(0.0, 0.0, 0.0, 0.0)]
    for t in range(1, schedule.T + 1):
        x0, rng = problem.draw(points, BY_TIME, t)
        noise, other, step_noise = rng.standard_normal((3, *x0.shape))
        one = one_sample_estimate(schedule, predict, x0, t, noise=noise, sigma2=sigma2)
        added = two_sample_conditional_variance(schedule, predict, x0, t, noise=noise, sigma2=sigma2)
        two = two_sample_estimate(
            schedule, predict, x0, t, noise=other, step_noise=step_noise, sigma2=sigma2
        )
        rows.append(tuple(float(v) for v in (one.mean(), one.var(), two.var(), added.mean())))
    return ByTime(*np.array(rows).T)


def measure(problem: Problem, points: int, probabilities: Table) -> list[Row]:
    """Single estimates of the ELBO by every estimator."""
    schedule, T = problem.schedule, problem.schedule.T
    uniform = uniform_table(T)
    # The difference between an estimate and the ELBO does not depend on the network.
    L_T = float(np.mean(ddpm.prior_term(schedule, problem.draw(100_000, BY_TIME)[0])))
    constant = entropy_constant(schedule, problem.law.d)

    def one_sample(purpose: int, uniforms: np.ndarray, p: Table) -> np.ndarray:
        x0, rng = problem.draw(len(uniforms), purpose)
        t, noise = times_from_uniforms(uniforms, p), rng.standard_normal(x0.shape)
        estimate = one_sample_estimate(
            schedule, problem.predict, x0, t, noise=noise, sigma2=problem.sigma2
        )
        return L_T + importance_weight(p, t) * estimate

    def independent(purpose: int, p: Table) -> np.ndarray:
        return one_sample(purpose, problem.uniforms(points, purpose), p)

    def spread(purpose: int, p: Table) -> np.ndarray:
        starts = problem.uniforms(points // 10, purpose)
        uniforms = np.concatenate([spread_uniforms(u, BATCH) for u in starts])
        return one_sample(purpose, uniforms, p).reshape(-1, BATCH).mean(axis=1)

    return [
        Row("T-sample", L_T + constant + t_samples(problem, points), T),
        Row("two-sample", L_T + constant + two_samples(problem, points), 1),
        Row("one-sample", independent(ONE_SAMPLE, uniform), 1),
        Row("  low-discrepancy t", spread(SPREAD, uniform), BATCH),
        Row("  importance-sampled t", independent(IMPORTANCE, probabilities), 1),
        Row("  both", spread(SPREAD_IMPORTANCE, probabilities), BATCH),
    ]


def t_samples(problem: Problem, points: int) -> np.ndarray:
    """Estimates of the T-sample estimator, without the terms that no network changes."""
    schedule, predict, sigma2 = problem.schedule, problem.predict, problem.sigma2
    x0, rng = problem.draw(points, T_SAMPLE)
    return t_sample_estimate(
        schedule, predict, x0, noise=lambda t: rng.standard_normal(x0.shape), sigma2=sigma2
    )


def two_samples(problem: Problem, points: int) -> np.ndarray:
    """Estimates of the two-sample estimator, without the terms that no network changes."""
    schedule, predict, sigma2 = problem.schedule, problem.predict, problem.sigma2
    x0, rng = problem.draw(points, TWO_SAMPLE)
    noise, step_noise = rng.standard_normal((2, *x0.shape))
    t = times_from_uniforms(problem.uniforms(points, TWO_SAMPLE), uniform_table(schedule.T))
    return two_sample_estimate(
        schedule, predict, x0, t, noise=noise, step_noise=step_noise, sigma2=sigma2
    )


def uniform_table(T: int) -> Table:
    """Equal probabilities for t = 1..T."""
    return np.concatenate([[0.0], np.full(T, 1.0 / T)])


def summary(row: Row) -> dict[str, Any]:
    """Moments of one estimator, with standard errors."""
    values, n = row.estimates, len(row.estimates)
    variance = float(np.var(values, ddof=1))
    fourth = float(np.mean((values - values.mean()) ** 4))
    return {
        "name": row.name.strip(),
        "elbo": float(values.mean()),
        "elbo_se": math.sqrt(variance / n),
        "variance": variance,
        "variance_se": math.sqrt(max(fourth - variance**2, 0.0) / n),
        "evaluations": row.cost,
        "estimates": n,
    }


def average_variance(
    by_time: ByTime, probabilities: Table, batch: int, spread: bool, starts: int = 256
) -> float:
    """Variance of an average of ``batch`` one-sample estimates, from the moments at each t."""
    T, p = len(probabilities) - 1, probabilities
    weight = np.divide(1.0, T * p, out=np.zeros(T + 1), where=p > 0.0)
    mean, within = weight * by_time.mean, float(p @ (weight**2 * by_time.one_sample))
    if not spread:
        return (within + float(p @ (mean - p @ mean) ** 2)) / batch
    # The average over a batch of spread times has period 1 / batch in u.
    grid = (np.arange(starts) + 0.5) / starts / batch
    averages = [float(np.mean(mean[times_from_uniforms(spread_uniforms(u, batch), p)])) for u in grid]
    return within / batch + float(np.var(averages))
