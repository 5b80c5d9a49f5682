"""The works in PyTorch on a GPU, each captured by hand in one CUDA graph and replayed.

The whole training step is in the graph: draws, forward, backward, Adam and the average. In chains
the graph holds one step, with the time in a tensor that the step itself changes. Graphs stay on one
stream, so replays follow one another, and reuse the memory of what they return.
"""

from collections.abc import Callable
from typing import Any

import torch
import works
from peers import bound_terms
from torch import Tensor
from torch.nn import functional
from torch_model import Context, data, make_tables, network, normal, on, open_context, synchronize

__all__ = ["decompose", "open_context", "sample", "synchronize", "train"]

WARM_UP = 3


def capture(step: Callable[[], Any]) -> torch.cuda.CUDAGraph:
    """Record a step; it runs a few times before, beside the main stream, as PyTorch asks for."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph


def train(context: Context, batch: int) -> Callable[[], Tensor]:
    """A training step; returns the tensor that holds the loss."""
    points, tables = data(context), on(context.device, make_tables(works.T))
    net = network(context, works.T, None)
    params = list(net.parameters())
    averages = [param.detach().clone() for param in params]
    optimizer = torch.optim.Adam(params, lr=works.RATE, fused=True, capturable=True)
    last_loss = torch.zeros((), device=context.device)

    def step() -> None:
        chosen = torch.randint(len(points), (batch,), device=context.device)
        t = torch.randint(1, works.T + 1, (batch,), device=context.device)
        noise = torch.randn(batch, works.DIMENSIONS, device=context.device)
        optimizer.zero_grad(set_to_none=True)
        x_t = tables.signal[t][:, None] * points[chosen] + tables.sigma[t][:, None] * noise
        loss = functional.mse_loss(net(x_t, t), noise)
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, params, 1.0 - works.DECAY)
            last_loss.copy_(loss)

    graph = capture(step)

    def replay() -> Tensor:
        graph.replay()
        return last_loss

    return replay


@torch.inference_mode()
def sample(context: Context, points: int, steps: int) -> Callable[[], Tensor]:
    """A chain of ancestral sampling; returns x_0."""
    net, tables = network(context, steps, None), on(context.device, make_tables(steps))
    tables.root_variance[1] = 0.0  # no noise in the last step
    t = torch.full((1,), steps, device=context.device)
    x = torch.zeros(points, works.DIMENSIONS, device=context.device)

    def step() -> None:
        mean = tables.mean_x[t] * x - tables.mean_eps[t] * net.at(x, t)
        x.copy_(mean + tables.root_variance[t] * torch.randn_like(x))
        t.sub_(1)

    graph = capture(step)

    @torch.inference_mode()
    def walk() -> Tensor:
        t.fill_(steps)
        x.normal_()
        for _ in range(steps):
            graph.replay()
        return x

    return walk


@torch.inference_mode()
def decompose(
    context: Context, points: int, steps: int
) -> Callable[[], tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Every term of the bound for every point; returns L_T, L, L_0 and their sum."""
    net, tables = network(context, steps, None), on(context.device, make_tables(steps))
    x0, draw = data(context)[:points], normal(context, points)
    terms = bound_terms(net, tables, x0)
    t = torch.full((1,), 2, device=context.device)
    L = torch.zeros(steps + 1, points, device=context.device)

    def step() -> None:
        L.index_copy_(0, t, terms.middle(draw(0), t)[None])
        t.add_(1)

    graph = capture(step)
    one, last = (torch.full((1,), time, device=context.device) for time in (1, steps))

    @torch.inference_mode()
    def bound() -> tuple[Tensor, Tensor, Tensor, Tensor]:
        L_0, L_T = terms.first(draw(1), one), terms.prior(last)
        t.fill_(2)
        for _ in range(2, steps + 1):
            graph.replay()
        return L_T, L, L_0, L_T + L.sum(0) + L_0

    return bound
