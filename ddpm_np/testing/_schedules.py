"""Checks of the betas themselves: whether the chain is of use, and is the schedule it claims to be."""

import itertools
import math
from collections.abc import Callable

import numpy as np

from ddpm_np.elbo import PRIOR_LIMIT
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._precision import is_single
from ddpm_np.testing._rows import Check, Identity, Outcome, unmeasured
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import Truth
from ddpm_np.testing.protocol import Values

LARGEST_FIRST_NOISE = 0.1
LARGEST_FALL = 0.5
LOW, HIGH = 1e-4, 0.02  # beta[1] and beta[T] of Ho et al. 2020, for 1000 steps
S, MAX_BETA = 0.008, 0.999  # of Nichol & Dhariwal 2021
DIFFUSERS = "linear in sqrt(beta): that is quadratic here, and scaled_linear in diffusers"


# --- the chain -------------------------------------------------------------------------------


def chain(subject: Subject) -> list[Outcome]:
    """What is unwise in a chain, but not wrong."""
    truth = subject.truth
    remarks = filter(None, (_prior(truth), _order(truth), _first_step(truth)))
    said = "; ".join(remarks)
    return [unmeasured("remark", said) if said else Outcome(0.0, 0.0, "holds")]


def _prior(truth: Truth) -> str:
    """KL(q(x_T | x_0) || N(0, I)) per dimension, for data of root mean square 1."""
    nats = -0.5 * math.log(truth.variance[-1])
    if nats <= PRIOR_LIMIT:
        return ""
    return (
        f"x_T still is {truth.slope[-1]:.2g} x_0 + noise: N(0, I), which samples start from, is off by "
        f"{nats:.2g} nats per dimension (data of size 1), and no training makes that good"
    )


def _order(truth: Truth) -> str:
    """Whether beta falls to less than half of what it was; the first step may merge several."""
    later = truth.beta[2:]
    largest = np.maximum.accumulate(later)
    fallen = np.flatnonzero(later < LARGEST_FALL * largest)
    if len(fallen) == 0:
        return ""
    first, top = int(fallen[0]), int(np.argmax(later[: fallen[0]]))
    return (
        f"beta falls from {later[top]:.3g} at t = {top + 2} to {later[first]:.3g} at t = {first + 2}: "
        "are the betas out of order?"
    )


def _first_step(truth: Truth) -> str:
    if truth.sigma[1] <= LARGEST_FIRST_NOISE:
        return ""
    return (
        f"alpha_bar[1] = {truth.alpha_bar[1]:.3g}: the first step already adds noise of "
        f"{truth.sigma[1]:.2g} times the size of the data, and destroys what is finer"
    )


# --- the schedule ----------------------------------------------------------------------------


def claimed(subject: Subject) -> list[Comparison | Outcome | None]:
    """Whether the betas are those of the schedule that they claim to be."""
    name, truth = subject.claims.schedule, subject.truth
    if name is None:
        return [None]
    beta, T = truth.beta[1:], truth.T
    subject.single["betas"] = is_single(beta)
    if name in RAMPS and T < 3:
        return [unmeasured("remark", f"any {T} betas are {name}")]
    if name == "scaled_linear" and HIGH * 1000 / T >= 1.0:
        return [unmeasured("remark", f"scaled_linear has no betas for T = {T}: 20 / T is not below 1")]
    if name == "cosine":
        return [_cosine_row(subject, beta)]
    if name == "scaled_linear":
        note, expected = "", RAMPS["linear"](T, LOW, HIGH) * (1000 / T)
    else:
        note, expected = _between_its_ends(name, beta)
    return [_compared(subject, name, expected, _slips_of_ramps(name, beta), note=note)]


def _compared(
    subject: Subject,
    name: str,
    expected: Values,
    slips: dict[str, Values],
    *,
    loss: Values | float = 1.0,
    note: str = "",
) -> Comparison:
    beta = subject.truth.beta[1:]
    own = {} if name == "cosine" else {"these are the betas of the cosine schedule": cosine(len(beta))}
    slips = {"the betas are in reverse order": expected[::-1], **slips, **own}
    ends = f"beta[1] = {beta[0]:.4g}, beta[T] = {beta[-1]:.4g}"
    return Comparison(
        np.arange(1, len(beta) + 1),
        beta,
        expected,
        loss=loss,
        table=np.concatenate([[0.0], expected]),
        candidates=_different(slips, expected),
        hint=f"these are not the betas of the {name} schedule; {ends}",
        note=note,
    )


def _different(slips: dict[str, Values], expected: Values) -> dict[str, Values]:
    """Without those that say the same betas again."""
    seen: list[Values] = [expected]
    found = {}
    for text, values in slips.items():
        if not any(np.allclose(values, other, rtol=1e-7, atol=0.0) for other in seen):
            found[text] = values
            seen.append(values)
    return found


def _linear(points: int, low: float, high: float) -> Values:
    return np.linspace(low, high, points)


def _quadratic(points: int, low: float, high: float) -> Values:
    values: Values = np.linspace(math.sqrt(low), math.sqrt(high), points) ** 2
    return values


def _sigmoid(points: int, low: float, high: float) -> Values:
    values: Values = low + (high - low) / (1.0 + np.exp(-np.linspace(-6.0, 6.0, points)))
    return values


RAMPS: dict[str, Callable[[int, float, float], Values]] = {
    "linear": _linear,
    "quadratic": _quadratic,
    "sigmoid": _sigmoid,
}
"""Schedules between two ends: (number of points, low, high) to betas."""


def _between_its_ends(name: str, beta: Values) -> tuple[str, Values]:
    """The ramp between the ends of these betas, and which they are.

    A ramp of the usual ends with one point too many is one of other ends: that is no choice.
    """
    T, usual = len(beta), RAMPS[name](len(beta), LOW, HIGH)
    if any(_is_same(beta, values) for values in _one_point_more(name, T).values()):
        return "", usual
    low, high = sorted((float(beta[0]), float(beta[-1])))
    if name == "sigmoid":  # its ends lie beyond the first and the last beta
        tail = 1.0 / (1.0 + math.exp(6.0))
        beyond = tail * (high - low) / (1.0 - 2.0 * tail)
        low, high = low - beyond, high + beyond
    if name == "quadratic":
        low = max(low, 0.0)
    made_for = ", made for T = 1000" if T != 1000 and _is_same(beta, usual) else ""
    return f"from {low:.6g} to {high:.6g}{made_for}", RAMPS[name](T, low, high)


def _is_same(beta: Values, values: Values) -> bool:
    return bool(np.allclose(beta, values, rtol=1e-5 if is_single(beta) else 1e-9, atol=0.0))


def _one_point_more(name: str, T: int, factor: float = 1.0) -> dict[str, Values]:
    points = factor * RAMPS[name](T + 1, LOW, HIGH)
    return {
        "T + 1 points from end to end, without the last: (t - 1) / T for (t - 1) / (T - 1)": points[:-1],
        "T + 1 points from end to end, without the first: t / T for (t - 1) / (T - 1)": points[1:],
    }


def _slips_of_ramps(name: str, beta: Values) -> dict[str, Values]:
    T, (low, high) = len(beta), sorted((float(beta[0]), float(beta[-1])))
    if low <= 0.0:
        return {}
    shapes = {
        "linear in beta": RAMPS["linear"](T, low, high),
        DIFFUSERS: RAMPS["quadratic"](T, low, high),
        "beta[1] + (beta[T] - beta[1]) u^2, u from 0 to 1: its square root is not linear": low
        + (high - low) * np.linspace(0.0, 1.0, T) ** 2,
        "these are the betas of the sigmoid schedule": RAMPS["sigmoid"](T, LOW, HIGH),
        "linear in log(beta)": np.geomspace(low, high, T),
    }
    if name != "scaled_linear":
        return {**_one_point_more(name, T), **shapes}
    unscaled = RAMPS["linear"](T, LOW, HIGH)
    return {
        "1e-4..0.02 are not scaled by 1000 / T": unscaled,
        "scaled by T / 1000, not by 1000 / T": unscaled * (T / 1000),
        **_one_point_more("linear", T, 1000 / T),
        **{text: values for text, values in shapes.items() if text != "linear in beta"},
        f"linear from {low:.4g} to {high:.4g}, not from 0.1 / T to 20 / T": shapes["linear in beta"],
    }


def cosine(
    T: int,
    *,
    of: Callable[[Values], Values] | None = None,
    s: float = S,
    power: int = 2,
    divided: bool = True,
    limits: tuple[float, float] = (0.0, MAX_BETA),
) -> Values:
    """beta[t] = 1 - f(t / T) / f((t - 1) / T), clipped; f(u) = cos((u + s) / (1 + s) pi / 2)^2."""
    t = np.arange(T + 1.0)
    u = t / T if of is None else of(t)
    f = np.cos((u + s) / (1.0 + s) * (math.pi / 2.0)) ** power
    with np.errstate(all="ignore"):
        beta = 1.0 - f[1:] / f[:-1]
    if not divided:
        beta[0] = 1.0 - f[1]
    return np.clip(beta, *limits)


def _cosine_row(subject: Subject, beta: Values) -> Comparison:
    T, least, most = len(beta), float(np.min(beta)), float(np.max(beta))
    forms: dict[str, Callable[..., Values]] = {
        "": lambda **options: cosine(T, **options),
        "t / (T + 1) for t / T": lambda **options: cosine(T, of=lambda t: t / (T + 1), **options),
        "(t - 1) / (T - 1) for t / T: T points, not T + 1": lambda **options: cosine(
            T, of=lambda t: np.maximum(t - 1.0, 0.0) / max(T - 1, 1), **options
        ),
        "s = 0, not 0.008": lambda **options: cosine(T, s=0.0, **options),
        "the cosine is not squared": lambda **options: cosine(T, power=1, **options),
    }
    starts = {
        "": True,
        "alpha_bar[0] is dropped: alpha_bar is not divided by f(0), which is seen in beta[1]": False,
    }
    clips = {
        "": (0.0, MAX_BETA),
        "beta is not clipped at 0.999": (-np.inf, np.inf),
        f"beta is clipped at {most:.6g}, not at 0.999": (0.0, most),
        f"beta is clipped to [{least:.6g}, {most:.6g}], not at 0.999 alone": (least, most),
    }
    later = cosine(T + 1)[1:]
    slips = {
        "alpha_bar[0] is dropped from the quotients: these are the betas of t + 1 of T + 1": later,
        f"linear in t, from {beta[0]:.6g} to {beta[-1]:.6g}": RAMPS["linear"](T, beta[0], beta[-1]),
    }
    for clip, start, form in itertools.product(clips, starts, forms):
        text = "; ".join(filter(None, (form, start, clip)))
        if text:
            slips[text] = forms[form](divided=starts[start], limits=clips[clip])
    return _compared(subject, "cosine", cosine(T), slips, loss=_loss_of_cosine(T))


def _loss_of_cosine(T: int) -> Values:
    """By how much a relative error of the two angles is amplified: where the cosine is near 0."""
    angle = (np.arange(T + 1) / T + S) / (1.0 + S) * (math.pi / 2.0)
    f = np.cos(angle) ** 2
    ratio, slopes = f[1:] / f[:-1], 2.0 * angle * np.tan(angle)
    loss: Values = 1.0 + ratio * (slopes[1:] + slopes[:-1]) / (8.0 * (1.0 - ratio))
    return loss


CHECKS = (
    Check(
        ("betas",),
        chain,
        (Identity("betas: x_0 fades into N(0, I) step by step", "M2 (30), (36)"),),
        whole=True,
    ),
    Check(
        ("betas",),
        claimed,
        (Identity("betas: the schedule that they claim to be", ""),),
    ),
)
