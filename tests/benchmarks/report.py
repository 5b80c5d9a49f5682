"""The page of results, written from the raw numbers alone."""

import math
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from spreads import Spread, fastest, ratios, spread
from works import PRODUCTS, RATIOS, T

Row = dict[str, Any]
NONE = "–"
FACTORS = ((1e-6, "µs"), (1e-3, "ms"), (1.0, "s"))


def page(results: dict[str, Any], picture: str) -> str:
    """The whole document; ``picture`` is the link to the figure, or empty."""
    parts = ["# Benchmarks" + (" on a GPU" if results["device"] == "cuda" else "")]
    parts += introduction(results)
    parts += ["## The machine", machine(results)]
    if results["rows"]:
        if picture:
            parts += ["## At a glance", f"![Times divided by those of PyTorch eager]({picture})"]
        for threads in sorted({row["threads"] for row in results["rows"]}):
            parts += comparison(results, threads)
    if results["startup"]:
        parts += startup(results)
    if results["memory"]:
        parts += memory(results)
    parts += method(results)
    return "\n\n".join(parts) + "\n"


# --- the sections -------------------------------------------------------------------------


def introduction(results: dict[str, Any]) -> list[str]:
    """What this is and how it came about."""
    return [
        paragraph(
            "The same work done by this project and by PyTorch, side by side. This page and its "
            f"picture were written by one command, on {results['date']}:"
        ),
        f"    {results['command']}",
        paragraph(
            "Times are medians over the rounds, with the smallest and the largest in brackets. A ratio "
            "divides two times of the same round, so that whatever slows a whole round cancels; it too "
            "is given as median, smallest and largest. **Below 1 the first is faster.**"
        ),
    ]


def machine(results: dict[str, Any]) -> str:
    """The machine and the versions."""
    return table(["", ""], [[name, value] for name, value in results["machine"].items()])


def comparison(results: dict[str, Any], threads: int) -> list[str]:
    """Times, ratios and shares with one number of threads."""
    rows = [row for row in results["rows"] if row["threads"] == threads]
    names, labels = zip(*results["contenders"].items(), strict=True)

    def times(row: Row) -> list[str]:
        return [cell(row["seconds"].get(name), duration) for name in names] + [bound(results, row)]

    def compared(row: Row) -> list[str]:
        return [
            cell_of(ratios(row["seconds"][one], row["seconds"][other]), plain)
            if one in row["seconds"] and other in row["seconds"]
            else NONE
            for one, other in pairs
        ]

    pairs = [pair for pair in RATIOS[results["device"]] if set(pair) <= set(names)]
    short = {
        name: label.replace("PyTorch ", "").replace("PyTorch, ", "")
        for name, label in results["contenders"].items()
    }
    heads = [f"{short[one]} / {short[other]}" for one, other in pairs]
    found = [
        heading(results, threads),
        table(["work", *labels, "matrix products alone"], [[row["label"], *times(row)] for row in rows]),
        "Ratios of these times:",
        table(["work", *heads], [[row["label"], *compared(row)] for row in rows]),
    ]
    shares = [
        [row["label"], *share(results, row, names)] for row in rows if least_products(results, row)
    ]
    if shares:
        text = (
            "Share of the roofline: the time of the work's matrix products alone, divided by the time "
            "of the work. At 100 % everything else would be free."
        )
        found += [paragraph(text), table(["work", *labels], shares)]
    wholes = [row for row in rows if row["whole"]]
    if wholes:
        text = (
            f"Chains were timed over {wholes[0]['units']} steps. Every step is the same work, so whole "
            f"chains take {T:,} times the figures above:"
        )
        cells = [
            [row["whole"], *(cell(scaled(row["seconds"].get(name)), duration) for name in names)]
            for row in wholes
        ]
        found += [paragraph(text), table(["work", *labels], cells)]
    return found


def heading(results: dict[str, Any], threads: int) -> str:
    """Of a comparison."""
    if results["device"] == "cuda":
        return "## Times"
    return f"## {'One thread' if threads == 1 else f'{threads} threads'}"


def startup(results: dict[str, Any]) -> list[str]:
    """From nothing to a first step."""
    text = (
        "Each start is a fresh process, with the operating system's file cache warm. Those that compile "
        "keep the result on disk: they were started once with an empty folder for it and once with a "
        "filled one. The time to the first step is counted from before the process starts."
    )
    rows = [
        [
            row["label"],
            {"": NONE, "empty": "empty", "filled": "filled"}[row["cache"]],
            cell(row["loaded"], duration),
            cell(row["first"], duration),
        ]
        for row in results["startup"]
    ]
    heads = ["", "compiled code on disk", "libraries loaded after", "first training step done after"]
    return ["## From start to the first training step", paragraph(text), table(heads, rows)]


def memory(results: dict[str, Any]) -> list[str]:
    """Peaks of resident memory."""
    text = (
        "The peak resident memory of a fresh process: with its libraries loaded, after 200 training "
        "steps at batch 512, and after sampling 10,000 points. Compiled code was already on disk."
    )
    rows = [
        [row["label"], *(cell(row[name], size) for name in ("loaded", "train", "sample"))]
        for row in results["memory"]
    ]
    return [
        "## Peak memory",
        paragraph(text),
        table(["", "libraries loaded", "training", "sampling"], rows),
    ]


def method(results: dict[str, Any]) -> list[str]:
    """What was done, so that somebody can find fault with it."""
    on_gpu = results["device"] == "cuda"
    points = [
        "Every contender runs in a process of its own. The processes work one at a time, in an "
        f"order that is reversed from round to round, for {results['rounds']} rounds of blocks of about "
        f"{results['block']:g} s; the others block on a read.",
        "A training step is all of Algorithm 1: a batch of 2-D points drawn from 100,000, times, noise, "
        "x_t, forward, backward, Adam, and the running average of the parameters. The network is "
        "`MLPDenoiser(2, 1000)`: width 128, three residual layers, an embedding of 64; float32.",
        "The step on images is the same with `ConvDenoiser(1, 1000, width, blocks=2)` and a batch of "
        "128 of 8 x 8 pixels; PyTorch holds them channels last.",
        "PyTorch uses fused Adam, gradients set to None, one foreach call for the average, and "
        "precomputed tables; no data loader, nothing that waits for a value, and inference mode where "
        "nothing is trained. Where all rows share one time, its embedding is multiplied once, on both "
        "sides. Compiled is `torch.compile` of everything between the draws and the loss, or of one "
        "step of a chain, for fixed sizes; compilation is not in the times.",
        "The bound keeps every term of every point. Noise is drawn by each side's own generator.",
        "The matrix products are those that the work needs: forward, gradients of weights, and "
        "gradients of inputs except the first layer's. Operands are laid out as in the work. In each "
        "round the fastest of three counts: NumPy, PyTorch, and NumPy on as many threads in blocks of "
        "256 rows that stay in their caches.",
    ]
    if on_gpu:
        points += [
            "TF32 is off on both sides. Every block ends with a synchronisation. The products were "
            "captured in a CUDA graph.",
        ]
    else:
        points += [
            "All have the same number of threads. `ours, numba` brings its own and leaves its BLAS "
            "library one; the others thread inside the libraries.",
        ]
    listed = "\n".join(textwrap.fill(f"* {point}", 99, subsequent_indent="  ") for point in points)
    last = (
        "The programs are in `tests/benchmarks/run.py` and beside it; `tests/test_benchmarks.py` checks "
        "that both sides do the same work, to float32 rounding. Raw numbers go to `runs/`."
    )
    return ["## How it was measured", listed, paragraph(last)]


# --- cells --------------------------------------------------------------------------------


def least_products(results: dict[str, Any], row: Row) -> list[float]:
    """Seconds of the matrix products alone, by the fastest in each round; empty without any."""
    names = [one.name for one in PRODUCTS[results["device"]] if one.name in row["seconds"]]
    return fastest(row["seconds"][name] for name in names)


def bound(results: dict[str, Any], row: Row) -> str:
    """The products' time and rate."""
    seconds = least_products(results, row)
    if not seconds:
        return NONE
    found = spread(seconds)
    return f"{cell_of(found, duration)}, {row['flops'] / found.median / 1e9:.0f} GFLOP/s"


def share(results: dict[str, Any], row: Row, names: Sequence[str]) -> list[str]:
    """The products' time divided by each contender's."""
    least = least_products(results, row)
    return [
        cell_of(ratios(least, row["seconds"][name]), percent) if name in row["seconds"] else NONE
        for name in names
    ]


def scaled(seconds: Sequence[float] | None) -> list[float] | None:
    """Seconds of a whole chain."""
    return None if seconds is None else [T * value for value in seconds]


Form = Callable[[Spread], tuple[float, str, int]]
"""The unit to print a spread in, its name, and the digits behind the point."""


def duration(found: Spread) -> tuple[float, str, int]:
    """Three digits in the unit that suits the median."""
    factor, unit = max((pair for pair in FACTORS if pair[0] <= found.median), default=FACTORS[0])
    return factor, f" {unit}", digits(found.median / factor)


def size(found: Spread) -> tuple[float, str, int]:
    """Whole mebibytes."""
    return 2.0**20, " MiB", 0


def plain(found: Spread) -> tuple[float, str, int]:
    """A number by itself."""
    return 1.0, "", 2


def percent(found: Spread) -> tuple[float, str, int]:
    """Whole percents."""
    return 0.01, " %", 0


def digits(value: float) -> int:
    """Digits behind the point that make three in all."""
    return max(0, 2 - math.floor(math.log10(value))) if value > 0.0 else 0


def cell(values: Sequence[float] | None, form: Form) -> str:
    """Median and range of measurements, or a dash."""
    return NONE if values is None else cell_of(spread(values), form)


def cell_of(found: Spread, form: Form) -> str:
    """Median and range."""
    factor, unit, places = form(found)
    median, low, high = (f"{value / factor:.{places}f}" for value in found)
    return f"{median}{unit} ({low}–{high})"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; figures are aligned to the right."""
    rule = ["---", *["---:"] * (len(heads) - 1)] if any(heads) else ["---"] * len(heads)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (heads, rule, *rows))


def paragraph(text: str) -> str:
    """Text in lines of a length to read."""
    return textwrap.fill(text, 99, break_long_words=False, break_on_hyphens=False)
