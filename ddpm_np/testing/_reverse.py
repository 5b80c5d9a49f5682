"""Checks of single steps of the model: its mean, its variance, and a pass of the sampling loop."""

import numpy as np

from ddpm_np.testing._comparison import NONLINEAR, Comparison, nothing
from ddpm_np.testing._probes import (
    OTHER_PROBE,
    PROBE,
    ZERO,
    Coefficients,
    TimedMap,
    coefficients,
    largest,
)
from ddpm_np.testing._rows import BAD_BETA, Check, Identity
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import TimeArray, Truth
from ddpm_np.testing._variances import (
    OWN,
    allowed_variances,
    most_at_1,
    usual_variances,
    variance_choices,
)
from ddpm_np.testing.protocol import Values

LARGE = "right for small inputs, but not for large ones: does it clip or threshold x_0?"
LAST_NOISE = "the last step must return its mean: z = 0 at t = 1 (at t = 0 if you count from 0; E9)"


def model_mean(subject: Subject) -> list[Comparison]:
    """Coefficients of x_t and eps in (34)."""
    return _mean_coefficients(subject, lambda x_t, eps, t: subject.model_mean(x_t, t, eps))


def mean_at_true_eps(subject: Subject) -> list[Comparison]:
    """(26) and (29) say the same mean, if eps is the noise that made x_t."""
    t = subject.truth.with_signal(subject.times)
    left, right = [], []
    for time in t.tolist():
        x_t = subject.q_sample(PROBE, time, OTHER_PROBE)
        left.append(subject.model_mean(x_t, time, OTHER_PROBE))
        right.append(subject.q_posterior(PROBE, x_t, time)[0])
    if not left:
        return [nothing("")]
    hint = "(26) and (34) contradict each other, or q_sample and model_mean take t differently"
    return [Comparison(t, np.array(left), np.array(right), scale=largest(np.array(right)), hint=hint)]


def _mean_coefficients(subject: Subject, mean: TimedMap, clip: float | None = None) -> list[Comparison]:
    """Compare a function of (x_t, eps, t) with (34), in which x_0 may be clipped."""
    truth, t = subject.truth, subject.truth.with_signal(subject.times)
    # Formulas are read off small inputs; what large ones do differently is a defect: clipping.
    size = 1e-3 * np.maximum(truth.slope[t], 1e-3) * min(1.0, clip or 1.0)
    small, large = coefficients(mean, t, size, size), coefficients(mean, t)
    if clip is None:
        defects = np.array([large.defect_u, large.defect_v])
        defects += np.abs([large.of_u - small.of_u, large.of_v - small.of_v])
        nonlinear = LARGE
    else:
        defects = _clipped_defects(truth, mean, t, clip)
        nonlinear = f"x_0 is not limited to [-{clip:g}, {clip:g}]"
    small_defects = np.array([small.defect_u, small.defect_v])
    if not np.all(small_defects <= 1e-3 * np.abs([small.of_u, small.of_v])):
        nonlinear = NONLINEAR
    defect_u, defect_v = np.maximum(defects, small_defects)
    root, mean_eps = 1.0 / np.sqrt(truth.alpha), truth.mean_eps
    beta, variance = truth.beta[t], truth.variance[t]
    taken, slope = "the x_0 that eps implies is taken for the mean", truth.slope[t]
    slips = {
        taken: -np.sqrt(variance) / slope,
        "beta[t] / (1 - alpha_bar[t]) lacks the square root": -beta * root[t] / variance,
        "sqrt(beta[t]) for beta[t]": mean_eps[t] / np.sqrt(beta),
        "sqrt(1 - alpha_bar[t]) for beta[t] / sqrt(1 - alpha_bar[t])": -root[t] * np.sqrt(variance),
        "eps has no effect": 0.0 * beta,
    }
    return [
        Comparison(
            t,
            small.of_u,
            root[t],
            defect=defect_u,
            nonlinear=nonlinear,
            table=root,
            candidates={taken: 1.0 / slope},
        ),
        Comparison(
            t,
            small.of_v,
            mean_eps[t],
            defect=defect_v,
            nonlinear=nonlinear,
            table=mean_eps,
            candidates=slips,
        ),
    ]


def _clipped_defects(truth: Truth, mean: TimedMap, t: TimeArray, clip: float) -> Values:
    """Departures from (26) with a clipped x_0 for large x_t, and for large eps; shape (2, n)."""

    def defect(x_t: Values, eps: Values, time: int) -> float:
        x0 = (x_t - truth.sigma[time] * eps) / truth.slope[time]
        expected = truth.c_xt[time] * x_t + truth.c_x0[time] * np.clip(x0, -clip, clip)
        return float(np.max(np.abs(mean(x_t, eps, time) - expected)))

    found = []
    for time in t.tolist():
        of_x, of_eps = defect(PROBE, ZERO, time), defect(ZERO, OTHER_PROBE, time)
        joint = defect(PROBE, OTHER_PROBE, time) - 2.0 * (of_x + of_eps)
        found.append((of_x, max(of_eps, joint)))
    return np.array(found).reshape(-1, 2).T


def reverse_variance(subject: Subject) -> list[Comparison]:
    """sigma_t^2 is one of the usual tables, or lies between beta_tilde and beta."""
    truth, t = subject.truth, subject.truth.times
    values = subject.reverse_variances()[t]
    name, expected = allowed_variances(truth, t, values)
    scale = np.where(t == 1, most_at_1(truth), expected)
    # t = 1 is left out where it is right, so that slips need not explain it.
    keep = (t >= 2) | (values != expected) if len(t) > 1 else t >= 1
    usual = usual_variances(truth)
    tilde, before = usual["beta_tilde[t] (25)"], np.maximum(t - 1, 1)
    slips = {
        "sqrt(beta_tilde[t]): the standard deviation": np.sqrt(tilde[t]),
        "sqrt(beta[t]): the standard deviation": np.sqrt(truth.beta[t]),
        "log(beta_tilde[t]): the logarithm": np.log(tilde[t]),
        "log(beta[t]): the logarithm": np.log(truth.beta[t]),
        "beta_tilde of t - 1: t seems to be off by one": tilde[before],
        "beta of t - 1: t seems to be off by one": truth.beta[before],
        "beta of t + 1: t seems to be off by one": np.append(truth.beta, truth.beta[-1])[t + 1],
        "1 - alpha_bar[t]: the variance of x_t given x_0": truth.variance[t],
        "0: no noise": 0.0 * tilde[t],
    }
    comparison = Comparison(
        t,
        values,
        expected,
        scale=scale,
        candidates=slips,
        guesses={key: table[t] for key, table in usual.items()},
        hint="outside of [beta_tilde[t], beta[t]]: too small or too large for any data",
        note=f"sigma_t^2 is {name}",
    )
    return [comparison.at(keep)]


def reverse_step(subject: Subject) -> list[Comparison]:
    """One pass of the sampling loop: the mean of (34), and noise of the right size but at t = 1."""
    truth, t = subject.truth, subject.truth.with_signal(subject.times)
    mean = _mean_coefficients(
        subject, lambda x_t, eps, time: subject.reverse_step(x_t, time, eps, ZERO), subject.claims.clip
    )
    noise = coefficients(lambda z, eps, time: subject.reverse_step(ZERO, time, eps, z), t, size_v=1e-3)
    last_noise = Comparison(
        t[:1],
        noise.of_u[:1],
        np.zeros(1),
        scale=np.sqrt(truth.beta[t[:1]]),
        defect=noise.defect_u[:1],
        hint=LAST_NOISE,
    )
    if t[:1].tolist() != [1]:
        last_noise = nothing(BAD_BETA)
    return [*mean, _noise_variance(subject, t, noise), last_noise]


def _noise_variance(subject: Subject, t: TimeArray, noise: Coefficients) -> Comparison:
    """The squared coefficient of z, t >= 2."""
    truth, later = subject.truth, t >= 2
    t, of_z, defect = t[later], noise.of_u[later], noise.defect_u[later]
    measured = of_z * np.abs(of_z)
    own, usual = subject.own_variances, usual_variances(truth)
    if own is None:
        name, expected = allowed_variances(truth, t, measured)
    else:
        name, expected = OWN, own[t]
    choices = {key: table[t] for key, table in variance_choices(subject).items()}
    slips = {"no noise is added": 0.0 * measured}
    for key, table in choices.items():
        slips[f"sigma_t^2 multiplies z: its square root is missing (sigma_t^2 is {key})"] = table**2
        slips[f"sqrt(sigma_t) multiplies z: sigma_t is rooted twice (sigma_t^2 is {key})"] = table**0.5
    if own is not None:
        slips |= {f"sigma_t^2 is {key} here, {name} says another": usual[key][t] for key in usual}
    return Comparison(
        t,
        measured,
        expected,
        defect=2.0 * np.abs(of_z) * defect,
        candidates=slips,
        guesses=choices if own is None else {},
        note=f"sigma_t^2 is {name}",
        hint=f"should be {name}" if own is not None else "no usual sigma_t^2 explains it",
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
