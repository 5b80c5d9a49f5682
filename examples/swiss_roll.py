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
from pathlib import Path
from typing import Any

from _command_line import folder, integer, positive, run_command  # before NumPy: it sets BLAS threads

# isort: split
import numpy as np

import ddpm_np as ddpm
from backends import Backend, describe_backend, get_backend
from ddpm_np.checkpoint import load_checkpoint, save_checkpoint
from ddpm_np.elbo import Predictor, warn_of_prior
from ddpm_np.evaluation import elbo_in_chunks, predictor, standard_error
from ddpm_np.exact import NoisyCurve, swiss_roll_exact
from ddpm_np.files import write_json
from ddpm_np.metrics import sliced_wasserstein
from ddpm_np.nn import Adam, MLPDenoiser, cosine_decay, warmup
from ddpm_np.posterior import TARGETS
from ddpm_np.randomness import BOUND, DATA, SAMPLE, TEST, generator
from ddpm_np.reverse import VARIANCES
from ddpm_np.runs import MetricsLog, Progress, prepare_folder
from ddpm_np.schedules import SCHEDULES, Table
from ddpm_np.training import Recipe, TrainState, draw_batch, init_state, train

TRAINING_POINTS = 100_000
FILES = (
    *("samples.png", "trajectory.png", "elbo.png", "loss.png", "schedule.png", "reverse.gif"),
    *("metrics.jsonl", "checkpoint.npz", "summary.json"),
)
REPORT_EVERY = 100
EMA_DECAY = 0.999
CPU_ROWS = 512
"""Points that the network sees at a time when it does not learn."""
STRIP, MOVIE = 7, 60
"""About how many times are shown in the strips and in the animation."""
FLOOR_PAIRS = 8
"""Pairs of fresh data sets over which sliced Wasserstein distances are averaged."""
LARGEST = 10**15
"""Sizes above it overflow; those below may run out of memory, which is said."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_command("swiss_roll.py", parse, run, arguments)


@np.errstate(over="ignore", invalid="ignore")  # what they leave is looked for, and named
def run(options: argparse.Namespace) -> None:
    """Train, sample, evaluate, draw."""
    backend = get_backend(options.backend)
    print(describe_backend(options.backend, backend))
    recipe = make_recipe(options)
    prepare_folder(options.out_dir, FILES)
    law = swiss_roll_exact()
    points = law.sample(TRAINING_POINTS, generator(options.seed, DATA))
    warn_of_prior(recipe.schedule, ddpm.prior_term(recipe.schedule, points))

    began = time.perf_counter()
    state, first, log = train_or_resume(options, backend, recipe, points)
    train_seconds = time.perf_counter() - began

    print(f"sampling {options.samples} points over {recipe.schedule.T} steps", flush=True)
    rows = CPU_ROWS if backend.device == "cpu" else None
    predict = predictor(recipe, state.average, backend.ops, rows=rows)
    sigma2 = ddpm.reverse_variance(recipe.schedule, options.variance)
    times = {*strip_times(recipe.schedule.T, STRIP), *strip_times(recipe.schedule.T, MOVIE)}
    began = time.perf_counter()
    frames = sample(options, backend, recipe, predict, sigma2, times)
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
    add("--backend", choices=("auto", "numpy", "numba", "cupy"), default="auto", help="where to compute")
    add("--steps", type=integer(1), default=15_000, help="gradient steps")
    add("--batch-size", type=integer(1, LARGEST), default=256, help="examples per step")
    add("--hidden-size", type=integer(1, LARGEST), default=128, help="width of the network")
    add("--hidden-layers", type=integer(0, 1000), default=3, help="residual layers")
    add("--timesteps", type=integer(1, LARGEST), default=1000, help="T, the number of diffusion steps")
    add("--schedule", choices=tuple(SCHEDULES), default="scaled_linear", help="of the noise")
    add("--target", choices=TARGETS, default="eps", help="what the network predicts")
    add("--variance", choices=VARIANCES, default="beta", help="of the reverse steps")
    add("--learning-rate", type=positive, default=6e-3, help="at its peak; decays along a cosine")
    add("--seed", type=integer(0, 2**63), default=0, help="of everything random")
    add("--dtype", choices=("float32", "float64"), default="float32", help="of the network")
    add("--samples", type=integer(2, LARGEST), default=4000, help="to draw, and to measure the bound on")
    add(
        "--out-dir",
        type=folder,
        default=Path("runs/swiss_roll"),
        help="what an earlier run left there is replaced",
    )
    add("--checkpoint-every", type=integer(1), default=1000, help="steps between checkpoints")
    add("--resume", action="store_true", help="go on from the checkpoint in --out-dir")
    add("--animate", action="store_true", help="also write reverse.gif")
    add("--no-plots", action="store_true", help="write no pictures")
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
        *("schedule", "target", "learning_rate", "seed", "dtype"),
    )
    return {name: getattr(options, name) for name in names}


# --- training -----------------------------------------------------------------------------


def make_recipe(options: argparse.Namespace) -> Recipe:
    """Put schedule, network and optimizer together."""
    schedule = SCHEDULES[options.schedule](options.timesteps)
    rate = warmup(cosine_decay(options.learning_rate, options.steps), min(200, options.steps))
    denoiser = MLPDenoiser(2, schedule.T, options.hidden_size, options.hidden_layers)
    return Recipe(schedule, denoiser, Adam(rate), options.target, ema_decay=EMA_DECAY)


def train_or_resume(
    options: argparse.Namespace, backend: Backend, recipe: Recipe, points: np.ndarray
) -> tuple[TrainState, int, MetricsLog]:
    """Train from the start or from the checkpoint; returns the state and the step it began at."""
    path = options.out_dir / "checkpoint.npz"
    settings = configuration(options) | {"backend": backend.name}

    def asarray(values: Any) -> Any:
        return backend.asarray(values, options.dtype)

    if options.resume and path.exists():
        state = load_checkpoint(path, recipe, settings, asarray)
        print(f"resuming {path} at step {state.step} of {options.steps}")
    else:
        if options.resume:
            print(f"there is no {path} yet: starting at step 0")
        state = init_state(recipe, options.seed, asarray)
    first = state.step
    log = MetricsLog(options.out_dir / "metrics.jsonl", first)
    progress = Progress("training", first, options.steps)
    host_points = points.astype(options.dtype)

    def draw(step: int) -> tuple[Any, Any, Any]:
        x0, t, noise = draw_batch(host_points, recipe.schedule.T, options.batch_size, options.seed, step)
        return asarray(x0), t, asarray(noise)

    def report(step: int, loss: float) -> None:
        log.append({"step": step, "loss": loss, "learning_rate": recipe.optimizer.rate(step - 1)})
        progress.update(step, f"loss {loss:.4f}")

    def save(state: TrainState) -> None:
        save_checkpoint(path, recipe, state, settings, backend.to_numpy)

    try:
        state = train(
            recipe, state, draw, backend.ops,
            steps=options.steps, report=report, report_every=REPORT_EVERY,
            save=save, save_every=options.checkpoint_every,
        )  # fmt: skip
    finally:
        progress.close()
    return state, first, log


# --- sampling and the bound ---------------------------------------------------------------


def sample(
    options: argparse.Namespace,
    backend: Backend,
    recipe: Recipe,
    predict: Predictor,
    sigma2: Table,
    times: set[int],
) -> dict[int, np.ndarray]:
    """Run Algorithm 2; returns x_t on the host for t in ``times``, and t = 0."""
    shape, T = (options.samples, 2), recipe.schedule.T
    frames = {}

    def watched(x_t: Any, t: int) -> Any:
        if t in times:
            frames[t] = backend.to_numpy(x_t)
        return predict(x_t, t)

    x0 = ddpm.ancestral_sample(
        recipe.schedule,
        watched,
        backend.normal((options.seed, SAMPLE, T + 1), shape, options.dtype),
        noise=lambda t: backend.normal((options.seed, SAMPLE, t), shape, options.dtype),
        sigma2=sigma2,
        target=options.target,
    )
    frames[0] = backend.to_numpy(x0)
    if not np.all(np.isfinite(frames[0])):
        raise FloatingPointError("sampling diverged: train longer, or with a lower learning rate")
    return frames


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


def mean(values: np.ndarray) -> float:
    """Average over the examples."""
    return float(np.mean(values))


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


def strip_times(T: int, count: int) -> list[int]:
    """About ``count`` times from 0 to T, denser near the data."""
    return sorted({round(T * (k / (count - 1)) ** 2) for k in range(count)})


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
    from ddpm_np import plotting

    folder, schedule = options.out_dir, recipe.schedule
    plotting.save(plotting.plot_samples(test, frames[0]), folder / "samples.png")

    times = strip_times(schedule.T, STRIP)
    noise = generator(options.seed, BOUND, schedule.T + 1).standard_normal(test.shape)
    forward = [ddpm.q_sample(schedule, test, t, noise) for t in times]
    reverse = [frames[t] for t in reversed(times)]
    plotting.save(plotting.plot_trajectory(forward, reverse, times), folder / "trajectory.png")

    elbo = plotting.plot_elbo(bound.L, L_T=mean(bound.L_T), L_0=mean(bound.L_0), oracle=oracle.L)
    plotting.save(elbo, folder / "elbo.png")
    records = [record for record in log.records if "loss" in record]
    steps, losses = ([record[key] for record in records] for key in ("step", "loss"))
    plotting.save(plotting.plot_loss(steps, losses), folder / "loss.png")
    plotting.save(plotting.plot_schedule({options.schedule: schedule}), folder / "schedule.png")
    if options.animate:
        order = sorted(frames, reverse=True)
        plotting.animate_reverse([frames[t] for t in order], order, folder / "reverse.gif")


if __name__ == "__main__":
    sys.exit(main())
