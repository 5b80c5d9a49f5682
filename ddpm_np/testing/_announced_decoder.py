"""L_0 of a decoder that is not Gaussian: a discretised one, or one of the user's own."""

import math

import numpy as np

from ddpm_np.testing._bins import Bins, density_in_bins
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._levels import (
    USUAL,
    Placed,
    Score,
    can_be_moved,
    level,
    score_of,
    spread_of,
)
from ddpm_np.testing._probes import DIMENSIONS
from ddpm_np.testing._quadrature import log_normal
from ddpm_np.testing._rows import Check, Identity, Outcome, unmeasured
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._truth import Truth
from ddpm_np.testing._units import in_other_units
from ddpm_np.testing._variances import closest, decoder_variances, usual_variances
from ddpm_np.testing.protocol import Values

BATCH = 8
FAR = 12.0  # standard deviations
HARMLESS = 1e-10
UNDERFLOWS = (
    "the log of a difference that underflows: it is not finite where the mean is 12 sigma_1 from x_0"
)
BETWEEN_AT_1 = "between beta_tilde[2] and beta[1]"


def announced_decoder(subject: Subject) -> list[Comparison | Outcome | None]:
    """L_0 around the mean, and for a discretised decoder far from it."""
    score, levels = score_of(subject.claims), subject.claims.levels
    if score is None or levels is None:
        return [None, None]
    near = _near(subject, levels)
    L_0 = near.L_0(subject)
    choices = with_between(subject.truth, decoder_variances(subject), score, near, L_0)
    scores = {key: score(near.x0, near.mean, value)[None] for key, value in choices.items()}
    name = closest(scores, L_0[None])
    variance, is_guess = choices[name], len(choices) > 1
    slips: dict[str, Values] = {}
    for key, value in choices.items():
        given = f" (sigma_1^2 is {key})" if is_guess else ""
        found = _slips(subject, score, near, value, L_0)
        slips |= {f"{text}{given}": values[None] for text, values in found.items()}
    if not is_guess:
        for key, table in usual_variances(subject.truth).items():
            values = score(near.x0, near.mean, float(table[1]))
            slips[f"the variance is {key} at t = 1, not {name}"] = values[None]
    # A little may be added to each probability before its logarithm is taken.
    exact, added = scores[name], HARMLESS * rarity(subject, near, variance)
    expected = np.clip(L_0[None], exact, exact + added)
    scale = 2.0 * np.abs(expected) + 2.0 * DIMENSIONS
    is_discretised = subject.claims.decoder == "discretised"
    said = f"{levels} levels; " if is_discretised else ""
    comparison = Comparison(
        np.array([1]),
        L_0[None],
        expected,
        scale=scale,
        loss=loss_of(subject, near, variance, scale[0]),
        candidates=slips,
        guesses=scores if is_guess else {},
        hint=_hint(levels) if is_discretised else "L_0 = decoder(x0, model mean at t = 1, sigma_1^2)",
        note=f"{said}the variance is {name}",
    )
    far = _far_row(subject, Bins.of(levels), levels, variance) if is_discretised else None
    return [comparison, far]


def _hint(levels: int) -> str:
    bins = f"a, b = (x0 -+ 1/{levels - 1} - model mean at t = 1) / sigma_1"
    return f"L_0 sums log(Phi(b) - Phi(a)) over dimensions, {bins}, the bins at -1 and 1 open"


def _near(subject: Subject, levels: int) -> Placed:
    """Random levels and both ends, with an edge of each bin about the mean."""
    rng = subject.rng(7)
    k = rng.integers(0, levels, (BATCH, DIMENSIONS))
    sign = rng.choice([-1.0, 1.0], k.shape)
    k[:2] = (0, levels - 1, 1), (levels - 1, 0, levels - 2)
    sign[:2] = (-1.0, 1.0, 1.0), (-1.0, 1.0, -1.0)
    sigma = spread_of(subject)
    shift = sign * (Bins.of(levels).half + sigma * rng.uniform(-1.5, 1.5, k.shape))
    return Placed.of(subject.truth, level(k.astype(np.float64), levels), shift)


def beside(subject: Subject, x0: Values) -> Placed:
    """These observations with the outer edge of each bin near the mean."""
    half = Bins.of(subject.claims.levels or USUAL).half
    return Placed.of(subject.truth, x0, np.sign(x0) * (half + 0.5 * spread_of(subject)))


def loss_of(subject: Subject, near: Placed, variance: float, scale: Values | float) -> Values:
    """By how much L_0 amplifies rounding: of the mean, and of a difference of probabilities."""
    size = np.max(np.abs(near.mean)) + np.max(np.abs(near.x_1)) / subject.truth.slope[1]
    loss = 1.0 + size / math.sqrt(variance) * np.ones(1)
    rounded: Values = loss + np.max(rarity(subject, near, variance) / scale) / 64.0
    return rounded


def rarity(subject: Subject, near: Placed, variance: float) -> Values:
    """The sum of 1 / p over dimensions, shape (B,); 0 unless the decoder is discretised."""
    if subject.claims.decoder != "discretised" or subject.claims.levels is None:
        return np.zeros(len(near.x0))
    log_p = Bins.of(subject.claims.levels).log_p(near.x0, near.mean, variance)
    total: Values = np.exp(np.minimum(-log_p, 50.0)).sum(axis=1)
    return total


def with_between(
    truth: Truth, choices: dict[str, float], score: Score, near: Placed, L_0: Values
) -> dict[str, float]:
    """With the variance between beta_tilde[2] and beta[1] that fits best, if none is said."""
    usual = list(usual_variances(truth).values())
    low, high = sorted(float(table[1]) for table in usual[:2])
    if len(choices) == 1 or high <= low * (1.0 + 1e-6):
        return choices

    def misfit(log_variance: float) -> float:
        found = score(near.x0, near.mean, math.exp(log_variance))
        return float(np.nan_to_num(np.max(np.abs(found - L_0)), nan=np.inf))

    if min(misfit(math.log(value)) for value in choices.values()) <= 1e-9 * np.max(np.abs(L_0)):
        return choices
    centre, width = 0.5 * math.log(low * high), 0.5 * math.log(high / low)
    for _ in range(10):
        grid = np.linspace(centre - width, centre + width, 21)
        centre, width = min(grid.tolist(), key=misfit), 0.15 * width
    implied = math.exp(centre)
    is_free = low * (1.0 + 1e-6) < implied < high * (1.0 - 1e-6)
    return {**choices, BETWEEN_AT_1: implied} if is_free else choices


def _slips(
    subject: Subject, score: Score, near: Placed, variance: float, L_0: Values
) -> dict[str, Values]:
    """What other formulas would give, by the sentence that describes the slip."""
    arguments = near.x0, near.mean
    right, levels = score(*arguments, variance), subject.claims.levels
    density = log_normal(*arguments, variance).sum(axis=1)
    common = {
        "the sign is wrong: L_0 is log p(x_0 | x_1)": -right,
        "the standard deviation is taken for the variance": score(*arguments, math.sqrt(variance)),
        "the variance is taken for the standard deviation": score(*arguments, variance**2),
        **{text: values[0] for text, values in in_other_units(right[None], DIMENSIONS).items()},
    }
    if subject.claims.decoder != "discretised" or levels is None:
        return {**common, "the density of a Gaussian decoder, not the one that is announced": density}
    bins = Bins.of(levels)
    found = {text: other.score(*arguments, variance) for text, other in bins.slips(levels).items()}
    in_bins = density_in_bins(bins.half, *arguments, variance)
    others = {
        "a density for a probability: the width of a bin is missing": density,
        "the density at a level times the width of its bin, not the integral over it": in_bins,
    }
    half = _half_width(bins, near, variance, L_0)
    known = [other.half for other in bins.slips(levels).values()]
    if min(abs(half / other - 1.0) for other in known) > 1e-4:
        text = f"the half width of a bin is {half:.6g}, not 1/{levels - 1}"
        found[text] = Bins(half).score(*arguments, variance)
    return {**common, **others, **found}


def _half_width(bins: Bins, near: Placed, variance: float, L_0: Values) -> float:
    """The half width that would give this sum of L_0: the wider the bins, the larger it is."""
    low, high = math.log(1e-6), math.log(4.0)
    for _ in range(50):
        middle = 0.5 * (low + high)
        total = Bins(math.exp(middle)).score(near.x0, near.mean, variance).sum()
        low, high = (middle, high) if total < L_0.sum() else (low, middle)
    return math.exp(0.5 * (low + high))


def _far_row(subject: Subject, bins: Bins, levels: int, variance: float) -> Comparison | Outcome:
    """Where the mean is far away: each probability is tiny, its logarithm is not."""
    if not can_be_moved(subject.truth):
        return unmeasured("remark", "cannot be judged: the mean at t = 1 hardly depends on x_1")
    k = np.array([levels // 2, levels // 2, 0, levels - 1])[:, None] * np.ones(DIMENSIONS)
    sign = np.array([1.0, -1.0, 1.0, -1.0])[:, None]
    shift = sign * (bins.half + FAR * spread_of(subject))
    far = Placed.of(subject.truth, level(k, levels), shift * np.ones(DIMENSIONS))
    L_0, expected = far.L_0(subject), bins.score(far.x0, far.mean, variance)
    if not np.all(np.isfinite(L_0)):
        return unmeasured("FAILS", UNDERFLOWS)
    least = _least_probability(L_0, expected)
    if least:
        said = f"probabilities below {least:.2g} are raised to that, so that L_0 is too large there"
        return unmeasured("remark", said)
    scale = 2.0 * np.abs(expected) + 2.0 * DIMENSIONS
    size = np.max(np.abs(far.mean)) + np.max(np.abs(far.x_1)) / subject.truth.slope[1]
    return Comparison(
        np.array([1]),
        L_0[None],
        expected[None],
        scale=scale[None],
        loss=1.0 + size / math.sqrt(variance) * np.ones(1),
        hint="where the mean is 12 sigma_1 from x_0; if the row above holds, digits are lost there",
    )


def _least_probability(L_0: Values, expected: Values) -> float:
    """What a tiny probability is limited to, if that is all that is wrong; else 0."""
    wrong = np.abs(L_0 - expected) > 1e-3 * np.abs(expected)
    values = L_0[wrong] / DIMENSIONS
    if not wrong.any() or np.ptp(values) > 1e-3 or np.any(L_0[wrong] < expected[wrong]):
        return 0.0
    least = math.exp(float(np.mean(values)))
    return least if least <= 1e-4 else 0.0


CHECKS = (
    Check(
        ("elbo_terms",),
        announced_decoder,
        (
            Identity("elbo_terms: L_0 of the announced decoder", "Ho 3.3"),
            Identity("elbo_terms: L_0 far from x_0", "Ho 3.3"),
        ),
        whole=True,
    ),
)
