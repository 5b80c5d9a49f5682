"""Code that draws from ``jax.random``.

Its functions are replaced while the code runs, and compilation is off, which would keep the first
numbers for ever; ``lax.scan`` and ``fori_loop`` then run as loops of Python.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np

from ddpm_np.testing.adapters.draws import Draws

try:
    import jax
    import jax.numpy as jnp
except ImportError as error:
    raise ImportError("ddpm_np.testing.adapters.jax needs JAX: pip install jax") from error


@contextmanager
def jax_draws(draws: Draws) -> Iterator[None]:
    """Redirect ``jax.random.normal``, ``uniform``, ``randint``, ``permutation`` and ``choice``."""

    def normal(key: Any, shape: Any = (), dtype: Any = None, **_: Any) -> Any:
        return jnp.asarray(draws.normal(tuple(shape)), dtype=_float(dtype))

    def uniform(
        key: Any, shape: Any = (), dtype: Any = None, minval: Any = 0.0, maxval: Any = 1.0, **_: Any
    ) -> Any:
        return minval + (maxval - minval) * jnp.asarray(draws.uniform(tuple(shape)), dtype=_float(dtype))

    def randint(key: Any, shape: Any, minval: Any, maxval: Any, dtype: Any = None, **_: Any) -> Any:
        return jnp.asarray(draws.integers(int(minval), int(maxval), tuple(shape)), dtype=dtype or int)

    def permutation(key: Any, x: Any, **_: Any) -> Any:
        values = jnp.arange(x) if isinstance(x, int) else x
        return values[draws.permutation(len(values))]

    def choice(key: Any, a: Any, shape: Any = (), replace: bool = True, p: Any = None, **_: Any) -> Any:
        values = jnp.arange(a) if isinstance(a, int) else a
        weights = np.ones(len(values)) if p is None else np.asarray(p, dtype=np.float64)
        ends = np.cumsum(weights)
        return values[np.searchsorted(ends / ends[-1], draws.uniform(tuple(shape)), side="right")]

    replaced = {
        "normal": normal,
        "uniform": uniform,
        "randint": randint,
        "permutation": permutation,
        "choice": choice,
    }
    with ExitStack() as stack:
        stack.enter_context(jax.disable_jit())
        for name, function in replaced.items():
            stack.enter_context(mock.patch.object(jax.random, name, function))
        yield


def _float(dtype: Any) -> Any:
    return jnp.zeros(()).dtype if dtype is None else dtype
