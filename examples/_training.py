"""What the examples that train a network share: flags, the training run, and its samples."""

import argparse
import itertools
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _command_line import OUT_DIR, folder, integer, positive  # before NumPy: it sets BLAS threads

# isort: split
import numpy as np

from backends import Backend
from ddpm_np import Array, Predictor
from ddpm_np.nn import cosine_decay, warmup
from ddpm_np.nn.optimizers import LearningRate
from ddpm_np.randomness import SAMPLE
from ddpm_np.runs.batches import Batch
from ddpm_np.runs.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ddpm_np.runs.folder import hold_folder
from ddpm_np.runs.log import MetricsLog, Progress
from ddpm_np.targets import TARGETS
from ddpm_np.training import Recipe, TrainState, init_state, train

CHECKPOINT = "checkpoint.npz"
REPORT_EVERY = 100
LARGEST = 10**15
"""Sizes above it overflow; those below may run out of memory, which is reported."""


@dataclass(frozen=True)
class Run:
    """What every part of a run needs."""

    options: argparse.Namespace
    backend: Backend
    recipe: Recipe

    def asarray(self, values: Any) -> Array:
        """Bring host values to where the network computes, in its dtype."""
        return self.backend.asarray(values, self.options.dtype)


# --- the command line ---------------------------------------------------------------------


def add_run_flags(parser: argparse.ArgumentParser, schedules: tuple[str, ...], **defaults: Any) -> None:
    """Add the flags that every training run has, with these defaults."""
    add = parser.add_argument
    add("--backend", choices=("auto", "numpy", "numba", "cupy"), help="what to compute with")
    add("--steps", type=integer(1), help="gradient steps")
    add("--batch-size", type=integer(1, LARGEST), help="examples per step")
    add("--timesteps", type=integer(1, LARGEST), help="T, the number of diffusion steps")
    add(
        "--schedule",
        choices=schedules,
        help="noise schedule; what diffusers calls scaled_linear is quadratic",
    )
    add("--target", choices=TARGETS, help="what the network predicts")
    add("--learning-rate", type=positive, help="at its peak; it decays along a cosine")
    add("--seed", type=integer(0, 2**63), help="random seed")
    add("--dtype", choices=("float32", "float64"), help="of the network and its training")
    add("--out-dir", type=folder, help=f"{OUT_DIR}, unless --resume is given")
    add("--checkpoint-every", type=integer(1), help="steps between checkpoints")
    add("--resume", action="store_true", help="continue from the checkpoint in --out-dir")
    add("--no-plots", action="store_true", help="draw no pictures")
    parser.set_defaults(**{"backend": "auto", "seed": 0, "dtype": "float32", **defaults})


def peak_rate(peak: float, steps: int) -> LearningRate:
    """Learning rate that rises to its peak over 200 steps and decays along a cosine."""
    return warmup(cosine_decay(peak, steps), min(200, steps))


# --- the folder ---------------------------------------------------------------------------


@contextmanager
def run_folder(options: argparse.Namespace, pictures: tuple[str, ...]) -> Iterator[None]:
    """Hold the run's folder until all is written; a run that is stopped says if it can go on."""
    names = (CHECKPOINT, "metrics.jsonl", "summary.json", *pictures)
    with hold_folder(options.out_dir, names, resume=options.resume):
        try:
            yield
        except KeyboardInterrupt as stop:
            if (options.out_dir / CHECKPOINT).exists():
                stop.add_note("the same command with --resume goes on from the checkpoint")
            raise


# --- training -----------------------------------------------------------------------------


def train_or_resume(
    run: Run, settings: Mapping[str, Any], batch: Callable[[int], Batch]
) -> tuple[TrainState, int, MetricsLog]:
    """Train from the start or from the checkpoint; returns the state and the step it began at.

    ``settings`` are what the weights depend on, which the checkpoint must agree with; ``batch`` is
    from :func:`ddpm_np.runs.batches.batches`.
    """
    options, recipe = run.options, run.recipe
    path, settings = options.out_dir / CHECKPOINT, {**settings, "backend": run.backend.name}
    state = first_state(run, path, settings)
    first = state.step
    expected = itertools.chain(
        range(REPORT_EVERY, first + 1, REPORT_EVERY),
        [first] if first == options.steps and first % REPORT_EVERY else [],
    )
    log = MetricsLog(options.out_dir / "metrics.jsonl", first, expected)
    progress = Progress("training", first, options.steps)

    def report(step: int, loss: float) -> None:
        log.append({"step": step, "loss": loss, "learning_rate": recipe.optimizer.rate(step - 1)})
        progress.update(step, f"loss {loss:.4f}")

    def save(state: TrainState) -> None:
        log.sync()
        save_checkpoint(path, recipe, state, settings, run.backend.to_numpy)

    try:
        state = train(
            recipe,
            state,
            placed(batch, run.asarray),
            run.backend.ops,
            steps=options.steps,
            report=report,
            report_every=REPORT_EVERY,
            save=save,
            save_every=options.checkpoint_every,
        )
    finally:
        progress.close()
    return state, first, log


def first_state(run: Run, path: Path, settings: Mapping[str, Any]) -> TrainState:
    """Load the checkpoint if --resume asks for it and there is one, else start at step 0."""
    if run.options.resume and path.exists():
        state = load_checkpoint(path, run.recipe, settings, run.asarray)
        if state.step > run.options.steps:
            raise CheckpointError(f"{path} is at step {state.step}, beyond --steps {run.options.steps}")
        print(f"resuming {path} at step {state.step} of {run.options.steps}")
        return state
    if run.options.resume:
        print(f"there is no {path} yet: starting at step 0")
    return init_state(run.recipe, run.options.seed, run.asarray)


def placed(
    batch: Callable[[int], Batch], asarray: Callable[[Any], Array]
) -> Callable[[int], tuple[Array, ...]]:
    """Batches whose x_0 and noise lie where the network computes; times and labels stay on the host."""

    def draw(step: int) -> tuple[Array, ...]:
        x0, t, noise, *labels = batch(step)
        return asarray(x0), t, asarray(noise), *labels

    return draw


# --- sampling -----------------------------------------------------------------------------


def sample(
    run: Run, walk: Callable[..., Array], predict: Predictor, shape: tuple[int, ...], times: set[int]
) -> dict[int, np.ndarray]:
    """Sample by ``walk(predict, x_T, noise)``; returns x_t on the host at ``times``, and at t = 0."""
    backend, seed, dtype = run.backend, run.options.seed, run.options.dtype
    frames = {}

    def watched(x_t: Array, t: int) -> Array:
        if t in times:
            frames[t] = backend.to_numpy(x_t)
        return predict(x_t, t)

    def noise(t: int) -> Array:
        return backend.normal((seed, SAMPLE, t), shape, dtype)

    frames[0] = backend.to_numpy(walk(watched, noise(run.recipe.schedule.T + 1), noise))
    return frames


def nearest(times: Collection[int], wanted: Iterable[int]) -> list[int]:
    """The times nearest to those wanted, increasing."""
    return sorted({min(times, key=lambda t: abs(t - one)) for one in wanted})


# --- numbers ------------------------------------------------------------------------------


class Clock:
    """Seconds between its stops."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def stop(self, name: str) -> None:
        """Record the time since the last stop under a name."""
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


def about_training(run: Run, state: TrainState, first: int, seconds: float) -> dict[str, Any]:
    """Where, how long and how fast a network was trained."""
    return {
        "backend": run.backend.name,
        "device": run.backend.device,
        "steps": state.step,
        "train_seconds": round(seconds, 3),
        "steps_per_second": round((state.step - first) / seconds, 1),
    }


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
