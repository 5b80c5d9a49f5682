"""Checks of single arguments: each returns the value, or says what is allowed and what was given."""

import operator

import numpy as np
from array_api_compat import is_array_api_obj


def describe(value: object) -> str:
    """Say in a few words what an argument was, for error messages."""
    if is_array_api_obj(value):
        kind = type(value)
        return f"{kind.__module__.split('.')[0]} array of shape {value.shape}, dtype {value.dtype}"  # type: ignore[attr-defined]
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def check_integer(name: str, value: object, minimum: int, maximum: int | None = None) -> int:
    """Return ``value`` as an int within bounds; floats and bools are refused."""
    allowed = f">= {minimum}" if maximum is None else f"between {minimum} and {maximum}"
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer {allowed}, got {describe(value)}") from None
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(f"{name} must be {allowed}, got {number}")
    return number


def check_real(name: str, value: object, low: float, high: float, *, closed: bool = False) -> float:
    """Return ``value`` as a float inside (low, high), or [low, high] when ``closed``."""
    bounds = f"[{low:g}, {high:g}]" if closed else f"({low:g}, {high:g})"
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number in {bounds}, got {describe(value)}") from None
    inside = low <= number <= high if closed else low < number < high
    if not inside:
        raise ValueError(f"{name} must lie in {bounds}, got {number:g}")
    return number


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")
    return value


def check_callable(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {describe(value)}")
