"""Measurements of single steps of the model, and of the weight that follows from them."""

from collections.abc import Callable

import numpy as np

from ddpm_np.testing._compare import Comparison
from ddpm_np.testing._measure import (
    ZERO,
    Coefficients,
    P,
    Q,
    Subject,
    at_time,
    closest,
    coefficients,
    columns,
    largest,
    usual_variances,
)
from ddpm_np.testing._truth import LARGEST_IMPRECISION, Values


def model_mean(s: Subject) -> list[Comparison]:
    """Coefficients of x_t and eps in (34)."""
    return _mean_rows(s, lambda x, t, eps: s.array("model_mean", x, t, eps))


def mean_at_true_eps(s: Subject) -> list[Comparison]:
    """(26) and (29) say the same mean, if eps is the noise that made x_t."""
    t, left, right = s.times, [], []
    for time in t.tolist():
        x_t = s.array("q_sample", P, time, Q)
        left.append(s.array("model_mean", x_t, time, Q))
        right.append(s.array_of_posterior(P, x_t, time)[0])
    hint = "(26) and (34) contradict each other, or q_sample and model_mean mean another t"
    return [Comparison(t, np.array(left), np.array(right), scale=largest(np.array(right)), hint=hint)]


def reverse_variance(s: Subject) -> list[Comparison]:
    """sigma_t^2 is one of the usual tables, or lies between beta_tilde and beta."""
    truth, T = s.truth, s.truth.T
    t = np.arange(1, T + 1)
    values = s.sigma2()
    usual = usual_variances(truth)
    name = closest({key: table[2:] for key, table in usual.items()}, values[2:])
    if T == 1 and values[1] == 1.0:
        name = "1"
    expected = usual[name].copy()
    at_1 = max(truth.beta[1], expected[1])
    if T > 1 and not np.all(np.abs(values[2:] / expected[2:] - 1.0) <= LARGEST_IMPRECISION):
        name = "between beta_tilde[t] and beta[t]"
        expected = np.clip(values, truth.posterior_variance, truth.beta)
    if name != "1":  # any small variance will do at t = 1, where a sampler adds no noise
        expected[1] = np.clip(values[1], 0.0, at_1)
    slips = {
        "sqrt(beta_tilde[t]): the standard deviation": np.sqrt(truth.posterior_variance[1:]),
        "sqrt(beta[t]): the standard deviation": np.sqrt(truth.beta[1:]),
        "beta_tilde of t - 1: t seems to be off by one": _late(usual["beta_tilde[t] (25)"]),
        "beta of t - 1: t seems to be off by one": _late(truth.beta),
        "log(beta_tilde[t]): the logarithm": np.log(np.maximum(truth.posterior_variance[1:], 1e-20)),
    }
    # t = 1 is left out where it is right, so that slips need not explain it.
    keep = slice(1 if T > 1 and values[1] == expected[1] else 0, None)
    scale = np.where(t == 1, at_1, expected[1:])
    return [
        Comparison(
            t[keep],
            values[1:][keep],
            expected[1:][keep],
            scale=scale[keep],
            candidates={text: table[keep] for text, table in slips.items()},
            hint="outside of [beta_tilde[t], beta[t]]: too small or too large for any data",
            note=f"sigma_t^2 is {name}",
        )
    ]


def reverse_step(s: Subject) -> list[Comparison]:
    """One pass of the sampling loop: the mean of (34), and noise of the right size but at t = 1."""
    truth, t = s.truth, s.times
    mean = _mean_rows(s, lambda x, t, eps: s.array("reverse_step", x, t, eps, ZERO))

    def noise(z: Values, eps: Values, time: int) -> Values:
        return s.array("reverse_step", ZERO, time, eps, z)

    found = [coefficients(at_time(noise, time), 1.0, 1e-3) for time in t.tolist()]
    of_z, _, defect, _ = columns(found)
    later = t >= 2
    choices = {name: table[t[later]] for name, table in s.variance_choices().items()}
    measured = of_z[later] * np.abs(of_z[later])
    name = closest(choices, measured)
    slips = {
        "sigma_t^2 multiplies z: its square root is missing": choices[name] ** 2,
        **{f"sigma_t^2 is {key}": table[t[later]] for key, table in usual_variances(truth).items()},
        "no noise is added": 0.0 * measured,
    }
    return [
        *mean,
        Comparison(
            t[later],
            measured,
            choices[name],
            defect=2.0 * np.abs(of_z[later]) * defect[later],
            candidates=slips,
            note=f"sigma_t^2 is {name}",
            hint=f"should be {name}",
        ),
        Comparison(
            np.array([1]),
            of_z[:1],
            np.zeros(1),
            scale=np.sqrt(truth.beta[1:2]),
            defect=defect[:1],
            hint="the last step must return its mean: z = 0 at t = 1 (at t = 0 if you count from 0; E9)",
        ),
    ]


def eps_loss_weight(s: Subject) -> list[Comparison]:
    """The weight is (shift of the mean per eps)^2 / (2 sigma_t^2)."""
    truth = s.truth
    choices = s.variance_choices()
    first = 1 if all(table[1] > 1e-9 * truth.beta[1] for table in choices.values()) else 2
    t = s.times[s.times >= first]
    measured = s.numbers("eps_loss_weight", t)
    weights = {name: truth.mean_eps[t] ** 2 / (2.0 * table[t]) for name, table in choices.items()}
    name = closest(weights, measured)
    sigma2 = choices[name][t]
    full = np.zeros(truth.T + 1)
    full[first:] = truth.mean_eps[first:] ** 2 / (2.0 * choices[name][first:])
    beta, variance = truth.beta[t], truth.variance[t]
    slips = {
        "(35) as it is printed: alpha[t] is missing in the denominator (E1)": beta**2
        / (2.0 * sigma2 * variance),
        "1 / (2 sigma^2 (1 - alpha_bar[t]) alpha_bar[t]), a misprint (E10)": 1.0
        / (2.0 * sigma2 * variance * np.maximum(truth.alpha_bar[t], 1e-300)),
        "1: the weight of L_simple, not of the bound": np.ones(len(t)),
        "1 / (2 sigma_t^2): the weight of the mean, not of eps": 1.0 / (2.0 * sigma2),
    }
    for key, table in usual_variances(truth).items():
        other = truth.mean_eps[t] ** 2 / (2.0 * table[t])
        slips[f"sigma_t^2 is {key} here, elsewhere {name}"] = other
    note = f"sigma_t^2 is {name}"
    return [Comparison(t, measured, weights[name], table=full, candidates=slips, note=note)]


def _mean_rows(s: Subject, mean: Callable[[Values, int, Values], Values]) -> list[Comparison]:
    truth, t = s.truth, s.times
    found = []

    def at(x_t: Values, eps: Values, time: int) -> Values:
        return mean(x_t, time, eps)

    for time in t.tolist():
        f = at_time(at, time)
        # Formulas are read off small inputs; what large ones do differently is a defect: clipping.
        size = 1e-3 * max(float(truth.slope[time]), 1e-3)
        small, large = coefficients(f, size, size), coefficients(f, 1.0, 1.0)
        found.append(
            Coefficients(
                small.of_u,
                small.of_v,
                max(small.defect_u, large.defect_u, abs(large.of_u - small.of_u)),
                max(small.defect_v, large.defect_v, abs(large.of_v - small.of_v)),
            )
        )
    of_xt, of_eps, defect_xt, defect_eps = columns(found)
    root = 1.0 / np.sqrt(truth.alpha)
    slips = {
        "beta[t] / (1 - alpha_bar[t]) lacks the square root": -truth.beta[t]
        * root[t]
        / truth.variance[t],
        "sqrt(beta[t]) for beta[t]": truth.mean_eps[t] / np.sqrt(truth.beta[t]),
    }
    return [
        Comparison(t, of_xt, root[t], defect=defect_xt, table=root),
        Comparison(
            t, of_eps, truth.mean_eps[t], defect=defect_eps, table=truth.mean_eps, candidates=slips
        ),
    ]


def _late(table: Values) -> Values:
    """Entries that t = 1..T find if they look at t - 1."""
    return np.concatenate([table[1:2], table[1:-1]])
