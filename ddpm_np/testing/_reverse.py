"""Checks of single steps of the model: its mean, its variance, and a pass of the sampling loop."""

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._probes import (
    OTHER_PROBE,
    PROBE,
    ZERO,
    Coefficients,
    TimedMap,
    coefficients,
    largest,
)
from ddpm_np.testing._rows import Check, Identity
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import LARGEST_IMPRECISION, TimeArray, Truth
from ddpm_np.testing._variances import closest, usual_variances, variance_choices
from ddpm_np.testing.protocol import Values


def model_mean(subject: Subject) -> list[Comparison]:
    """Coefficients of x_t and eps in (34)."""
    return _mean_coefficients(subject, lambda x_t, eps, t: subject.model_mean(x_t, t, eps))


def mean_at_true_eps(subject: Subject) -> list[Comparison]:
    """(26) and (29) say the same mean, if eps is the noise that made x_t."""
    t, left, right = subject.times, [], []
    for time in t.tolist():
        x_t = subject.q_sample(PROBE, time, OTHER_PROBE)
        left.append(subject.model_mean(x_t, time, OTHER_PROBE))
        right.append(subject.q_posterior(PROBE, x_t, time)[0])
    hint = "(26) and (34) contradict each other, or q_sample and model_mean take t differently"
    return [Comparison(t, np.array(left), np.array(right), scale=largest(np.array(right)), hint=hint)]


def _mean_coefficients(subject: Subject, mean: TimedMap) -> list[Comparison]:
    """Compare a function of (x_t, eps, t) with (34)."""
    truth, t = subject.truth, subject.times
    # Formulas are read off small inputs; what large ones do differently is a defect: clipping.
    size = 1e-3 * np.maximum(truth.slope[t], 1e-3)
    small, large = coefficients(mean, t, size, size), coefficients(mean, t)
    found = Coefficients(
        small.of_u,
        small.of_v,
        np.max([small.defect_u, large.defect_u, np.abs(large.of_u - small.of_u)], axis=0),
        np.max([small.defect_v, large.defect_v, np.abs(large.of_v - small.of_v)], axis=0),
    )
    root, mean_eps = 1.0 / np.sqrt(truth.alpha), truth.mean_eps
    beta, variance = truth.beta[t], truth.variance[t]
    slips = {
        "beta[t] / (1 - alpha_bar[t]) lacks the square root": -beta * root[t] / variance,
        "sqrt(beta[t]) for beta[t]": mean_eps[t] / np.sqrt(beta),
    }
    return [
        Comparison(t, found.of_u, root[t], defect=found.defect_u, table=root),
        Comparison(t, found.of_v, mean_eps[t], defect=found.defect_v, table=mean_eps, candidates=slips),
    ]


def reverse_variance(subject: Subject) -> list[Comparison]:
    """sigma_t^2 is one of the usual tables, or lies between beta_tilde and beta."""
    truth, values = subject.truth, subject.reverse_variances()
    t = np.arange(1, truth.T + 1)
    name, expected, most_at_1 = _nearest_allowed(truth, values)
    # t = 1 is left out where it is right, so that slips need not explain it.
    keep = t[1:] if truth.T > 1 and values[1] == expected[1] else t
    return [
        Comparison(
            keep,
            values[keep],
            expected[keep],
            scale=np.where(keep == 1, most_at_1, expected[keep]),
            candidates=_variance_slips(truth, keep),
            hint="outside of [beta_tilde[t], beta[t]]: too small or too large for any data",
            note=f"sigma_t^2 is {name}",
        )
    ]


def _nearest_allowed(truth: Truth, values: Table) -> tuple[str, Table, float]:
    """Name and values of the table that is meant, and the most that is allowed at t = 1."""
    usual = usual_variances(truth)
    name = closest({key: table[2:] for key, table in usual.items()}, values[2:])
    if truth.T == 1 and values[1] == 1.0:
        name = "1"
    expected = usual[name].copy()
    most_at_1 = max(truth.beta[1], expected[1])
    if truth.T > 1 and not np.all(np.abs(values[2:] / expected[2:] - 1.0) <= LARGEST_IMPRECISION):
        name = "between beta_tilde[t] and beta[t]"
        expected = np.clip(values, truth.posterior_variance, truth.beta)
    if name != "1":  # any small variance will do at t = 1, where a sampler adds no noise
        expected[1] = np.clip(values[1], 0.0, most_at_1)
    return name, expected, most_at_1


def _variance_slips(truth: Truth, t: TimeArray) -> dict[str, Values]:
    tilde, beta, before = truth.posterior_variance, truth.beta, np.maximum(t - 1, 1)
    usual_tilde = usual_variances(truth)["beta_tilde[t] (25)"]
    return {
        "sqrt(beta_tilde[t]): the standard deviation": np.sqrt(tilde[t]),
        "sqrt(beta[t]): the standard deviation": np.sqrt(beta[t]),
        "beta_tilde of t - 1: t seems to be off by one": usual_tilde[before],
        "beta of t - 1: t seems to be off by one": beta[before],
        "log(beta_tilde[t]): the logarithm": np.log(np.maximum(tilde[t], 1e-20)),
    }


def reverse_step(subject: Subject) -> list[Comparison]:
    """One pass of the sampling loop: the mean of (34), and noise of the right size but at t = 1."""
    mean = _mean_coefficients(subject, lambda x_t, eps, t: subject.reverse_step(x_t, t, eps, ZERO))
    noise = coefficients(
        lambda z, eps, t: subject.reverse_step(ZERO, t, eps, z), subject.times, size_v=1e-3
    )
    last_noise = Comparison(
        np.array([1]),
        noise.of_u[:1],
        np.zeros(1),
        scale=np.sqrt(subject.truth.beta[1:2]),
        defect=noise.defect_u[:1],
        hint="the last step must return its mean: z = 0 at t = 1 (at t = 0 if you count from 0; E9)",
    )
    return [*mean, _noise_variance(subject, noise), last_noise]


def _noise_variance(subject: Subject, noise: Coefficients) -> Comparison:
    """The squared coefficient of z, t >= 2."""
    truth, later = subject.truth, subject.times >= 2
    t, of_z, defect = subject.times[later], noise.of_u[later], noise.defect_u[later]
    choices = {name: table[t] for name, table in variance_choices(subject).items()}
    measured = of_z * np.abs(of_z)
    name = closest(choices, measured)
    return Comparison(
        t,
        measured,
        choices[name],
        defect=2.0 * np.abs(of_z) * defect,
        candidates={
            "sigma_t^2 multiplies z: its square root is missing": choices[name] ** 2,
            **{f"sigma_t^2 is {key}": table[t] for key, table in usual_variances(truth).items()},
            "no noise is added": 0.0 * measured,
        },
        note=f"sigma_t^2 is {name}",
        hint=f"should be {name}",
    )


CHECKS = (
    Check(
        ("model_mean",),
        model_mean,
        (
            Identity("model_mean: coefficient of x_t", "M2 (34)"),
            Identity("model_mean: coefficient of eps", "M2 (34)"),
        ),
    ),
    Check(
        ("q_sample", "q_posterior", "model_mean"),
        mean_at_true_eps,
        (Identity("model_mean at the true eps = q_posterior", "M2 (29)"),),
    ),
    Check(
        ("reverse_variance",),
        reverse_variance,
        (Identity("reverse_variance: beta_tilde, beta, between, or 1", "M2 (31)"),),
    ),
    Check(
        ("reverse_step",),
        reverse_step,
        (
            Identity("reverse_step: coefficient of x_t", "Algorithm 2"),
            Identity("reverse_step: coefficient of eps", "Algorithm 2"),
            Identity("reverse_step: variance of the noise", "Algorithm 2"),
            Identity("reverse_step: no noise at t = 1", "Algorithm 2"),
        ),
    ),
)
