"""The works as ddpm_np does them, on any of its backends, through the functions that users call."""

from collections.abc import Callable
from typing import Any

import numpy as np
import works

import ddpm_np as ddpm
from backends import Backend, get_backend
from ddpm_np._arrays import Predictor
from ddpm_np.nn import Adam, ConvDenoiser, MLPDenoiser, constant_rate, mlp_loss_and_gradient
from ddpm_np.randomness import BOUND, SAMPLE
from ddpm_np.runs.batches import batches
from ddpm_np.runs.evaluation import predictor
from ddpm_np.training import Recipe, init_state, train_step

SEED = 0


def open_context(name: str, device: str, threads: int) -> Backend:
    """Return the backend; its threads were set in the environment, before NumPy was loaded."""
    return get_backend(name)


def synchronize(backend: Backend) -> None:
    """Wait for the device."""
    backend.synchronize()


def make_recipe(T: int) -> Recipe:
    """The network and its optimizer, for a chain of T steps."""
    network = MLPDenoiser(works.DIMENSIONS, T, works.WIDTH, works.LAYERS, embedding_size=works.EMBEDDING)
    schedule, adam = ddpm.scaled_linear_schedule(T), Adam(constant_rate(works.RATE))
    return Recipe(
        schedule, network, adam, ema_decay=works.DECAY, loss_and_gradient=mlp_loss_and_gradient
    )


def on_device(backend: Backend) -> Callable[[Any], Any]:
    """Host values as float32 arrays of the backend."""
    return lambda values: backend.asarray(values, "float32")


def normal(backend: Backend, stream: int, points: int) -> Callable[[int], Any]:
    """Noise for each t."""
    return lambda t: backend.normal((SEED, stream, t), (points, works.DIMENSIONS), "float32")


def network_predictor(backend: Backend, recipe: Recipe) -> Predictor:
    """The untrained network as a callable."""
    params = init_state(recipe, SEED, on_device(backend)).average
    return predictor(recipe, params, backend.ops)


def train(backend: Backend, batch: int) -> Callable[[], Any]:
    """A training step: a batch, forward, backward, Adam, the average; returns the losses' sum."""
    return training(backend, make_recipe(works.T), works.swiss_roll(), batch)


def train_images(backend: Backend, batch: int, width: int) -> Callable[[], Any]:
    """A training step of the convolutional network; returns the losses' sum."""
    return training(backend, image_recipe(width), works.images(), batch)


def image_recipe(width: int) -> Recipe:
    """The convolutional network and its optimizer."""
    network = ConvDenoiser(1, works.T, width, works.BLOCKS, works.GROUPS, embedding_size=works.EMBEDDING)
    schedule, adam = ddpm.scaled_linear_schedule(works.T), Adam(constant_rate(works.RATE))
    return Recipe(schedule, network, adam, ema_decay=works.DECAY)


def training(backend: Backend, recipe: Recipe, data: Any, batch: int) -> Callable[[], Any]:
    """A training step of any network."""
    asarray = on_device(backend)
    state = init_state(recipe, SEED, asarray)
    draw = batches(data, works.T, batch, SEED)

    def step() -> Any:
        nonlocal state
        x0, t, noise = draw(state.step)
        state = train_step(recipe, state, asarray(x0), t, asarray(noise), backend.ops)
        return state.loss_sum

    return step


def sample(backend: Backend, points: int, steps: int) -> Callable[[], Any]:
    """A chain of ancestral sampling, with its noise; returns x_0."""
    recipe = make_recipe(steps)
    predict, noise = network_predictor(backend, recipe), normal(backend, SAMPLE, points)
    sigma2 = ddpm.reverse_variance(recipe.schedule, "beta")

    def chain() -> Any:
        return ddpm.ancestral_sample(
            recipe.schedule, predict, noise(steps + 1), noise=noise, sigma2=sigma2
        )

    return chain


def decompose(backend: Backend, points: int, steps: int) -> Callable[[], Any]:
    """Every term of the bound for every point, with the noise; returns an Elbo."""
    recipe = make_recipe(steps)
    predict, noise = network_predictor(backend, recipe), normal(backend, BOUND, points)
    x0 = on_device(backend)(works.swiss_roll()[:points])
    sigma2 = ddpm.reverse_variance(recipe.schedule, "beta")

    def bound() -> Any:
        return ddpm.elbo_decomposition(recipe.schedule, predict, x0, noise=noise, sigma2=sigma2)

    return bound


def formula_arguments(points: int, steps: int) -> tuple[Any, Any, Any]:
    """Observations, noise and times on the host, float32 and int64."""
    rng = np.random.default_rng(SEED)
    x0, noise = rng.standard_normal((2, points, works.DIMENSIONS), dtype=np.float32)
    return x0, rng.integers(1, steps + 1, points), noise


def formulas(backend: Backend, points: int, steps: int) -> Callable[[], Any]:
    """A schedule, x_t at a time for each point, and the posterior there; returns all three."""
    x0, t, noise = formula_arguments(points, steps)
    x0, noise = map(on_device(backend), (x0, noise))

    def all_three() -> Any:
        schedule = ddpm.scaled_linear_schedule(steps)
        x_t = ddpm.q_sample(schedule, x0, t, noise)
        return x_t, *ddpm.q_posterior(schedule, x0, x_t, t)

    return all_three
