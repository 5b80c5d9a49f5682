"""Code that draws from ``numpy.random``: its functions, or generators that it makes itself."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np

from ddpm_np.testing.adapters.draws import Draws, Shape
from ddpm_np.testing.protocol import Values


class RedirectedGenerator:
    """A generator as far as diffusion code uses one: give it to code that takes an ``rng``."""

    def __init__(self, draws: Draws) -> None:
        self._draws = draws

    def standard_normal(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """As ``numpy.random.Generator.standard_normal``."""
        drawn = _asked(self._draws.normal(_shape(size) if out is None else out.shape), size, out)
        return drawn if out is not None else np.asarray(drawn, dtype=dtype)[()]

    def normal(self, loc: Any = 0.0, scale: Any = 1.0, size: Any = None) -> Any:
        """As ``numpy.random.Generator.normal``."""
        if size is None:
            size = np.broadcast_shapes(np.shape(loc), np.shape(scale))
        return loc + scale * self._draws.normal(_shape(size))

    def random(self, size: Any = None, dtype: Any = np.float64, out: Any = None) -> Any:
        """As ``numpy.random.Generator.random``."""
        drawn = _asked(self._draws.uniform(_shape(size) if out is None else out.shape), size, out)
        return drawn if out is not None else np.asarray(drawn, dtype=dtype)[()]

    def uniform(self, low: Any = 0.0, high: Any = 1.0, size: Any = None) -> Any:
        """As ``numpy.random.Generator.uniform``."""
        if size is None:
            size = np.broadcast_shapes(np.shape(low), np.shape(high))
        return low + (high - low) * self._draws.uniform(_shape(size))

    def integers(
        self, low: int, high: Any = None, size: Any = None, dtype: Any = np.int64, endpoint: bool = False
    ) -> Any:
        """As ``numpy.random.Generator.integers``."""
        low, high = (0, low) if high is None else (low, high)
        return self._draws.integers(low, high + endpoint, _shape(size)).astype(dtype)[()]

    def permutation(self, x: Any) -> Any:
        """As ``numpy.random.Generator.permutation``."""
        return (
            self._draws.permutation(x)
            if isinstance(x, int)
            else np.asarray(x)[self._draws.permutation(len(x))]
        )

    def choice(self, a: Any, size: Any = None, replace: bool = True, p: Any = None) -> Any:
        """As ``numpy.random.Generator.choice``, with replacement."""
        values = np.arange(a) if isinstance(a, int | np.integer) else np.asarray(a)
        if not replace:
            return values[self._draws.permutation(len(values))[: int(np.prod(_shape(size)))]].reshape(
                _shape(size)
            )
        if p is None:
            return values[self._draws.integers(0, len(values), _shape(size))]
        ends = np.cumsum(p)
        return values[np.searchsorted(ends / ends[-1], self._draws.uniform(_shape(size)), side="right")]


@contextmanager
def numpy_draws(draws: Draws) -> Iterator[RedirectedGenerator]:
    """Redirect ``numpy.random``, and generators made by ``default_rng``, while the code runs.

    Generators that the code made earlier are its own: replace them by the one that is yielded.
    """
    rng = RedirectedGenerator(draws)
    replaced = {
        "randn": lambda *shape: rng.standard_normal(shape or None),
        "standard_normal": rng.standard_normal,
        "normal": rng.normal,
        "rand": lambda *shape: rng.random(shape or None),
        "random": rng.random,
        "random_sample": rng.random,
        "uniform": rng.uniform,
        "randint": rng.integers,
        "permutation": rng.permutation,
        "choice": rng.choice,
        "default_rng": lambda *_: rng,
        "seed": lambda *_: None,
    }
    with ExitStack() as stack:
        for name, function in replaced.items():
            stack.enter_context(mock.patch.object(np.random, name, function))
        yield rng


def _shape(size: Any) -> Shape:
    if size is None:
        return ()
    return (int(size),) if isinstance(size, int | np.integer) else tuple(size)


def _asked(drawn: Values, size: Any, out: Any) -> Any:
    if out is None:
        return drawn
    out[...] = drawn
    return out
