"""Checks of a variance that the network learns, between beta_tilde and beta: ND (15)."""

import numpy as np

from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._rows import Check, Identity, Outcome, unmeasured
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing._variances import usual_variances
from ddpm_np.testing.protocol import Values

BETWEEN = 0.25
SWAPPED = "the ends are swapped: v = 1 has to give beta[t], v = 0 beta_tilde[t]"
SYMMETRIC = "v is taken to lie in [-1, 1], not in [0, 1]"


def learned_variance(subject: Subject) -> list[Comparison | Outcome]:
    """Both ends and the geometric mean for t >= 2, and the lower end at t = 1."""
    t = subject.times[subject.times >= 2]
    return [
        _at(subject, t, 1.0),
        _at(subject, t, 0.0),
        _at(subject, t, BETWEEN),
        _lower_end_at_1(subject),
    ]


def _at(subject: Subject, t: TimeArray, v: float) -> Comparison:
    """The variance at one v, whose logarithm lies between those of the ends."""
    beta, tilde = subject.truth.beta[t], subject.truth.posterior_variance[t]
    expected = _geometric(tilde, beta, v)
    return Comparison(
        t,
        subject.learned_variances(v, t),
        expected,
        candidates={
            **_wrong_ends(tilde, beta, v),
            SYMMETRIC: _geometric(tilde, beta, 0.5 * (v + 1.0)),
            "the arithmetic mean of the ends, not the geometric": v * beta + (1.0 - v) * tilde,
            "the logarithm of the variance": np.log(expected),
            "the standard deviation in place of the variance": np.sqrt(expected),
        },
    )


def _wrong_ends(tilde: Values, beta: Values, v: float) -> dict[str, Values]:
    other = _geometric(tilde, beta, 1.0 - v)
    if v == BETWEEN:
        return {SWAPPED: other, "beta[t] for every v": beta, "beta_tilde[t] for every v": tilde}
    return {f"it is {'beta_tilde[t]' if v else 'beta[t]'}: swapped ends, or v is left out": other}


def _geometric(low: Values, high: Values, v: float) -> Values:
    return np.exp(v * np.log(high) + (1.0 - v) * np.log(low))


def _lower_end_at_1(subject: Subject) -> Comparison | Outcome:
    """beta_tilde[1] = 0 has no logarithm: beta_tilde[2] stands in for it."""
    truth, one = subject.truth, np.array([1])
    with np.errstate(all="ignore"):
        found = subject.learned_variances(0.0, one)
    low, value = usual_variances(truth)["beta_tilde[t] (25)"][one], float(found[0])
    if value == 0.0:
        text = "0 at t = 1: beta_tilde[1] has no logarithm; beta_tilde[2] stands in for it"
        return unmeasured("FAILS", text)
    if 0.0 < value < 0.99 * min(low[0], truth.beta[1]):
        text = f"{value:.3g} at t = 1, where beta_tilde[2] = {low[0]:.3g} is usual: no harm in a sampler"
        return unmeasured("remark", f"{text}, which adds no noise there, but L_0 takes its logarithm")
    return Comparison(
        one,
        found,
        low,
        candidates={SWAPPED: truth.beta[one], SYMMETRIC: _geometric(low, truth.beta[one], 0.5)},
        hint="beta_tilde[2] stands in for beta_tilde[1] = 0",
    )


CHECKS = (
    Check(
        ("learned_variance",),
        learned_variance,
        (
            Identity("learned_variance: beta[t] at v = 1", "ND (15)"),
            Identity("learned_variance: beta_tilde[t] at v = 0", "ND (15)"),
            Identity("learned_variance: geometric mean between", "ND (15)"),
            Identity("learned_variance: beta_tilde[2] at t = 1, v = 0", "ND (15)"),
        ),
    ),
)
