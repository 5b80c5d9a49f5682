"""Pictures of images: grids, strips of the chain, and the terms of the bound for several variances.

As :mod:`ddpm_np.plotting`: host arrays in, a new matplotlib ``Figure`` out. Images have the
shape (n, H, W, 1) or (n, H, W, 3) and values on [-1, 1], from black to white; values outside are
clipped, and NaN is black.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ddpm_np._checks import (
    as_list,
    as_texts,
    check_integer,
    check_mapping,
    check_plain,
    check_text,
    describe,
)
from ddpm_np.plotting.panels import Floats, checked_times, middle_terms, single_panel
from ddpm_np.plotting.points import PALETTE

_LINE_STYLES = ("-", "--", "-.", ":")
_BETWEEN = (0.62, 0.74, 0.86)  # not gray, so that the edges of noise show


def plot_image_grid(
    images: ArrayLike,
    *,
    columns: int = 10,
    rows: Sequence[str] = (),
    title: str | None = None,
    ylabel: str | None = None,
) -> Figure:
    """Draw images row by row; ``rows`` are labels, one for each row."""
    tiles = _checked_images("images", images)
    columns = check_integer("columns", columns, 1)
    count, names = math.ceil(len(tiles) / min(columns, len(tiles))), as_texts("rows", rows)
    if names and len(names) != count:
        raise ValueError(f"rows must name each of the {count} rows, got {len(names)}")
    for name, text in (("title", title), ("ylabel", ylabel)):
        if text is not None:
            check_text(name, text)
    grid = [tiles[i * columns : (i + 1) * columns] for i in range(count)]
    height, width = _size(grid)
    figure = Figure(figsize=(6.4, 0.8 + 6.0 * height / width), layout="constrained")
    axes = figure.add_subplot()
    _draw(axes, grid, names, ())
    axes.set(title=title or "", ylabel=ylabel or "")
    return figure


def plot_image_strips(
    forward: Sequence[ArrayLike], reverse: Sequence[ArrayLike], times: ArrayLike
) -> Figure:
    """Draw the forward chain from x_0 to x_T above the reverse chain from x_T to x_0.

    Parameters
    ----------
    forward : sequence of arrays, each some images
        x_t at each of ``times``, in their order: a column each.
    reverse : sequence of arrays, each some images
        x_t in the opposite order, from the largest time to the smallest.
    times : integers, increasing
    """
    t = checked_times(times)
    if np.any(np.diff(t) <= 0):
        raise ValueError(f"times must increase, from the data to the prior, got {t.tolist()}")
    grids = []
    for name, given in (("forward", forward), ("reverse", reverse)):
        frames = as_list(name, given, "images")
        if len(frames) != len(t):
            raise ValueError(
                f"{name} must hold images for each of the {len(t)} times, got {len(frames)}"
            )
        tiles = [_checked_images(f"{name}[{i}]", frame) for i, frame in enumerate(frames)]
        if len({frame.shape for frame in tiles}) != 1:
            raise ValueError(f"{name} must hold as many images for each time, all of one size")
        grids.append([np.stack(row) for row in zip(*tiles, strict=True)])
    heights, (_, width) = [_size(grid)[0] for grid in grids], _size(grids[0])
    figure = Figure(figsize=(9.0, 1.3 + 8.4 * sum(heights) / width), layout="constrained")
    panels = figure.subplots(2, 1, height_ratios=heights)
    labels = ("forward\n" + r"$q(x_t \mid x_0)$", "reverse\n" + r"$p_\theta(x_{t-1} \mid x_t)$")
    for axes, grid, order, label in zip(panels, grids, (t, t[::-1]), labels, strict=True):
        _draw(axes, grid, (), [f"$t = {time}$" for time in order])
        axes.set_ylabel(label)
    return figure


def plot_terms(terms: Mapping[str, ArrayLike], dimensions: int) -> Figure:
    """Draw -L_{t-1} over t for several choices of the reverse variance, in bits per dimension.

    Parameters
    ----------
    terms : mapping of name to array, shape (T + 1,)
        Averaged over examples, in nats; entries 2 ... T are L_{t-1}. Sampling noise can make some
        >= 0, which a logarithmic axis cannot show.
    dimensions : int
        d, for bits per dimension.
    """
    check_mapping("terms", terms)
    if not terms:
        raise ValueError("terms must hold at least one table, got none")
    unit = check_integer("dimensions", dimensions, 1) * math.log(2.0)
    figure, axes = single_panel()
    for i, (name, values) in enumerate(terms.items()):
        bits = -middle_terms(name, values) / unit
        shown = np.where(bits > 0.0, bits, np.nan)
        style: dict[str, Any] = {"color": PALETTE[i % 7], "linestyle": _LINE_STYLES[i % 4]}
        total = f"{name}: sum {np.sum(bits):.3f}"
        axes.plot(np.arange(2, len(bits) + 2), shown, label=total, linewidth=1.6, **style)
    axes.set(xlabel="$t$", ylabel="$-L_{t-1}$ (bits per dimension)", yscale="log")
    axes.legend(frameon=False, title="reverse variance")
    return figure


# --- tiles --------------------------------------------------------------------------------


def _checked_images(name: str, values: ArrayLike) -> Floats:
    """Return images with values on [0, 1], shape (n, H, W, C)."""
    check_plain(name, values)
    try:
        array = np.asarray(values)
    except ValueError:  # rows of several lengths
        array = np.array(None)
    if array.ndim != 4 or array.shape[3] not in (1, 3) or 0 in array.shape or array.dtype.kind != "f":
        raise ValueError(
            f"{name} must be floating images of shape (n, H, W, 1) or (n, H, W, 3), "
            f"got {describe(values)}"
        )
    return np.nan_to_num(np.clip((array.astype(np.float64) + 1.0) / 2.0, 0.0, 1.0), nan=0.0)


def _size(grid: Sequence[NDArray[Any]]) -> tuple[int, int]:
    """Height and width of a grid in pixels; ``grid`` is rows of images."""
    (columns, height, width, _), gap = grid[0].shape, _gap(grid)
    return len(grid) * (height + gap) + gap, columns * (width + gap) + gap


def _gap(grid: Sequence[NDArray[Any]]) -> int:
    return max(1, int(grid[0].shape[2]) // 8)


def _draw(axes: Axes, grid: Sequence[NDArray[Any]], rows: Sequence[str], columns: Sequence[str]) -> None:
    """Draw rows of images into one panel, with labels for rows and columns."""
    gap, (_, height, width, _) = _gap(grid), grid[0].shape
    canvas = np.full((*_size(grid), 3), _BETWEEN)
    for i, row in enumerate(grid):
        for j, image in enumerate(row):
            top, left = i * (height + gap) + gap, j * (width + gap) + gap
            canvas[top : top + height, left : left + width] = image
    axes.imshow(canvas, interpolation="nearest")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelbottom=False, labeltop=True)
    axes.set_yticks((height + gap) * np.arange(len(rows)) + gap + (height - 1) / 2, rows)
    axes.set_xticks((width + gap) * np.arange(len(columns)) + gap + (width - 1) / 2, columns)
