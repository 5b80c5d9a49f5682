"""What the works in PyTorch are made of: where to compute, the network, and the tables."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import works
from torch import Tensor
from torch.nn import functional

Noise = Callable[[int], Tensor]


@dataclass(frozen=True)
class Context:
    """Where and how to compute."""

    device: str
    mode: str | None
    """That of torch.compile; None is eager."""

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile for the sizes at hand, if that was asked for."""
        if self.mode is None:
            return function
        return torch.compile(function, dynamic=False, mode=self.mode)

    def marked(self, tensor: Tensor) -> Tensor:
        """What a compiled step returned, kept from the next: CUDA graphs reuse their memory."""
        return tensor.clone() if self.mode == "reduce-overhead" else tensor


def open_context(name: str, device: str, threads: int) -> Context:
    """Set threads, seed and precision; raises RuntimeError if there is no such device."""
    if device == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(f"PyTorch {torch.__version__} finds no usable NVIDIA GPU")
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.compiler.reset()  # one row's compilations must not count against the next's limit
    modes = {"cpu": "default", "cuda": "reduce-overhead"}
    return Context(device, modes[device] if name == "compiled" else None)


def synchronize(context: Context) -> None:
    """Wait for the device."""
    if context.device == "cuda":
        torch.cuda.synchronize()


def normal(context: Context, points: int) -> Noise:
    """Noise for each t."""
    return lambda t: torch.randn(points, works.DIMENSIONS, device=context.device)


# --- the network and its tables -----------------------------------------------------------


class Denoiser(torch.nn.Module):
    """The network: x_t beside the time's embedding, residual layers, SiLU."""

    def __init__(self, T: int) -> None:
        super().__init__()
        linear = torch.nn.Linear
        self.first = linear(works.DIMENSIONS + works.EMBEDDING, works.WIDTH)
        self.hidden = torch.nn.ModuleList(linear(works.WIDTH, works.WIDTH) for _ in range(works.LAYERS))
        self.last = linear(works.WIDTH, works.DIMENSIONS)
        half = works.EMBEDDING // 2
        frequencies = torch.exp(-math.log(10000.0) * torch.arange(half, dtype=torch.float64) / half)
        angles = (1000.0 / T) * torch.arange(T + 1, dtype=torch.float64)[:, None] * frequencies
        self.register_buffer("embedding", torch.cat([angles.sin(), angles.cos()], 1).float())

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction with a time for each row."""
        return self.behind(self.first(torch.cat((x, self.embedding[t]), 1)))

    def at(self, x: Tensor, t: Tensor | int) -> Tensor:
        """The prediction with one time for all rows: an int, or a tensor of one."""
        weight = self.first.weight
        time = functional.linear(self.embedding[t], weight[:, works.DIMENSIONS :], self.first.bias)
        return self.behind(torch.addmm(time, x, weight[:, : works.DIMENSIONS].t()))

    def behind(self, h: Tensor) -> Tensor:
        """All but the first layer."""
        h = functional.silu(h)
        for layer in self.hidden:
            h = h + functional.silu(layer(h))
        return self.last(h)


class Tables(NamedTuple):
    """What the formulas need at each t, entries 0..T: tensors, or lists of floats."""

    signal: Any
    sigma: Any
    mean_x: Any
    """Model mean = mean_x * x_t - mean_eps * eps."""
    mean_eps: Any
    posterior_x: Any
    """Posterior mean = posterior_x * x_t + posterior_x0 * x0."""
    posterior_x0: Any
    posterior_variance: Any
    variance: Any
    """Of the reverse steps: beta."""
    root_variance: Any


def make_tables(T: int) -> Tables:
    """Every table in float64, on the host; beta is linear, from 0.1 / T to 20 / T."""
    zero = torch.zeros(1, dtype=torch.float64)
    beta = torch.cat([zero, torch.linspace(0.1 / T, 20.0 / T, T, dtype=torch.float64)])
    log_alpha_bar = torch.log1p(-beta).cumsum(0)
    alpha, alpha_bar, rest = 1.0 - beta, log_alpha_bar.exp(), -torch.expm1(log_alpha_bar)
    before, bar_before = (torch.cat([zero, table[:-1]]) for table in (rest, alpha_bar))
    per_rest = torch.cat([zero, 1.0 / rest[1:]])
    return Tables(
        signal=alpha_bar.sqrt(),
        sigma=rest.sqrt(),
        mean_x=alpha.rsqrt(),
        mean_eps=beta * per_rest.sqrt() * alpha.rsqrt(),
        posterior_x=alpha.sqrt() * before * per_rest,
        posterior_x0=bar_before.sqrt() * beta * per_rest,
        posterior_variance=before * per_rest * beta,
        variance=beta,
        root_variance=beta.sqrt(),
    )


def on(device: str, tables: Tables) -> Tables:
    """The tables in float32, on a device."""
    return Tables(*(table.to(device, torch.float32) for table in tables))


def chain(context: Context, T: int) -> tuple[list[Any], Tables]:
    """Times and tables for a loop over t: numbers, or for compiled steps tensors of one."""
    tables = make_tables(T)
    if context.mode is None:
        return list(range(T + 1)), Tables(*(table.tolist() for table in tables))
    return list(torch.arange(T + 1, device=context.device)[:, None]), on(context.device, tables)


def network(context: Context, T: int, weights: dict[str, Tensor] | None) -> Denoiser:
    """A new network, or one with given weights."""
    net = Denoiser(T)
    if weights is not None:
        net.load_state_dict(weights, strict=False)
    return net.to(context.device)


def data(context: Context) -> Tensor:
    """The points that batches are drawn from."""
    return torch.from_numpy(works.swiss_roll()).to(context.device)
