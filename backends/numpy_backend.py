"""NumPy: the array-generic definitions as they are, on the CPU."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np

from backends.base import Backend, host_asarray, host_normal
from ddpm_np.nn.ops import Ops


def make() -> Backend:
    """Return the NumPy backend. It always works."""
    return Backend(
        name="numpy",
        xp=np,
        device="cpu",
        ops=Ops(in_parts=in_parts),
        asarray=host_asarray,
        to_numpy=np.asarray,
        normal=host_normal,
        synchronize=lambda: None,
    )


T = TypeVar("T")

PART = 512
"""Rows of a part of the batch, or pixels of images: what a layer returns stays in the cache."""


def in_parts(function: Callable[[slice], T], size: int, pixels: int = 1) -> Iterable[T]:
    """Call ``function`` with parts of the batch, one after the other."""
    step = max(1, PART // pixels)
    return (function(slice(start, min(start + step, size))) for start in range(0, size, step))
