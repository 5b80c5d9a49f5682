"""Denoisers: networks that see x_t and t, and predict the noise (or x0, the mean, v)."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from array_api_compat import array_namespace, device
from numpy.random import Generator

from ddpm_np._arrays import Array, Times, check_integer, check_times
from ddpm_np.nn.combinators import Residual, Serial
from ddpm_np.nn.layers import Linear, SiLU, time_embedding
from ddpm_np.nn.ops import Ops
from ddpm_np.nn.tree import Tree


class Denoiser(Protocol):
    """A network of two arguments, x_t and t; otherwise a layer."""

    def init(self, rng: Generator) -> Tree:
        """Draw initial parameters, on the host in float64."""
        ...

    def forward(self, params: Tree, x_t: Array, t: Array | int, ops: Ops) -> tuple[Array, Any]:
        """Return the prediction, of the shape of x_t, and what backward needs."""
        ...

    def backward(self, params: Tree, cache: Any, dy: Array, ops: Ops) -> tuple[Array, Tree]:
        """Return the gradients of x_t and of the parameters."""
        ...


@dataclass(frozen=True)
class MLPDenoiser:
    """A multi-layer perceptron on x_t beside the time's embedding.

        h = SiLU(Linear([x_t, embedding(t)]))
        h = h + SiLU(Linear(h)), hidden_layers times
        prediction = Linear(h)

    Parameters
    ----------
    dimensions : int
        d; x_t has shape (B, d).
    T : int
        The number of steps; times run from 1 to T.
    hidden_size, hidden_layers : int
        Width, and number of residual layers.
    embedding_size : int
        Even; see :func:`ddpm_np.nn.time_embedding`.

    Raises
    ------
    TypeError, ValueError
        If a size is no integer in range.
    """

    dimensions: int
    T: int
    hidden_size: int = 128
    hidden_layers: int = 3
    embedding_size: int = 64

    def __post_init__(self) -> None:
        check_integer("dimensions", self.dimensions, 1)
        check_integer("hidden_size", self.hidden_size, 1)
        check_integer("hidden_layers", self.hidden_layers, 0)
        time_embedding(self.T, self.embedding_size)

    @property
    def network(self) -> Serial:
        """The layers behind the concatenation."""
        width = self.hidden_size
        return Serial(
            (
                Linear(self.dimensions + self.embedding_size, width),
                SiLU(),
                *(Residual(Serial((Linear(width, width), SiLU()))) for _ in range(self.hidden_layers)),
                Linear(width, self.dimensions),
            )
        )

    def init(self, rng: Generator) -> Tree:
        """Draw initial parameters, on the host in float64.

        In the first layer x_t and the embedding get weights as if each came alone, N(0, 1 / d)
        and N(0, 1 / embedding_size): drawn for both together, the few weights of x_t would
        start so small that training takes several times as long.
        """
        first, *rest = self.network.init(rng)
        d, size = self.dimensions, self.embedding_size
        weight = first.weight * math.sqrt(d + size)
        weight[:d] /= math.sqrt(d)
        weight[d:] /= math.sqrt(size)
        return (first._replace(weight=weight), *rest)

    def forward(self, params: Tree, x_t: Array, t: Array | int, ops: Ops) -> tuple[Array, Any]:
        """Return the prediction and the network's cache.

        Raises
        ------
        TypeError, ValueError
            If x_t has not shape (B, dimensions) or t is not an integer in range.
        """
        if len(x_t.shape) != 2 or x_t.shape[1] != self.dimensions:
            raise ValueError(f"x_t must have shape (B, {self.dimensions}), got {x_t.shape}")
        times = check_times(t, self.T, x_t.shape[0])
        joined = array_namespace(x_t).concat([x_t, self._embed(times, x_t)], axis=1)
        return self.network.forward(params, joined, ops)

    def backward(self, params: Tree, cache: Any, dy: Array, ops: Ops) -> tuple[Array, Tree]:
        """Return the gradients of x_t and of the parameters; t has none."""
        djoined, grads = self.network.backward(params, cache, dy, ops)
        return djoined[:, : self.dimensions], grads

    def _embed(self, t: Times, x_t: Array) -> Array:
        xp = array_namespace(x_t)
        rows = time_embedding(self.T, self.embedding_size)[t]
        embedding = xp.asarray(np.array(rows), dtype=x_t.dtype, device=device(x_t))
        return xp.broadcast_to(embedding, (x_t.shape[0], self.embedding_size))
