"""Expected values in 40 digits, and how far off a port may be.

    tolerance = 16 u (condition + |expected|),  u = 2^-53 for float64, 2^-24 for float32

The condition of an entry is how far it moves, at most, when every number that goes in is moved by a
relative delta, up or down at random, over delta: 16 draws. So is every number that :func:`midway` marks
as one that a port has to round on its way: an entry of a table, x_t, a mean. A number that is 0 stays 0.
"""

import contextlib
import decimal
import itertools
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import mpmath
import numpy as np

DIGITS = 40
DRAWS = 16
FACTOR = 16
UNITS = {"float64": 2.0**-53, "float32": 2.0**-24}
# Half of the digits: neither the curvature nor the rounding of the difference is seen.
DELTA = mpmath.mpf(2) ** -64


def tolerance(
    compute: Callable[[], dict[str, Any]], seed: str
) -> tuple[dict[str, Any], dict[str, dict[str, list[float]]]]:
    """Return the expected outputs, and by dtype and output the pair [abs, rel]."""
    with mpmath.workdps(DIGITS):
        outputs = compute()
        with _moving(random.Random(seed)):
            moved = [compute() for _ in range(DRAWS)]
        condition = {name: _condition(y, [m[name] for m in moved]) for name, y in outputs.items()}
    expected = {name: plain(value) for name, value in outputs.items()}
    bounds = {
        dtype: {name: _pair(list(numbers(y)), condition[name], u) for name, y in expected.items()}
        for dtype, u in UNITS.items()
    }
    return expected, bounds


_rng: random.Random | None = None


@contextlib.contextmanager
def _moving(rng: random.Random) -> Iterator[None]:
    global _rng
    _rng = rng
    try:
        yield
    finally:
        _rng = None


def midway(value: Any) -> Any:
    """Numbers that a port has to round: as they are, but moved when the condition is sought.

    Floats come back as mpmath's numbers, and lists as arrays.
    """
    if _rng is None:
        return _converted(value, lambda x: x)
    draw, up, down = _rng.random, 1 + DELTA, 1 - DELTA
    return _converted(value, lambda x: x * (up if draw() < 0.5 else down))


def solved(rows: Any) -> Any:
    """What iterations find, which stop as soon as they change little: moved by 16 delta of a row's size.

    The size of a row is 1 and its norm.
    """
    if _rng is None:
        return rows
    size = 1 + (rows**2).sum(axis=-1, keepdims=True) ** mpmath.mpf(0.5)
    return rows + 16 * size * (midway(size + 0 * rows) / size - 1)


def _converted(value: Any, number: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {name: _converted(item, number) for name, item in value.items()}
    if isinstance(value, float | mpmath.mpf):
        return number(mpmath.mpf(value))
    if isinstance(value, list | np.ndarray):
        array = np.array(value, dtype=object)
        if any(isinstance(x, float | mpmath.mpf) for x in array.flat):
            moved = np.empty(array.size, dtype=object)
            moved[:] = [number(mpmath.mpf(x)) for x in array.flat]
            return moved.reshape(array.shape)
        return array.astype(np.int64)
    return value  # integers and text


def _condition(outputs: Any, moved: list[Any]) -> list[float]:
    """By entry."""
    columns = zip(numbers(outputs), *(numbers(m) for m in moved), strict=True)
    return [float(max(abs(m - y) for m in rest) / DELTA) for y, *rest in columns]


def _pair(expected: list[float], condition: list[float], u: float) -> list[float]:
    """The [abs, rel] that covers 16 u (condition + |expected|) of every entry, in total most tightly."""
    if all(isinstance(y, int) for y in expected):
        return [0.0, 0.0]
    size = np.abs(np.array(expected, dtype=float))
    need = FACTOR * u * (np.array(condition) + size)
    scale = np.where(need > 0.0, need, np.inf)
    candidates = [(float(np.max(need)), 0.0)]
    if np.all(need[size == 0.0] == 0.0):
        candidates.append((0.0, float(np.max(need / np.where(size > 0.0, size, 1.0)))))
    # else a line through two entries that lies above all
    order = np.lexsort((-need, size))
    hull: list[tuple[float, float]] = []
    for x, y in zip(size[order].tolist(), need[order].tolist(), strict=True):
        if hull and x == hull[-1][0]:
            continue
        while len(hull) > 1 and _turns_up(*hull[-2:], (x, y)):
            hull.pop()
        hull.append((x, y))
    for (x1, y1), (x2, y2) in itertools.pairwise(hull):
        slope = (y2 - y1) / (x2 - x1)
        if slope >= 0.0 and y1 - slope * x1 >= 0.0:
            candidates.append((y1 - slope * x1, slope))
    best = min(candidates, key=lambda pair: float(np.sum((pair[0] + pair[1] * size) / scale)))
    return [_rounded_up(number) for number in best]


def _turns_up(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> bool:
    return (b[1] - a[1]) * (c[0] - a[0]) <= (c[1] - a[1]) * (b[0] - a[0])


def _rounded_up(x: float) -> float:
    """To two digits and a half: the next of 1.00, 1.05, 1.10, ..., 9.95 times a power of 10."""
    if x == 0.0:
        return 0.0
    step = decimal.Decimal(5).scaleb(math.floor(math.log10(x)) - 2)
    return float((decimal.Decimal(x) / step).to_integral_value(decimal.ROUND_CEILING) * step)


# --- nested lists -------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """Arrays as nested lists, mpmath's numbers as the nearest float64."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, np.floating | mpmath.mpf):
        return float(value)
    return value


def numbers(value: Any) -> Iterator[Any]:
    """The numbers in nested lists, arrays and dicts, row by row."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | np.ndarray):
        for item in value:
            yield from numbers(item)
    elif not isinstance(value, str):
        yield value
