"""A sampling loop seen from inside: what it asks the network, and what it makes of each answer.

The network answers at random, so that least squares of x_s on x_t, the prediction and z has one
solution, exact to rounding, at every step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ddpm_np._checks import describe
from ddpm_np.testing._chain import Chain, predicted
from ddpm_np.testing._probes import DIMENSIONS
from ddpm_np.testing._subject import Subject, as_values
from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing.protocol import Values

BATCH = 64
SPREAD = 1.5  # of x_0, in units of the limit: about half lies inside

Answer = Callable[[Values, int], Values]


class Run(NamedTuple):
    """One run of the loop; K questions, arrays flattened over the batch and its dimensions.

    Attributes
    ----------
    told : integer array, shape (K,)
        The t of each question.
    x : array, shape (K + 1, n)
        The x_t of each question, and the result.
    prediction : array, shape (K, n)
    x_T : array, shape (n,)
    noise : array, shape (T + 1, n)
    """

    told: TimeArray
    x: Values
    prediction: Values
    x_T: Values
    noise: Values


class Model(NamedTuple):
    """What a step is made of besides x_t and the prediction.

    Attributes
    ----------
    z : integer array, shape (K,)
        Which noise each step has.
    limits : pair of floats, optional
        Of x_0.
    edge : float, optional
        x_s is limited to [-edge, edge]: what lies there is left out.
    extra : callable, optional
        Anything else, made from a run.
    used : callable, optional
        What the loop makes of its answers and noise before it uses them, as another run.
    """

    z: TimeArray
    limits: tuple[float, float] | None = None
    edge: float | None = None
    extra: Callable[[Run], Values] | None = None
    used: Callable[[Run], Run] | None = None


class Fit(NamedTuple):
    """Least squares of each step.

    Attributes
    ----------
    of : array, shape (K, m)
        Coefficients of x_t, of the prediction, of z, and of the limited x_0 or what is extra.
    own : array, shape (K, m)
        Size of what each of them has to itself, uncorrelated with the others.
    effect : array, shape (K,)
        Size of the terms that add up to x_s: what its rounding is relative to.
    left : array, shape (K, n)
        What they do not explain.
    """

    of: Values
    own: Values
    effect: Values
    left: Values

    @property
    def size_left(self) -> Values:
        """Of what is not explained, shape (K,)."""
        return _size(self.left)


def record_runs(subject: Subject) -> list[Run]:
    """Run the loop with random eps, unless x_0 is limited, and with random x_0."""
    clip = subject.claims.clip
    rng = subject.rng(1)

    def with_x0(x_t: Values, t: int) -> Values:
        x0 = SPREAD * (clip or 1.0) * rng.standard_normal(x_t.shape)
        return predicted(subject.truth, subject.claims.target, x_t, t, x0)

    def with_eps(x_t: Values, t: int) -> Values:
        truth = subject.truth
        if truth.slope[t] == 0.0:
            return with_x0(x_t, t)
        x0 = (x_t - truth.sigma[t] * rng.standard_normal(x_t.shape)) / truth.slope[t]
        return predicted(truth, subject.claims.target, x_t, t, x0)

    answers = [with_x0] if clip else [with_eps, with_x0]
    return [_record(subject, answer, rng) for answer in answers]


def _record(subject: Subject, answer: Answer, rng: np.random.Generator) -> Run:
    """Run the loop once; nothing that it is given needs more than float32."""
    T, shape = subject.truth.T, (BATCH, DIMENSIONS)
    x_T = _single(rng.standard_normal(shape))
    noise = _single(rng.standard_normal((T + 1, *shape)))
    told: list[int] = []
    asked: list[Values] = []
    answers: list[Values] = []

    def predict(x_t: Values, t: int) -> Values:
        time = as_time(t)
        x = as_values(x_t, "the x_t that predict is asked for", shape)
        if not (told and told[-1] == time and np.array_equal(asked[-1], x)):
            told.append(time)
            asked.append(x)
            answers.append(_single(answer(x, min(max(time, 1), T))))
        return answers[-1].copy()

    result = subject.sample(predict, x_T, noise)
    if not told:
        raise ValueError("sample(...) never asks predict")
    x = np.array([*asked, result]).reshape(len(told) + 1, -1)
    return Run(
        np.array(told),
        x,
        np.array(answers).reshape(len(told), -1),
        x_T.ravel(),
        noise.reshape(T + 1, -1),
    )


def as_time(t: Any) -> int:
    """The one time that the network is told."""
    array = np.unique(as_values(t, "the t that predict is asked for"))
    if array.size != 1 or not np.all(array == np.round(array)):
        raise TypeError(f"the t that predict is asked for must be an integer, got {describe(t)}")
    return int(array[0])


def fit(run: Run, chain: Chain, index: TimeArray, model: Model) -> Fit:
    """Explain x_s of each step; the k-th question belongs to step ``index[k]`` of the chain."""
    run = model.used(run) if model.used else run
    x, p, y = run.x[:-1], run.prediction, run.x[1:]
    columns = [x, p, run.noise[model.z]]
    x0 = implied_x0(run, chain, index)
    if model.limits:
        columns.append(np.clip(x0, *model.limits))
    if model.extra:
        columns.append(model.extra(run))
    kept = np.ones_like(y) if model.edge is None else 1.0 * (np.abs(y) < model.edge * (1.0 - 1e-6))
    of, own, left = _least_squares(np.stack([kept * column for column in columns], axis=2), kept * y)
    terms = chain.largest_terms()
    floor = np.zeros_like(of)
    floor[:, 0], floor[:, 1] = terms.of_x[index], terms.of_p[index]
    sizes = np.stack([_size(column) for column in columns], axis=1)
    if model.limits:  # x_0 itself is as uncertain as the larger of its terms
        inside = chain.x0.of_x[index, None] * x, chain.x0.of_p[index, None] * p
        sizes[:, 3] = _size(inside[0]) + _size(inside[1])
    effect = np.sum(np.maximum(np.abs(of), floor) * sizes, axis=1)
    return Fit(of, own, effect, left)


def implied_x0(run: Run, chain: Chain, index: TimeArray) -> Values:
    """The x_0 of each prediction, shape (K, n)."""
    return chain.x0.of_x[index, None] * run.x[:-1] + chain.x0.of_p[index, None] * run.prediction


def _least_squares(columns: Values, y: Values) -> tuple[Values, Values, Values]:
    """Coefficients (K, m), the size of what each column has to itself, and what is left over."""
    norms = np.sqrt(np.mean(columns**2, axis=1))
    empty = norms == 0.0
    norms[empty] = 1.0
    q, r = np.linalg.qr(columns / norms[:, None, :])
    q *= ~empty[:, None, :]
    diagonal = np.einsum("kii->ki", r)
    diagonal[diagonal == 0.0] = 1e-150
    shares = np.einsum("knj,kn->kj", q, y)
    own = norms / (np.sqrt(y.shape[1]) * np.linalg.norm(np.linalg.inv(r), axis=2))
    left = y - np.einsum("knj,kj->kn", q, shares)
    return np.linalg.solve(r, shares[:, :, None])[:, :, 0] / norms, own, left


def _size(values: Values) -> Values:
    return np.sqrt(np.mean(values**2, axis=-1))


def _single(values: Values) -> NDArray[np.float64]:
    return values.astype(np.float32).astype(np.float64)
