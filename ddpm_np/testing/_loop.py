"""A sampling loop and how its steps are explained."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from ddpm_np.testing._chain import Chain, Pair
from ddpm_np.testing._loop_slips import wrong_readings
from ddpm_np.testing._steps import Fit, Model, Run, fit
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._suspects import SUSPECTS, Finding, Scene, Steps, rescales
from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing.protocol import Values

RESCALED = "x_0 is rescaled for each example: dynamic thresholding?"


@dataclass(frozen=True, eq=False)
class Loop:
    """The runs of a loop, the steps that it took, and how they are explained.

    Attributes
    ----------
    index : integer array, shape (K,)
        The step of the chain that each question belongs to.
    tolerance : array, shape (K,)
        What rounding explains of x_s, relative to its terms.
    single : bool
        Whether all that it computes is held by float32.
    """

    subject: Subject
    runs: list[Run]
    chain: Chain
    index: TimeArray
    model: Model
    fits: list[Fit]
    tolerance: Values
    single: bool

    @classmethod
    def of(cls, subject: Subject, runs: list[Run], chain: Chain, index: TimeArray) -> "Loop":
        """The loop, if its steps are what it claims."""
        clip, single = subject.claims.clip, is_single(runs[-1].x[1:])
        model = Model(chain.t[index], (-clip, clip) if clip else None)
        fits = [fit(run, chain, index, model) for run in runs]
        dtype = "float32" if single else subject.claims.dtype
        ends = chain.t[index], np.minimum(chain.s[index] + 1, chain.t[index])
        tolerance = np.max([subject.truth.tolerance(t, dtype) for t in ends], axis=0)
        return cls(subject, runs, chain, index, model, fits, tolerance, single)

    def with_model(self, model: Model) -> "Loop":
        """The same, explained by another model."""
        fits = [fit(run, self.chain, self.index, model) for run in self.runs]
        return replace(self, model=model, fits=fits)

    @property
    def t(self) -> TimeArray:
        """The time from which each step starts."""
        return self.chain.t[self.index]

    @property
    def seen(self) -> Chain:
        """The chain in terms of x_t and what stands for the prediction: x_0 itself, if it is limited."""
        if self.model.limits is None:
            return self.chain
        (slope, _), (sigma, _) = self.chain.slope, self.chain.sigma
        one = np.ones_like(slope)
        return replace(self.chain, x0=Pair(0.0 * one, one), eps=Pair(1.0 / sigma, -slope / sigma))

    @property
    def expected(self) -> Pair:
        """Coefficients of x_t and of the prediction, or of the limited x_0, at each question."""
        pair = self.seen.expected
        return Pair(pair.of_x[self.index], pair.of_p[self.index])

    @property
    def finite(self) -> Steps:
        """The steps at which all is finite, and the prediction means something."""
        finite = np.all(np.isfinite(self.runs[-1].x), axis=1)
        return finite[:-1] & finite[1:] & np.isfinite(self.chain.x0.of_x[self.index])

    @cached_property
    def excess(self) -> Values:
        """What is not explained in each run, relative to what rounding explains, shape (runs, K)."""
        return np.array([f.size_left / (self.tolerance * f.effect) for f in self.fits])

    @property
    def open(self) -> Steps:
        """The steps that are not explained in the run with random x_0."""
        return self.finite & ~(self.excess[-1] <= 1.0)

    @property
    def explained(self) -> Steps:
        """The steps that are explained in some run, whose coefficients mean something."""
        return self.finite & np.any(self.excess <= 1.0, axis=0)

    def read(self, column: int, steps: Steps) -> "Reading":
        """A coefficient at these steps, which have to be explained."""
        of = np.array([found.of[:, column] for found in self.fits])
        error = np.array([found.effect / found.own[:, column] for found in self.fits])
        error = np.where((self.excess <= 1.0) & np.isfinite(error), error, np.inf)
        best, place = np.argmin(error, axis=0), np.arange(error.shape[1])
        return Reading(of[best, place][steps], error[best, place][steps])

    def distance(self) -> float:
        """How far its coefficients are from what they should be, to compare readings of its times."""
        of, terms = self.fits[-1].of, self.chain.largest_terms()
        x = np.abs(of[:, 0] - self.expected.of_x) / terms.of_x[self.index]
        p = np.abs(self.of_p()[-1] - self.expected.of_p) / self.seen.largest_terms().of_p[self.index]
        return float(np.median(np.nan_to_num(x + p, nan=np.inf)))

    def of_p(self) -> list[Values]:
        """Coefficients of the prediction, or of the limited x_0, in each run."""
        return [found.of[:, 1 if self.model.limits is None else 3] for found in self.fits]


def is_single(values: Values) -> bool:
    """Whether float32 holds all these numbers."""
    with np.errstate(all="ignore"):
        return bool(np.all(values == values.astype(np.float32)))


class Reading(NamedTuple):
    """A coefficient at some steps, from the run that shows it best.

    ``error`` times the tolerance is what rounding explains, an absolute error.
    """

    value: Values
    error: Values


def explain(loop: Loop) -> tuple[Loop, list[Finding]]:
    """What the steps hold besides what they should, as far as it can be found."""
    findings: list[Finding] = []
    if loop.model.limits and not np.any(_limited(loop) | loop.open):
        text = "clip is announced, but x_0 is not limited"
        loop = loop.with_model(loop.model._replace(limits=None))
        findings.append(Finding(loop.model, text, "limits"))
    for suspect in SUSPECTS:
        scene = _scene(loop)
        finding = suspect(scene) if scene.open.any() else None
        if finding is None:
            continue
        other = loop.with_model(finding.model)
        if _better(other, loop):
            loop = other
            findings.append(finding)
    return _misread(loop, findings)


def _misread(loop: Loop, findings: list[Finding]) -> tuple[Loop, list[Finding]]:
    """What is limited may be another x_0 than it should be."""
    with np.errstate(all="ignore"):
        wrong = wrong_readings(loop.chain, loop.subject.truth, loop.subject.claims)
    for text, (x0, eps) in wrong.items() if loop.model.limits and loop.open.any() else ():
        other = replace(loop, chain=replace(loop.chain, x0=x0, eps=eps)).with_model(loop.model)
        if _better(other, loop):
            return other, [*findings, Finding(loop.model, text, "x_0")]
    if loop.open.any() and rescales(_scene(loop)):
        findings.append(Finding(loop.model, RESCALED, "limits"))
    return loop, findings


def _better(other: Loop, loop: Loop) -> bool:
    """Whether most of what was open is explained, and nothing that was explained is open."""
    before, after = _but_last(loop.open), _but_last(other.open)
    return bool(2 * np.sum(before & ~after) >= np.sum(before) and not np.any(after & ~before))


def _scene(loop: Loop) -> Scene:
    return Scene(loop.runs[-1], loop.chain, loop.index, loop.model, loop.fits[-1], _but_last(loop.open))


def _limited(loop: Loop) -> Steps:
    """The steps at which the limited x_0 counts."""
    found, expected = loop.of_p()[-1], loop.expected.of_p
    return loop.finite & (np.abs(found) > 0.5 * np.abs(expected))


def _but_last(steps: Steps) -> Steps:
    """What is done to the result is another matter."""
    return np.append(steps[:-1], False)
