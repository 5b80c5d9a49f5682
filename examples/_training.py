"""What the examples that train a network share: the run, its samples, and numbers for people."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from _command_line import folder, integer, positive  # before NumPy: it sets BLAS threads

# isort: split
import numpy as np

import ddpm_np as ddpm
from backends import Backend
from ddpm_np._arrays import Predictor, Table
from ddpm_np.randomness import SAMPLE
from ddpm_np.runs.batches import Batch
from ddpm_np.runs.checkpoint import load_checkpoint, save_checkpoint
from ddpm_np.runs.log import MetricsLog, Progress
from ddpm_np.targets import TARGETS, Target
from ddpm_np.training import Recipe, TrainState, init_state, train

REPORT_EVERY = 100
LARGEST = 10**15
"""Sizes above it overflow; those below may run out of memory, which is said."""


# --- the command line ---------------------------------------------------------------------


def add_run_flags(
    parser: argparse.ArgumentParser,
    *,
    schedules: tuple[str, ...],
    steps: int,
    batch_size: int,
    timesteps: int,
    schedule: str,
    target: str,
    learning_rate: float,
    out_dir: str,
    checkpoint_every: int,
) -> None:
    """Add the flags that every training run has, with these defaults."""
    add = parser.add_argument
    add("--backend", choices=("auto", "numpy", "numba", "cupy"), default="auto", help="where to compute")
    add("--steps", type=integer(1), default=steps, help="gradient steps")
    add("--batch-size", type=integer(1, LARGEST), default=batch_size, help="examples per step")
    add(
        "--timesteps",
        type=integer(1, LARGEST),
        default=timesteps,
        help="T, the number of diffusion steps",
    )
    add("--schedule", choices=schedules, default=schedule, help="of the noise")
    add("--target", choices=TARGETS, default=target, help="what the network predicts")
    add(
        "--learning-rate",
        type=positive,
        default=learning_rate,
        help="at its peak; decays along a cosine",
    )
    add("--seed", type=integer(0, 2**63), default=0, help="of everything random")
    add("--dtype", choices=("float32", "float64"), default="float32", help="of the network")
    add(
        "--out-dir",
        type=folder,
        default=Path(out_dir),
        help="what an earlier run left there is replaced",
    )
    add(
        "--checkpoint-every",
        type=integer(1),
        default=checkpoint_every,
        help="steps between checkpoints",
    )
    add("--resume", action="store_true", help="go on from the checkpoint in --out-dir")
    add("--no-plots", action="store_true", help="write no pictures")


# --- training and sampling ----------------------------------------------------------------


def train_or_resume(
    options: argparse.Namespace,
    backend: Backend,
    recipe: Recipe,
    settings: Mapping[str, Any],
    batch: Callable[[int], Batch],
) -> tuple[TrainState, int, MetricsLog]:
    """Train from the start or from the checkpoint; returns the state and the step it began at.

    ``settings`` are what the weights depend on, which the checkpoint must agree with; ``batch`` is
    from :func:`ddpm_np.runs.batches.batches`.
    """
    path = options.out_dir / "checkpoint.npz"
    settings = {**settings, "backend": backend.name}

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

    def draw(step: int) -> tuple[Any, ...]:
        x0, t, noise, *labels = batch(step)
        return asarray(x0), t, asarray(noise), *labels

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


def sample(
    options: argparse.Namespace,
    backend: Backend,
    schedule: ddpm.Schedule,
    predict: Predictor,
    shape: tuple[int, ...],
    sigma2: Table,
    target: Target,
    times: set[int],
) -> dict[int, np.ndarray]:
    """Run Algorithm 2; returns x_t on the host for t in ``times``, and t = 0."""
    frames = {}

    def watched(x_t: Any, t: int) -> Any:
        if t in times:
            frames[t] = backend.to_numpy(x_t)
        return predict(x_t, t)

    x0 = ddpm.ancestral_sample(
        schedule,
        watched,
        backend.normal((options.seed, SAMPLE, schedule.T + 1), shape, options.dtype),
        noise=lambda t: backend.normal((options.seed, SAMPLE, t), shape, options.dtype),
        sigma2=sigma2,
        target=target,
    )
    frames[0] = backend.to_numpy(x0)
    if not np.all(np.isfinite(frames[0])):
        raise FloatingPointError("sampling diverged: train longer, or with a lower learning rate")
    return frames


# --- numbers ------------------------------------------------------------------------------


def strip_times(T: int, count: int) -> list[int]:
    """About ``count`` times from 0 to T, denser near the data."""
    return sorted({round(T * (k / (count - 1)) ** 2) for k in range(count)})


def mean(values: np.ndarray) -> float:
    """Average over the examples."""
    return float(np.mean(values))


def loss_curve(log: MetricsLog) -> tuple[list[int], list[float]]:
    """Steps and losses that a run has logged."""
    records = [record for record in log.records if "loss" in record]
    return [record["step"] for record in records], [record["loss"] for record in records]
