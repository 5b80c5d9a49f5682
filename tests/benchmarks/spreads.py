"""Medians and ranges over rounds, and ratios taken pair by pair within each round."""

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Spread(NamedTuple):
    """The middle of some measurements, and how far they reach."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Median, smallest and largest.

    Raises
    ------
    ValueError
        If there are no values.
    """
    found = list(values)
    if not found:
        raise ValueError("there are no measurements")
    return Spread(statistics.median(found), min(found), max(found))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """The spread of ours / theirs, each of the same round: what slows a whole round cancels.

    Raises
    ------
    ValueError
        If the rounds do not agree.
    """
    return spread(one / other for one, other in zip(ours, theirs, strict=True))


def fastest(columns: Iterable[Sequence[float]]) -> list[float]:
    """The smallest of each round."""
    return [min(round_) for round_ in zip(*columns, strict=True)]
