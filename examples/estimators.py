"""Compare Monte Carlo estimators of the bound: their expectation, variance and price.

    python examples/estimators.py

Document D's three estimators, and two better ways to draw t, on the swiss roll with its
Bayes-optimal denoiser, which is known: nothing is trained. Prints a table, and writes
estimators.png and summary.json to --out-dir.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

from _command_line import folder, integer, run_command  # before NumPy: it sets BLAS threads

# isort: split
import numpy as np

import ddpm_np as ddpm
from ddpm_np._arrays import Table
from ddpm_np.estimators.three import (
    entropy_constant,
    one_sample_estimate,
    t_sample_estimate,
    two_sample_conditional_variance,
    two_sample_estimate,
)
from ddpm_np.estimators.times import (
    importance_probabilities,
    importance_weight,
    spread_uniforms,
    times_from_uniforms,
)
from ddpm_np.exact import NoisyCurve, swiss_roll_exact
from ddpm_np.randomness import BOUND, TEST, generator
from ddpm_np.runs.files import write_json
from ddpm_np.runs.log import prepare_folder
from ddpm_np.schedules import Schedule

BATCH = 64
"""Times that are spread evenly together."""
BY_TIME, T_SAMPLE, TWO_SAMPLE, ONE_SAMPLE, IMPORTANCE, SPREAD, SPREAD_IMPORTANCE = range(7)
"""What random numbers are for."""


class Problem(NamedTuple):
    """A law, a denoiser and a schedule: all that the estimators are told."""

    law: NoisyCurve
    schedule: Schedule
    sigma2: Table
    seed: int

    def predict(self, x_t: Any, t: Any) -> Any:
        """Bayes-optimal epsilon_theta."""
        return self.law.bayes_eps(self.schedule, x_t, t)

    def draw(self, n: int, purpose: int, part: int = 0) -> tuple[np.ndarray, np.random.Generator]:
        """Fresh observations, and a generator for the rest."""
        x0 = self.law.sample(n, generator(self.seed, TEST, purpose, part))
        return x0, generator(self.seed, BOUND, purpose, part)


class ByTime(NamedTuple):
    """Moments of single estimates given t, tables of length T + 1; entry 0 is unused."""

    mean: Table
    one_sample: Table
    two_sample: Table
    conditional: Table


class Row(NamedTuple):
    """One estimator: single estimates of the ELBO, and the evaluations that each takes."""

    name: str
    estimates: np.ndarray
    cost: int


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_command("estimators.py", parse, run, arguments)


def run(options: argparse.Namespace) -> None:
    """Measure, print, draw."""
    prepare_folder(options.out_dir, ("summary.json", "estimators.png"))
    schedule = ddpm.scaled_linear_schedule(options.timesteps)
    sigma2 = ddpm.reverse_variance(schedule, "beta")
    problem = Problem(swiss_roll_exact(), schedule, sigma2, options.seed)
    print(f"measuring the moments at each of {schedule.T} times, {options.points} points", flush=True)
    by_time = measure_by_time(problem, options.points)
    # The table of times is made from other draws than it is judged by.
    probabilities = importance_probabilities(by_time.one_sample + by_time.mean**2)
    print("measuring the estimators", flush=True)
    rows = measure(problem, options.points, probabilities)
    entropy = problem.law.entropy()
    print_table(rows, entropy)
    records = [summary(row) for row in rows]
    write_json(options.out_dir / "summary.json", {"entropy": entropy, "estimators": records})
    draw(options.out_dir / "estimators.png", rows, by_time, probabilities)
    print(f"everything is in {options.out_dir}")


# --- the command line ---------------------------------------------------------------------


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; a mistake is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(
        description="Compare Monte Carlo estimators of the bound: expectation, variance and price.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--seed", type=integer(0, 2**63), default=0, help="of everything random")
    add("--timesteps", type=integer(1), default=100, help="T, the number of diffusion steps")
    add("--points", type=integer(20), default=10_000, help="estimates by which each is judged")
    add("--out-dir", type=folder, default=Path("runs/estimators"), help="where everything is written")
    options = parser.parse_args(arguments)
    try:
        ddpm.scaled_linear_schedule(options.timesteps)
    except ValueError as error:
        parser.error(f"--timesteps {options.timesteps}: {error}")
    return options


# --- measuring ----------------------------------------------------------------------------


def measure_by_time(problem: Problem, points: int) -> ByTime:
    """Mean and variances of single estimates at each t, over fresh data and noise."""
    schedule, predict, sigma2 = problem.schedule, problem.predict, problem.sigma2
    rows = [(0.0, 0.0, 0.0, 0.0)]
    for t in range(1, schedule.T + 1):
        x0, rng = problem.draw(points, BY_TIME, t)
        noise, other, step_noise = rng.standard_normal((3, *x0.shape))
        one = one_sample_estimate(schedule, predict, x0, t, noise=noise, sigma2=sigma2)
        added = two_sample_conditional_variance(schedule, predict, x0, t, noise=noise, sigma2=sigma2)
        two = two_sample_estimate(
            schedule, predict, x0, t, noise=other, step_noise=step_noise, sigma2=sigma2
        )
        rows.append(tuple(float(v) for v in (one.mean(), one.var(), two.var(), added.mean())))
    return ByTime(*np.array(rows).T)


def measure(problem: Problem, points: int, probabilities: Table) -> list[Row]:
    """Single estimates of the ELBO by every estimator."""
    schedule, predict, sigma2 = problem.schedule, problem.predict, problem.sigma2
    T, d = schedule.T, problem.law.d
    uniform = np.concatenate([[0.0], np.full(T, 1.0 / T)])
    # What an estimate lacks for the ELBO does not depend on the network.
    L_T = float(np.mean(ddpm.prior_term(schedule, problem.draw(100_000, BY_TIME)[0])))
    constant = entropy_constant(schedule, d)

    def one_sample(purpose: int, uniforms: np.ndarray, p: Table) -> np.ndarray:
        x0, rng = problem.draw(len(uniforms), purpose)
        t, noise = times_from_uniforms(uniforms, p), rng.standard_normal(x0.shape)
        estimate = one_sample_estimate(schedule, predict, x0, t, noise=noise, sigma2=sigma2)
        return L_T + importance_weight(p, t) * estimate

    def independent(purpose: int) -> np.ndarray:
        return generator(problem.seed, BOUND, purpose, 1).random(points)

    def spread(purpose: int, p: Table) -> np.ndarray:
        starts = generator(problem.seed, BOUND, purpose, 1).random(points // 10)
        uniforms = np.concatenate([spread_uniforms(u, BATCH) for u in starts])
        return one_sample(purpose, uniforms, p).reshape(-1, BATCH).mean(axis=1)

    x0, rng = problem.draw(points, T_SAMPLE)
    whole = t_sample_estimate(
        schedule, predict, x0, noise=lambda t: rng.standard_normal(x0.shape), sigma2=sigma2
    )
    y0, rng_2 = problem.draw(points, TWO_SAMPLE)
    noise, step_noise = rng_2.standard_normal((2, *y0.shape))
    t = times_from_uniforms(independent(TWO_SAMPLE), uniform)
    two = two_sample_estimate(
        schedule, predict, y0, t, noise=noise, step_noise=step_noise, sigma2=sigma2
    )
    return [
        Row("T-sample", L_T + constant + whole, T),
        Row("two-sample", L_T + constant + two, 1),
        Row("one-sample", one_sample(ONE_SAMPLE, independent(ONE_SAMPLE), uniform), 1),
        Row("  low-discrepancy t", spread(SPREAD, uniform), BATCH),
        Row("  importance-sampled t", one_sample(IMPORTANCE, independent(IMPORTANCE), probabilities), 1),
        Row("  both", spread(SPREAD_IMPORTANCE, probabilities), BATCH),
    ]


def summary(row: Row) -> dict[str, Any]:
    """Moments of one estimator, with standard errors."""
    values, n = row.estimates, len(row.estimates)
    variance = float(np.var(values, ddof=1))
    fourth = float(np.mean((values - values.mean()) ** 4))
    return {
        "name": row.name.strip(),
        "elbo": float(values.mean()),
        "elbo_se": math.sqrt(variance / n),
        "variance": variance,
        "variance_se": math.sqrt(max(fourth - variance**2, 0.0) / n),
        "evaluations": row.cost,
        "estimates": n,
    }


def average_variance(
    by_time: ByTime, probabilities: Table, batch: int, spread: bool, starts: int = 256
) -> float:
    """Variance of an average of ``batch`` one-sample estimates, from the moments at each t."""
    T, p = len(probabilities) - 1, probabilities
    weight = np.divide(1.0, T * p, out=np.zeros(T + 1), where=p > 0.0)
    mean, within = weight * by_time.mean, float(p @ (weight**2 * by_time.one_sample))
    if not spread:
        return (within + float(p @ (mean - p @ mean) ** 2)) / batch
    # The average over a batch of spread times has period 1 / batch in u.
    grid = (np.arange(starts) + 0.5) / starts / batch
    averages = [float(np.mean(mean[times_from_uniforms(spread_uniforms(u, batch), p)])) for u in grid]
    return within / batch + float(np.var(averages))


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

    from ddpm_np.plotting.points import PALETTE, save

    blue, vermillion, green, orange, purple, sky, black = PALETTE
    figure = Figure(figsize=(10.6, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    T = len(probabilities) - 1
    t = np.arange(1, T + 1)
    some = np.unique(np.geomspace(1, T, 24).round().astype(int))
    left.plot(
        some, by_time.two_sample[some], "o", ms=5, mfc="none", color=vermillion, label="two-sample"
    )
    left.plot(
        t, (by_time.one_sample + by_time.conditional)[1:], color=black, lw=1.2,
        label="one-sample + E[conditional variance]",
    )  # fmt: skip
    left.plot(t, by_time.one_sample[1:], "-", lw=2, color=blue, label="one-sample")
    left.plot(t, by_time.mean[1:] ** 2, ":", lw=2, color=sky, label="(one-sample mean)²")
    left.set(
        xlabel="$t$", ylabel="variance of one estimate given $t$ (nats²)", xscale="log", yscale="log",
        title="What integrating out $x_{t-1}$ saves",
    )  # fmt: skip
    left.legend(frameon=False, fontsize="small")

    uniform = np.concatenate([[0.0], np.full(T, 1.0 / T)])
    batches = 2 ** np.arange(0, 15)
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
        right.plot(x, y, style, lw=1.8, color=color, label=label)
        right.plot(s["evaluations"], s["variance"], "o", ms=6, color=color, mec="white", mew=0.8)
    right.set(
        xlabel="evaluations of the network", ylabel="variance of the average (nats²)",
        xscale="log", yscale="log", title="What an evaluation buys (dots: measured)",
    )  # fmt: skip
    right.legend(frameon=False, fontsize="small")
    for axes in (left, right):
        axes.grid(alpha=0.25, lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


if __name__ == "__main__":
    sys.exit(main())
