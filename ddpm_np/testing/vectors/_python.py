"""An object whose attributes are the functions of the vectors, asked in this process."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

from ddpm_np.testing.vectors._comparing import WrongAnswer
from ddpm_np.testing.vectors._files import DTYPES, Case, Function, load
from ddpm_np.testing.vectors._judging import NOT_OFFERED, Skipped, judge
from ddpm_np.testing.vectors._report import Report

INTEGERS = ("t", "at", "times", "labels", "multipliers")
"""Inputs that are integers wherever they are arrays; all other arrays are of the dtype."""


def check_vectors(
    implementation: object, *, dtype: str = "float64", functions: Iterable[str] | None = None
) -> Report:
    """Ask an object every case of the vectors, and report what differs.

    Parameters
    ----------
    implementation : object
        Its attributes are functions named as in the index of the vectors, called with the inputs as
        keywords: NumPy arrays of the dtype (int64 for t, at and times), numbers, text, and dicts of
        these. They return what the file of the function names as outputs: a dict by name, a tuple in
        that order, or, for one output, the output alone. A function that is missing, or raises
        NotImplementedError, is skipped; any other exception fails the case.
    dtype : {"float64", "float32"}
        Of the arrays, and which tolerances hold.
    functions : iterable of str, optional
        Names of functions to be asked; all if left out.

    Raises
    ------
    ValueError
        If the dtype is neither.
    VectorsError
        If there is no such function.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(repr, DTYPES))}, got {dtype!r}")
    chosen = load(functions)
    name = getattr(implementation, "name", None) or type(implementation).__name__
    return report_on(implementation, str(name), chosen, dtype)


def report_on(
    implementation: object,
    name: str,
    functions: Collection[Function],
    dtype: str,
    known: Collection[str] = (),
) -> Report:
    """As :func:`check_vectors`, for functions that were read already."""
    outputs = {function.name: tuple(function.outputs) for function in functions}

    def ask(case: Case) -> Mapping[str, Any]:
        return answer(implementation, case.function, case.inputs, dtype, outputs[case.function])

    return Report(name, dtype, judge(functions, ask, dtype, known))


def answer(
    implementation: object,
    function: str,
    inputs: Mapping[str, Any],
    dtype: str,
    outputs: tuple[str, ...] = (),
) -> Mapping[str, Any]:
    """Call a function by its name; its results by theirs.

    ``outputs`` are the names of what a tuple holds.

    Raises
    ------
    Skipped
        If there is no such function, or it is not implemented.
    WrongAnswer
        If it raises, or returns too few or too many.
    """
    call = getattr(implementation, function, None)
    if not callable(call):
        raise Skipped(NOT_OFFERED)
    try:
        result = call(**{name: argument(name, value, dtype) for name, value in inputs.items()})
    except NotImplementedError as error:
        raise Skipped(in_one_line(error) or "not implemented") from None
    except Exception as error:  # a stranger's code may raise anything
        text = f"{type(error).__name__}: {in_one_line(error)}".removesuffix(": ")
        raise WrongAnswer(f"it raised {text}") from error
    if isinstance(result, Mapping):
        return result
    parts = result if isinstance(result, tuple) else (result,)
    if len(parts) != len(outputs):
        raise WrongAnswer(f"it returned {len(parts)} results, wanted {', '.join(outputs)}")
    return dict(zip(outputs, parts, strict=True))


def argument(name: str, value: Any, dtype: str) -> Any:
    """An input as a function of Python wants it: lists as arrays, in tables too."""
    if isinstance(value, Mapping):
        return {key: argument(key, part, dtype) for key, part in value.items()}
    if isinstance(value, list):
        return np.array(value, dtype="int64" if name in INTEGERS else dtype)
    return value


def in_one_line(error: object, most: int = 160) -> str:
    """A message without its line breaks, cut where it is long."""
    text = " ".join(str(error).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."
