"""What examples/swiss_roll.py reports about a run: a summary, a table, pictures."""

import math
from typing import Any

import _command_line  # noqa: F401  # before NumPy: it sets BLAS threads
from _training import Run, loss_curve, mean, nearest, strip_times

# isort: split
import numpy as np

import ddpm_np as ddpm
from ddpm_np.data.distances import sliced_wasserstein
from ddpm_np.elbo import Elbo
from ddpm_np.exact import Budget, NoisyCurve
from ddpm_np.randomness import BOUND, TEST, generator
from ddpm_np.runs.evaluation import standard_error
from ddpm_np.runs.log import MetricsLog

STRIP, MOVIE = 7, 60
"""About how many times are shown in the strips and in the animation."""
PARTS = {
    "start": "x_T is not the noise that sampling starts from: less signal at T helps",
    "steps": "a reversed step is not Gaussian: more steps help",
    "variance": "the reverse variances are not the best: another --variance helps",
    "network": "the network is not the best denoiser: training helps",
    "sum": "of the four",
    "gap": "measured without them",
}
"""Of a budget, and what they mean."""
FLOOR_PAIRS = 8
"""Pairs of fresh data sets over which sliced Wasserstein distances are averaged."""


def shown_times(T: int) -> set[int]:
    """Times at which the pictures show the samples."""
    return {*strip_times(T, STRIP), *strip_times(T, MOVIE)}


def judge(
    law: NoisyCurve, bound: Elbo, oracle: Elbo, budget: Budget, samples: np.ndarray, options: Any
) -> dict[str, Any]:
    """Compare the bound and the samples with the truth; the summary's entries."""
    entropy, excess = law.entropy(), oracle.total - bound.total
    return {
        "nats": {
            "L_T": mean(bound.L_T),
            "L_mid": float(np.sum(bound.L)),
            "L_0": mean(bound.L_0),
            "elbo": mean(bound.total),
            "elbo_se": standard_error(bound.total),
        },
        "entropy": entropy,
        "gap": -mean(bound.total) - entropy,
        "oracle_gap": -mean(oracle.total) - entropy,
        **distances(law, samples, options.seed),
        "seed": options.seed,
        "variance": options.variance,
        "oracle_gap_se": standard_error(oracle.total),
        "excess_gap": mean(excess),
        "excess_gap_se": standard_error(excess),
        "budget": {name: {"total": p.total, "se": p.se} for name, p in budget._asdict().items()},
    }


def distances(law: NoisyCurve, samples: np.ndarray, seed: int) -> dict[str, float]:
    """Sliced Wasserstein-2 from samples to fresh data, and between fresh data sets."""
    sets = [law.sample(len(samples), generator(seed, TEST, part + 1)) for part in range(2 * FLOOR_PAIRS)]
    ours = [sliced_wasserstein(samples, one, seed=seed) for one in sets[:FLOOR_PAIRS]]
    floor = [
        sliced_wasserstein(one, other, seed=seed)
        for one, other in zip(sets[:FLOOR_PAIRS], sets[FLOOR_PAIRS:], strict=True)
    ]
    return {"sliced_w2": mean(np.array(ours)), "sliced_w2_floor": mean(np.array(floor))}


def check_finite(summary: dict[str, Any]) -> None:
    """Raise FloatingPointError unless the figures are finite."""
    figures = (*summary["nats"].values(), summary["excess_gap_se"], summary["sliced_w2"])
    if not all(map(math.isfinite, figures)):
        raise FloatingPointError(
            "the bound or the samples' distance is not finite: "
            "train longer, or with a lower learning rate"
        )


def print_table(summary: dict[str, Any]) -> None:
    """Print the bound and what it should be."""
    nats = summary["nats"]
    oracle, excess = (f"+- {summary[name]:.4f}" for name in ("oracle_gap_se", "excess_gap_se"))
    rows = (
        ("L_T", nats["L_T"], "prior term"),
        ("L_1 + ... + L_{T-1}", nats["L_mid"], "denoising terms"),
        ("L_0", nats["L_0"], "reconstruction term"),
        ("ELBO", nats["elbo"], "their sum: the bound on log p(x_0)"),
        ("entropy of the data", summary["entropy"], "exact: no model's -ELBO can be lower on average"),
        ("gap", summary["gap"], f"-ELBO - entropy: away from the truth, +- {nats['elbo_se']:.4f}"),
        ("gap of the oracle", summary["oracle_gap"], f"of the best possible denoiser, {oracle}"),
        ("excess over the oracle", summary["excess_gap"], f"their difference, point by point, {excess}"),
    )
    print(f"\nIn nats per point, reverse variance {summary['variance']!r}:")
    for name, value, remark in rows:
        print(f"  {name:<24}{short(value):>10}   {remark}")
    print("Where each nat of the gap went, on draws of its own:")
    for name, remark in PARTS.items():
        part = summary["budget"][name]
        print(f"  {name:<24}{short(part['total']):>10}   +- {part['se']:.4f}   {remark}")
    print("Distance of the samples from fresh data:")
    print(f"  {'sliced W2':<24}{short(summary['sliced_w2']):>10}")
    floor = short(summary["sliced_w2_floor"])
    print(f"  {'its floor':<24}{floor:>10}   between two fresh data sets\n")


def short(value: float) -> str:
    """Four decimals, or an exponent if very small or large."""
    return f"{value:.4f}" if 1e-4 <= abs(value) < 1e5 else f"{value:.0e}"


def draw(
    run: Run,
    log: MetricsLog,
    bound: Elbo,
    oracle: Elbo,
    budget: Budget,
    test: np.ndarray,
    frames: dict[int, np.ndarray],
) -> None:
    """Draw every picture; ``frames`` are the samples' x_t by t."""
    from ddpm_np.plotting import plot_budget
    from ddpm_np.plotting import points as plotting

    options, schedule, folder = run.options, run.recipe.schedule, run.options.out_dir
    plotting.save(plotting.plot_samples(test, frames[0]), folder / "samples.png")

    times = nearest(frames, strip_times(schedule.T, STRIP))
    noise = generator(options.seed, BOUND, schedule.T + 1).standard_normal(test.shape)
    forward = [ddpm.q_sample(schedule, test, t, noise) for t in times]
    reverse = [frames[t] for t in reversed(times)]
    plotting.save(plotting.plot_trajectory(forward, reverse, times), folder / "trajectory.png")

    elbo = plotting.plot_elbo(bound.L, L_T=mean(bound.L_T), L_0=mean(bound.L_0), oracle=oracle.L)
    plotting.save(elbo, folder / "elbo.png")
    parts = {name: getattr(budget, name).per_t for name in ("steps", "variance", "network")}
    picture = plot_budget(parts, start=budget.start.total, gap=budget.gap)
    plotting.save(picture, folder / "budget.png")
    plotting.save(plotting.plot_loss(*loss_curve(log)), folder / "loss.png")
    plotting.save(plotting.plot_schedule({options.schedule: schedule}), folder / "schedule.png")
    if options.animate:
        order = sorted(frames, reverse=True)
        plotting.animate_reverse([frames[t] for t in order], order, folder / "reverse.gif")
