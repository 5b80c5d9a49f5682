"""How far an answer is from what is expected: in units of the tolerance, and in ulps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddpm_np.testing.vectors._files import Case


class WrongAnswer(Exception):
    """An answer that cannot be compared, such as one of another shape; the message is a sentence."""


@dataclass(frozen=True)
class Distance:
    """How far an answer is off, and the entry where it is farthest, in tolerances."""

    tolerances: float
    """Largest error in units of the tolerance; the case passes up to 1."""
    ulps: float
    """Largest error in units in the last place."""
    entry: str
    """Such as ``mean[0, 1]``."""
    got: float
    expected: float


def compare(case: Case, outputs: Mapping[str, Any], dtype: str) -> Distance:
    """Hold an answer against what is expected.

        error in tolerances = |got - expected| / (abs + rel |expected|)

    A unit in the last place is that of the expected number in the dtype; for one that is lost in the
    rounding of the output's largest, 0 say, that of the largest, and of 1 if all are 0. What is not
    finite is infinitely far off.

    Raises
    ------
    WrongAnswer
        If an output is missing, or is not made of numbers in the right shape.
    """
    missing = case.expected.keys() - outputs.keys()
    if missing:
        names = ", ".join(sorted(map(str, outputs))) or "nothing"
        raise WrongAnswer(f"the output {min(missing)!r} is missing; there is {names}")
    found = [_distance(case, name, outputs[name], dtype) for name in case.expected]
    worst = max(found, key=lambda distance: distance.tolerances)
    ulps = max(distance.ulps for distance in found)
    return Distance(worst.tolerances, ulps, worst.entry, worst.got, worst.expected)


def _distance(case: Case, name: str, output: Any, dtype: str) -> Distance:
    expected = np.asarray(case.expected[name], dtype=np.float64)
    got = as_numbers(name, output)
    if got.shape != expected.shape:
        raise WrongAnswer(f"{name} must have shape {expected.shape}, got {got.shape}")
    if not expected.size:
        return Distance(0.0, 0.0, name, 0.0, 0.0)
    absolute, relative = case.tolerance[dtype][name]
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        error = np.abs(got - expected)
        error = np.where(np.isfinite(error), error, np.inf)
        allowed = absolute + relative * np.abs(expected)
        tolerances = np.where(error == 0.0, 0.0, error / allowed)
        ulps = np.where(error == 0.0, 0.0, error / _spacing(expected, dtype))
    at = np.unravel_index(int(np.argmax(tolerances)), expected.shape)
    place = f"[{', '.join(str(i) for i in at)}]" if at else ""
    numbers = (float(tolerances[at]), float(np.max(ulps)))
    return Distance(*numbers, name + place, float(got[at]), float(expected[at]))


def _spacing(expected: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    """The unit in the last place of each number."""
    size, largest = np.abs(expected), float(np.max(np.abs(expected))) or 1.0
    size = np.where(size < np.finfo(dtype).eps * largest, largest, size)
    return np.spacing(size.astype(dtype)).astype(np.float64)


def as_numbers(name: str, output: Any) -> np.ndarray[Any, Any]:
    """An output as float64; what JSON has for NaN and infinity is read: "nan", "inf", "-inf", null.

    Raises
    ------
    WrongAnswer
        If it is not made of numbers, or not rectangular.
    """
    try:
        array = np.asarray(output)
        if array.dtype.kind in "US" or array.dtype == object:
            array = np.vectorize(_number, otypes=[float])(np.array(output, dtype=object))
        if array.dtype.kind not in "fiu":
            raise TypeError
        return array.astype(np.float64)
    except Exception:  # an array of another library may raise anything
        text = " ".join(str(output).split())[:60]
        raise WrongAnswer(f"{name} must be numbers in a rectangular array, got {text}") from None


def _number(value: Any) -> float:
    if isinstance(value, bool) or (isinstance(value, str) and value not in ("nan", "inf", "-inf")):
        raise TypeError
    return float("nan" if value is None else value)
