"""Train a denoising diffusion model on a swiss roll, sample from it, and measure the bound.

    python examples/swiss_roll.py --backend auto

Writes pictures, metrics, a checkpoint and a summary to --out-dir, and prints how many nats
the model is from the truth.
"""

if __name__ == "__main__":
    import _signals

    _signals.exit_at_once("swiss_roll.py")  # until run_command takes over

import argparse
import sys
from collections.abc import Callable
from typing import Any

# _command_line before NumPy: it sets BLAS threads
from _command_line import integer, new_parser, require_plotting, run_command
from _samplers import SAMPLERS, make_walk
from _swiss_roll_report import check_finite, draw, judge, print_table, shown_times
from _training import (
    LARGEST,
    Clock,
    Run,
    about_training,
    add_run_flags,
    nearest,
    peak_rate,
    run_folder,
    sample,
    train_or_resume,
)

# isort: split
import numpy as np

import ddpm_np as ddpm
from backends import describe_backend, get_backend
from ddpm_np import Predictor, Table
from ddpm_np.elbo import Elbo, warn_of_prior
from ddpm_np.exact import Budget, NoisyCurve, error_budget, swiss_roll_exact
from ddpm_np.nn import Adam, MLPDenoiser, mlp_loss_and_gradient
from ddpm_np.randomness import BOUND, DATA, TEST, TRAIN, generator
from ddpm_np.reverse import VARIANCES
from ddpm_np.runs.batches import Batch, batches
from ddpm_np.runs.evaluation import elbo_in_chunks, predictor
from ddpm_np.runs.files import write_json
from ddpm_np.schedules import SCHEDULES
from ddpm_np.training import Recipe

TRAINING_POINTS = 100_000
PICTURES = (
    "samples.png",
    "trajectory.png",
    "elbo.png",
    "budget.png",
    "loss.png",
    "schedule.png",
    "reverse.gif",
)
EMA_DECAY = 0.999
BUDGET_POINTS = 512
"""Draws for the budget: each passes through all T steps three times."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_command("swiss_roll.py", parse, run, arguments)


@np.errstate(over="ignore", invalid="ignore")  # non-finite results are checked for and reported
def run(options: argparse.Namespace) -> None:
    """Train, sample, evaluate, draw."""
    backend = get_backend(options.backend, options.noise)
    print(describe_backend(options.backend, backend))
    task = Run(options, backend, make_recipe(options))
    if not options.no_plots:
        require_plotting()
    with run_folder(options, PICTURES):
        run_in_folder(task)
    print(f"everything is in {options.out_dir}")


def run_in_folder(task: Run) -> None:
    """Write every file of a run."""
    options, backend = task.options, task.backend
    schedule, law = task.recipe.schedule, swiss_roll_exact()
    points = law.sample(TRAINING_POINTS, generator(options.seed, DATA))
    warn_of_prior(schedule, ddpm.prior_term(schedule, points), points)

    clock = Clock()
    state, first, log = train_or_resume(task, configuration(options), make_batches(task, points))
    clock.stop("train")
    predict = predictor(task.recipe, state.average, backend.ops)
    frames = draw_samples(task, predict)
    clock.stop("sample")
    print(f"evaluating the bound on {options.samples} fresh points, all {schedule.T} terms", flush=True)
    test = law.sample(options.samples, generator(options.seed, TEST))
    sigma2 = ddpm.reverse_variance(schedule, options.variance)
    bound, oracle = measure(task, predict, law, sigma2, test)
    budget = measure_budget(task, predict, law, sigma2)

    summary = {
        **about_training(task, state, first, clock.seconds["train"]),
        "sample_seconds": round(clock.seconds["sample"], 3),
        "sampler": options.sampler,
        "sampling_steps": options.sampling_steps,
        **judge(law, bound, oracle, budget, frames[0], options),
        "configuration": configuration(options),
    }
    check_finite(summary)
    write_json(options.out_dir / "summary.json", summary)
    print_table(summary)
    if not options.no_plots:
        draw(task, log, bound, oracle, budget, test, frames)


# --- the command line ---------------------------------------------------------------------


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; a mistake is one sentence and exit status 2."""
    parser = new_parser("Train a diffusion model on a swiss roll, sample from it, measure the bound.")
    add_run_flags(
        parser,
        tuple(SCHEDULES),
        steps=15_000,
        batch_size=256,
        timesteps=1000,
        schedule="scaled_linear",
        target="eps",
        learning_rate=6e-3,
        out_dir="runs/swiss_roll",
        checkpoint_every=1000,
    )
    add = parser.add_argument
    add("--hidden-size", type=integer(1, LARGEST), default=128, help="width of the network")
    add("--hidden-layers", type=integer(0, 1000), default=3, help="number of residual layers")
    add("--variance", choices=VARIANCES, default="beta", help="variance of the reverse steps")
    add(
        "--samples",
        type=integer(2, LARGEST),
        default=4000,
        help="number to draw, and of fresh points to measure the bound on",
    )
    add("--sampler", choices=SAMPLERS, default="ancestral", help="how to draw the samples")
    add(
        "--sampling-steps",
        type=integer(1, LARGEST),
        help="how many steps the sampler takes, evenly in the log signal-to-noise ratio; default: all",
    )
    add(
        "--noise",
        choices=("host", "device"),
        default="host",
        help="where to draw it for training and sampling; a GPU (device) draws other numbers",
    )
    add("--animate", action="store_true", help="also write reverse.gif")
    options = parser.parse_args(arguments)
    try:
        SCHEDULES[options.schedule](options.timesteps)
    except (MemoryError, ValueError) as error:
        parser.error(f"--timesteps {options.timesteps} --schedule {options.schedule}: {error}")
    steps, T = options.sampling_steps or options.timesteps, options.timesteps
    if steps > T:
        parser.error(f"--sampling-steps must be at most --timesteps {T}, got {steps}")
    options.sampling_steps = steps
    return options


def configuration(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that the trained weights depend on: a checkpoint must agree with it."""
    network = ("hidden_size", "hidden_layers")
    rest = ("timesteps", "schedule", "target", "learning_rate", "seed", "dtype", "noise")
    return {name: getattr(options, name) for name in ("backend", "steps", "batch_size", *network, *rest)}


# --- training, samples and the bound ---------------------------------------------------------------


def make_recipe(options: argparse.Namespace) -> Recipe:
    """Put schedule, network and optimizer together."""
    schedule = SCHEDULES[options.schedule](options.timesteps)
    denoiser = MLPDenoiser(2, schedule.T, options.hidden_size, options.hidden_layers)
    optimizer = Adam(peak_rate(options.learning_rate, options.steps))
    return Recipe(
        schedule,
        denoiser,
        optimizer,
        options.target,
        ema_decay=EMA_DECAY,
        loss_and_gradient=mlp_loss_and_gradient,
    )


def make_batches(task: Run, points: np.ndarray) -> Callable[[int], Batch]:
    """Batches of points; with ``--noise device`` the noise in them is the backend's."""
    options, schedule = task.options, task.recipe.schedule
    batch = batches(points.astype(options.dtype), schedule.T, options.batch_size, options.seed)
    if options.noise == "host":
        return batch

    def draw(step: int) -> Batch:
        x0, t, _ = batch(step)
        key = (options.seed, TRAIN, step, 1)  # part 1 of a step, which nothing else draws
        return x0, t, task.backend.normal(key, x0.shape, options.dtype)

    return draw


def draw_samples(task: Run, predict: Predictor) -> dict[int, np.ndarray]:
    """Sample as the options say; returns x_t at the times that the pictures show."""
    options, schedule = task.options, task.recipe.schedule
    steps = options.sampling_steps
    print(f"sampling {options.samples} points over {steps} steps, {options.sampler}", flush=True)
    times = ddpm.log_snr_times(schedule, steps).tolist()
    walk = make_walk(options.sampler, schedule, times, options.target, options.variance)
    shown = {*nearest(times, shown_times(schedule.T))}
    return sample(task, walk, predict, (options.samples, 2), shown)


def measure(
    task: Run, predict: Predictor, law: NoisyCurve, sigma2: Table, test: np.ndarray
) -> tuple[Elbo, Elbo]:
    """Return the bounds of the network and, on the same draws, of the Bayes-optimal denoiser."""
    options, schedule = task.options, task.recipe.schedule

    def noise(t: int) -> np.ndarray:
        return generator(options.seed, BOUND, t).standard_normal(test.shape, dtype=options.dtype)

    bound = elbo_in_chunks(
        schedule,
        predict,
        test,
        noise=noise,
        sigma2=sigma2,
        target=options.target,
        asarray=task.asarray,
        to_numpy=task.backend.to_numpy,
    )
    oracle = elbo_in_chunks(
        schedule,
        lambda x_t, t: law.bayes_eps(schedule, x_t, t),
        test,
        noise=noise,
        sigma2=sigma2,
        asarray=lambda host: np.asarray(host, dtype=np.float64),
    )
    return bound, oracle


def measure_budget(task: Run, predict: Predictor, law: NoisyCurve, sigma2: Table) -> Budget:
    """Return where the nats of the gap went, on draws of its own."""
    options, schedule = task.options, task.recipe.schedule

    def on_host(x_t: np.ndarray, t: int) -> np.ndarray:
        return task.backend.to_numpy(predict(task.asarray(x_t), t)).astype(np.float64)

    return error_budget(
        schedule,
        on_host,
        law,
        sigma2=sigma2,
        target=options.target,
        n=BUDGET_POINTS,
        seed=generator(options.seed, BOUND, schedule.T + 2),
    )


if __name__ == "__main__":
    sys.exit(main())
