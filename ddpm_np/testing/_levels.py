"""Observations on the levels of a decoder, and how many levels there are.

They lie evenly on [-1, 1]. How many, an attribute ``levels`` of the implementation says; without it
they are found from L_0 where x_0 is -1 or 1, which are levels of every decoder.
"""

from collections.abc import Callable
from dataclasses import replace
from statistics import NormalDist
from typing import NamedTuple, TypeAlias

import numpy as np

from ddpm_np._checks import check_integer
from ddpm_np.testing._affine_model import model_steps, recording_predictor
from ddpm_np.testing._bins import Bins
from ddpm_np.testing._claims import Claims
from ddpm_np.testing._probes import DIMENSIONS
from ddpm_np.testing._subject import Subject, as_values
from ddpm_np.testing._truth import Truth
from ddpm_np.testing._variances import decoder_variances
from ddpm_np.testing.protocol import Values

USUAL, MOST = 256, 2**16
# What 256 levels look like with 1/128, 1/256, or half of 1/255 or of 1/256 for 1/255.
MISTAKEN = (129, 257, 511, 513)
SHARED = (USUAL, 5, 2)  # grids to try; the levels of the last two are levels of many others
MOST_PROBES = 400
SMALLEST_SLOPE = 1e-3

Score: TypeAlias = Callable[[Values, Values, float], Values]
"""A decoder: (x0, mean, variance) to log p(x_0 | x_1), shape (B,)."""


def score_of(claims: Claims) -> Score | None:
    """The decoder that is announced; None if it is the Gaussian one."""
    decoder = claims.decoder
    if not callable(decoder):
        return Bins.of(claims.levels or USUAL).score if decoder == "discretised" else None
    own = decoder

    def score(x0: Values, mean: Values, variance: float) -> Values:
        found = own(x0.copy(), mean.copy(), variance)
        return as_values(found, "decoder(x0, mean, variance)", (len(x0),))

    return score


def on_levels(x0: Values, levels: int | None) -> Values:
    """Moved to the nearest levels, if there are any."""
    if levels is None:
        return x0
    k = np.round((np.clip(x0, -1.0, 1.0) + 1.0) * (levels - 1) / 2.0)
    return level(k, levels)


def level(k: Values, levels: int) -> Values:
    """The level of this number, from 0."""
    return (2.0 * k - (levels - 1)) / (levels - 1)


class Placed(NamedTuple):
    """Observations with the x_1 that put the model's mean somewhere, and the noise that makes it."""

    x0: Values
    noise: Values
    x_1: Values
    mean: Values

    @classmethod
    def of(cls, truth: Truth, x0: Values, shift: Values) -> "Placed":
        """The mean at x0 + shift; wherever it is without noise if x_1 cannot move it."""
        slope, offset = (table[1] for table in model_steps(truth))
        noise = np.zeros_like(x0)
        if can_be_moved(truth):
            noise = ((x0 + shift - offset) / slope - truth.slope[1] * x0) / truth.sigma[1]
        return cls.by(truth, x0, noise)

    @classmethod
    def by(cls, truth: Truth, x0: Values, noise: Values) -> "Placed":
        """The mean where this noise puts it."""
        slope, offset = (table[1] for table in model_steps(truth))
        x_1 = truth.slope[1] * x0 + truth.sigma[1] * noise
        return cls(x0, noise, x_1, slope * x_1 + offset)

    def L_0(self, subject: Subject) -> Values:
        """What the implementation says of them."""
        noise = np.zeros((subject.truth.T + 1, *self.x0.shape))
        noise[1] = self.noise
        predict, _ = recording_predictor(subject.truth, subject.claims.target)
        return subject.elbo_terms(predict, self.x0, noise)[2]


def can_be_moved(truth: Truth) -> bool:
    """Whether the mean at t = 1 depends on x_1."""
    return bool(model_steps(truth)[0][1] > SMALLEST_SLOPE)


def spread_of(subject: Subject) -> float:
    """sigma_1, or about that if it is not known: not the usual 1."""
    choices = [value for name, value in decoder_variances(subject).items() if name != "1"]
    return float(np.sqrt(max(choices)))


def with_levels(subject: Subject) -> Subject:
    """The subject with its number of levels among the claims, if its decoder is not Gaussian."""
    decoder = subject.claims.decoder
    if decoder == "gaussian":
        return subject
    said = getattr(subject.implementation, "levels", None)
    if said is not None:
        levels = check_integer("implementation.levels", said, 2, MOST)
    else:
        levels = _accepted(subject) if callable(decoder) else _found(subject)
    return replace(subject, claims=replace(subject.claims, levels=levels))


def _accepted(subject: Subject) -> int:
    """The first grid that a decoder of the user's own takes."""
    score = score_of(subject.claims)
    for levels in SHARED:
        x0 = level(np.arange(levels, dtype=np.float64)[:, None] * np.ones(DIMENSIONS), levels)
        try:
            if score is not None and np.all(np.isfinite(score(x0, 0.9 * x0, 1.0))):
                return levels
        except Exception:  # it has other levels
            continue
    return USUAL


def _found(subject: Subject) -> int:
    """From L_0 / d = log Phi((1/(levels - 1) - distance) / sigma_1) where x_0 is -1 or 1."""
    if not (subject.offers("elbo_terms") and subject.truth.is_whole and can_be_moved(subject.truth)):
        return USUAL
    sigma = spread_of(subject)
    n = min(int(1.0 / sigma) + 8, MOST_PROBES)
    distance = sigma * np.arange(-2.0, n - 2.0)
    x0 = np.where(np.arange(n) % 2, 1.0, -1.0)[:, None] * np.ones(DIMENSIONS)
    try:
        with np.errstate(all="ignore"):
            log_p = Placed.of(subject.truth, x0, -x0 * distance[:, None]).L_0(subject) / DIMENSIONS
    except Exception:  # its own row says what is wrong
        return USUAL
    clear = (log_p > -15.0) & (log_p < -1e-3)
    if clear.sum() < 3:
        return USUAL
    z = np.array([-NormalDist().inv_cdf(p) for p in np.exp(log_p[clear]).tolist()])
    slope, offset = np.polyfit(distance[clear], z, 1)
    rest = float(np.max(np.abs(slope * distance[clear] + offset - z)))
    if rest > 1e-2 or slope <= 0.0 or offset >= 0.0:
        return USUAL
    number = 1.0 - slope / offset
    levels = round(min(number, MOST))
    unsure = (number - 1.0) ** 2 * rest / slope
    fits = abs(number - levels) <= min(0.25, 0.01 + unsure)
    return levels if fits and levels >= 2 and levels not in MISTAKEN else USUAL
