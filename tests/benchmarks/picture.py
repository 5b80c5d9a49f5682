"""The figure: every ratio to PyTorch eager, with its range."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from spreads import ratios
from works import RATIOS

from ddpm_np.plotting.points import PALETTE, save

MARKERS = "osD"
TICKS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20)
FEW_TICKS = tuple(digit * 10.0**power for power in range(-3, 4) for digit in (1, 3))
WIDE = 30.0
"""Above this ratio of its ends an axis has room for few numbers."""


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the figure: a panel for each number of threads, a line for each work."""
    threads = sorted({row["threads"] for row in results["rows"]})
    labels = list(dict.fromkeys(row["label"] for row in results["rows"]))
    figure = Figure(figsize=(3.2 + 3.4 * len(threads), 1.6 + 0.55 * len(labels)), layout="constrained")
    panels = figure.subplots(1, len(threads), sharex=True, sharey=True, squeeze=False)[0]
    for axes, number in zip(panels, threads, strict=True):
        rows = {row["label"]: row for row in results["rows"] if row["threads"] == number}
        draw_panel(axes, results, [rows.get(label) for label in labels])
        if results["device"] == "cpu":
            axes.set_title("one thread" if number == 1 else f"{number} threads")
    panels[0].set_yticks(range(len(labels)), labels)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)  # the first work on top
    finish_scale(panels)
    figure.supxlabel("time / time of PyTorch eager, median and range (left of 1: faster)", fontsize=10)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=len(names), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


def draw_panel(axes: Axes, results: dict[str, Any], rows: Sequence[dict[str, Any] | None]) -> None:
    """Dots with ranges, the contenders a little above one another."""
    pairs = [
        pair
        for pair in RATIOS[results["device"]]
        if pair[1] == "eager" and pair[0] in results["contenders"]
    ]
    for place, (name, other) in enumerate(pairs):
        points = [
            (
                y + 0.22 * (place - (len(pairs) - 1) / 2),
                *ratios(row["seconds"][name], row["seconds"][other]),
            )
            for y, row in enumerate(rows)
            if row and name in row["seconds"] and other in row["seconds"]
        ]
        y, median, low, high = np.array(points).reshape(-1, 4).T
        axes.errorbar(
            median,
            y,
            xerr=(median - low, high - median),
            color=PALETTE[place],
            fmt=MARKERS[place],
            markersize=5.5,
            elinewidth=1.6,
            label=results["contenders"][name],
        )
    axes.axvline(1.0, color="0.2", linewidth=1.2, zorder=1)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def finish_scale(panels: Sequence[Axes]) -> None:
    """A logarithmic axis with 1 inside, plain numbers at it, and faint lines between the works."""
    low = min(axes.dataLim.x0 for axes in panels)
    high = max(axes.dataLim.x1 for axes in panels)
    ticks = TICKS if high < WIDE * low else FEW_TICKS
    for axes in panels:
        axes.set_xscale("log")
        axes.set_xlim(min(low, 0.8) / 1.15, max(high, 1.25) * 1.15)
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.grid(axis="x", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        for y in range(1, len(axes.get_yticks())):
            axes.axhline(y - 0.5, color="0.9", linewidth=0.8, zorder=0)
