"""Checks of q: the tables, the way forward, and one step back given x_0."""

import numpy as np

from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._probes import OTHER_PROBE, PROBE, ZERO, coefficients, largest, over_probe
from ddpm_np.testing._rows import Check, Identity
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import TimeArray, Truth
from ddpm_np.testing.protocol import Values

WHOLE_PRODUCT = "alpha_bar[T] at every t: the product runs to T, but has to stop at t (E5)"


def alpha_bars(subject: Subject) -> list[Comparison]:
    """alpha_bar[t] = slope of the composed steps squared, and 1 - alpha_bar[t] = their variance."""
    truth, values = subject.truth, subject.alpha_bars()
    t = np.arange(1, truth.T + 1)
    slips = {
        WHOLE_PRODUCT: truth.alpha_bar[truth.T],
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


def q_sample(subject: Subject) -> list[Comparison]:
    """Coefficients of x0 and of the noise, the latter squared."""
    truth, t = subject.truth, subject.times
    found = coefficients(lambda x0, noise, time: subject.q_sample(x0, time, noise), t)
    x0_slips = {
        "alpha_bar[t] without its square root": truth.alpha_bar[t],
        "sqrt(alpha[t]): one step instead of t": np.sqrt(truth.alpha[t]),
        WHOLE_PRODUCT: truth.slope[-1],
    }
    variance = truth.variance[t]
    noise_slips = {
        "the noise is multiplied by 1 - alpha_bar[t] without its square root (E2)": variance**2,
        "1 - sqrt(alpha_bar[t]) for sqrt(1 - alpha_bar[t])": (1.0 - truth.slope[t]) ** 2,
        "sqrt(beta[t]): one step instead of t": truth.beta[t],
        WHOLE_PRODUCT: truth.variance[-1],
    }
    return [
        Comparison(
            t,
            found.of_u,
            truth.slope[t],
            defect=found.defect_u,
            table=truth.slope,
            candidates=x0_slips,
        ),
        Comparison(
            t,
            found.of_v * np.abs(found.of_v),
            variance,
            defect=2.0 * np.abs(found.of_v) * found.defect_v,
            table=truth.variance,
            candidates=noise_slips,
        ),
    ]


def q_posterior(subject: Subject) -> list[Comparison]:
    """Coefficients of the mean and the variance, against Bayes' rule on a grid; t = 1 apart."""
    truth, t = subject.truth, subject.times[subject.times >= 2]
    size_xt, size_x0 = _posterior_sizes(truth, t)
    c_xt, c_x0, variance = _posterior_by_bayes(truth, t, size_xt, size_x0)
    found = coefficients(
        lambda x_t, x0, time: subject.q_posterior(x0, x_t, time)[0], t, size_xt, size_x0
    )
    # The grid is exact to rounding of the mean, not of a small coefficient.
    rounding = 1.0 + 0.01 / np.maximum(np.abs(c_x0), 1e-12)
    swapped = "the coefficients of x_t and x0 are swapped"
    return [
        Comparison(
            t,
            found.of_u,
            c_xt,
            defect=found.defect_u,
            table=truth.c_xt,
            candidates={swapped: truth.c_x0[t]},
        ),
        Comparison(
            t,
            found.of_v,
            c_x0,
            defect=found.defect_v,
            loss=rounding,
            table=truth.c_x0,
            candidates={swapped: truth.c_xt[t]},
        ),
        _posterior_variance(subject, t, variance),
        _posterior_at_1(subject),
    ]


def _posterior_sizes(truth: Truth, t: TimeArray) -> tuple[Values, Values]:
    """Sizes of x_t and x_0 with which the two factors of Bayes' rule have their centres close."""
    spread = np.hypot(truth.sigma[t - 1], np.sqrt(truth.beta[t]))
    return np.minimum(1.0, spread), np.minimum(1.0, spread / np.maximum(truth.slope[t - 1], 1e-3))


def _posterior_by_bayes(
    truth: Truth, t: TimeArray, size_xt: Values, size_x0: Values
) -> tuple[Values, Values, Values]:
    """Coefficients of x_t and x_0 in the mean, and the variance, by Bayes' rule on a grid."""
    found = []
    for time, b, a in zip(t.tolist(), size_xt.tolist(), size_x0.tolist(), strict=True):
        mean_x0, variance = truth.bayes(time, a, 0.0)
        mean_xt, _ = truth.bayes(time, 0.0, b)
        found.append((mean_xt / b, mean_x0 / a, variance))
    c_xt, c_x0, variances = np.array(found).reshape(-1, 3).T
    return c_xt, c_x0, variances


def _posterior_variance(subject: Subject, t: TimeArray, variance: Values) -> Comparison:
    variances = [subject.q_posterior(PROBE, OTHER_PROBE, time)[1] for time in t.tolist()]
    return Comparison(
        t,
        np.array(variances).reshape(-1, *PROBE.shape),
        over_probe(variance),
        table=over_probe(subject.truth.posterior_variance),
        candidates={
            "beta[t] in place of beta_tilde[t]": over_probe(subject.truth.beta[t]),
            "the standard deviation in place of the variance": over_probe(np.sqrt(variance)),
            "the logarithm of the variance": over_probe(np.log(variance)),
        },
    )


def _posterior_at_1(subject: Subject) -> Comparison:
    mean, variance = subject.q_posterior(PROBE, OTHER_PROBE, 1)
    measured = np.concatenate([(mean - PROBE).ravel(), variance.ravel() / subject.truth.beta[1]])[None]
    return Comparison(
        np.array([1]),
        measured,
        np.zeros_like(measured),
        scale=np.ones_like(measured),
        hint="alpha_bar[0] has to be 1, so that x_0 is known for certain once it is given",
    )


def marginal(subject: Subject) -> list[Comparison]:
    """Draw x_t, then x_{t-1} given both: it has to follow q(x_{t-1} | x_0) again."""
    t = subject.times
    means, variances, slopes, noises = [], [], [], []
    for time in t.tolist():
        x_t = subject.q_sample(PROBE, time, ZERO)
        means.append(subject.q_posterior(PROBE, x_t, time)[0])
        slopes.append(subject.q_sample(PROBE, time - 1, ZERO) if time > 1 else PROBE)
        mean, variance = subject.q_posterior(ZERO, subject.q_sample(ZERO, time, PROBE), time)
        variances.append(mean**2 + variance * PROBE**2)
        noises.append(subject.q_sample(ZERO, time - 1, PROBE) ** 2 if time > 1 else ZERO)
    hint = "q_sample and q_posterior contradict each other: do both mean the same t?"
    slope, noise = np.array(slopes), np.array(noises)
    scale = largest(np.maximum(noise, subject.truth.beta[1]))
    return [
        Comparison(t, np.array(means), slope, scale=largest(slope), hint=hint),
        Comparison(t, np.array(variances), noise, scale=scale, hint=hint),
    ]


CHECKS = (
    Check(
        ("alpha_bars",),
        alpha_bars,
        (
            Identity("alpha_bars: product of alpha_1..alpha_t", "M2 (22)"),
            Identity("alpha_bars: 1 - alpha_bar, composed from steps", "M2 (37)"),
        ),
    ),
    Check(
        ("q_sample",),
        q_sample,
        (
            Identity("q_sample: coefficient of x0", "M2 (27)"),
            Identity("q_sample: variance of T steps composed", "M2 (20), (37)"),
        ),
    ),
    Check(
        ("q_posterior",),
        q_posterior,
        (
            Identity("q_posterior: mean by Bayes' rule, x_t", "M2 (26)"),
            Identity("q_posterior: mean by Bayes' rule, x0", "M2 (26)"),
            Identity("q_posterior: variance by Bayes' rule", "M2 (25)"),
            Identity("q_posterior: at t = 1 it is x0 exactly", "M2 (23)"),
        ),
    ),
    Check(
        ("q_sample", "q_posterior"),
        marginal,
        (
            Identity("q_posterior after q_sample: mean of x_{t-1}", "M2 (22), (24)"),
            Identity("q_posterior after q_sample: variance of x_{t-1}", "M2 (22), (24)"),
        ),
    ),
)
