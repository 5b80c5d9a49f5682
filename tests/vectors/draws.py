"""Inputs of cases: numbers with few binary digits, the same on every machine."""

import math
import random
from typing import Any

import numpy as np


def draw(seed: str, *shape: int, scale: float = 1.0) -> Any:
    """Multiples of scale / 64 between -1.5 scale and 1.5 scale, none of them 0; scale a power of 2."""
    # Python promises that random() stays the same; it promises nothing of its other methods.
    rng = random.Random(seed)
    numbers = [math.floor(rng.random() * 96) + 1 for _ in range(math.prod(shape))]
    signs = [1 if rng.random() < 0.5 else -1 for _ in numbers]
    return np.array([scale * s * n / 64 for n, s in zip(numbers, signs, strict=True)]).reshape(shape)


def f32(x: Any) -> Any:
    """The nearest float32, or float32s, as float64."""
    return np.float64(np.float32(x)) if np.ndim(x) == 0 else np.asarray(x, np.float32).astype(float)


def rounded(x: Any, bits: int) -> Any:
    """The nearest multiples of 2^-bits, short to write down."""
    return np.round(np.asarray(x) * 2.0**bits) / 2.0**bits
