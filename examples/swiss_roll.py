"""Train a denoising diffusion model on a swiss roll, sample from it, and measure the bound.

    python examples/swiss_roll.py --backend auto

Writes pictures, metrics, a checkpoint and a summary to --out-dir, and prints how many nats
the model is away from the truth.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from typing import Any

from _command_line import integer, run_command  # before NumPy: it sets BLAS threads
from _training import (
    LARGEST,
    add_run_flags,
    loss_curve,
    mean,
    sample,
    strip_times,
    train_or_resume,
)

# isort: split
import numpy as np

import ddpm_np as ddpm
from backends import Backend, describe_backend, get_backend
from ddpm_np._arrays import Predictor, Table
from ddpm_np.data.distances import sliced_wasserstein
from ddpm_np.elbo import warn_of_prior
from ddpm_np.exact import NoisyCurve, swiss_roll_exact
from ddpm_np.nn import Adam, MLPDenoiser, cosine_decay, mlp_loss_and_gradient, warmup
from ddpm_np.randomness import BOUND, DATA, TEST, TRAIN, generator
from ddpm_np.reverse import VARIANCES
from ddpm_np.runs.batches import Batch, batches
from ddpm_np.runs.evaluation import elbo_in_chunks, predictor, standard_error
from ddpm_np.runs.files import write_json
from ddpm_np.runs.log import MetricsLog, prepare_folder
from ddpm_np.schedules import SCHEDULES
from ddpm_np.training import Recipe

TRAINING_POINTS = 100_000
FILES = (
    *("samples.png", "trajectory.png", "elbo.png", "loss.png", "schedule.png", "reverse.gif"),
    *("metrics.jsonl", "checkpoint.npz", "summary.json"),
)
EMA_DECAY = 0.999
STRIP, MOVIE = 7, 60
"""About how many times are shown in the strips and in the animation."""
FLOOR_PAIRS = 8
"""Pairs of fresh data sets over which sliced Wasserstein distances are averaged."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_command("swiss_roll.py", parse, run, arguments)


@np.errstate(over="ignore", invalid="ignore")  # what they leave is looked for, and named
def run(options: argparse.Namespace) -> None:
    """Train, sample, evaluate, draw."""
    backend = get_backend(options.backend, options.noise)
    print(describe_backend(options.backend, backend))
    recipe = make_recipe(options)
    prepare_folder(options.out_dir, FILES)
    law = swiss_roll_exact()
    points = law.sample(TRAINING_POINTS, generator(options.seed, DATA))
    warn_of_prior(recipe.schedule, ddpm.prior_term(recipe.schedule, points))

    began = time.perf_counter()
    batch = batches(points.astype(options.dtype), recipe.schedule.T, options.batch_size, options.seed)
    if options.noise == "device":
        batch = with_noise_of(backend, batch, options)
    state, first, log = train_or_resume(options, backend, recipe, configuration(options), batch)
    train_seconds = time.perf_counter() - began

    print(f"sampling {options.samples} points over {recipe.schedule.T} steps", flush=True)
    predict = predictor(recipe, state.average, backend.ops)
    sigma2 = ddpm.reverse_variance(recipe.schedule, options.variance)
    times = {*strip_times(recipe.schedule.T, STRIP), *strip_times(recipe.schedule.T, MOVIE)}
    began = time.perf_counter()
    frames = sample(
        options, backend, recipe.schedule, predict, (options.samples, 2), sigma2, recipe.target, times
    )
    sample_seconds = time.perf_counter() - began

    print(
        f"evaluating the bound on {options.samples} fresh points, all {recipe.schedule.T} terms",
        flush=True,
    )
    test = law.sample(options.samples, generator(options.seed, TEST))
    bound = evaluate(options, backend, recipe, predict, sigma2, test)
    oracle = evaluate_oracle(options, recipe, law, sigma2, test)
    entropy = law.entropy()

    summary = {
        "backend": backend.name,
        "device": backend.device,
        "steps": state.step,
        "train_seconds": round(train_seconds, 3),
        "steps_per_second": round((state.step - first) / train_seconds, 1),
        "sample_seconds": round(sample_seconds, 3),
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
        **distances(law, frames[0], options.seed),
        "seed": options.seed,
        "variance": options.variance,
        "oracle_gap_se": standard_error(oracle.total),
        "excess_gap": mean(oracle.total - bound.total),
        "excess_gap_se": standard_error(oracle.total - bound.total),
        "configuration": configuration(options),
    }
    figures = (*summary["nats"].values(), summary["excess_gap_se"], summary["sliced_w2"])
    if not all(map(math.isfinite, figures)):
        raise FloatingPointError(
            "the bound or the samples' distance is not finite: "
            "train longer, or with a lower learning rate"
        )
    write_json(options.out_dir / "summary.json", summary)
    print_table(summary)
    if not options.no_plots:
        draw(options, recipe, log, bound, oracle, test, frames)
    print(f"everything is in {options.out_dir}")


# --- the command line ---------------------------------------------------------------------


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; a mistake is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(
        description="Train a diffusion model on a swiss roll, sample from it, measure the bound.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add_run_flags(
        parser, schedules=tuple(SCHEDULES), steps=15_000, batch_size=256, timesteps=1000,
        schedule="scaled_linear", target="eps", learning_rate=6e-3, out_dir="runs/swiss_roll",
        checkpoint_every=1000,
    )  # fmt: skip
    add("--hidden-size", type=integer(1, LARGEST), default=128, help="width of the network")
    add("--hidden-layers", type=integer(0, 1000), default=3, help="residual layers")
    add("--variance", choices=VARIANCES, default="beta", help="of the reverse steps")
    add("--samples", type=integer(2, LARGEST), default=4000, help="to draw, and to measure the bound on")
    add(
        "--noise",
        choices=("host", "device"),
        default="host",
        help="where it is drawn, for training and samples; device, a GPU, draws other numbers",
    )
    add("--animate", action="store_true", help="also write reverse.gif")
    options = parser.parse_args(arguments)
    try:
        SCHEDULES[options.schedule](options.timesteps)
    except (MemoryError, ValueError) as error:
        parser.error(f"--timesteps {options.timesteps} --schedule {options.schedule}: {error}")
    return options


def configuration(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the trained weights depend on: a checkpoint must agree with it."""
    names = (
        *("backend", "steps", "batch_size", "hidden_size", "hidden_layers", "timesteps"),
        *("schedule", "target", "learning_rate", "seed", "dtype", "noise"),
    )
    return {name: getattr(options, name) for name in names}


# --- training -----------------------------------------------------------------------------


def with_noise_of(
    backend: Backend, batch: Callable[[int], Batch], options: argparse.Namespace
) -> Callable[[int], Batch]:
    """Batches as they are, but with the backend's noise: part 1 of a step, which nobody else draws."""

    def draw(step: int) -> Batch:
        x0, t, _ = batch(step)
        return x0, t, backend.normal((options.seed, TRAIN, step, 1), x0.shape, options.dtype)

    return draw


def make_recipe(options: argparse.Namespace) -> Recipe:
    """Put schedule, network and optimizer together."""
    schedule = SCHEDULES[options.schedule](options.timesteps)
    rate = warmup(cosine_decay(options.learning_rate, options.steps), min(200, options.steps))
    denoiser = MLPDenoiser(2, schedule.T, options.hidden_size, options.hidden_layers)
    return Recipe(
        schedule,
        denoiser,
        Adam(rate),
        options.target,
        ema_decay=EMA_DECAY,
        loss_and_gradient=mlp_loss_and_gradient,
    )


# --- the bound ----------------------------------------------------------------------------


def evaluate(
    options: argparse.Namespace,
    backend: Backend,
    recipe: Recipe,
    predict: Predictor,
    sigma2: Table,
    test: np.ndarray,
) -> ddpm.Elbo:
    """Measure the bound of the trained network."""
    return elbo_in_chunks(
        recipe.schedule, predict, test, noise=bound_noise(options, test),
        sigma2=sigma2, target=options.target,
        asarray=lambda host: backend.asarray(host, options.dtype), to_numpy=backend.to_numpy,
    )  # fmt: skip


def evaluate_oracle(
    options: argparse.Namespace, recipe: Recipe, law: NoisyCurve, sigma2: Table, test: np.ndarray
) -> ddpm.Elbo:
    """Measure the bound of the Bayes-optimal denoiser, on the same draws."""
    return elbo_in_chunks(
        recipe.schedule, lambda x_t, t: law.bayes_eps(recipe.schedule, x_t, t), test,
        noise=bound_noise(options, test), sigma2=sigma2,
        asarray=lambda host: np.asarray(host, dtype=np.float64),
    )  # fmt: skip


def bound_noise(options: argparse.Namespace, test: np.ndarray) -> Callable[[int], np.ndarray]:
    """Noise for each t, in the network's precision."""

    def noise(t: int) -> np.ndarray:
        return generator(options.seed, BOUND, t).standard_normal(test.shape, dtype=options.dtype)

    return noise


def distances(law: NoisyCurve, samples: np.ndarray, seed: int) -> dict[str, float]:
    """Sliced Wasserstein-2 from samples to fresh data, and between fresh data sets."""
    sets = [law.sample(len(samples), generator(seed, TEST, part + 1)) for part in range(2 * FLOOR_PAIRS)]
    ours = [sliced_wasserstein(samples, one, seed=seed) for one in sets[:FLOOR_PAIRS]]
    floor = [
        sliced_wasserstein(one, other, seed=seed)
        for one, other in zip(sets[:FLOOR_PAIRS], sets[FLOOR_PAIRS:], strict=True)
    ]
    return {"sliced_w2": mean(np.array(ours)), "sliced_w2_floor": mean(np.array(floor))}


# --- what people see ----------------------------------------------------------------------


def print_table(summary: dict[str, Any]) -> None:
    """Print the bound and what it should be."""
    nats = summary["nats"]
    errors = {name: f"+- {summary[name]:.4f}" for name in ("oracle_gap_se", "excess_gap_se")}
    rows = (
        ("L_T", nats["L_T"], "prior term"),
        ("L_1 + ... + L_{T-1}", nats["L_mid"], "denoising terms"),
        ("L_0", nats["L_0"], "reconstruction term"),
        ("ELBO", nats["elbo"], "their sum: the bound on log p(x_0)"),
        ("entropy of the data", summary["entropy"], "exact: no model's -ELBO can be lower on average"),
        ("gap", summary["gap"], f"-ELBO - entropy: away from the truth, +- {nats['elbo_se']:.4f}"),
        (
            "gap of the oracle",
            summary["oracle_gap"],
            f"of the best possible denoiser, {errors['oracle_gap_se']}",
        ),
        (
            "excess over the oracle",
            summary["excess_gap"],
            f"their difference, point by point, {errors['excess_gap_se']}",
        ),
    )
    print(f"\nIn nats per point, reverse variance {summary['variance']!r}:")
    for name, value, remark in rows:
        print(f"  {name:<24}{short(value):>10}   {remark}")
    print("Distance of the samples from fresh data:")
    print(f"  {'sliced W2':<24}{short(summary['sliced_w2']):>10}")
    floor = short(summary["sliced_w2_floor"])
    print(f"  {'its floor':<24}{floor:>10}   between two fresh data sets\n")


def short(value: float) -> str:
    """Four decimals where they say something."""
    return f"{value:.4f}" if 1e-4 <= abs(value) < 1e5 else f"{value:.0e}"


def draw(
    options: argparse.Namespace,
    recipe: Recipe,
    log: MetricsLog,
    bound: ddpm.Elbo,
    oracle: ddpm.Elbo,
    test: np.ndarray,
    frames: dict[int, np.ndarray],
) -> None:
    """Write every picture."""
    from ddpm_np.plotting import points as plotting

    folder, schedule = options.out_dir, recipe.schedule
    plotting.save(plotting.plot_samples(test, frames[0]), folder / "samples.png")

    times = strip_times(schedule.T, STRIP)
    noise = generator(options.seed, BOUND, schedule.T + 1).standard_normal(test.shape)
    forward = [ddpm.q_sample(schedule, test, t, noise) for t in times]
    reverse = [frames[t] for t in reversed(times)]
    plotting.save(plotting.plot_trajectory(forward, reverse, times), folder / "trajectory.png")

    elbo = plotting.plot_elbo(bound.L, L_T=mean(bound.L_T), L_0=mean(bound.L_0), oracle=oracle.L)
    plotting.save(elbo, folder / "elbo.png")
    plotting.save(plotting.plot_loss(*loss_curve(log)), folder / "loss.png")
    plotting.save(plotting.plot_schedule({options.schedule: schedule}), folder / "schedule.png")
    if options.animate:
        order = sorted(frames, reverse=True)
        plotting.animate_reverse([frames[t] for t in order], order, folder / "reverse.gif")


if __name__ == "__main__":
    sys.exit(main())
