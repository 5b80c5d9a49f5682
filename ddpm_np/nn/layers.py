"""Layers: frozen hyper-parameters with three pure methods. Each backward mirrors its forward.

params    = layer.init(rng)                             host float64
y, cache  = layer.forward(params, x, ops)
dx, grads = layer.backward(params, cache, dy, ops)      grads has the type of params

Sizes are integers >= 1. A layer made of anything else raises TypeError or ValueError.
"""

import functools
import math
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ddpm_np._arrays import Array, Table, Times, array_namespace, check_layer_input, device
from ddpm_np._checks import check_integer, check_real, settle
from ddpm_np.nn.ops import Ops, silu_backward
from ddpm_np.nn.tree import Tree


class Layer(Protocol):
    """What every layer and combinator has."""

    def init(self, rng: Generator) -> Tree:
        """Draw initial parameters, on the host in float64."""
        ...

    def forward(self, params: Tree, x: Array, ops: Ops) -> tuple[Array, Any]:
        """Return the output and what backward needs."""
        ...

    def backward(self, params: Tree, cache: Any, dy: Array, ops: Ops) -> tuple[Array, Tree]:
        """Return the gradients of the input and of the parameters."""
        ...


class LinearParams(NamedTuple):
    """Parameters of :class:`Linear`, or their gradients."""

    weight: Array
    """Shape (inputs, outputs)."""
    bias: Array
    """Shape (outputs,)."""


@dataclass(frozen=True)
class Linear:
    """Affine map of rows: y = x @ weight + bias, shapes (B, inputs) to (B, outputs).

    Weights start as N(0, gain^2 / inputs), gain >= 0; biases at 0.
    """

    inputs: int
    outputs: int
    gain: float = 1.0

    def __post_init__(self) -> None:
        settle(
            self,
            inputs=check_integer("inputs", self.inputs, 1),
            outputs=check_integer("outputs", self.outputs, 1),
            gain=check_real("gain", self.gain, 0.0, sys.float_info.max, closed=True),
        )

    def init(self, rng: Generator) -> LinearParams:
        """Draw weights; zero biases."""
        scale = self.gain / math.sqrt(self.inputs)
        weight = scale * rng.standard_normal((self.inputs, self.outputs))
        return LinearParams(weight, np.zeros(self.outputs))

    def forward(self, params: LinearParams, x: Array, ops: Ops) -> tuple[Array, Array]:
        """Return x @ weight + bias; the cache is x."""
        check_layer_input("x", x)
        if len(x.shape) != 2 or x.shape[1] != self.inputs:
            raise ValueError(f"x must have shape (B, {self.inputs}), got {x.shape}")
        return ops.linear(x, params.weight, params.bias), x

    def backward(
        self, params: LinearParams, cache: Array, dy: Array, ops: Ops
    ) -> tuple[Array, LinearParams]:
        """Return dy @ weight^T, and the gradients x^T @ dy and the sum of dy over rows."""
        dx, dweight, dbias = ops.linear_backward(dy, cache, params.weight)
        return dx, LinearParams(dweight, dbias)


@dataclass(frozen=True)
class SiLU:
    """Elementwise y = x / (1 + exp(-x)); no parameters."""

    def init(self, rng: Generator) -> tuple[()]:
        """Return no parameters."""
        return ()

    def forward(self, params: tuple[()], x: Array, ops: Ops) -> tuple[Array, Array]:
        """Return y; the cache is the derivative of y by x."""
        return ops.silu(x)

    def backward(self, params: tuple[()], cache: Array, dy: Array, ops: Ops) -> tuple[Array, tuple[()]]:
        """Return dy * slope."""
        return silu_backward(dy, cache), ()


def time_embedding(T: int, size: int) -> Table:
    """Sinusoidal embedding of the times 0..T; host float64, shape (T + 1, size).

        embedding[t] = (sin(t' f_1), ..., sin(t' f_k), cos(t' f_1), ..., cos(t' f_k))
        t' = 1000 t / T,  k = size / 2,  f_i = 10000^(-(i - 1) / k)

    As in Vaswani et al. 2017, but t is rescaled, so that networks for any T see one range. The size
    is even.
    """
    return _embedding_table(*check_embedding(T, size))


def check_embedding(T: object, size: object, name: str = "size") -> tuple[int, int]:
    """Return T and the size of an embedding of times, which is even."""
    steps, number = check_integer("T", T, 1), check_integer(name, size, 2)
    if number % 2:
        raise ValueError(f"{name} must be even, half sines and half cosines, got {number}")
    return steps, number


@functools.lru_cache(maxsize=8)
def _embedding_table(T: int, size: int) -> Table:
    half = size // 2
    frequencies = np.exp(-math.log(10000.0) * np.arange(half) / half)
    angles = (1000.0 / T) * np.arange(T + 1)[:, None] * frequencies
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    table.flags.writeable = False
    return table


def embed(t: Times, T: int, size: int, like: Array) -> Array:
    """Rows of :func:`time_embedding` at t, with the dtype and device of ``like``.

    Shape (1, size) for an int t, else (B, size).
    """
    on_host = isinstance(like, np.ndarray)
    single = like.dtype.char == "f" if on_host else "float32" in str(like.dtype)
    rows = _host_embedding(T, size, "f" if single else "d")
    chosen = rows[t : t + 1].copy() if isinstance(t, int) else rows.take(t, axis=0)
    if on_host:
        return chosen
    xp = array_namespace(like)
    return xp.asarray(chosen, dtype=like.dtype, device=device(like))


@functools.lru_cache(maxsize=8)
def _host_embedding(T: int, size: int, dtype: str) -> NDArray[Any]:
    return time_embedding(T, size).astype(dtype)
