"""A network that is trained on the swiss roll, briefly, for examples that measure something else."""

from typing import Any

from _command_line import integer  # before NumPy: it sets BLAS threads
from _training import peak_rate, placed

# isort: split
import argparse

import numpy as np

import ddpm_np as ddpm
from backends import describe_backend, get_backend
from ddpm_np import Array, Predictor
from ddpm_np.exact import swiss_roll_exact
from ddpm_np.nn import Adam, MLPDenoiser, mlp_loss_and_gradient
from ddpm_np.randomness import DATA, generator
from ddpm_np.runs.batches import batches
from ddpm_np.runs.evaluation import predictor
from ddpm_np.runs.log import Progress
from ddpm_np.training import Recipe, init_state, train

TRAINING_POINTS = 100_000


def add_network_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of :func:`trained_denoiser`."""
    add = parser.add_argument
    add("--steps", type=integer(0), default=10_000, help="gradient steps for the trained denoiser")
    add("--backend", choices=("auto", "numpy", "numba", "cupy"), default="auto", help="to train with")


def trained_denoiser(schedule: ddpm.Schedule, options: argparse.Namespace) -> Predictor:
    """Train the example's network briefly; returns predict(x_t, t) on host float64."""
    backend = get_backend(options.backend)
    print(f"\n{describe_backend(options.backend, backend)}")
    network, optimizer = MLPDenoiser(2, schedule.T), Adam(peak_rate(8e-3, options.steps))
    recipe = Recipe(schedule, network, optimizer, loss_and_gradient=mlp_loss_and_gradient)
    points = swiss_roll_exact().sample(TRAINING_POINTS, generator(options.seed, DATA)).astype("float32")

    def asarray(values: Any) -> Array:
        return backend.asarray(values, "float32")

    progress = Progress("training", 0, options.steps)
    state = train(
        recipe,
        init_state(recipe, options.seed, asarray),
        placed(batches(points, schedule.T, 256, options.seed), asarray),
        backend.ops,
        steps=options.steps,
        report=lambda step, loss: progress.update(step, f"loss {loss:.4f}"),
    )
    progress.close()
    network = predictor(recipe, state.average, backend.ops)
    return lambda x_t, t: backend.to_numpy(network(asarray(x_t), t)).astype(np.float64)
