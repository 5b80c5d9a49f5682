"""Pictures of data, samples, trajectories, losses, bounds and schedules.

Every function takes host arrays and returns a new matplotlib ``Figure``: no pyplot, no
global state, no display. :func:`save` writes one. An argument of the wrong type or shape raises
TypeError or ValueError that names it. The colours are those of Okabe and Ito.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, MaxNLocator, ScalarFormatter
from numpy.typing import ArrayLike
from PIL import Image
from scipy.ndimage import median_filter

from ddpm_np._checks import as_texts, check_integer, check_mapping, check_real, check_text, describe
from ddpm_np.plotting.panels import (
    Path,
    checked_chain,
    checked_suffix,
    draw_dots,
    draw_histogram,
    is_inside,
    limits,
    middle_terms,
    points_array,
    single_panel,
)
from ddpm_np.runs.files import atomic_write
from ddpm_np.schedules import Schedule, check_schedule

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9", "#000000")
BLUE, VERMILLION, _, _, _, SKY, _ = PALETTE
_LINE_STYLES = ("-", "--", "-.", ":")
_TRIM = 0.002  # share of the points of a trajectory that may lie beyond each side of its panels
_MOST_BARS = 60  # above this, bars become one filled outline over a logarithmic axis
_LAST_FRAME_MS = 2000
_NO_DATES = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def plot_samples(
    data: ArrayLike, samples: ArrayLike, *, titles: tuple[str, str] = ("data", "samples")
) -> Figure:
    """Draw data beside samples on the same axes: dots for (n, 2), histograms for (n,) or (n, 1).

    The limits are those of the data, so that a few wild samples do not shrink the picture; the
    panel says how many are outside. Samples that are NaN or infinite are outside too.
    """
    panels = [points_array("data", data, 2, 1, 0), points_array("samples", samples, 2, 1, 0)]
    panels = [points.reshape(len(points), -1) for points in panels]
    names, two = as_texts("titles", titles), panels[0].shape[1] == 2
    if len(names) != 2:
        raise ValueError(f"titles must be two, of data and samples, got {len(names)}")
    if panels[1].shape[1] != panels[0].shape[1]:
        raise ValueError(
            f"samples must have the columns of data, {np.shape(data)}, got {np.shape(samples)}"
        )
    if not np.all(np.isfinite(panels[0])):
        raise ValueError("data must be finite, got NaN or infinite entries")
    window = limits("data", panels[0])
    figure = Figure(figsize=(7.6, 4.3 if two else 3.2), layout="constrained")
    both = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes, points, title, color in zip(both, panels, names, PALETTE[:2], strict=True):
        axes.set(title=title, xlabel="coordinate 1" if two else "value")
        if two:
            draw_dots(axes, points, window, color)
        else:
            draw_histogram(axes, points, window, fill=True, color=color, alpha=0.7)
        outside = np.count_nonzero(~is_inside(points, window))
        if outside:
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2.0}
            text = f"{outside} of {len(points)} outside"
            axes.text(0.02, 0.98, text, transform=axes.transAxes, va="top", fontsize="small", bbox=box)
    both[0].set_ylabel("coordinate 2" if two else "density")
    if not two:
        draw_histogram(both[1], panels[0], window, color=BLUE, linewidth=1.2, label=names[0])
        both[1].legend(loc="upper right", fontsize="small", frameon=False)
        both[1].set_ylim(0.0, 1.2 * both[1].dataLim.y1)  # room for the text and the legend
    return figure


def plot_trajectory(
    forward: Sequence[ArrayLike], reverse: Sequence[ArrayLike], times: ArrayLike
) -> Figure:
    """Draw the forward chain from x_0 to x_T above the reverse chain from x_T to x_0.

    Parameters
    ----------
    forward : sequence of arrays, shape (n, 2)
        x_t at each of ``times``, in their order.
    reverse : sequence of arrays, shape (n, 2)
        x_t in the opposite order, from the largest time to the smallest.
    times : integers, increasing
    """
    (first, t), (second, _) = (
        checked_chain("forward", forward, times),
        checked_chain("reverse", reverse, times),
    )
    if np.any(np.diff(t) <= 0):
        raise ValueError(f"times must increase, from the data to the prior, got {t.tolist()}")
    window = limits("forward", np.concatenate(first), _TRIM)
    figure = Figure(figsize=(0.5 + 1.5 * len(t), 3.7), layout="constrained")
    grid = figure.subplots(2, len(t), squeeze=False)
    grid[0, 0].set_ylabel("forward\n" + r"$q(x_t \mid x_0)$")
    grid[1, 0].set_ylabel("reverse\n" + r"$p_\theta(x_{t-1} \mid x_t)$")
    for panels, row, order, color in zip(grid, (first, second), (t, t[::-1]), PALETTE[:2], strict=True):
        for axes, points, time in zip(panels, row, order, strict=True):
            draw_dots(axes, points, window, color, scale=0.3)
            axes.set(xticks=[], yticks=[])
            axes.set_title(f"$t = {time}$", fontsize="medium")
    return figure


def animate_reverse(
    trajectory: Sequence[ArrayLike], times: ArrayLike, path: Path, *, fps: float = 20.0
) -> None:
    """Write the reverse chain as an animated GIF, atomically; the last frame stays longer.

    Parameters
    ----------
    trajectory : sequence of arrays, shape (n, 2)
        x_t in the order shown, from the prior to the data.
    times : integers, one for each frame
    path : path that ends in .gif
    fps : float in [0.1, 50]
        Frames per second; GIF rounds their durations to hundredths of a second.
    """
    checked_suffix(path, (".gif",))
    frames, t = checked_chain("trajectory", trajectory, times)
    frame_ms = 10 * round(100.0 / check_real("fps", fps, 0.1, 50.0, closed=True))
    window = limits("trajectory", np.concatenate([frames[0], frames[-1]]), _TRIM)
    figure = Figure(figsize=(4.0, 4.3), dpi=100, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xticks=[], yticks=[])
    dots = draw_dots(axes, frames[0], window, VERMILLION)
    images = []
    for points, time in zip(frames, t, strict=True):
        dots.set_offsets(points[is_inside(points, window)])
        axes.set_title(f"$x_t$, $t = {time}$", loc="left")
        canvas.draw()
        figure.set_layout_engine("none")  # every frame keeps the layout of the first
        images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy()))
    # One palette for all frames, from the most spread and the most crowded.
    ends = Image.fromarray(np.concatenate([np.asarray(images[0]), np.asarray(images[-1])]))
    palette = ends.quantize(32)
    images = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    timing = {"duration": [frame_ms] * (len(images) - 1) + [_LAST_FRAME_MS], "loop": 0}
    with atomic_write(path) as file:
        images[0].save(file, format="GIF", save_all=True, append_images=images[1:], **timing)


def plot_loss(steps: ArrayLike, loss: ArrayLike, *, smooth: int | None = None) -> Figure:
    """Draw the training loss: a light dot for every value, their running median as a line.

    ``smooth`` is the width of the centred running median in points, by default 2 % of them, from 9 to
    501, and always odd; 1 draws no line, nor does a width above half of them. Values that are not
    finite are left out, and the legend says how many.
    """
    x, y = points_array("steps", steps, 0), points_array("loss", loss, 0)
    if x.shape != y.shape:
        raise ValueError(f"loss must have the shape of steps, {x.shape}, got {y.shape}")
    finite = np.isfinite(y)
    if not finite.any():
        raise ValueError("loss must have at least one finite value, got none")
    label = "values" if finite.all() else f"values ({np.count_nonzero(~finite)} not finite)"
    x, y = x[finite], y[finite]
    width = min(max(9, len(y) // 50), 500) if smooth is None else check_integer("smooth", smooth, 1)
    width |= 1  # odd, so that the window has a centre
    figure, axes = single_panel()
    alpha = float(np.clip(30.0 / np.sqrt(len(y)), 0.2, 0.9))
    axes.plot(x, y, ".", markersize=2.5, color=SKY, alpha=alpha, label=label, rasterized=True)
    if 1 < width <= len(y) / 2:
        # Not the mean: the first losses, far above all others, would lift it for a whole window.
        median = median_filter(y, width, mode="reflect")
        axes.plot(x, median, color=BLUE, linewidth=1.8, label=f"median over {width}")
    axes.set(xlabel="step", ylabel="mean squared error", yscale="log" if y.min() > 0.0 else "linear")
    if y.min() > 0.0 and y.max() < 100.0 * y.min():  # few decades: label the ticks between them
        axes.yaxis.set_minor_formatter(FormatStrFormatter("%g"))
        axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    legend: Any = axes.legend(frameon=False, markerscale=3.0)
    legend.legend_handles[0].set_alpha(1.0)
    return figure


def plot_elbo(
    L: ArrayLike,
    *,
    L_T: float | None = None,
    L_0: float | None = None,
    oracle: ArrayLike | None = None,
    title: str | None = None,
) -> Figure:
    """Draw the terms of the bound, M2 (19): a bar of height -L_{t-1} in nats for t = 2 ... T.

    Terms that sampling noise has pushed to 0 or above cannot be shown on the logarithmic axis; the
    label of the other axis counts them, and the sum above the panel includes them.

    Parameters
    ----------
    L : array, shape (T + 1,)
        Averaged over examples; entries 2 ... T are L_{t-1}, M2 (32), the others are ignored.
    L_T, L_0 : float, optional
        The two end terms, M2 (36) and (19), written as numbers.
    oracle : array, shape (T + 1,), optional
        The terms of the Bayes-optimal denoiser, drawn as a line.
    title : str, optional
    """
    terms = {"model": middle_terms("L", L)} | (
        {} if oracle is None else {"oracle": middle_terms("oracle", oracle)}
    )
    if oracle is not None and terms["oracle"].shape != terms["model"].shape:
        raise ValueError(f"oracle must have the shape of L, {np.shape(L)}, got {np.shape(oracle)}")
    if title is not None:
        check_text("title", title)
    L_T, L_0 = _end_term("L_T", L_T), _end_term("L_0", L_0)
    T = len(terms["model"]) + 1
    middle, hidden = float(np.sum(terms["model"])), int(np.sum(terms["model"] >= 0.0))
    total = None if L_T is None or L_0 is None else L_T + middle + L_0
    numbers = {"$L_T$": L_T, r"$\sum\,L_{t-1}$": middle, "$L_0$": L_0, "ELBO": total}
    line = ",  ".join(f"{name} = {value:.4g}" for name, value in numbers.items() if value is not None)
    figure, axes = single_panel()
    axes.set_title(f"{line} nats".replace("-", "−"), loc="left", fontsize="small", pad=10.0)
    note = f"   (terms ≥ 0, not shown: {hidden})" if hidden else ""
    axes.set(xlabel=f"$t${note}", ylabel="$-L_{t-1}$ (nats)")
    if title is not None:
        figure.suptitle(title)
    heights = {name: np.where(values < 0.0, -values, np.nan) for name, values in terms.items()}
    shown = np.concatenate(list(heights.values()))
    if not np.any(shown > 0.0):
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, f"$T = {T}$: no terms $L_{{t-1}} < 0$", ha="center", va="center")
        return figure
    edges = np.arange(2, T + 2) - 0.5
    if T <= _MOST_BARS:
        handles: list[Any] = [axes.bar(np.arange(2, T + 1), heights["model"], color=SKY, label="model")]
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    else:
        handles = [axes.stairs(heights["model"], edges, fill=True, color=SKY, label="model")]
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(ScalarFormatter())
    if oracle is not None:
        style: dict[str, Any] = {"baseline": None, "color": VERMILLION, "linewidth": 1.5}
        handles.append(axes.stairs(heights["oracle"], edges, label="oracle", **style))
        axes.legend(handles=handles, frameon=False)
    top = np.nanmax(shown)
    axes.set(xlim=(edges[0], edges[-1]), ylim=(max(np.nanmin(shown) / 2.0, top * 1e-12), top * 2.0))
    axes.set_yscale("log")
    return figure


def plot_schedule(schedules: Mapping[str, Schedule]) -> Figure:
    """Draw beta_t, alpha_bar_t and the log signal-to-noise ratio of named schedules over t / T.

    log_snr[t] = log(alpha_bar[t] / (1 - alpha_bar[t]))
    """
    check_mapping("schedules", schedules)
    if not schedules:
        raise ValueError("schedules must hold at least one schedule, got none")
    figure = Figure(figsize=(10.0, 3.4), layout="constrained")
    panels = figure.subplots(1, 3)
    for i, (name, value) in enumerate(schedules.items()):
        schedule = check_schedule(value)
        x = np.arange(schedule.T + 1) / schedule.T
        log_snr = schedule.log_alpha_bar[1:] - np.log(schedule.one_minus_alpha_bar[1:])
        style = {"color": PALETTE[i % len(PALETTE)], "linestyle": _LINE_STYLES[i % 4], "label": name}
        panels[0].plot(x[1:], schedule.beta[1:], **style)
        panels[1].plot(x, schedule.alpha_bar, **style)
        panels[2].plot(x[1:], log_snr, **style)
    panels[0].set(ylabel=r"$\beta_t$", yscale="log")
    panels[1].set(ylabel=r"$\bar\alpha_t$")
    panels[2].set(ylabel=r"$\log\,[\bar\alpha_t / (1 - \bar\alpha_t)]$")
    for axes in panels:
        axes.set_xlabel("$t / T$")
        axes.spines[["top", "right"]].set_visible(False)
    lines = panels[0].get_lines()
    figure.legend(handles=lines, loc="outside lower center", ncols=min(len(lines), 5), frameon=False)
    return figure


def _end_term(name: str, value: float | None) -> float | None:
    """Return a term of the bound as a float, or None; a decoder may find x_0 impossible."""
    return None if value is None else check_real(name, value, -math.inf, math.inf, closed=True)


def save(figure: Figure, path: Path, *, dpi: float = 150.0) -> None:
    """Write a figure as PNG, SVG or PDF by the suffix of ``path``, atomically.

    The same figure gives the same bytes: no dates, no random identifiers.
    """
    suffix = checked_suffix(path, tuple(_NO_DATES))
    if not isinstance(figure, Figure):
        raise TypeError(f"figure must be a matplotlib Figure, got {describe(figure)}")
    dpi = check_real("dpi", dpi, 1.0, 10_000.0, closed=True)
    with matplotlib.rc_context({"svg.hashsalt": "ddpm-np"}), atomic_write(path) as file:
        figure.savefig(file, format=suffix[1:], dpi=dpi, metadata=_NO_DATES[suffix])
