"""Train a denoising diffusion model on images, sample from it, and measure its bits per dimension.

    python examples/digits.py --backend auto
    python examples/digits.py --conditional --guidance 1
    python examples/digits.py --data images.npz --key images --levels 256

By default the images are scikit-learn's handwritten digits. Writes pictures, metrics, a checkpoint
and a summary to --out-dir, and prints the bound on held-out images beside what simpler models reach.
"""

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

from _command_line import integer, real, run_command  # before NumPy: it sets BLAS threads
from _digits_report import bits_table, draw, print_tables, sample_report
from _training import LARGEST, add_run_flags, sample, strip_times, train_or_resume

# isort: split
import numpy as np

import ddpm_np as ddpm
from backends import Backend, describe_backend, get_backend
from ddpm_np._arrays import Table
from ddpm_np.data.baselines import fit_baselines, has_scikit_learn
from ddpm_np.data.images import DIGITS_LEVELS, ImageData, Split, digits, load_images, scale, split
from ddpm_np.elbo import Elbo, warn_of_prior
from ddpm_np.estimators.step_errors import StepErrors, elbo_from_errors, step_errors
from ddpm_np.estimators.variances import best_variance
from ddpm_np.guidance import clipped, guided
from ddpm_np.nn import AdamW, UNet, cosine_decay, warmup
from ddpm_np.randomness import BOUND, generator
from ddpm_np.reverse import VARIANCES
from ddpm_np.runs.batches import batches
from ddpm_np.runs.evaluation import predictor
from ddpm_np.runs.files import write_json
from ddpm_np.runs.log import prepare_folder
from ddpm_np.schedules import SCHEDULES, Schedule, log_snr_schedule, merge_first_steps
from ddpm_np.training import Recipe, TrainState

FILES = (
    *("data.png", "samples.png", "strips.png", "terms.png", "loss.png", "schedule.png"),
    *("metrics.jsonl", "checkpoint.npz", "summary.json"),
)
EMA_DECAY = 0.995
WEIGHT_DECAY = 0.1
GROUPS = 8
UNLABELLED = 0.1
"""Share of the labels that training hides, so that the network also learns to do without."""
DRAWS = 2
"""Draws of x_t for each image and time, over which the bound is averaged."""
MEASURED = 1000
"""Images that validate and test, at most."""
STRIP = 8
"""About how many times are shown in the strips."""


class Task(NamedTuple):
    """What a run is about."""

    options: argparse.Namespace
    backend: Backend
    data: ImageData
    parts: Split
    x: np.ndarray
    """All images on [-1, 1], shape (n, H, W, C)."""
    recipe: Recipe


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_command("digits.py", parse, run, arguments)


@np.errstate(over="ignore", invalid="ignore")  # what they leave is looked for, and named
def run(options: argparse.Namespace) -> None:
    """Train, measure, sample, draw."""
    data = load(options)
    backend = get_backend(options.backend)
    print(describe_backend(options.backend, backend))
    x, parts = scale(data.images, options.levels, options.dtype), split(len(data.images))
    parts = Split(parts.train, parts.validation[:MEASURED], parts.test[:MEASURED])
    task = Task(options, backend, data, parts, x, make_recipe(options, data))
    schedule = task.recipe.schedule
    prepare_folder(options.out_dir, FILES)
    warn_of_prior(schedule, ddpm.prior_term(schedule, x[parts.train]))
    clock = Clock()

    labels = data.labels[parts.train] if options.conditional else None
    batch = batches(x[parts.train], schedule.T, options.batch_size, options.seed, labels, UNLABELLED)
    state, first, log = train_or_resume(options, backend, task.recipe, configuration(task), batch)
    clock.stop("train")

    print(f"measuring {schedule.T} terms on {len(parts.test)} test images", flush=True)
    variances, bounds = measure(task, state)
    clock.stop("bound")
    if not has_scikit_learn():
        print("without scikit-learn: no mixtures of Gaussians, no classifier")
    baselines = []
    if not options.no_baselines:
        print("fitting baselines", flush=True)
        flat = data.images.reshape(len(x), -1)
        baselines += fit_baselines(*(flat[part] for part in parts), options.levels)
    clock.stop("baselines")
    intended = wanted_labels(task)
    print(f"sampling {len(intended)} images over {schedule.T} steps", flush=True)
    frames = draw_samples(task, state, variances[options.variance], intended)
    clock.stop("sample")

    summary = {
        "backend": backend.name,
        "device": backend.device,
        "steps": state.step,
        "train_seconds": clock.seconds["train"],
        "steps_per_second": round((state.step - first) / clock.seconds["train"], 1),
        "bound_seconds": clock.seconds["bound"],
        "baselines_seconds": clock.seconds["baselines"],
        "sample_seconds": clock.seconds["sample"],
        "images": {"shape": list(x.shape[1:]), "levels": options.levels}
        | {name: len(part) for name, part in parts._asdict().items()},
        **bits_table(bounds, baselines, options.variance, x[0].size, DRAWS),
        "samples": sample_report(task, frames[0], intended),
        "seed": options.seed,
        "variance": options.variance,
        "configuration": configuration(task),
    }
    if not math.isfinite(summary["bits_per_dim"][options.variance]["total"]):
        raise FloatingPointError("the bound is not finite: train longer, or with a lower learning rate")
    write_json(options.out_dir / "summary.json", summary)
    print_tables(summary)
    if not options.no_plots:
        draw(task, log, bounds, frames, intended)
    print(f"everything is in {options.out_dir}")


class Clock:
    """Seconds between its stops."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, name: str) -> None:
        """Give the time since the last stop a name."""
        now = time.perf_counter()
        self.seconds[name], self._last = round(now - self._last, 3), now


# --- the command line ---------------------------------------------------------------------


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line; a mistake is one sentence and exit status 2."""
    parser = argparse.ArgumentParser(
        description="Train a diffusion model on images, sample from it, measure its bits per dimension.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_run_flags(
        parser, schedules=("log_snr", *SCHEDULES), steps=3000, batch_size=128, timesteps=200,
        schedule="log_snr", target="v", learning_rate=4e-3, out_dir="runs/digits", checkpoint_every=500,
    )  # fmt: skip
    add = parser.add_argument
    add(
        "--first-noise",
        type=real(0.0),
        default=0.36,
        help="noise of x_1, in distances of neighbouring levels: earlier steps are merged into one",
    )
    add("--channels", type=integer(1, LARGEST), default=32, help="of the U-Net, where it is widest")
    add("--blocks", type=integer(1, 1000), default=1, help="residual blocks on each way at a resolution")
    add("--depth", type=integer(1, 10), default=2, help="resolutions of the U-Net")
    choices = (*VARIANCES, "optimal")
    add("--variance", choices=choices, default="optimal", help="of the reverse steps when sampling")
    add("--samples", type=integer(1, LARGEST), help="to draw (default: 100, or 50 of each class)")
    add("--conditional", action="store_true", help="teach the network the classes, and sample each")
    add("--guidance", type=real(0.0), help="strength, with --conditional (default: 1)")
    add("--data", type=Path, help="an .npz or .npy file of images (n, H, W) or (n, H, W, C)")
    add("--key", help="name of the images in an .npz file (default: images)")
    add("--labels-key", help="name of their labels, if they have any")
    add(
        "--levels", type=integer(2, 2**16), help="values 0..levels-1 of a pixel in --data (default: 256)"
    )
    add("--no-baselines", action="store_true", help="compare with no simpler models")
    options = parser.parse_args(arguments)

    if options.data is None:
        for name in ("key", "labels_key", "levels"):
            if getattr(options, name) is not None:
                parser.error(f"--{name.replace('_', '-')} needs --data: the digits have none to choose")
        options.levels = DIGITS_LEVELS
    elif options.conditional and options.labels_key is None:
        parser.error("--conditional needs --labels-key, where the classes of the images are")
    if options.guidance is not None and not options.conditional:
        parser.error("--guidance needs --conditional")
    if options.channels % GROUPS:
        parser.error(f"--channels must be divisible by {GROUPS}, got {options.channels}")
    options.levels = options.levels or 256
    options.guidance = 1.0 if options.guidance is None else options.guidance
    try:
        make_schedule(options)
    except (MemoryError, ValueError) as error:
        parser.error(f"--timesteps {options.timesteps} --schedule {options.schedule}: {error}")
    return options


def configuration(task: Task) -> dict[str, Any]:
    """Everything that the trained weights depend on: a checkpoint must agree with it."""
    names = (
        *("backend", "steps", "batch_size", "channels", "blocks", "depth", "timesteps", "schedule"),
        *("first_noise", "target", "learning_rate", "seed", "dtype", "conditional", "levels"),
    )
    values = {name: getattr(task.options, name) for name in names}
    return {**values, "data": task.data.fingerprint()}


def load(options: argparse.Namespace) -> ImageData:
    """Return the images that the options ask for."""
    if options.data is None:
        return digits()
    return load_images(
        options.data,
        levels=options.levels,
        key=options.key or "images",
        labels_key=options.labels_key,
        multiple=2 ** (options.depth - 1),
    )


def make_schedule(options: argparse.Namespace) -> Schedule:
    """Return the noise schedule, which starts where noise begins to hide levels."""
    noise = options.first_noise * 2.0 / (options.levels - 1)
    if options.schedule == "log_snr":
        return log_snr_schedule(options.timesteps, noise)
    return merge_first_steps(SCHEDULES[options.schedule](options.timesteps), noise)


def make_recipe(options: argparse.Namespace, data: ImageData) -> Recipe:
    """Put schedule, network and optimizer together."""
    schedule = make_schedule(options)
    rate = warmup(cosine_decay(options.learning_rate, options.steps), min(200, options.steps))
    denoiser = UNet(
        channels=data.images.shape[3],
        T=schedule.T,
        width=options.channels,
        blocks=options.blocks,
        groups=GROUPS,
        classes=len(data.classes) if options.conditional else 0,
        multipliers=(1, *[2] * (options.depth - 1)),
    )
    optimizer = AdamW(rate, beta_2=0.99, weight_decay=WEIGHT_DECAY)
    return Recipe(schedule, denoiser, optimizer, options.target, ema_decay=EMA_DECAY)


# --- the bound, and samples ---------------------------------------------------------------


def measure(task: Task, state: TrainState) -> tuple[dict[str, Table], dict[str, Elbo]]:
    """Return reverse variances, the optimal ones from validation, and their bounds of the test."""
    schedule = task.recipe.schedule
    decoder = ddpm.discretised_gaussian(task.options.levels)
    variances = {kind: ddpm.reverse_variance(schedule, kind) for kind in ("posterior", "beta")}
    errors = measure_errors(task, state, task.x[task.parts.validation], 0)
    variances["optimal"] = best_variance(schedule, errors, decoder)
    errors = measure_errors(task, state, task.x[task.parts.test], 1)
    return variances, {
        kind: elbo_from_errors(schedule, errors, sigma2, decoder) for kind, sigma2 in variances.items()
    }


def measure_errors(task: Task, state: TrainState, x: np.ndarray, part: int) -> StepErrors:
    """Measure the network's errors on ``DRAWS`` draws for each image; draws of one lie together."""
    options, backend, recipe = task.options, task.backend, task.recipe
    network = predictor(recipe, state.average, backend.ops)
    x0 = np.repeat(x, DRAWS, axis=0)
    return step_errors(
        recipe.schedule,
        clipped(recipe.schedule, network, recipe.target),
        x0,
        noise=lambda t: generator(options.seed, BOUND, t, part).standard_normal(x0.shape, options.dtype),
        target="x0",
        asarray=lambda host: backend.asarray(host, options.dtype),
        to_numpy=backend.to_numpy,
    )


def wanted_labels(task: Task) -> np.ndarray:
    """Return the class of each sample: as many of each, or 0 for all where there are none."""
    options, classes = task.options, len(task.data.classes)
    if not options.conditional:
        return np.zeros(options.samples or 100, dtype=np.int64)
    each = 50 if options.samples is None else -(-options.samples // classes)
    return np.repeat(np.arange(1, classes + 1), each)


def draw_samples(
    task: Task, state: TrainState, sigma2: Table, intended: np.ndarray
) -> dict[int, np.ndarray]:
    """Sample an image for each label; returns the times of the strips, and t = 0."""
    options, recipe, ops = task.options, task.recipe, task.backend.ops
    network = predictor(recipe, state.average, ops)
    if options.conditional:
        given = predictor(recipe, state.average, ops, intended)
        network = guided(given, network, options.guidance)
    predict = clipped(recipe.schedule, network, recipe.target)
    shape, times = (len(intended), *task.x.shape[1:]), {*strip_times(recipe.schedule.T, STRIP)}
    return sample(options, task.backend, recipe.schedule, predict, shape, sigma2, "x0", times)


if __name__ == "__main__":
    sys.exit(main())
