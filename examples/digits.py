"""Train a denoising diffusion model on images, sample from it, and measure its bits per dimension.

    python examples/digits.py --backend auto
    python examples/digits.py --conditional --guidance 1
    python examples/digits.py --data images.npz --key images --levels 256

By default the images are scikit-learn's handwritten digits. Writes pictures, metrics, a checkpoint
and a summary to --out-dir, and prints the bound on held-out images beside those of simpler models.
"""

if __name__ == "__main__":
    import _signals

    _signals.exit_at_once("digits.py")  # until run_command takes over

import argparse
import math
import sys
from typing import Any

from _command_line import require_plotting, run_command  # before NumPy: it sets BLAS threads
from _digits_report import bits_table, draw, print_tables, sample_report
from _digits_setup import Task, configuration, load, make_recipe, parse
from _samplers import ancestral
from _training import Clock, about_training, run_folder, sample, strip_times, train_or_resume

# isort: split
import numpy as np

import ddpm_np as ddpm
from backends import describe_backend, get_backend
from ddpm_np import Table
from ddpm_np.data.baselines import Baseline, fit_baselines, has_scikit_learn
from ddpm_np.data.images import Split, dequantise, log_bin_volume, scale, split
from ddpm_np.elbo import Elbo, warn_of_prior
from ddpm_np.estimators.step_errors import StepErrors, elbo_from_errors, step_errors
from ddpm_np.estimators.variances import best_variance
from ddpm_np.guidance import clipped, guided
from ddpm_np.randomness import BOUND, generator
from ddpm_np.runs.batches import batches
from ddpm_np.runs.evaluation import predictor
from ddpm_np.runs.files import write_json
from ddpm_np.runs.log import MetricsLog
from ddpm_np.schedules import uniform_times
from ddpm_np.training import TrainState

PICTURES = ("data.png", "samples.png", "strips.png", "terms.png", "loss.png", "schedule.png")
UNLABELLED = 0.1
"""Share of the labels that training hides, so that the network also learns to predict without one."""
DRAWS = 2
"""Draws of x_t for each image and time, over which the bound is averaged."""
MEASURED = 1000
"""The most images for validation, and for the test."""
FLOW_IMAGES, FLOW_TIMES = 64, 100
"""Test images whose flow is followed, and the times that it visits, at most."""
STRIP = 8
"""About how many times are shown in the strips."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return run_command("digits.py", parse, run, arguments)


@np.errstate(over="ignore", invalid="ignore")  # non-finite results are checked for and reported
def run(options: argparse.Namespace) -> None:
    """Train, measure, sample, draw."""
    task = prepare(options)
    with run_folder(options, PICTURES):
        run_in_folder(task)
    print(f"everything is in {options.out_dir}")


def run_in_folder(task: Task) -> None:
    """Write every file of a run."""
    options, clock = task.options, Clock()
    state, first, log = train_network(task)
    clock.stop("train")
    variances, bounds = measure(task, state)
    clock.stop("bound")
    flow = measure_flow(task, state)
    clock.stop("flow")
    baselines = fit_others(task)
    clock.stop("baselines")
    intended = wanted_labels(task)
    frames = draw_samples(task, state, variances[options.variance], intended)
    clock.stop("sample")

    summary = {
        **about_training(task, state, first, clock.seconds["train"]),
        "bound_seconds": round(clock.seconds["bound"], 3),
        "flow_seconds": round(clock.seconds["flow"], 3),
        "baselines_seconds": round(clock.seconds["baselines"], 3),
        "sample_seconds": round(clock.seconds["sample"], 3),
        "images": about_images(task),
        **bits_table(bounds, flow, baselines, options.variance, task.x[0].size, DRAWS),
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


def prepare(options: argparse.Namespace) -> Task:
    """Load the images, choose a backend, and make sure that results can be drawn."""
    data = load(options)
    backend = get_backend(options.backend)
    print(describe_backend(options.backend, backend))
    x, parts = scale(data.images, options.levels, options.dtype), split(len(data.images))
    parts = Split(parts.train, parts.validation[:MEASURED], parts.test[:MEASURED])
    task = Task(options, backend, make_recipe(options, data), data, parts, x)
    if not options.no_plots:
        require_plotting()
    schedule = task.recipe.schedule
    warn_of_prior(schedule, ddpm.prior_term(schedule, x[parts.train]), x[parts.train])
    return task


def train_network(task: Task) -> tuple[TrainState, int, MetricsLog]:
    """Train on the training images; returns the state, the step it began at, and the log."""
    options, rows = task.options, task.parts.train
    labels = task.data.labels[rows] if options.conditional else None
    T = task.recipe.schedule.T
    batch = batches(task.x[rows], T, options.batch_size, options.seed, labels, UNLABELLED)
    return train_or_resume(task, configuration(task), batch)


def about_images(task: Task) -> dict[str, Any]:
    """Shape, levels, and how many images serve each purpose."""
    sizes = {name: len(part) for name, part in task.parts._asdict().items()}
    return {"shape": list(task.x.shape[1:]), "levels": task.options.levels, **sizes}


def fit_others(task: Task) -> list[Baseline]:
    """Fit the simpler models, unless told not to."""
    if not has_scikit_learn():
        print("without scikit-learn: no mixtures of Gaussians, no classifier")
    if task.options.no_baselines:
        return []
    print("fitting baselines", flush=True)
    flat = task.data.images.reshape(len(task.x), -1)
    return list(fit_baselines(*(flat[part] for part in task.parts), task.options.levels))


# --- the bound ----------------------------------------------------------------------------


def measure(task: Task, state: TrainState) -> tuple[dict[str, Table], dict[str, Elbo]]:
    """Return reverse variances, the optimal ones from validation, and their bounds on the test."""
    schedule, (_, validation, test) = task.recipe.schedule, task.parts
    print(f"measuring {schedule.T} terms on {len(test)} test images", flush=True)
    decoder = ddpm.discretised_gaussian(task.options.levels)
    variances = {kind: ddpm.reverse_variance(schedule, kind) for kind in ("posterior", "beta")}
    errors = measure_errors(task, state, task.x[validation], 0)
    variances["optimal"] = best_variance(schedule, errors, decoder)
    errors = measure_errors(task, state, task.x[test], 1)
    return variances, {
        kind: elbo_from_errors(schedule, errors, sigma2, decoder) for kind, sigma2 in variances.items()
    }


def measure_errors(task: Task, state: TrainState, x: np.ndarray, part: int) -> StepErrors:
    """Measure the network's errors on ``DRAWS`` draws for each image; draws of one lie together."""
    options, recipe = task.options, task.recipe
    network = predictor(recipe, state.average, task.backend.ops)
    x0 = np.repeat(x, DRAWS, axis=0)
    return step_errors(
        recipe.schedule,
        clipped(recipe.schedule, network, recipe.target),
        x0,
        noise=lambda t: generator(options.seed, BOUND, t, part).standard_normal(x0.shape, options.dtype),
        target="x0",
        asarray=task.asarray,
        to_numpy=task.backend.to_numpy,
    )


# --- the flow -----------------------------------------------------------------------------


def measure_flow(task: Task, state: TrainState) -> np.ndarray:
    """Log-probabilities of the first test images under the probability flow, dequantised.

    One draw in the bins and one probe of the divergence for each image: a standard error over the images
    covers both. The steps' error is far smaller.
    """
    options, recipe, schedule = task.options, task.recipe, task.recipe.schedule
    images = task.data.images[task.parts.test[:FLOW_IMAGES]]
    print(f"following the flow of {len(images)} test images", flush=True)
    rng = generator(options.seed, BOUND, 0, 2)
    x0 = task.asarray(dequantise(images, options.levels, rng.random(images.shape)))
    signs = task.asarray(2.0 * rng.integers(0, 2, images.shape) - 1.0)
    network = predictor(recipe, state.average, task.backend.ops)
    times = uniform_times(schedule.T, min(FLOW_TIMES, schedule.T))
    divergence = ddpm.hutchinson(schedule, network, signs, recipe.target)
    log_p = task.backend.to_numpy(
        ddpm.flow_log_likelihood(
            schedule, network, x0, times=times, target=recipe.target, divergence=divergence
        )
    )
    return log_p + log_bin_volume(options.levels, images[0].size)


# --- samples ------------------------------------------------------------------------------


def wanted_labels(task: Task) -> np.ndarray:
    """Return the class of each sample: equally many of each, or 0 for all where there are no classes."""
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
    print(f"sampling {len(intended)} images over {recipe.schedule.T} steps", flush=True)
    network = predictor(recipe, state.average, ops)
    if options.conditional:
        given = predictor(recipe, state.average, ops, intended)
        network = guided(given, network, options.guidance)
    predict = clipped(recipe.schedule, network, recipe.target)
    shape, times = (len(intended), *task.x.shape[1:]), {*strip_times(recipe.schedule.T, STRIP)}
    walk = ancestral(recipe.schedule, sigma2, "x0")
    return sample(task, walk, predict, shape, times)


if __name__ == "__main__":
    sys.exit(main())
