"""Parts of pictures: checked arrays, limits, dots, histograms."""

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ddpm_np._checks import as_floats, as_list, as_path, describe, shortened

Floats: TypeAlias = NDArray[np.float64]
Path: TypeAlias = str | os.PathLike[str]
MARGIN = 0.1  # of the extent of the points, on each side


def single_panel() -> tuple[Figure, Axes]:
    """Return a figure with one panel, without a frame at the top and right."""
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def draw_dots(
    axes: Axes, points: Floats, window: Floats, color: str, scale: float = 1.0
) -> PathCollection:
    """Draw dots, smaller and fainter the more there are; vector files hold them as pixels."""
    axes.set(xlim=window[0], ylim=window[1], aspect="equal")
    x, y = points[is_inside(points, window)].T
    root = float(np.sqrt(len(points)))
    size, alpha = np.clip([200.0 / root, 30.0 / root], [1.0, 0.15], [20.0, 0.9])
    return axes.scatter(x, y, scale * size, color, alpha=float(alpha), linewidths=0, rasterized=True)


def draw_histogram(axes: Axes, points: Floats, window: Floats, **style: Any) -> None:
    """Draw a density; values outside the window count towards the total but have no bar."""
    edges = np.linspace(float(window[0, 0]), float(window[0, 1]), 61)
    counts, _ = np.histogram(points[is_inside(points, window)], edges)
    axes.stairs(counts / (len(points) * (edges[1] - edges[0])), edges, **style)
    axes.set_xlim(edges[0], edges[-1])


def limits(name: str, points: Floats, trim: float = 0.0) -> Floats:
    """Limits, shape (d, 2), of a cube around the points, ignoring a share ``trim`` at each end."""
    finite = points[np.all(np.isfinite(points), axis=1)]
    if not len(finite):
        raise ValueError(f"{name} must have finite points, got none")
    low, high = np.quantile(finite, [trim, 1.0 - trim], axis=0)
    half = (0.5 + MARGIN) * (float(np.max(high - low)) or 1.0)
    return np.stack([(low + high) / 2.0 - half, (low + high) / 2.0 + half], axis=1)


def is_inside(points: Floats, window: Floats) -> Any:
    """Return a mask of the points within limits."""
    return np.all((points >= window[:, 0]) & (points <= window[:, 1]), axis=1)


def points_array(name: str, values: ArrayLike, *columns: int) -> Floats:
    """Return a float64 array of shape (n, d) for one d of ``columns``, where 0 stands for (n,)."""
    array = as_floats(name, values, "be a host array of real numbers")
    if not (array.size and array.ndim) or array.shape[1:] not in [(d,) if d else () for d in columns]:
        allowed = " or ".join(f"(n, {d})" if d else "(n,)" for d in columns)
        raise ValueError(f"{name} must have shape {allowed} with n >= 1, got {array.shape}")
    return array


def middle_terms(name: str, values: ArrayLike) -> Floats:
    """Entries 2 ... T of a table of length T + 1."""
    table = points_array(name, values, 0)
    if len(table) < 2:
        raise ValueError(f"{name} must have shape (T + 1,) with T >= 1, got {table.shape}")
    if not np.all(np.isfinite(table[2:])):
        raise ValueError(f"{name} must be finite for t = 2..T, got NaN or infinite entries")
    return table[2:]


def checked_chain(
    name: str, frames: Sequence[ArrayLike], times: ArrayLike
) -> tuple[list[Floats], NDArray[Any]]:
    """Check a sequence of (n, 2) arrays and the time of each."""
    t, arrays = checked_times(times), as_list(name, frames, "arrays")
    if len(arrays) != len(t):
        raise ValueError(f"{name} must hold one array for each of the {len(t)} times, got {len(arrays)}")
    return [points_array(f"{name}[{i}]", frame, 2) for i, frame in enumerate(arrays)], t


def checked_times(times: ArrayLike) -> NDArray[Any]:
    """Return times as an array of integers."""
    t = np.asarray(as_list("times", times, "integers"))
    if t.ndim != 1 or not np.issubdtype(t.dtype, np.integer) or not len(t):
        raise TypeError(f"times must be a non-empty sequence of integers, got {describe(times)}")
    return t


def checked_suffix(path: Path, allowed: tuple[str, ...]) -> str:
    """Return the ending of a path if it is one of those allowed."""
    suffix = as_path("path", path).suffix.lower()
    if suffix not in allowed:
        raise ValueError(f"path must end in {' or '.join(allowed)}, got {shortened(os.fspath(path))}")
    return suffix
