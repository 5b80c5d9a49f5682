"""The works in PyTorch, written as somebody would who wants them fast. Nothing of ours is imported.

Fused Adam, gradients set to None, one foreach call for the running average, tables in float32 made
beforehand, no data loader, nothing that waits for a value. Where the times of a batch agree, their
embedding is multiplied once, as in ours. "compiled" is torch.compile of everything between the
draws and the loss, or of one step of a chain.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import works
from torch import Tensor
from torch.nn import functional
from torch_images import ImageDenoiser
from torch_model import (
    Context,
    Denoiser,
    Noise,
    Tables,
    chain,
    data,
    make_tables,
    network,
    normal,
    on,
    open_context,
    synchronize,
)

__all__ = ["decompose", "formulas", "open_context", "sample", "synchronize", "train", "train_images"]


def train(
    context: Context,
    batch: int,
    *,
    weights: dict[str, Tensor] | None = None,
    draw: Callable[[], tuple[Tensor, Tensor, Tensor]] | None = None,
) -> Callable[[], Tensor]:
    """A training step; returns the loss. Tests give the weights and the draws."""
    net, points = network(context, works.T, weights), data(context)

    def new_batch() -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.randint(len(points), (batch,), device=context.device)
        t = torch.randint(1, works.T + 1, (batch,), device=context.device)
        return points[chosen], t, torch.randn(batch, works.DIMENSIONS, device=context.device)

    return training(context, net, draw or new_batch, (-1, 1))


def train_images(
    context: Context,
    batch: int,
    width: int,
    *,
    net: torch.nn.Module | None = None,
    draw: Callable[[], tuple[Tensor, Tensor, Tensor]] | None = None,
) -> Callable[[], Tensor]:
    """A training step of the convolutional network; returns the loss."""
    last = torch.channels_last
    net = (net or ImageDenoiser(works.T, width)).to(context.device, memory_format=last)
    images = torch.from_numpy(works.images()).permute(0, 3, 1, 2).to(context.device, memory_format=last)

    def new_batch() -> tuple[Tensor, Tensor, Tensor]:
        chosen = torch.randint(len(images), (batch,), device=context.device)
        t = torch.randint(1, works.T + 1, (batch,), device=context.device)
        x0 = images[chosen]
        return x0, t, torch.randn_like(x0)

    return training(context, net, draw or new_batch, (-1, 1, 1, 1))


def training(
    context: Context,
    net: torch.nn.Module,
    draw: Callable[[], tuple[Tensor, Tensor, Tensor]],
    column: tuple[int, ...],
) -> Callable[[], Tensor]:
    """A training step of any network; ``column`` is the shape of a number for each example."""
    tables = on(context.device, make_tables(works.T))
    params = list(net.parameters())
    averages = [param.detach().clone() for param in params]
    optimizer = torch.optim.Adam(params, lr=works.RATE, fused=True)
    done = 0

    @context.compiled
    def loss_of(x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        x_t = tables.signal[t].view(column) * x0 + tables.sigma[t].view(column) * noise
        return functional.mse_loss(net(x_t, t), noise)

    def step() -> Tensor:
        nonlocal done
        optimizer.zero_grad(set_to_none=True)
        loss = loss_of(*draw())
        loss.backward()
        optimizer.step()
        decay = min(works.DECAY, (1 + done) / (10 + done))
        done += 1
        with torch.no_grad():
            torch._foreach_lerp_(averages, params, 1.0 - decay)
        return loss

    return step


def sample(
    context: Context,
    points: int,
    steps: int,
    *,
    weights: dict[str, Tensor] | None = None,
    noise: Noise | None = None,
) -> Callable[[], Tensor]:
    """A chain of ancestral sampling; returns x_0. ``noise(steps + 1)`` is where it starts."""
    net, (times, tables) = network(context, steps, weights), chain(context, steps)
    nothing = torch.zeros(points, works.DIMENSIONS, device=context.device)
    draw = noise or normal(context, points)

    @context.compiled
    def step(x: Tensor, t: Any, z: Tensor) -> Tensor:
        mean = tables.mean_x[t] * x - tables.mean_eps[t] * net.at(x, t)
        return mean + tables.root_variance[t] * z

    @torch.inference_mode()
    def walk() -> Tensor:
        x = draw(steps + 1)
        for t in range(steps, 0, -1):
            x = context.marked(step(x, times[t], draw(t) if t > 1 else nothing))
        return x

    return walk


def decompose(
    context: Context,
    points: int,
    steps: int,
    *,
    weights: dict[str, Tensor] | None = None,
    noise: Noise | None = None,
) -> Callable[[], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Every term of the bound for every point; returns L_T, L, L_0 and their sum."""
    net, (times, tables) = network(context, steps, weights), chain(context, steps)
    x0, draw = data(context)[:points], noise or normal(context, points)
    terms = bound_terms(net, tables, x0)
    middle, first = context.compiled(terms.middle), context.compiled(terms.first)

    @torch.inference_mode()
    def bound() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        zeros = torch.zeros(points, device=context.device)
        L_0 = context.marked(first(draw(1), times[1]))
        rows = [zeros, zeros]
        rows += [context.marked(middle(draw(t), times[t])) for t in range(2, steps + 1)]
        L, L_T = torch.stack(rows), terms.prior(times[steps])
        return L_T, L, L_0, L_T + L.sum(0) + L_0

    return bound


class Terms(NamedTuple):
    """The three kinds of terms of the bound, for points that stay the same."""

    middle: Callable[[Tensor, Any], Tensor]
    first: Callable[[Tensor, Any], Tensor]
    prior: Callable[[Any], Tensor]


def bound_terms(net: Denoiser, tables: Tables, x0: Tensor) -> Terms:
    """The terms as functions of the noise and of t, in nats per point."""
    d = works.DIMENSIONS

    def log(value: Any) -> Any:
        return value.log() if isinstance(value, Tensor) else math.log(value)

    def moved(noise: Tensor, t: Any) -> tuple[Tensor, Tensor]:
        x_t = tables.signal[t] * x0 + tables.sigma[t] * noise
        return x_t, tables.mean_x[t] * x_t - tables.mean_eps[t] * net.at(x_t, t)

    def middle(noise: Tensor, t: Any) -> Tensor:
        x_t, mean = moved(noise, t)
        posterior = tables.posterior_x[t] * x_t + tables.posterior_x0[t] * x0
        ratio = tables.posterior_variance[t] / tables.variance[t]
        square = (posterior - mean).square().sum(1) / tables.variance[t]
        return -0.5 * (square + d * (ratio - 1.0 - log(ratio)))

    def first(noise: Tensor, t: Any) -> Tensor:
        _, mean = moved(noise, t)
        square = (x0 - mean).square().sum(1) / tables.variance[t]
        return -0.5 * (square + d * (log(tables.variance[t]) + math.log(2.0 * math.pi)))

    def prior(T: Any) -> Tensor:
        variance = tables.sigma[T] ** 2
        return -0.5 * ((tables.signal[T] * x0).square().sum(1) + d * (variance - 1.0 - log(variance)))

    return Terms(middle, first, prior)


def formulas(
    context: Context,
    points: int,
    steps: int,
    *,
    arguments: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Callable[[], tuple[Tensor, Tensor, Tensor]]:
    """A schedule, x_t at a time for each point, and the posterior's mean and variance there."""
    if arguments is None:
        x0, noise = torch.randn(2, points, works.DIMENSIONS, device=context.device)
        arguments = x0, torch.randint(1, steps + 1, (points,), device=context.device), noise

    @context.compiled
    def moved(tables: Tables, x0: Tensor, t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x_t = tables.signal[t][:, None] * x0 + tables.sigma[t][:, None] * noise
        mean = tables.posterior_x[t][:, None] * x_t + tables.posterior_x0[t][:, None] * x0
        return x_t, mean, tables.posterior_variance[t][:, None]

    @torch.inference_mode()
    def all_three() -> tuple[Tensor, Tensor, Tensor]:
        return moved(on(context.device, make_tables(steps)), *arguments)

    return all_three
