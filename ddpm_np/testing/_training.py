"""Checks of training, Ho Algorithm 1, from the loss alone: times, x_t, target and weight."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import Table
from ddpm_np.targets import TARGETS, Target
from ddpm_np.testing import _laws, _seen
from ddpm_np.testing._batches import (
    SMALL,
    Curves,
    Draws,
    NotAskedOnce,
    curves_alone,
    curves_one_by_one,
    curves_together,
    draw_enough,
    only_their_sum_counts,
    share_of,
)
from ddpm_np.testing._comparison import Comparison
from ddpm_np.testing._minima import OTHER, SQUARED, Minima, kind_of, minima
from ddpm_np.testing._probes import DIMENSIONS
from ddpm_np.testing._rows import Check, Identity, Outcome, judge, unmeasured
from ddpm_np.testing._subject import Subject
from ddpm_np.testing._targets import slips, targets
from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing._variances import usual_variances, variance_choices
from ddpm_np.testing._weights import KnownWeight, recognise_weight, usual_weights, weight_limit
from ddpm_np.testing.protocol import Values

UNKNOWN = "none of the known weights"
NO_EFFECT = "the loss does not depend on what predict returns"
NO_MINIMUM = "the loss is linear in the error: it is not squared, and has no minimum"
SUMMED = "errors are summed before they are squared, so that they make up for each other"


def training(subject: Subject) -> list[Outcome]:
    """One look at the loss for all rows."""
    try:
        drawn = draw_enough(subject)
    except NotAskedOnce as error:
        return [unmeasured("remark", str(error))] * len(IDENTITIES)
    text, times = _seen.origin(subject.truth, drawn)
    found = _seen.signal(subject, drawn, text, times)
    signal = judge(found, subject.truth, subject.precision(("loss",)))
    if len(found.times) == 0:
        signal = unmeasured("remark", _seen.NO_TIMES)
    law, independence, coefficient = _seen.noise(subject.truth, drawn, times)
    complete, uniform = _seen.times(subject, drawn)
    scene = Scene(subject, drawn, coefficient, _seen.NOT_UNIFORM not in uniform.explanation)
    return [complete, uniform, signal, law, independence, *target_and_weight(scene)]


@dataclass(frozen=True, eq=False)
class Scene:
    """What was drawn, the coefficient that the noise in x_t has, and whether t is uniform."""

    subject: Subject
    drawn: Draws
    coefficient: Table
    uniform: bool

    @property
    def announced(self) -> Target:
        """What the network is said to predict."""
        return self.subject.claims.target

    def eps(self, t: TimeArray, signal: Values, noise: Values) -> Values:
        """The noise of a batch before it was scaled; 0 where it was scaled by 0."""
        scale = self.coefficient[_seen.made_at(self.subject.truth, signal, t)[1]][:, None]
        return np.divide(noise, scale, out=np.zeros_like(noise), where=scale > 0.0)

    def named(self, t: TimeArray, x0: Values, eps: Values) -> dict[str, Values]:
        """What a network may be trained to predict here, the announced target first."""
        truth = self.subject.truth
        t = np.clip(t, 1, truth.T).reshape(-1, *[1] * (x0.ndim - 1))
        with np.errstate(all="ignore"):
            right = targets(truth, t, x0, eps)[self.announced]
            wrong = slips(truth, self.announced, t, x0, eps)
        found = {self.announced: right, "the sign is wrong": -right, **wrong}
        return {text: np.nan_to_num(values, posinf=0.0, neginf=0.0) for text, values in found.items()}

    def name_of(self, target: Target) -> str:
        """Its name among those of ``named``."""
        return target if target == self.announced else f"the target is {target}, not {self.announced}"

    def curves(self) -> Curves:
        """Of single examples, or of a whole batch if the loss has one number for each of them."""
        if self.drawn.shared or self.drawn.loss.ndim == 1:
            return curves_alone(self.subject, self.eps, 32 if self.drawn.shared else 16)
        return curves_together(
            self.subject, self.drawn, self.eps, lambda *batch: self.named(*batch)[self.announced]
        )

    def curves_at_all_times(self, found: str) -> Curves:
        """Of about forty times; the other examples are answered with what they want to hear."""
        T = self.subject.truth.T
        times = np.union1d(self.subject.times, np.linspace(1, T, min(T, 30)).astype(np.int64))
        return curves_one_by_one(
            self.subject, self.drawn, self.eps, lambda *batch: self.named(*batch)[found], times
        )


def target_and_weight(scene: Scene) -> list[Outcome]:
    """What the loss wants the network to say, and how much each time counts."""
    curves = scene.curves()
    kind = kind_of(curves)
    if kind == OTHER:
        return [unmeasured("remark", f"{OTHER}: this cannot be judged")] * 2
    found = minima(curves, kind)
    if len(found.place) == 0:
        return [unmeasured("FAILS", NO_MINIMUM if _moves(curves) else NO_EFFECT)] * 2
    found = found.where(_known(scene, found))
    if len(found.place) == 0:
        return [unmeasured("remark", _seen.NO_TIMES)] * 2
    all_found, name = found, _explanation(scene, found)
    if name and kind == SQUARED and curves.batch == SMALL and not scene.drawn.shared:
        curves = scene.curves_at_all_times(name)
        found = minima(curves, kind)
        found = found.where(_known(scene, found))
        all_found = all_found.joined(found)
    hint = "" if name else _why_elsewhere(scene, found)
    precision = scene.subject.precision(("loss",))
    target = judge(_target(scene, all_found, hint), scene.subject.truth, precision)
    trained = next((target for target in TARGETS if name == scene.name_of(target)), None)
    if kind != SQUARED:
        return [target, unmeasured("remark", f"{kind}: its weight is not judged")]
    if np.all(found.weight < 0.0):
        text = "the sign of the loss is wrong: it is largest at the target"
        return [target, unmeasured("FAILS", text)]
    if trained is None:
        return [target, unmeasured("remark", "cannot be judged for this target")]
    return [target, _weight(scene, trained, found, curves.batch)]


def _limit(scene: Scene, found: Minima) -> tuple[Values, Values]:
    """By how much rounding of x_t is amplified in its eps, and what float32 tables explain."""
    truth, t = scene.subject.truth, np.clip(found.t, 1, scene.subject.truth.T)
    amplified = {"eps": 1.0 / truth.sigma[t], "v": truth.slope[t] / truth.sigma[t]}
    loss = 1.0 + amplified.get(scene.announced, np.zeros(len(t)))
    tolerance = truth.tolerance(t, scene.subject.claims.dtype) * loss * found.cancellation
    return loss, np.maximum(tolerance, truth.imprecision(t))


def _explanation(scene: Scene, found: Minima) -> str:
    """The name of the target that all minima are at, or an empty one."""
    limit = _limit(scene, found)[1]
    for text, values in scene.named(found.t, found.x0, found.eps).items():
        if np.all(np.abs(found.place - values) <= limit * np.maximum(np.abs(values), 1.0)):
            return text
    return ""


def _known(scene: Scene, found: Minima) -> NDArray[np.bool_]:
    """Where t is in 1..T, and eps is known: x_t at t = 0 has none."""
    inside = (found.t >= 1) & (found.t <= scene.subject.truth.T)
    return inside & ((found.eps != 0.0) | np.all(found.eps == 0.0))


def _target(scene: Scene, found: Minima, hint: str) -> Comparison:
    """The minima of the loss against the announced target."""
    named = scene.named(found.t, found.x0, found.eps)
    expected = named.pop(scene.announced)
    return Comparison(
        found.t,
        found.place,
        expected,
        scale=np.maximum(np.abs(expected), 1.0),
        loss=_limit(scene, found)[0],
        cancellation=found.cancellation,
        candidates=named,
        hint=hint,
    )


def _moves(curves: Curves) -> bool:
    """Whether the loss depends on the prediction at all."""
    near = curves.values[:, 1:4]
    return bool(np.any(np.ptp(near, axis=1) > 1e-7 * np.max(np.abs(near), axis=1)))


def _why_elsewhere(scene: Scene, found: Minima) -> str:
    """A sentence on minima that are at no known target."""
    summed = only_their_sum_counts(scene.subject, scene.drawn)
    return SUMMED if summed else _drawn_anew(scene, found)


def _drawn_anew(scene: Scene, found: Minima) -> str:
    """A sentence if what remains of the target looks like noise that is not in x_t."""
    truth, drawn, t = scene.subject.truth, scene.drawn, found.t
    with np.errstate(all="ignore"):
        v_noise = (found.place + truth.sigma[t] * found.x0) / truth.slope[t]
    left = {"eps": found.place, "v": v_noise}.get(scene.announced)
    if left is None or len(left) < 8 or _laws.worst(_laws.normal(left)).excess > 1.0:
        return ""
    eps = scene.eps(drawn.t[0], drawn.signal[0], drawn.noise[0])
    strangers = [eps] if scene.announced == "v" else [eps, drawn.x0[0]]
    if any(abs(share_of(scene.subject, drawn, direction)) > 0.1 for direction in strangers):
        return ""
    return "the noise in the target is drawn anew: it is not that in x_t"


def _weight(scene: Scene, target: Target, found: Minima, batch: int) -> Outcome:
    """The weight as a function of t, by name."""
    truth = scene.subject.truth
    t, place = np.unique(found.t, return_inverse=True)
    weights = np.array([np.median(found.weight[place == i]) for i in range(len(t))])
    if np.any(weights < 0.0):
        return unmeasured("FAILS", f"negative at t = {t[np.argmin(weights)]}")
    if np.any(np.abs(found.weight / weights[place] - 1.0) > 1e-2):
        return unmeasured("remark", "not a function of t alone: this cannot be judged")
    variances = {**usual_variances(truth), **variance_choices(scene.subject)}
    known = recognise_weight(truth, target, t, weights, variances)
    if known is None:
        return unmeasured("remark", _unknown(scene, target, t, weights, variances))
    with np.errstate(all="ignore"):
        error = np.abs(weights / (known.factor * known.values) - 1.0)
    excess = np.where(known.values > 0.0, error / weight_limit(truth, t), 0.0)
    worst = int(np.argmax(excess))
    numbers = float(error[worst]), float(weight_limit(truth, t)[worst])
    after = "" if scene.uniform else f"; {_seen.NOT_UNIFORM}, and no 1 / (T p(t)) makes up for it"
    text = f"{known.text}{_factor(known, batch, scene)}{after}"
    return Outcome(*numbers, "holds" if known.own else "FAILS", text)


def _unknown(
    scene: Scene, target: Target, t: TimeArray, weights: Values, variances: Mapping[str, Table]
) -> str:
    """What can be said of a weight that as a whole is none of the known ones."""
    truth, later = scene.subject.truth, t >= 2
    if later.sum() > 1 and not later.all():
        known = recognise_weight(truth, target, t[later], weights[later], variances)
        if known is not None and known.own:
            return f"{known.text}, but another weight at t = 1"
    if not scene.uniform:
        for text, values in usual_weights(truth, target, t, variances).items():
            with np.errstate(all="ignore"):
                share = np.exp(np.interp(np.arange(1, truth.T + 1), t, np.log(values / weights)))
                drawn = _laws.uniform_times(scene.drawn.times, share / share.sum())
            if drawn.excess <= 1.0:
                return f"{text}, over T p(t): it makes up for t that is not uniform"
    return UNKNOWN


def _factor(known: KnownWeight, batch: int, scene: Scene) -> str:
    """The constant in front of the weight, in words if it is a usual one."""
    T, d = scene.subject.truth.T, DIMENSIONS
    one_number = scene.drawn.loss.ndim == 1
    examples = batch if one_number else 1
    over = " and examples" if one_number else ""
    means = {f"mean over dimensions{over}": 1.0 / (d * examples)}
    if one_number:
        means["sum over dimensions, mean over examples"] = 1.0 / examples
    means[f"sum over dimensions{over}"] = 1.0
    for text, mean in means.items():
        for before, factor in {"": 1.0, "1/2 times, ": 0.5, "T times, ": T}.items():
            if abs(known.factor / (factor * mean) - 1.0) < 1e-3:
                return f"; {before}{text}"
    return f"; times {known.factor:.4g}"


IDENTITIES = (
    Identity("loss: t from 1 to T, none left out", "Algorithm 1"),
    Identity("loss: t uniform, one for each example", "Algorithm 1"),
    Identity("loss: coefficient of x0 in x_t", "M2 (27)"),
    Identity("loss: law of the noise in x_t", "M2 (27)"),
    Identity("loss: noise is new for every entry", "Algorithm 1"),
    Identity("loss: target of the network", "Algorithm 1"),
    Identity("loss: weight as a function of t", "M2 (35)"),
)
CHECKS = (Check(("loss",), training, IDENTITIES),)
