"""What code under test draws, in place of its own random numbers.

The checker hands over noise as arrays, or a generator; most code calls ``randn`` itself. An adapter
redirects these calls for as long as it runs that code::

    def sample(self, predict, x_T, noise):
        with numpy_draws(loop_draws(x_T, noise)):
            return my_sampler(predict, x_T.shape)

    def loss(self, predict, x0, rng):
        with numpy_draws(from_generator(rng)):
            return my_loss(predict, x0)
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ddpm_np.testing.protocol import Values

Shape: TypeAlias = tuple[int, ...]


class DrawError(RuntimeError):
    """The code draws something that an adapter was not told to expect."""


@dataclass(frozen=True)
class Draws:
    """Where random numbers come from, whatever function the code calls.

    Attributes
    ----------
    normal, uniform : callable shape -> float64 array
        Standard normal; uniform on [0, 1).
    integers : callable (low, high, shape) -> int64 array
        low <= number < high.
    permutation : callable n -> int64 array
        Of 0..n-1.
    """

    normal: Callable[[Shape], Values]
    uniform: Callable[[Shape], Values]
    integers: Callable[[int, int, Shape], NDArray[np.int64]]
    permutation: Callable[[int], NDArray[np.int64]]


def from_generator(rng: np.random.Generator) -> Draws:
    """Draw everything from a generator, as ``loss`` is to do."""
    return Draws(
        normal=rng.standard_normal,
        uniform=rng.random,
        integers=lambda low, high, shape: rng.integers(low, high, shape),
        permutation=rng.permutation,
    )


def from_arrays(arrays: Iterable[Values]) -> Draws:
    """Hand these arrays out as normal draws, one after the other, in whatever shape is asked for.

    Raises
    ------
    DrawError
        While the code runs: if it draws more often, another number of values, or from another law.
    """
    left = iter(arrays)

    def normal(shape: Shape) -> Values:
        found = next(left, None)
        if found is None:
            raise DrawError("noise is drawn once more than there are steps")
        if math.prod(shape) != found.size:
            raise DrawError(
                f"noise of shape {shape} is drawn, where {found.size} numbers are needed, "
                "one for each entry of the batch"
            )
        return found.reshape(shape).copy()

    return Draws(
        normal, _unexpected("uniform numbers"), _unexpected("integers"), _unexpected("an order")
    )


def loop_draws(x_T: Values | None, noise: Values, times: Sequence[int] | None = None) -> Draws:
    """What a sampling loop draws, in its order: x_T, then z for the step from each t, T first.

    Parameters
    ----------
    x_T : array or None
        None if the loop is given x_T, and does not draw it.
    noise : array, shape (T + 1, ...)
        As ``sample`` gets it.
    times : sequence of int, optional
        The times that the loop visits, increasing; all of 1..T.
    """
    visited = range(1, len(noise)) if times is None else times

    def in_order() -> Iterator[Values]:
        if x_T is not None:
            yield x_T
        for t in reversed(visited):
            yield noise[t]

    return from_arrays(in_order())


def _unexpected(what: str) -> Callable[..., Any]:
    def refuse(*_: object) -> Any:
        raise DrawError(f"{what} are drawn, where only normal noise is expected")

    return refuse
