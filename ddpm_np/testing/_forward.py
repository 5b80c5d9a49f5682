"""Checks of q: the tables, the way forward, and one step back given x_0."""

import numpy as np

from ddpm_np.testing._comparison import Comparison, nothing
from ddpm_np.testing._probes import OTHER_PROBE, PROBE, ZERO, coefficients, largest, over_probe
from ddpm_np.testing._rows import Check, Identity
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import TimeArray, Truth
from ddpm_np.testing.protocol import Values

WHOLE_PRODUCT = "alpha_bar[T] at every t: the product runs to T, but has to stop at t (E5)"


def alpha_bars(subject: Subject) -> list[Comparison]:
    """alpha_bar[t] = slope of the composed steps squared, and 1 - alpha_bar[t] = their variance."""
    truth, t = subject.truth, subject.truth.times
    values = subject.alpha_bars()[t - 1]
    expected, variance = truth.alpha_bar[t], truth.variance[t]
    at_0 = float(np.median(values / np.maximum(expected, 1e-300)))
    slips: dict[str, Values | float] = {
        WHOLE_PRODUCT: float(truth.alpha_bar[t[-1]]),
        "alpha[t] itself: the product over the earlier steps is missing": truth.alpha[t],
        "its square root: sqrt(alpha_bar[t])": truth.slope[t],
        "1 - alpha_bar[t]": variance,
        "sqrt(1 - alpha_bar[t])": truth.sigma[t],
        "1 - beta[1] - ... - beta[t]: a sum for the product": 1.0 - np.cumsum(truth.beta)[t],
        "alpha_bar[t - 1]: one beta too few, or t is off by one": truth.alpha_bar[t - 1],
    }
    if abs(at_0 - 1.0) > 1e-6:
        text = f"{at_0:.6g} times what it should be at every t: alpha_bar[0] has to be 1"
        slips[text] = at_0 * expected
    if truth.is_whole and truth.T > 1:
        late = np.append(truth.alpha_bar[2:], values[-1])
        slips["alpha_bar[t + 1]: one beta too many, or t is off by one"] = late
    scale = np.maximum(expected, 1e-200)
    complements = {text: 1.0 - np.broadcast_to(slip, values.shape) for text, slip in slips.items()}
    return [
        Comparison(t, values, expected, scale=scale, candidates=slips),
        Comparison(t, 1.0 - values, variance, candidates=complements),
    ]


def q_step(subject: Subject) -> list[Comparison]:
    """Coefficients of x_{t-1} and of the noise, the latter squared."""
    truth, t = subject.truth, subject.times
    found = coefficients(lambda x_prev, noise, time: subject.q_step(x_prev, time, noise), t)
    alpha, beta = truth.alpha, truth.beta
    swapped = "the coefficients of x_{t-1} and the noise are swapped"
    return [
        Comparison(
            t,
            found.of_u,
            np.sqrt(alpha[t]),
            defect=found.defect_u,
            table=np.sqrt(alpha),
            candidates={
                "alpha[t] without its square root": alpha[t],
                "sqrt(alpha_bar[t]): all steps at once, that is q_sample": truth.slope[t],
                "1: x_{t-1} is not scaled": np.ones(len(t)),
                swapped: np.sqrt(beta[t]),
            },
        ),
        Comparison(
            t,
            found.of_v * np.abs(found.of_v),
            beta[t],
            defect=2.0 * np.abs(found.of_v) * found.defect_v,
            table=beta,
            candidates={
                "beta[t] multiplies the noise: its square root is missing": beta[t] ** 2,
                "1 - alpha_bar[t]: all steps at once, that is q_sample": truth.variance[t],
                "no noise is added": np.zeros(len(t)),
                swapped: alpha[t],
            },
        ),
    ]


def q_sample(subject: Subject) -> list[Comparison]:
    """Coefficients of x0 and of the noise, the latter squared."""
    truth, t = subject.truth, subject.times
    found = coefficients(lambda x0, noise, time: subject.q_sample(x0, time, noise), t)
    x0_slips = {
        "alpha_bar[t] without its square root": truth.alpha_bar[t],
        "sqrt(alpha[t]): one step instead of t": np.sqrt(truth.alpha[t]),
        "sqrt(1 - alpha_bar[t]), the coefficient of the noise": truth.sigma[t],
        "1: x0 is not scaled": np.ones(len(t)),
        WHOLE_PRODUCT: truth.slope[-1],
    }
    variance = truth.variance[t]
    noise_slips = {
        "the noise is multiplied by 1 - alpha_bar[t] without its square root (E2)": variance**2,
        "1 - sqrt(alpha_bar[t]) for sqrt(1 - alpha_bar[t])": (1.0 - truth.slope[t]) ** 2,
        "sqrt(beta[t]): one step instead of t": truth.beta[t],
        "sqrt(alpha_bar[t]) multiplies the noise, the coefficient of x0": truth.alpha_bar[t],
        "no noise is added": 0.0 * variance,
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
    share = truth.beta[t] / truth.variance[t]
    return [
        Comparison(
            t,
            found.of_u,
            c_xt,
            defect=found.defect_u,
            table=truth.c_xt,
            candidates={
                swapped: truth.c_x0[t],
                "1 - alpha_bar[t] for 1 - alpha_bar[t-1]": np.sqrt(truth.alpha[t]),
            },
        ),
        Comparison(
            t,
            found.of_v,
            c_x0,
            defect=found.defect_v,
            loss=rounding,
            table=truth.c_x0,
            candidates={
                swapped: truth.c_xt[t],
                "sqrt(alpha_bar[t]) for sqrt(alpha_bar[t-1])": truth.slope[t] * share,
                "alpha_bar[t-1] without its square root": truth.alpha_bar[t - 1] * share,
            },
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
    """x_0 itself; the variance may be beta_tilde[2] too, the end of a logarithm that was clipped."""
    truth = subject.truth
    alpha_bar, beta = truth.alpha_bar, truth.beta[1]
    mean, variance = subject.q_posterior(PROBE, OTHER_PROBE, 1)
    clipped = truth.posterior_variance[2] if truth.T > 1 else 0.0
    is_clipped = clipped > 0.0 and bool(np.all(np.abs(variance / clipped - 1.0) < 1e-3))

    def before_is(alpha_bar_0: float) -> Values:
        """What (25) and (26) give with another alpha_bar[0], as it is measured."""
        c_x0 = np.sqrt(alpha_bar_0)
        c_xt = np.sqrt(truth.alpha[1]) * (1.0 - alpha_bar_0) / beta
        shift = (c_x0 - 1.0) * PROBE + c_xt * OTHER_PROBE
        return np.concatenate([shift.ravel(), np.full(PROBE.size, 1.0 - alpha_bar_0) / beta])[None]

    spread = 0.0 * variance if is_clipped else variance / beta
    measured = np.concatenate([(mean - PROBE).ravel(), spread.ravel()])[None]
    slips = {
        "alpha_bar[T] stands for alpha_bar[0], as index -1 gives in Python": before_is(alpha_bar[-1]),
        "alpha_bar[1] stands for alpha_bar[0], which is 1": before_is(alpha_bar[1]),
        "alpha_bar[0] is 0, not 1": before_is(0.0),
    }
    return Comparison(
        np.array([1]),
        measured,
        np.zeros_like(measured),
        scale=np.ones_like(measured),
        candidates=slips,
        hint="alpha_bar[0] has to be 1, so that x_0 is known for certain once it is given",
        note="the variance there is beta_tilde[2]: its logarithm is clipped" if is_clipped else "",
    )


def marginal(subject: Subject) -> list[Comparison]:
    """Draw x_t, then x_{t-1} given both: it has to follow q(x_{t-1} | x_0) again; t >= 2."""
    t = subject.times[subject.times >= 2]
    means, variances, slopes, noises = [], [], [], []
    for time in t.tolist():
        x_t = subject.q_sample(PROBE, time, ZERO)
        means.append(subject.q_posterior(PROBE, x_t, time)[0])
        slopes.append(subject.q_sample(PROBE, time - 1, ZERO))
        mean, variance = subject.q_posterior(ZERO, subject.q_sample(ZERO, time, PROBE), time)
        variances.append(mean**2 + variance * PROBE**2)
        noises.append(subject.q_sample(ZERO, time - 1, PROBE) ** 2)
    if len(t) == 0:
        return [nothing(""), nothing("")]
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
        ("q_step",),
        q_step,
        (
            Identity("q_step: coefficient of x_{t-1}", "M2 (20)"),
            Identity("q_step: variance of the noise", "M2 (20)"),
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
