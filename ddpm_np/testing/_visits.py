"""The times at which a sampling loop asks its network, beside those it should ask at."""

from typing import NamedTuple

import numpy as np

from ddpm_np.testing._truth import TimeArray


class Visits(NamedTuple):
    """What was done, in words, and which steps these may have been.

    Attributes
    ----------
    slip : str
        Empty if the times are right.
    readings : list
        Chains of increasing times, each with the place in it of each question. Several if the
        times do not tell; none if nothing can be said of the steps.
    """

    slip: str
    readings: list[tuple[TimeArray, TimeArray]]


def visits(told: TimeArray, times: tuple[int, ...], T: int) -> Visits:
    """Compare the times that the network was told with the visited times."""
    chain = np.array(times)
    wanted, S = chain[::-1], len(chain)
    at = np.arange(S)[::-1]
    if np.array_equal(told, wanted):
        return Visits("", [(chain, at)])
    for shift in (-1, 1):
        if np.array_equal(told, wanted + shift):
            said = f"predict is told t {'-' if shift < 0 else '+'} 1 at every step: is t counted from 0?"
            return Visits(said, [(chain, at), (chain, np.clip(at + shift, 0, S - 1))])
    part = _part(told, wanted)
    if part:
        start, stop = part
        return Visits(_cut(wanted, start, stop), [(chain, at[start:stop])])
    if len(told) == S:
        named = [(chain, np.searchsorted(chain, told))] if set(told.tolist()) <= set(times) else []
        return Visits(_same_number(told, wanted), [(chain, at), *named] if S > 1 else [])
    falling = bool(np.all(np.diff(told) < 0)) and told[0] <= T and told[-1] >= 1
    if not falling:
        return Visits(_repeated(told, wanted), [])
    readings = [(told[::-1], np.arange(len(told))[::-1])]
    if set(told.tolist()) <= set(wanted.tolist()):
        readings.insert(0, (chain, np.searchsorted(chain, told)))
        if len(told) >= S - 3:
            left_out = np.array(sorted(set(wanted.tolist()) - set(told.tolist()), reverse=True))
            return Visits(f"predict is never asked at t = {_listed(left_out)}", readings)
    said = f"it visits {len(told)} times, {_listed(told)}; if that is meant, announce times="
    return Visits(said, readings)


def _part(told: TimeArray, wanted: TimeArray) -> tuple[int, int] | None:
    """The slice of the wanted times that was asked, if it is one."""
    start = np.flatnonzero(wanted == told[0])
    if start.size == 0:
        return None
    stop = int(start[0]) + len(told)
    return (int(start[0]), stop) if np.array_equal(told, wanted[start[0] : stop]) else None


def _cut(wanted: TimeArray, start: int, stop: int) -> str:
    said = []
    if start:
        said.append(f"it starts late: predict is first asked at t = {wanted[start]}, not {wanted[0]}")
    if stop < len(wanted):
        said.append(f"it stops early: predict is last asked at t = {wanted[stop - 1]}, not {wanted[-1]}")
    return "; ".join(said)


def _same_number(told: TimeArray, wanted: TimeArray) -> str:
    S = len(wanted)
    if np.array_equal(told, wanted[::-1]):
        return "it runs the wrong way, from the first time to the last"
    if np.all(told == told[0]):
        return f"predict is told t = {told[0]} at every step"
    if np.array_equal(told, np.arange(S, 0, -1)):
        return "predict is told the place of a time among the visited ones, not the time itself"
    if np.array_equal(told, np.arange(S - 1, -1, -1)):
        return "predict is told the place of a time among the visited ones, from 0, not the time itself"
    return _difference(told, wanted)


def _repeated(told: TimeArray, wanted: TimeArray) -> str:
    values, counts = np.unique(told, return_counts=True)
    twice = values[counts > 1][::-1]
    if twice.size == 0:
        return _difference(told, wanted)
    where = "each time" if len(twice) > 3 else f"t = {_listed(twice)}"
    return (
        f"predict is asked more than once at {where}, with different x_t:"
        " one step of this algorithm asks once"
    )


def _difference(told: TimeArray, wanted: TimeArray) -> str:
    return f"predict is asked at t = {_listed(told)}; should be {_listed(wanted)}"


def _listed(times: TimeArray) -> str:
    """Times in words, the middle left out if there are many."""
    items = [str(t) for t in times.tolist()]
    return ", ".join(items if len(items) <= 6 else [*items[:3], "...", items[-1]])
