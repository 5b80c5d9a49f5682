"""Batches to train on: which examples, at which times, with which noise."""

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import check_arrays, check_finite
from ddpm_np._checks import check_integer, check_real, describe
from ddpm_np.randomness import TRAIN, generator

STREAM = 1
"""Version of what batches draw: every change that gives a run other batches raises it."""
DRAWN_TOGETHER = 2**15
"""About how many values of noise are drawn at a time; part of the stream."""
LEAST_RMS, MOST_RMS = 0.2, 5.0
"""Root mean squares of the data, and of their largest feature, beyond which a warning is issued.

The usual schedules begin with noise of 0.01 and keep 0.006 of x_0: about a hundredth of data of size 1,
but a twentieth, at one end or the other, of data five times as small or large. Levels 0..16 or 0..255
are beyond these bounds, images on [-1, 1] or [0, 1] are not.
"""
MOST_RATIO = 50.0
"""Root mean square of the largest feature over that of the smallest which is not 0.

Beyond it, noise of 0.01 is more than half of the smallest where the largest is 1.
"""

Batch: TypeAlias = tuple[NDArray[Any], ...]
"""(x0, t, noise), on the host; for labelled data, (x0, t, noise, labels)."""


class DataScaleWarning(UserWarning):
    """The data, or some of their features, are far larger or smaller than the noise of diffusion."""


def batches(
    data: NDArray[Any],
    T: int,
    batch_size: int,
    seed: int,
    labels: NDArray[np.integer[Any]] | None = None,
    unlabelled: float = 0.0,
) -> Callable[[int], Batch]:
    """Return the batches of a run as a function of the step, counted from 0.

    Examples are drawn with replacement, times uniformly on 1..T, noise from N(0, I). A batch is a
    pure function of (seed, step). Those of neighbouring steps are drawn together, since making a
    generator takes longer than drawing a small batch from it. Data far from a root mean square of 1,
    the noise's own, get a :class:`DataScaleWarning`.

    Parameters
    ----------
    data : NumPy array, shape (n, ...)
        Finite, float32 or float64: the dtype to train in. The last axis holds the features: the
        coordinates of points, the channels of images.
    T, batch_size, seed : int
    labels : NumPy integer array, shape (n,), or None
        Classes of the data, from 1; 0 means no class.
    unlabelled : float
        Probability in [0, 1] that a label is replaced by 0, so that the network also learns to predict
        without one, for classifier-free guidance, Ho & Salimans 2022.

    Returns
    -------
    callable step -> (x0, t, noise) or (x0, t, noise, labels)
        Shapes (batch_size, ...), (batch_size,), (batch_size, ...), (batch_size,).

    Raises
    ------
    TypeError, ValueError
        If data is not a finite floating array, a number is out of range, or labels do not match data.
    """
    check_arrays(data=data)
    if not isinstance(data, np.ndarray):
        raise TypeError(f"data must be a NumPy array, got {describe(data)}")
    check_finite("data", data)
    T = check_integer("T", T, 1)
    batch_size = check_integer("batch_size", batch_size, 1)
    unlabelled = check_real("unlabelled", unlabelled, 0.0, 1.0, closed=True)
    if labels is not None and not _are_labels(labels, len(data)):
        raise ValueError(
            f"labels must be integers of shape {data.shape[:1]}, one per example, got {describe(labels)}"
        )
    _warn_of_scale(data)
    together = max(1, DRAWN_TOGETHER // (batch_size * math.prod(data.shape[1:])))

    @functools.lru_cache(maxsize=1)
    def draw(block: int) -> Batch:
        rng = generator(seed, TRAIN, block)
        rows = rng.integers(0, len(data), (together, batch_size))
        x0 = data[rows]
        t = rng.integers(1, T + 1, (together, batch_size))
        drawn: Batch = (x0, t, rng.standard_normal(x0.shape, dtype=x0.dtype.type))
        if labels is not None:
            kept = rng.random((together, batch_size)) >= unlabelled
            drawn += (np.where(kept, labels[rows], 0),)
        return drawn

    def batch(step: int) -> Batch:
        block, place = divmod(step, together)
        return tuple(values[place].copy() for values in draw(block))  # callers may write to it

    return batch


def draw_batch(data: NDArray[Any], T: int, batch_size: int, seed: int, step: int) -> Batch:
    """Draw the batch of one step; parameters and errors as :func:`batches`."""
    return batches(data, T, batch_size, seed)(check_integer("step", step, 0, 2**63))


def _are_labels(labels: object, count: int) -> bool:
    return type(labels) is np.ndarray and labels.shape == (count,) and labels.dtype.kind in "iu"


def _warn_of_scale(data: NDArray[Any]) -> None:
    """Issue a :class:`DataScaleWarning` where the caller of :func:`batches` is, if data need it."""
    each = _feature_rms(data)
    rms, high = math.sqrt(np.mean(each**2)), float(np.max(each))
    low = float(np.min(each, where=each > 0.0, initial=high))
    if rms < LEAST_RMS or high > MOST_RMS or high > MOST_RATIO * low:
        spread = f", {low:.3g} to {high:.3g} in their {each.size} features" if each.size > 1 else ""
        warnings.warn(
            f"data have a root mean square of {rms:.3g}{spread}, far from that of the noise, 1: "
            "standardise each feature, or scale them to [-1, 1]",
            DataScaleWarning,
            stacklevel=3,
        )


@np.errstate(over="ignore")
def _feature_rms(data: NDArray[Any]) -> NDArray[np.float64]:
    """Root mean square of each feature, a part of the examples at a time."""
    others = tuple(range(max(1, data.ndim - 1)))
    squares = [
        np.sum(np.square(part, dtype=np.float64), axis=others)
        for part in np.array_split(data, -(-data.size // 2**20))
    ]
    total = np.atleast_1d(np.sum(squares, axis=0))
    return np.sqrt(total / (data.size // total.size))
