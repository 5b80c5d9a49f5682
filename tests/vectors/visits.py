"""Which times of a chain to visit."""

from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

from tests.vectors.cases import Draft, Function

Exact = Callable[[int, int], list[Fraction]]


def uniform_times(T: int, S: int) -> dict[str, Any]:
    """Even."""
    return {"times": _apart(even(T, S), T)}


def quadratic_times(T: int, S: int) -> dict[str, Any]:
    """Even in their roots."""
    return {"times": _apart(even_roots(T, S), T)}


def trailing_times(T: int, S: int) -> dict[str, Any]:
    """Ends of equal parts."""
    return {"times": _apart(ends(T, S), T)}


def even(T: int, S: int) -> list[Fraction]:
    """Before they are rounded."""
    return [1 + (T - 1) * share for share in _shares(S)]


def even_roots(T: int, S: int) -> list[Fraction]:
    """Before they are rounded."""
    return [1 + (T - 1) * share**2 for share in _shares(S)]


def ends(T: int, S: int) -> list[Fraction]:
    """Before they are rounded."""
    return [Fraction(T * i, S) for i in range(1, S + 1)]


def leading(T: int, S: int) -> list[Fraction]:
    """What many samplers visit, and none of these functions: from 1 in steps of T // S."""
    return [Fraction(1 + i * (T // S)) for i in range(S)]


def _shares(S: int) -> list[Fraction]:
    return [Fraction(i, S - 1) for i in range(S)] if S > 1 else [Fraction(1)]


def _apart(exact: list[Fraction], T: int) -> list[int]:
    """Rounded; upwards where two would coincide, and downwards where T is passed."""
    times: list[int] = []
    for time in exact:
        times.append(max(round(time), times[-1] + 1 if times else 1))
    for i in range(len(times)):
        times[i] = min(times[i], T - (len(times) - 1 - i))
    return times


# --- cases --------------------------------------------------------------------------------


def _times(exact: Exact, flag: str, wrong: Exact) -> Iterator[Draft]:
    pairs = [(1000, 10), (1000, 50), (10, 10), (10, 1), (1, 1), (100, 8), (50, 49), (7, 4), (7, 3)]
    pairs += [(1000, 999), (4000, 100), (12, 11), (20, 6), (1000, 100), (30, 12), (300, 13), (9, 2)]
    for T, S in pairs:
        times = exact(T, S)
        if any(time % 1 == Fraction(1, 2) for time in times):
            continue  # in floating point a half may lie on either side
        note = f"{S} of {T}"
        if S == T:
            note += ": all of them"
        elif S == 1:
            note += ": T alone"
        elif len({round(time) for time in times}) < S:
            note += ": those that coincide are moved apart"
        shows = [round(time) for time in wrong(T, S)] != [round(time) for time in times]
        yield {"T": T, "S": S}, [*([flag] if shows else []), "off-by-one"], note


TO_VISIT = {"T": "number of steps", "S": "how many times to visit, 1 <= S <= T"}
VISITS = {"times": "increasing integers, the last T, shape (S,)"}
APART = "rounded; where two coincide the later is moved up, and from T on down"

FUNCTIONS = [
    Function(
        "uniform_times",
        "Nichol & Dhariwal 2021, section 4",
        f"times[i-1] = 1 + (T - 1) (i - 1) / (S - 1), i = 1 ... S; T if S = 1; {APART}",
        TO_VISIT,
        VISITS,
        uniform_times,
        lambda: _times(even, "leading-for-linspace", leading),
    ),
    Function(
        "quadratic_times",
        "Song, Meng & Ermon 2021, appendix D.2",
        f"times[i-1] = 1 + (T - 1) ((i - 1) / (S - 1))^2, i = 1 ... S; T if S = 1; {APART}",
        TO_VISIT,
        VISITS,
        quadratic_times,
        lambda: _times(even_roots, "linear-for-quadratic", even),
    ),
    Function(
        "trailing_times",
        "Lin et al. 2024, table 2",
        f"times[i-1] = T i / S, i = 1 ... S; {APART}",
        TO_VISIT,
        VISITS,
        trailing_times,
        lambda: _times(ends, "leading-for-trailing", leading),
    ),
]
