"""Batches to train on: which examples, at which times, with which noise."""

import functools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ddpm_np._arrays import check_arrays
from ddpm_np._checks import check_integer, check_real, describe
from ddpm_np.randomness import TRAIN, generator

DRAWN_TOGETHER = 2**15
"""About how many values of noise are drawn at a time."""

Batch: TypeAlias = tuple[NDArray[Any], ...]
"""(x0, t, noise), on the host; for labelled data, (x0, t, noise, labels)."""


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
    generator takes longer than drawing a small batch from it.

    Parameters
    ----------
    data : NumPy array, shape (n, ...)
        float32 or float64: the dtype to train in.
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
        If data is not a real floating array, a number is out of range, or labels do not match data.
    """
    check_arrays(data=data)
    check_integer("T", T, 1)
    check_integer("batch_size", batch_size, 1)
    check_real("unlabelled", unlabelled, 0.0, 1.0, closed=True)
    if labels is not None and (labels.shape != data.shape[:1] or labels.dtype.kind not in "iu"):
        raise ValueError(
            f"labels must be integers of shape {data.shape[:1]}, one per example, got {describe(labels)}"
        )
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
    return batches(data, T, batch_size, seed)(step)
