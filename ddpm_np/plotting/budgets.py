"""Picture of an error budget: what each part of the gap costs, stacked over t.

A function takes host numbers and returns a new matplotlib ``Figure``, as those of
:mod:`ddpm_np.plotting.points` do.
"""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from ddpm_np._checks import check_real
from ddpm_np.plotting.panels import points_array, single_panel
from ddpm_np.plotting.points import PALETTE

BLUE, _, _, ORANGE, PINK, SKY, BLACK = PALETTE
_MOST_BARS = 40  # above this, later bars hold several times each
_MOST_LABELS = 10


def plot_budget(
    parts: Mapping[str, ArrayLike], *, start: float, gap: tuple[float, float] | None = None
) -> Figure:
    """Stack the parts of a gap over t, with the start as the last bar.

    All bars together are the gap: with many steps, one bar holds the nats of several times, ever more
    towards T. A term that sampling noise has pushed below 0 is not drawn, but counts in the legend.

    Parameters
    ----------
    parts : mapping of at most four names to arrays, shape (T + 1,)
        In nats, from below; entry 0 is ignored. Those of :class:`ddpm_np.exact.Budget`, say.
    start : float
        Nats of the start.
    gap : (float, float), optional
        The gap that was measured, and its standard error.
    """
    tables = {name: points_array(f"parts[{name!r}]", values, 0) for name, values in parts.items()}
    lengths = {len(table) for table in tables.values()}
    if not 1 <= len(tables) <= 4 or len(lengths) != 1 or lengths == {1}:
        raise ValueError(
            "parts must hold one to four tables of one length T + 1, T >= 1, got lengths "
            f"{[len(table) for table in tables.values()]}"
        )
    for name, table in tables.items():
        if not np.all(np.isfinite(table[1:])):
            raise ValueError(f"parts[{name!r}] must be finite for t = 1..T")
    start = check_real("start", start, -np.inf, np.inf)
    first = _first_times(lengths.pop() - 1)
    figure, axes = single_panel()
    bars, bottom, total = np.arange(len(first)), np.zeros(len(first)), start
    for (name, table), color in zip(tables.items(), (SKY, ORANGE, BLUE, PINK), strict=False):
        heights = np.maximum(np.add.reduceat(table, first), 0.0)
        nats = float(np.sum(table[1:]))
        axes.bar(bars, heights, bottom=bottom, color=color, width=0.9, label=f"{name} {nats:.4f}")
        bottom, total = bottom + heights, total + nats
    axes.bar(len(first) + 1, max(start, 0.0), color=BLACK, width=0.9, label=f"start {start:.4f}")
    shown = np.unique(np.linspace(0, len(first) - 1, _MOST_LABELS).round().astype(int))
    axes.set_xticks([*shown, len(first) + 1], [*map(str, first[shown]), "start"])
    several = "" if len(first) == first[-1] else " (first of the times in a bar)"
    axes.set(xlabel=f"$t${several}", ylabel="nats", xlim=(-0.7, len(first) + 1.7))
    measured = "" if gap is None else f",  measured gap {gap[0]:.4f} ± {gap[1]:.4f}"
    axes.set_title(
        f"sum {total:.4f}{measured}".replace("-", "−"), loc="left", fontsize="small", pad=10.0
    )
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], [label.replace("-", "−") for label in labels[::-1]], frameon=False)
    return figure


def _first_times(T: int) -> np.ndarray:
    """First time of each bar: all of them if they are few, else ever further apart."""
    if T <= _MOST_BARS:
        return np.arange(1, T + 1)
    edges = np.unique(np.geomspace(1.0, T + 1.0, _MOST_BARS + 1).round().astype(int))
    return edges[:-1]
