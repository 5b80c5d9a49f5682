"""A training loss seen from inside: what it asks the network, and how it answers to predictions.

With generators in the same state it draws the same times and noise, so x_0 and -x_0 tell what x_t
owes to each, and the loss at a few predictions is a curve whose minimum is the target.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import to_host
from ddpm_np._checks import describe
from ddpm_np.testing._probes import DIMENSIONS
from ddpm_np.testing._subject import Subject, as_values
from ddpm_np.testing._truth import TimeArray
from ddpm_np.testing.protocol import Values

STEP = 8.0  # beyond a target's own size, so that an error grows linearly there if it ever does
FIRST, ALONE = 1000, 1100  # numbers of generators
MORE_THAN_ENOUGH, MOST_BATCHES = (
    26,
    30_000,
)  # batches for each time, if they have one for all; and in all
SMALL = 2  # not 1, as times may be drawn in pairs


class NotAskedOnce(Exception):
    """The network is asked more than once in one loss: nothing can be told of its training."""


class Call(NamedTuple):
    """One evaluation of the loss, shape () or (B,), and what the network was asked in it."""

    loss: Values
    x_t: Values
    t: TimeArray


class Draws(NamedTuple):
    """Examples of K batches of B: times (K, B), the rest (K, B, d).

    x_t = signal * x0 + noise

    If a batch has one time for all, ``alone`` has the times of many small batches besides.
    """

    t: TimeArray
    x0: Values
    signal: Values
    noise: Values
    loss: Values
    alone: TimeArray = np.zeros(0, dtype=np.int64)

    @property
    def shared(self) -> bool:
        """Whether all examples of a batch have one time, and not all batches the same."""
        return bool(np.all(self.t == self.t[:, :1]) and np.any(self.t != self.t[0, 0]))

    @property
    def times(self) -> TimeArray:
        """The times as often as they were drawn, shape (n,)."""
        return np.concatenate([self.t[:, 0], self.alone]) if self.shared else self.t.ravel()


class Curves(NamedTuple):
    """The loss of n examples as one entry of their prediction is moved, the others kept.

    ``values[:, i]`` belongs to the prediction ``base + (i - 2) * STEP``, or is NaN. The rest are the
    example's time, its x0 and eps at that entry, and the size of its batch.
    """

    t: TimeArray
    x0: Values
    eps: Values
    base: Values
    values: Values
    batch: int


Scaling: TypeAlias = Callable[[TimeArray, Values, Values], Values]
"""The eps of a batch: its times, the signal and the noise in x_t to noise over its coefficient."""

Answer: TypeAlias = Callable[[TimeArray, Values, Values], Values]
"""A prediction for a batch with these times, x0 and eps."""


def draw(subject: Subject, purpose: int, batches: int, size: int) -> Draws:
    """Look at batches without moving the prediction from 0; two calls each."""
    generators = range(purpose, purpose + batches)
    parts = [_pair(subject, generator, size) for generator in generators]
    return Draws(*(np.stack(part) for part in zip(*parts, strict=True)))


def draw_enough(subject: Subject) -> Draws:
    """So many examples that every time comes about 64 times, unless a batch has one time for all."""
    _check_repeatable(subject)
    T = subject.truth.T
    first = draw(subject, FIRST, 1, max(8192, 8 * T))
    if T > 1 and np.ptp(first.t) == 0:
        return draw(subject, FIRST, 32, 2048)._replace(alone=_times_alone(subject))
    others = draw(subject, FIRST + 1, 7, first.t.shape[1])
    drawn = Draws(*(np.concatenate(pair) for pair in zip(first, others, strict=True)))
    if np.array_equal(first.t, drawn.t[1:2]) and np.allclose(first.noise, drawn.noise[1:2]):
        raise ValueError(
            "loss(...) draws the same times and noise from every generator: does each call seed its own?"
        )
    return drawn


def curves_alone(subject: Subject, scaling: Scaling, batches: int) -> Curves:
    """Curves of the first example of small batches, the others being answered with 0; six calls each."""
    drawn = draw(subject, ALONE, batches, SMALL)
    place = np.arange(batches) % DIMENSIONS
    values = np.repeat(drawn.loss.reshape(batches, -1)[:, :1], 5, axis=1)
    for i, x0 in enumerate(drawn.x0):
        for j in (0, 1, 3, 4):
            moved = np.zeros((SMALL, DIMENSIONS))
            moved[0, place[i]] = (j - 2) * STEP
            values[i, j] = _call(subject, ALONE + i, x0, moved).loss.flat[0]
    batch = zip(drawn.t, drawn.signal, drawn.noise, strict=True)
    eps = np.array([scaling(*parts)[0] for parts in batch])
    entry = np.arange(batches), place
    return Curves(drawn.t[:, 0], drawn.x0[:, 0][entry], eps[entry], np.zeros(batches), values, SMALL)


def curves_together(subject: Subject, drawn: Draws, scaling: Scaling, answer: Answer) -> Curves:
    """Curves of all examples of the first batch at once, of a loss that returns one number for each."""
    t, x0 = drawn.t[0], drawn.x0[0]
    eps = scaling(t, drawn.signal[0], drawn.noise[0])
    base = answer(t, x0, eps)
    entry = np.arange(len(t)), np.arange(len(t)) % DIMENSIONS
    values = []
    for i in range(5):
        moved = base.copy()
        moved[entry] += (i - 2) * STEP
        values.append(_call(subject, FIRST, x0, moved).loss)
    return Curves(t, x0[entry], eps[entry], base[entry], np.stack(values, axis=1), len(t))


def curves_one_by_one(
    subject: Subject, drawn: Draws, scaling: Scaling, answer: Answer, times: TimeArray
) -> Curves:
    """Curves, without their far ends, of one example of the first batch for each of these times."""
    t, x0 = drawn.t[0], drawn.x0[0]
    eps = scaling(t, drawn.signal[0], drawn.noise[0])
    base = answer(t, x0, eps)
    chosen = np.array(
        [int(np.argmax(t == time)) for time in times.tolist() if time in t], dtype=np.int64
    )
    entry = chosen, chosen % DIMENSIONS
    values = np.full((len(chosen), 5), np.nan)
    values[:, 2] = _call(subject, FIRST, x0, base).loss
    for row, example in zip(values, chosen.tolist(), strict=True):
        for i in (1, 3):
            moved = base.copy()
            moved[example, example % DIMENSIONS] += (i - 2) * STEP
            row[i] = _call(subject, FIRST, x0, moved).loss
    return Curves(t[chosen], x0[entry], eps[entry], base[entry], values, len(t))


def share_of(subject: Subject, drawn: Draws, direction: Values) -> float:
    """How often a direction, shape (B, d), is in the target of the first batch, by least squares."""
    moved = (_call(subject, FIRST, drawn.x0[0], step * direction) for step in (-1.0, 0.0, 1.0))
    low, middle, high = (float(np.sum(call.loss)) for call in moved)
    bend = low + high - 2.0 * middle
    return 0.5 * (low - high) / bend if bend else 0.0


def only_their_sum_counts(subject: Subject, drawn: Draws) -> bool:
    """Whether two errors of one example make up for each other."""
    x0 = drawn.x0[0]
    once, opposite = np.zeros_like(x0), np.zeros_like(x0)
    once[0, 0] = STEP
    opposite[0, :2] = STEP, -STEP
    losses = (_call(subject, FIRST, x0, moved).loss for moved in (0.0 * x0, once, opposite))
    before, after, kept = (float(np.sum(loss)) for loss in losses)
    return abs(kept - before) <= 1e-6 * abs(after - before)


def _pair(
    subject: Subject, generator: int, size: int
) -> tuple[TimeArray, Values, Values, Values, Values]:
    x0 = _observations(subject, generator, size)
    plus, minus = (_call(subject, generator, sign * x0, np.zeros_like(x0)) for sign in (1.0, -1.0))
    if not np.array_equal(plus.t, minus.t):
        raise ValueError("loss(...) draws times that depend on x0")
    return plus.t, x0, (plus.x_t - minus.x_t) / (2.0 * x0), (plus.x_t + minus.x_t) / 2.0, plus.loss


def _observations(subject: Subject, generator: int, size: int) -> Values:
    """Entries of either sign between 1/2 and 1 in size, so that one can divide by them."""
    entries = subject.rng(FIRST + generator).uniform(-0.5, 0.5, (size, DIMENSIONS))
    return entries + np.where(entries < 0.0, -0.5, 0.5)


def _times_alone(subject: Subject) -> TimeArray:
    """The times of small batches: so many that one which may be drawn hardly stays away."""
    x0, nothing = _observations(subject, FIRST, SMALL), np.zeros((SMALL, DIMENSIONS))
    count = min(int(MORE_THAN_ENOUGH * subject.truth.T), MOST_BATCHES)
    # One generator goes on from batch to batch: to seed one takes longer than most losses.
    rng = subject.rng(ALONE)
    return np.array([_call_with(subject, rng, x0, nothing).t[0] for _ in range(count)])


def _check_repeatable(subject: Subject) -> None:
    x0 = _observations(subject, FIRST, 64)
    once, again = (_call(subject, FIRST, x0, np.zeros_like(x0)) for _ in range(2))
    if not (np.array_equal(once.t, again.t) and np.allclose(once.x_t, again.x_t, equal_nan=True)):
        raise ValueError(
            "loss(...) draws other times or noise when it is called again with a generator in the same"
            " state: all of them have to come from rng"
        )


def _call(subject: Subject, generator: int, x0: Values, prediction: Values) -> Call:
    """Evaluate the loss with a generator of this number and a network that returns the prediction."""
    return _call_with(subject, subject.rng(generator), x0, prediction)


def _call_with(subject: Subject, rng: np.random.Generator, x0: Values, prediction: Values) -> Call:
    asked: list[tuple[Values, TimeArray]] = []

    def predict(x_t: Values, t: NDArray[np.integer[Any]]) -> Values:
        asked.append((as_values(x_t, "the x_t that predict is asked for", x0.shape), _times(t, len(x0))))
        return prediction.copy()

    loss = subject.loss(predict, x0, rng)
    if not asked:
        raise ValueError("loss(...) never asks predict")
    if len(asked) > 1:
        raise NotAskedOnce(f"predict is asked {len(asked)} times in one loss: this cannot be judged")
    return Call(loss, *asked[0])


def _times(t: Any, size: int) -> TimeArray:
    """The times that the network is told, one for each example; one number stands for all."""
    if hasattr(t, "__dlpack__") and not isinstance(t, np.ndarray | np.generic):
        t = to_host(t)
    array = np.asarray(t)
    if not np.issubdtype(array.dtype, np.number) or not np.all(array == np.round(array)):
        raise TypeError(f"the t that predict is told must be integers, got {describe(array)}")
    if array.size not in (1, size):
        raise ValueError(f"the t that predict is told must have shape ({size},), got {array.shape}")
    return np.broadcast_to(array.reshape(-1), (size,)).astype(np.int64)
