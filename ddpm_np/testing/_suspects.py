"""What a step may hold besides x_t, its prediction and its own noise, found in what these leave over.

Each suspect looks at the steps that are not explained, shape (K,) of booleans, and returns another
model of the steps and a sentence, or None.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ddpm_np.testing._chain import Chain
from ddpm_np.testing._steps import BATCH, Fit, Model, Run, fit, implied_x0
from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing.protocol import Values

Steps: TypeAlias = NDArray[np.bool_]
SEARCHED = 128  # steps at a time


class Finding(NamedTuple):
    """Another model, what it means, and which row says so: "noise", "limits", "x_0" or "else"."""

    model: Model
    text: str
    row: str


@dataclass(frozen=True, eq=False)
class Scene:
    """A run, the steps it took, how they are explained so far, and where that fails."""

    run: Run
    chain: Chain
    index: TimeArray
    model: Model
    fit: Fit
    open: Steps

    @property
    def t(self) -> TimeArray:
        """The time from which each step starts."""
        return self.chain.t[self.index]


def other_noise(scene: Scene) -> Finding | None:
    """Noise that was meant for another step."""
    places = np.flatnonzero(scene.open)
    some = places[:: 1 + len(places) // SEARCHED]
    z, found = _source(scene, some)
    if not found.any():
        return None
    t, z = scene.t[some][found], z[found]
    rule, text = _which_noise(t, z)
    changed = scene.model.z.copy()
    if rule is not None:
        changed[places] = np.clip(rule(scene.t[places]), 0, len(scene.run.noise) - 1)
    for chunk in np.array_split(places, 1 + len(places) // SEARCHED) if rule is None else ():
        sources, known = _source(scene, chunk)
        changed[chunk[known]] = sources[known]
    return Finding(scene.model._replace(z=changed), text, "noise")


def _source(scene: Scene, places: TimeArray) -> tuple[TimeArray, Steps]:
    """Which noise is likest to what is left over in some steps, and whether it is like it at all."""
    run, noise = scene.run, scene.run.noise
    columns = (run.x[:-1], run.prediction, noise[scene.model.z])
    basis = np.linalg.qr(np.stack([column[places] for column in columns], axis=2))[0]
    explained = np.einsum("kni,sn->kis", basis, noise, optimize=True)
    own = np.sum(noise**2, axis=1) - np.sum(explained**2, axis=1)  # of the noise, beside the columns
    left = scene.fit.left[places]
    likeness = np.abs(left @ noise.T) / np.sqrt(np.maximum(own, 1e-6))
    return np.argmax(likeness, axis=1), np.max(likeness, axis=1) > 0.7 * np.linalg.norm(left, axis=1)


def _which_noise(t: TimeArray, z: TimeArray) -> tuple[Callable[[TimeArray], TimeArray] | None, str]:
    """The noise of a step as a function of its time, if there is one, and in words."""
    first, shift, total = int(z[0]), int(z[0] - t[0]), int(z[0] + t[0])
    if len(z) > 1 and np.all(z == first):
        text = f"noise[{first}] is used for more than one step: the same z again and again"
        return lambda time: np.full_like(time, first), text
    if np.all(z - t == shift):
        sign = "+" if shift > 0 else "-"
        return lambda time: time + shift, f"noise[t {sign} {abs(shift)}] is used for the step from t"
    if np.all(z + t == total):
        text = f"noise[{total} - t] is used for the step from t: the noise runs the other way"
        return lambda time: total - time, text
    some = ", ".join(
        f"noise[{b}] at t = {a}" for a, b in zip(t[:3].tolist(), z[:3].tolist(), strict=True)
    )
    return None, f"the z of another step is used: {some}"


def limited_next(scene: Scene) -> Finding | None:
    """x_s that stops at a limit."""
    edges = [edge for y in scene.run.x[1:][scene.open] if (edge := _edge(y))]
    if 2 * len(edges) < np.sum(scene.open):
        return None
    edge = float(np.median(edges))
    text = f"x_{{t-1}} is limited to [{-edge:.4g}, {edge:.4g}], not x_0"
    return Finding(scene.model._replace(edge=edge), text, "limits")


def _edge(y: Values) -> float:
    """The largest size of all, if several entries have it; else 0."""
    sizes = np.abs(y)
    largest = float(np.max(sizes))
    return largest if np.sum(sizes >= largest * (1.0 - 1e-6)) >= 3 else 0.0


def limited_prediction(scene: Scene) -> Finding | None:
    """A prediction that is limited, where x_0 should be."""
    for edge in sorted({1.0, scene.model.limits[1] if scene.model.limits else 1.0}):
        used = partial(_with_limited_prediction, edge)
        model = scene.model._replace(limits=None, used=used)
        if all(_explains(scene, model, place) for place in np.flatnonzero(scene.open)[:5].tolist()):
            return Finding(
                model, f"the prediction is limited to [-{edge:.4g}, {edge:.4g}], not x_0", "limits"
            )
    return None


def _with_limited_prediction(edge: float, run: Run) -> Run:
    return run._replace(prediction=np.clip(run.prediction, -edge, edge))


def shared_noise(scene: Scene) -> Finding | None:
    """The first example's noise, for the whole batch."""
    text = "the z of the first example is used for the whole batch"
    return Finding(scene.model._replace(used=_with_shared_noise), text, "noise")


def _with_shared_noise(run: Run) -> Run:
    each = run.noise.reshape(len(run.noise), BATCH, -1)
    return run._replace(noise=np.broadcast_to(each[:, :1], each.shape).reshape(run.noise.shape))


def limited_x0(scene: Scene) -> Finding | None:
    """x_0 that is limited, though it should not be, or elsewhere than was said."""
    of_x0 = scene.chain.posterior[1][scene.index]
    places = np.flatnonzero(scene.open)
    places = places[np.argsort(-of_x0[places], kind="stable")][:5]
    unit = scene.model.limits[1] if scene.model.limits else 1.0
    centres = (0.0, 0.5 * unit, -0.5 * unit)
    for place, factor, centre, share in itertools.product(places.tolist(), (0, 1), centres, (6, 16)):
        weight = (of_x0[place], scene.chain.slope[1][scene.index[place]])[factor]
        limits = _limits(scene, place, float(weight), centre, share)
        model = scene.model._replace(limits=limits)
        if limits and _explains(scene, model, place):
            text = f"x_0 is limited to [{limits[0]:.4g}, {limits[1]:.4g}]"
            return Finding(model, text, "limits")
    return None


def _limits(
    scene: Scene, place: int, weight: float, centre: float, share: int
) -> tuple[float, float] | None:
    """Where x_0 stops to count in one step, if it counts near a centre; None if it does not stop.

    One in ``share`` entries is taken to be near.
    """
    step, index, z = _alone(scene, place), scene.index[[place]], scene.model.z[[place]]
    x0 = implied_x0(step, scene.chain, index)[0]
    inside = np.argsort(np.abs(x0 - centre))[: len(x0) // share]
    near = step._replace(
        x=step.x[:, inside], prediction=step.prediction[:, inside], noise=step.noise[:, inside]
    )
    of = fit(near, scene.chain, index, Model(z)).of[0]
    terms = of[0] * step.x[0] + of[1] * step.prediction[0] + of[2] * step.noise[z[0]]
    change = (step.x[1] - terms) / weight
    effective, moved = x0 + change, np.abs(change) > 1e-3
    upper, lower = effective[moved & (change < 0.0)], effective[moved & (change > 0.0)]
    if upper.size + lower.size < 3:
        return None
    high = _rounded(float(np.median(upper))) if upper.size else math.inf
    low = _rounded(float(np.median(lower))) if lower.size else -math.inf
    return (low, high) if low < high else None


def _alone(scene: Scene, place: int) -> Run:
    """One step of a run as a run of its own."""
    run = scene.run
    return run._replace(
        told=run.told[[place]], x=run.x[[place, place + 1]], prediction=run.prediction[[place]]
    )


def _explains(scene: Scene, model: Model, place: int) -> bool:
    """Whether hardly anything is left over in one step."""
    step, z = _alone(scene, place), model.z[[place]]
    again = fit(step, scene.chain, scene.index[[place]], model._replace(z=z))
    return bool(again.size_left[0] <= 1e-2 * scene.fit.size_left[place])


def _rounded(value: float) -> float:
    """A limit that is a round number, if it looks like one."""
    near = float(f"{value:.4g}") if abs(value) > 1e-6 else 0.0
    return near if abs(value - near) <= max(1e-4 * abs(near), 1e-6) else value


def rescales(scene: Scene) -> bool:
    """Whether the result is the x_0 of the last prediction, scaled for each example into [-1, 1].

    That is dynamic thresholding; in steps before the last it cannot be told from its noise.
    """
    y = scene.run.x[-1].reshape(BATCH, -1)
    x0 = implied_x0(scene.run, scene.chain, scene.index)[-1].reshape(BATCH, -1)
    ratio = np.max(y / x0, axis=1, keepdims=True)
    right = np.abs(y - np.clip(ratio * x0, -1.0, 1.0)) <= 1e-4
    scaled = (ratio < 0.999) & (np.abs(y) < 0.999)
    return bool(np.all(right) and np.any(scaled) and np.all(ratio <= 1.001))


def added(text: str, extra: Callable[[Run], Values]) -> Callable[[Scene], Finding | None]:
    """A suspect that is one more term."""
    return lambda scene: Finding(scene.model._replace(extra=extra), text, "else")


def _before(values: Values) -> Values:
    """What there was one step earlier; zero at the first."""
    return np.concatenate([np.zeros_like(values[:1]), values[:-1]])


SUSPECTS: tuple[Callable[[Scene], Finding | None], ...] = (
    other_noise,
    shared_noise,
    limited_next,
    limited_prediction,
    limited_x0,
    added("a constant is added", lambda run: np.ones_like(run.prediction)),
    added("x_T is added", lambda run: run.x_T + np.zeros_like(run.prediction)),
    added(
        "the prediction of the step before is used too: a solver of more steps?",
        lambda run: _before(run.prediction),
    ),
    added("the x of the step before is used too", lambda run: _before(run.x[:-1])),
)
