"""Checks of single arguments: each returns the value, or says what is allowed and what was given."""

import math
import operator
import os
from collections.abc import Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from array_api_compat import is_array_api_obj
from numpy.typing import NDArray

LARGEST = 2**53
"""Limit of integers that have no other: larger ones are not all floats, and no array is so long."""


def describe(value: object) -> str:
    """Say in a few words what an argument was, for error messages."""
    if is_array_api_obj(value):
        kind = type(value)
        return f"{kind.__module__.split('.')[0]} array of shape {value.shape}, dtype {value.dtype}"  # type: ignore[attr-defined]
    return f"{type(value).__name__} {shortened(value)}"


def shortened(value: object) -> str:
    """Write a value on one line, in at most 60 characters; a huge integer by its power of ten."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return f"about {'-' * (value < 0)}10^{round(math.log10(abs(value)))}"
    try:
        text = repr(value).replace("\n", " ")
    except Exception:  # its own repr may fail, and Python's does for a list of huge integers
        return "..."
    return text if len(text) <= 60 else text[:57] + "..."


def check_integer(name: str, value: object, minimum: int, maximum: float | None = None) -> int:
    """Return ``value`` as an int within bounds; floats and bools are refused.

    Without a maximum it is ``LARGEST``; infinity is none.
    """
    allowed = f">= {minimum}" if maximum in (None, math.inf) else f"between {minimum} and {maximum}"
    try:
        if not _is_number(value):
            raise TypeError
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must be an integer {allowed}, got {describe(value)}") from None
    if maximum is None and number > LARGEST:
        raise ValueError(f"{name} must be at most 2^53, got {shortened(number)}")
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(f"{name} must be {allowed}, got {shortened(number)}")
    return number


def check_real(name: str, value: object, low: float, high: float, *, closed: bool = False) -> float:
    """Return ``value`` as a float inside (low, high), or [low, high] when ``closed``."""
    bounds = f"[{low:g}, {high:g}]" if closed else f"({low:g}, {high:g})"
    try:
        if not _is_number(value):
            raise TypeError
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number in {bounds}, got {describe(value)}") from None
    except OverflowError:
        raise ValueError(f"{name} must lie in {bounds}, got {shortened(value)}") from None
    inside = low <= number <= high if closed else low < number < high
    if not inside:
        raise ValueError(f"{name} must lie in {bounds}, got {number:g}")
    return number


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Return ``value`` if it is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        allowed = ", ".join(map(repr, choices))
        raise ValueError(f"{name} must be one of {allowed}, got {shortened(value)}")
    return value


def check_callable(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, got {describe(value)}")


def check_flag(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {describe(value)}")


def check_text(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is a string."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {describe(value)}")


def check_mapping(name: str, value: object) -> None:
    """Raise TypeError unless ``value`` is a mapping whose keys are strings."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{name} must be a mapping with strings as keys, got {describe(value)}")


def as_list(name: str, values: object, of: str) -> list[Any]:
    """Return a sequence as a list; texts, mappings, sets and what Python cannot go through are none."""
    check_plain(name, values)
    try:
        if isinstance(values, str | bytes | Mapping | Set):
            raise TypeError
        return list(values)  # type: ignore[call-overload]
    except TypeError:
        raise TypeError(f"{name} must be a sequence of {of}, got {describe(values)}") from None


def as_texts(name: str, values: object) -> list[str]:
    """Return a sequence of strings as a list."""
    texts = as_list(name, values, "strings")
    for text in texts:
        check_text(f"{name}[...]", text)
    return texts


def settle(owner: object, **fields: object) -> None:
    """Set fields of a frozen dataclass to what their checks returned, in its ``__post_init__``."""
    for name, value in fields.items():
        object.__setattr__(owner, name, value)


def as_path(name: str, value: object) -> Path:
    """Return a path, given as a string or as a path."""
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {describe(value)}")
    return Path(value)


def check_plain(name: str, value: object) -> None:
    """Raise TypeError for NumPy's arrays that mean something else by their entries or products."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} must not be masked: fill or drop what is hidden")
    if isinstance(value, np.matrix):
        raise TypeError(f"{name} must not be a numpy.matrix, whose products are others: use an array")


def as_floats(name: str, values: object, wanted: str = "hold real numbers") -> NDArray[np.float64]:
    """Return real numbers, in an array or in nested sequences, as a new host float64 array."""
    check_plain(name, values)
    try:
        array = np.asarray(values)  # copied below
    except (TypeError, ValueError, RuntimeError):  # the last from arrays on other devices
        array = np.array(None)
    if array.dtype.kind not in "iufc":
        where = ", which NumPy cannot read: copy it to the host" if is_array_api_obj(values) else ""
        raise TypeError(f"{name} must {wanted}, got {describe(values)}{where * (array.ndim == 0)}")
    if array.dtype.kind == "c":
        raise TypeError(f"{name} must be real, got dtype {array.dtype}")
    if array.dtype.itemsize > 8:
        raise TypeError(f"{name} must be float32 or float64, got dtype {array.dtype}")
    return array.astype(np.float64)


def as_table(name: str, values: object) -> NDArray[np.float64]:
    """Return a sequence of real numbers as a host float64 array of one axis."""
    wanted = "be a non-empty sequence of real numbers"
    table = as_floats(name, values, wanted)
    if table.ndim != 1 or table.size == 0:
        raise TypeError(f"{name} must {wanted}, got {describe(values)}")
    return table


def check_table(name: str, table: object, T: int) -> NDArray[np.float64]:
    """Return a positive host table of length T + 1 (entry 0 is ignored)."""
    values = as_table(name, table)
    if values.shape != (T + 1,):
        raise ValueError(f"{name} must have length T + 1 = {T + 1}, entry 0 unused, got {len(values)}")
    if not np.all(np.isfinite(values[1:]) & (values[1:] > 0.0)):
        t = 1 + int(np.argmin(np.isfinite(values[1:]) & (values[1:] > 0.0)))
        raise ValueError(
            f"{name} must be positive and finite for t = 1..T, got {name}[{t}] = {values[t]:g}"
        )
    return values


def _is_number(value: object) -> bool:
    """Whether ``value`` is a single number; text, which float reads, bools and dates are not."""
    kind, dtype = type(value), getattr(value, "dtype", None)
    if kind in (int, float):
        return True
    return (
        (hasattr(kind, "__float__") or hasattr(kind, "__index__"))
        and not isinstance(value, bool | np.ma.MaskedArray)
        and getattr(value, "shape", ()) == ()
        and getattr(dtype, "kind", "f") in "iuf"
    )
