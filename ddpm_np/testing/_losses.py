"""Checks of the weights that the bound gives to squared errors."""

from functools import partial

import numpy as np

from ddpm_np._arrays import Table
from ddpm_np.targets import TARGETS, Target
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._rows import Check, Identity, Outcome, judge
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import TimeArray, Truth
from ddpm_np.testing._variances import OWN, allowed_variances, usual_variances, variance_choices
from ddpm_np.testing._weights import CALLED, bound_weight, proportional, recognise_weight
from ddpm_np.testing.protocol import Values

UNKNOWN = "none of the known weights"


def loss_weight(target: Target, subject: Subject) -> list[Outcome]:
    """The weight is (shift of the mean per unit of the target)^2 / (2 sigma_t^2)."""
    truth, own = subject.truth, subject.own_variances
    half = bound_weight(truth, target, np.ones(truth.T + 1))
    at_1 = own is None or own[1] > 1e-9 * truth.beta[1]
    t = subject.times[subject.times >= (1 if at_1 else 2)]
    t = t[np.isfinite(half[t])]
    measured = subject.loss_weights(target, t)
    choices = variance_choices(subject)
    name, sigma2 = allowed_variances(truth, t, half[t] / measured) if own is None else (OWN, own[t])
    comparison = Comparison(
        t,
        measured,
        half[t] / sigma2,
        table=None if own is None else bound_weight(truth, target, own),
        candidates=_slips(truth, target, t, choices, None if own is None else name),
        guesses={key: half[t] / table[t] for key, table in choices.items()} if own is None else {},
        note=f"sigma_t^2 is {name}",
        hint=UNKNOWN,
    )
    outcome = judge(comparison, truth, subject.precision((f"{target}_loss_weight",)))
    if outcome.verdict == "FAILS" and outcome.explanation.startswith(UNKNOWN):
        return [_no_slip(subject, target, comparison, outcome)]
    return [outcome]


def _slips(
    truth: Truth, target: Target, t: TimeArray, choices: dict[str, Table], own: str | None
) -> dict[str, Values]:
    """Other weights; ``own`` is what sigma_t^2 is called, or None if it is not said."""
    others = {} if own is None else _others(truth, t, choices[own])
    slips = {"1: the weight of L_simple, not of the bound": np.ones(len(t))}
    for key, sigma2 in choices.items():
        given = f" (sigma_t^2 is {key})" if own is None else ""
        weight = bound_weight(truth, target, sigma2)[t]
        if target == "eps":
            misprint = 2.0 * sigma2[t] * truth.variance[t] * np.maximum(truth.alpha_bar[t], 1e-300)
            slips |= {
                f"(35) as it is printed: alpha[t] is missing in the denominator (E1){given}": weight
                * truth.alpha[t],
                f"1 / (2 sigma^2 (1 - alpha_bar[t]) alpha_bar[t]), a misprint (E10){given}": 1.0
                / misprint,
                f"alpha_bar[t] for alpha[t] in the denominator{given}": weight
                * truth.alpha[t]
                / np.maximum(truth.alpha_bar[t], 1e-300),
            }
        slips[f"the standard deviation is taken for the variance{given}"] = weight * np.sqrt(sigma2[t])
        if target in ("x0", "v"):
            slips[f"alpha_bar[t] in place of alpha_bar[t-1]{given}"] = weight * truth.alpha[t]
        for other in TARGETS:
            if other != target:
                text = f"the weight of {CALLED[other]}, not of {CALLED[target]}"
                slips[text + given] = bound_weight(truth, other, sigma2)[t]
                for name, table in others.items():
                    theirs = bound_weight(truth, other, table)[t]
                    slips[f"{text}, and sigma_t^2 is {name} in it"] = theirs
    for name, table in others.items():
        slips[f"sigma_t^2 is {name} here, elsewhere {own}"] = bound_weight(truth, target, table)[t]
    return slips


def _others(truth: Truth, t: TimeArray, own: Table) -> dict[str, Table]:
    """The usual sigma_t^2 that are not the implementation's own."""
    return {
        name: table
        for name, table in usual_variances(truth).items()
        if not np.allclose(table[t], own[t], rtol=1e-6)
    }


def _no_slip(subject: Subject, target: Target, comparison: Comparison, outcome: Outcome) -> Outcome:
    """What is no slip of the bound's weight: a weight that somebody trains with, or one of their own."""
    truth, t, measured = subject.truth, comparison.times, comparison.measured
    if not np.all(np.isfinite(measured) & (measured > 0.0)):
        return outcome._replace(explanation=f"a weight has to be positive; {outcome.explanation}")
    factor = proportional(truth, t, measured, comparison.expected)
    if factor is not None:
        return outcome._replace(explanation=f"{factor:.4g} times what it should be")
    known = recognise_weight(truth, target, t, measured, usual_variances(truth))
    if known is not None and (not known.own or known.text.startswith("the bound's")):
        return outcome._replace(explanation=f"{known.text}, times {known.factor:.4g}")
    text = f"{UNKNOWN}, and not the bound's" if known is None else f"{known.text}; not the bound's"
    return outcome._replace(verdict="remark", explanation=text)


EQUATIONS: dict[Target, str] = {"eps": "M2 (35)", "x0": "L 6.2", "v": "M2 (35)", "mean": "M2 (33)"}
CHECKS = tuple(
    Check(
        (f"{target}_loss_weight",),
        partial(loss_weight, target),
        (Identity(f"{target}_loss_weight: squared shift / 2 sigma_t^2", equation),),
    )
    for target, equation in EQUATIONS.items()
)
