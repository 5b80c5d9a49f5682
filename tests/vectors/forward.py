"""The forward process, its posterior, and the conversions between what networks predict."""

import itertools
from collections.abc import Iterator
from typing import Any

import mpmath
import numpy as np

from tests.vectors.cases import Draft, Function
from tests.vectors.draws import draw, f32

BETA = "beta_1 ... beta_T, shape (T,)"
TIMES = "one time for each example, shape (B,)"


class Chain:
    """alpha, alpha_bar and their kin of every t = 0 ... T, from beta_1 ... beta_T."""

    def __init__(self, beta: Any) -> None:
        self.beta = np.array([mpmath.mpf(0), *beta])
        self.alpha = 1 - self.beta
        self.alpha_bar = np.array(list(itertools.accumulate(self.alpha, lambda a, b: a * b)))


root = np.frompyfunc(mpmath.sqrt, 1, 1)


def column(x: Any) -> Any:
    """One number for each example, beside arrays of shape (B, d)."""
    return x[:, None]


def q_sample(beta: Any, x0: Any, t: Any, noise: Any) -> dict[str, Any]:
    """(27)."""
    a = column(Chain(beta).alpha_bar[t])
    return {"x_t": root(a) * x0 + root(1 - a) * noise}


def q_sample_cases() -> Iterator[Draft]:
    """A first one."""
    beta = f32([0.125, 0.25, 0.5])
    inputs = {
        "beta": beta,
        "x0": draw("q_sample a", 3, 2),
        "t": [1, 2, 3],
        "noise": draw("q_sample a n", 3, 2),
    }
    yield inputs, ["E2", "E5", "root"], "each example has its own time"


FUNCTIONS = [
    Function(
        "q_sample",
        "M2 (22), (27)",
        "x_t = sqrt(alpha_bar[t]) x0 + sqrt(1 - alpha_bar[t]) noise",
        {"beta": BETA, "x0": "shape (B, d)", "t": TIMES, "noise": "shape (B, d)"},
        {"x_t": "shape (B, d)"},
        q_sample,
        q_sample_cases,
    )
]
