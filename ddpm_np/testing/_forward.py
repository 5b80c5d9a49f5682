"""Measurements of q: the tables, the way forward, and one step back given x_0."""

import numpy as np

from ddpm_np.testing._compare import Comparison
from ddpm_np.testing._measure import (
    DIMENSIONS,
    ZERO,
    P,
    Q,
    Subject,
    as_values,
    at_time,
    coefficients,
    columns,
    largest,
)
from ddpm_np.testing._truth import Values

WHOLE_PRODUCT = "alpha_bar[T] at every t: the product runs to T, it has to stop at t (E5)"


def alpha_bars(s: Subject) -> list[Comparison]:
    """alpha_bar[t] = slope of the composed steps squared, and 1 - alpha_bar[t] = their variance."""
    truth, T = s.truth, s.truth.T
    values = as_values(s.implementation.alpha_bars(), "alpha_bars()")
    if values.shape != (T,):
        raise ValueError(f"alpha_bars() must have shape ({T},), no entry for t = 0, got {values.shape}")
    t = np.arange(1, T + 1)
    slips = {
        WHOLE_PRODUCT: truth.alpha_bar[T],
        "alpha[t] itself: the product over the earlier steps is missing": truth.alpha[1:],
        "its square root": truth.slope[1:],
    }
    expected, variance = truth.alpha_bar[1:], truth.variance[1:]
    scale = np.maximum(expected, 1e-200)
    complements = {text: 1.0 - np.broadcast_to(slip, values.shape) for text, slip in slips.items()}
    return [
        Comparison(t, values, expected, scale=scale, table=truth.alpha_bar, candidates=slips),
        Comparison(t, 1.0 - values, variance, table=truth.variance, candidates=complements),
    ]


def q_sample(s: Subject) -> list[Comparison]:
    """Coefficients of x0 and of the noise, the latter squared."""
    truth, t = s.truth, s.times

    def draw(x0: Values, noise: Values, time: int) -> Values:
        return s.array("q_sample", x0, time, noise)

    found = [coefficients(at_time(draw, time), 1.0, 1.0) for time in t.tolist()]
    x0_slips = {
        "alpha_bar[t] without its square root": truth.alpha_bar[t],
        "sqrt(alpha[t]): one step instead of t": np.sqrt(truth.alpha[t]),
        WHOLE_PRODUCT: truth.slope[-1],
    }
    noise_slips = {
        "the noise is multiplied by 1 - alpha_bar[t] without its square root (E2)": truth.variance[t]
        ** 2,
        "1 - sqrt(alpha_bar[t]) for sqrt(1 - alpha_bar[t])": (1.0 - truth.slope[t]) ** 2,
        "sqrt(beta[t]): one step instead of t": truth.beta[t],
        WHOLE_PRODUCT: truth.variance[-1],
    }
    of_u, of_v, defect_u, defect_v = columns(found)
    return [
        Comparison(t, of_u, truth.slope[t], defect=defect_u, table=truth.slope, candidates=x0_slips),
        Comparison(
            t,
            of_v * np.abs(of_v),
            truth.variance[t],
            defect=2.0 * np.abs(of_v) * defect_v,
            table=truth.variance,
            candidates=noise_slips,
        ),
    ]


def q_posterior(s: Subject) -> list[Comparison]:
    """Coefficients of the mean and the variance, against Bayes' rule on a grid; t = 1 apart."""
    truth, t = s.truth, s.times[s.times >= 2]
    wanted, found, variances = [], [], []

    def posterior_mean(x_t: Values, x0: Values, time: int) -> Values:
        return s.array_of_posterior(x0, x_t, time)[0]

    for time in t.tolist():
        spread = float(np.hypot(truth.sigma[time - 1], np.sqrt(truth.beta[time])))
        a = min(1.0, spread / max(float(truth.slope[time - 1]), 1e-3))
        b = min(1.0, spread)
        mean_x0, at_t = truth.bayes(time, a, 0.0)
        mean_xt, _ = truth.bayes(time, 0.0, b)
        wanted.append((mean_xt / b, mean_x0 / a, at_t))
        found.append(coefficients(at_time(posterior_mean, time), b, a))
        variances.append(s.array_of_posterior(P, Q, time)[1])
    c_xt, c_x0, variance = np.array(wanted).reshape(-1, 3).T
    of_xt, of_x0, defect_xt, defect_x0 = columns(found)
    slips = {
        "beta[t] in place of beta_tilde[t]": _spread(truth.beta[t]),
        "the standard deviation in place of the variance": _spread(np.sqrt(variance)),
        "the logarithm of the variance": _spread(np.log(variance)),
    }
    mean, last = s.array_of_posterior(P, Q, 1)
    at_1 = np.stack([np.concatenate([(mean - P).ravel(), last.ravel() / truth.beta[1]])])
    # The grid is exact to rounding of the mean, not of a small coefficient.
    rounding = 1.0 + 0.01 / np.maximum(np.abs(c_x0), 1e-12)
    return [
        Comparison(
            t,
            of_xt,
            c_xt,
            defect=defect_xt,
            table=truth.c_xt,
            candidates={"the coefficients of x_t and x0 are swapped": truth.c_x0[t]},
        ),
        Comparison(
            t,
            of_x0,
            c_x0,
            defect=defect_x0,
            loss=rounding,
            table=truth.c_x0,
            candidates={"the coefficients of x_t and x0 are swapped": truth.c_xt[t]},
        ),
        Comparison(
            t,
            np.array(variances).reshape(-1, *P.shape),
            _spread(variance),
            table=_spread(truth.posterior_variance),
            candidates=slips,
        ),
        Comparison(
            np.array([1]),
            at_1,
            np.zeros_like(at_1),
            scale=np.ones_like(at_1),
            hint="alpha_bar[0] has to be 1, so that x_0 is known for certain once it is given",
        ),
    ]


def marginal(s: Subject) -> list[Comparison]:
    """Draw x_t, then x_{t-1} given both: it has to follow q(x_{t-1} | x_0) again."""
    t = s.times
    means, variances, slopes, noises = [], [], [], []
    for time in t.tolist():
        x_t = s.array("q_sample", P, time, ZERO)
        means.append(s.array_of_posterior(P, x_t, time)[0])
        slopes.append(s.array("q_sample", P, time - 1, ZERO) if time > 1 else P)
        spread = s.array_of_posterior(ZERO, s.array("q_sample", ZERO, time, P), time)
        variances.append(spread[0] ** 2 + spread[1] * P**2)
        noises.append(s.array("q_sample", ZERO, time - 1, P) ** 2 if time > 1 else ZERO)
    hint = "q_sample and q_posterior contradict each other: do both mean the same t?"
    expected, one = np.array(noises), np.ones_like(np.array(noises))
    scale = np.maximum(expected, s.truth.beta[1] * one) * one
    return [
        Comparison(t, np.array(means), np.array(slopes), scale=largest(np.array(slopes)), hint=hint),
        Comparison(t, np.array(variances), expected, scale=largest(scale), hint=hint),
    ]


def _spread(values: Values) -> Values:
    """Repeat numbers per time over the entries of a probe: shape (n,) to (n, B, d)."""
    return values.reshape(-1, 1, 1) * np.ones((1, len(P), DIMENSIONS))
