"""Compare Monte Carlo estimators of the bound: their expectation, variance and cost.

    python examples/estimators.py

Document D's three estimators, and two better ways to draw t, on the swiss roll with its
Bayes-optimal denoiser, which is known: nothing is trained. Prints a table, and writes
estimators.png and summary.json to --out-dir.
"""

if __name__ == "__main__":
    import _signals

    _signals.exit_at_once("estimators.py")  # until run_command takes over

import argparse
import math
import sys
from pathlib import Path
from typing import Any

# _command_line before NumPy: it sets BLAS threads
from _command_line import OUT_DIR, folder, integer, new_parser, require_plotting, run_command
from _estimators_measured import (
    BATCH,
    ByTime,
    Problem,
    Row,
    average_variance,
    measure,
    measure_by_time,
    summary,
    uniform_table,
)

# isort: split
import numpy as np

import ddpm_np as ddpm
from ddpm_np import Table
from ddpm_np.estimators.times import importance_probabilities
from ddpm_np.exact import swiss_roll_exact
from ddpm_np.runs.files import write_json
from ddpm_np.runs.folder import hold_folder


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_command("estimators.py", parse, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Measure, print, draw."""
    require_plotting()
    with hold_folder(options.out_dir, ("summary.json", "estimators.png")):
        run_in_folder(options)
    print(f"everything is in {options.out_dir}")


def run_in_folder(options: argparse.Namespace) -> None:
    """Write both files."""
    schedule = ddpm.scaled_linear_schedule(options.timesteps)
    sigma2 = ddpm.reverse_variance(schedule, "beta")
    problem = Problem(swiss_roll_exact(), schedule, sigma2, options.seed)
    print(f"measuring the moments at each of {schedule.T} times, {options.points} points", flush=True)
    by_time = measure_by_time(problem, options.points)
    # The probabilities come from other draws than those that they are judged on.
    probabilities = importance_probabilities(by_time.one_sample + by_time.mean**2)
    print("measuring the estimators", flush=True)
    rows = measure(problem, options.points, probabilities)
    entropy = problem.law.entropy()
    print_table(rows, entropy)
    records = [summary(row) for row in rows]
    write_json(options.out_dir / "summary.json", {"entropy": entropy, "estimators": records})
    draw(options.out_dir / "estimators.png", rows, by_time, probabilities)


# --- the command line ---------------------------------------------------------------------


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; a mistake is one sentence and exit status 2."""
    parser = new_parser("Compare Monte Carlo estimators of the bound: expectation, variance and price.")
    add = parser.add_argument
    add("--seed", type=integer(0, 2**63), default=0, help="random seed")
    add("--timesteps", type=integer(1), default=100, help="T, the number of diffusion steps")
    add("--points", type=integer(20), default=10_000, help="estimates from which each is judged")
    add("--out-dir", type=folder, default=Path("runs/estimators"), help=OUT_DIR)
    options = parser.parse_args(arguments)
    try:
        ddpm.scaled_linear_schedule(options.timesteps)
    except ValueError as error:
        parser.error(f"--timesteps {options.timesteps}: {error}")
    return options


# --- what people see ----------------------------------------------------------------------


def print_table(rows: list[Row], entropy: float) -> None:
    """Print one line for each estimator."""
    print(f"\n{'in nats':<24}{'ELBO':>20}{'variance':>21}{'cost':>7}{'variance x cost':>18}")
    for row in rows:
        s = summary(row)
        elbo = f"{s['elbo']:.3f} +- {s['elbo_se']:.3f}"
        variance = f"{s['variance']:.4g} +- {s['variance_se']:.2g}"
        product = f"{s['variance'] * row.cost:.4g}"
        print(f"{row.name:<24}{elbo:>20}{variance:>21}{row.cost:>7}{product:>18}")
    print(f"{'-entropy of the data':<24}{-entropy:>10.3f}   exact: no expected ELBO is higher")
    print(f"cost: evaluations of the network; low-discrepancy rows average {BATCH} of them\n")


def draw(path: Path, rows: list[Row], by_time: ByTime, probabilities: Table) -> None:
    """Draw the variance against t, and against the number of evaluations."""
    from matplotlib.figure import Figure

    from ddpm_np.plotting.points import save

    figure = Figure(figsize=(10.6, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    draw_variance_by_time(left, by_time)
    draw_price(right, rows, by_time, probabilities)
    for axes in (left, right):
        axes.legend(frameon=False, fontsize="small")
        axes.grid(alpha=0.25, lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def draw_variance_by_time(axes: Any, by_time: ByTime) -> None:
    """Draw the variance of one estimate given t, which the law of total variance splits in two."""
    from ddpm_np.plotting.points import PALETTE

    blue, vermillion, _, _, _, sky, black = PALETTE
    T = len(by_time.mean) - 1
    t = np.arange(1, T + 1)
    some = np.unique(np.geomspace(1, T, 24).round().astype(int))
    two, one, mean = by_time.two_sample[some], by_time.one_sample[1:], by_time.mean[1:]
    both = (by_time.one_sample + by_time.conditional)[1:]
    axes.plot(some, two, "o", ms=5, mfc="none", color=vermillion, label="two-sample")
    axes.plot(t, both, color=black, lw=1.2, label="one-sample + E[conditional variance]")
    axes.plot(t, one, "-", lw=2, color=blue, label="one-sample")
    axes.plot(t, mean**2, ":", lw=2, color=sky, label="(one-sample mean)²")
    axes.set(xlabel="$t$", ylabel="variance of one estimate given $t$ (nats²)")
    axes.set(xscale="log", yscale="log", title="What integrating out $x_{t-1}$ saves")


def draw_price(axes: Any, rows: list[Row], by_time: ByTime, probabilities: Table) -> None:
    """Draw the variance of an average against the evaluations in it: predicted, and measured."""
    from ddpm_np.plotting.points import PALETTE

    blue, vermillion, green, orange, purple, _, black = PALETTE
    T = len(probabilities) - 1
    uniform, batches = uniform_table(T), 2 ** np.arange(0, 15)
    measured = {row.name.strip(): summary(row) for row in rows}
    whole, two = measured["T-sample"]["variance"], measured["two-sample"]["variance"]

    def curve(p: Table, spread: bool) -> np.ndarray:
        return np.array([average_variance(by_time, p, int(n), spread) for n in batches])

    chains = T * 2.0 ** np.arange(0, max(1, 15 - round(math.log2(T))))
    lines = {
        "two-sample": (batches, two / batches, vermillion, "-"),
        "T-sample": (chains, whole * T / chains, black, "-"),
        "one-sample": (batches, curve(uniform, False), blue, "-"),
        "low-discrepancy t": (batches, curve(uniform, True), green, "--"),
        "importance-sampled t": (batches, curve(probabilities, False), orange, "-."),
        "both": (batches, curve(probabilities, True), purple, "--"),
    }
    for name, (x, y, color, style) in lines.items():
        s = measured[name]
        label = name if name.endswith("-sample") else f"one-sample, {name}"
        axes.plot(x, y, style, lw=1.8, color=color, label=label)
        axes.plot(s["evaluations"], s["variance"], "o", ms=6, color=color, mec="white", mew=0.8)
    axes.set(xlabel="evaluations of the network", ylabel="variance of the average (nats²)")
    axes.set(xscale="log", yscale="log", title="What an evaluation buys (dots: measured)")


if __name__ == "__main__":
    sys.exit(main())
