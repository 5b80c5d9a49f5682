"""Denoisers: networks that see x_t and t, and predict the noise (or x0, the mean, v)."""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator

from ddpm_np._arrays import Array, check_times
from ddpm_np._checks import check_integer
from ddpm_np.nn.layers import embed, time_embedding
from ddpm_np.nn.ops import MLPParams, Ops
from ddpm_np.nn.tree import Tree, ravel


class Denoiser(Protocol):
    """A network of two arguments, x_t and t; otherwise a layer.

    Two more methods are used where a class has them: ``predict``, which is forward without what
    backward needs, and ``loss_and_gradient``, see :func:`loss_and_gradient`. Both must agree with
    forward and backward.
    """

    def init(self, rng: Generator) -> Tree:
        """Draw initial parameters, on the host in float64."""
        ...

    def forward(self, params: Tree, x_t: Array, t: Array | int, ops: Ops) -> tuple[Array, Any]:
        """Return the prediction, of the shape of x_t, and what backward needs."""
        ...

    def backward(self, params: Tree, cache: Any, dy: Array, ops: Ops) -> tuple[Array, Tree]:
        """Return the gradients of x_t and of the parameters."""
        ...


def loss_and_gradient(
    denoiser: Denoiser,
    params: Tree,
    x_t: Array,
    t: Array | int,
    truth: Array,
    weight: Array | float,
    ops: Ops,
    *labels: Array,
) -> tuple[Array, Array]:
    """Weighted mean squared error of a prediction, and its gradient by the parameters, flat.

    Parameters
    ----------
    denoiser : Denoiser
    params : Tree
    x_t, truth : array, shape (B, ...)
        What the network sees, and what it should predict.
    t : integer array of shape (B,), on the host, or int
    weight : array that broadcasts to x_t, or float
    ops : Ops
    labels : integer array of shape (B,), on the host
        None or one, for a denoiser that takes classes.

    Returns
    -------
    loss : array, shape ()
        mean(weight * (prediction - truth)^2)
    gradient : array, shape (parameters,)
        As :func:`ddpm_np.nn.tree.ravel` orders them.
    """
    prediction, cache = denoiser.forward(params, x_t, t, ops, *labels)
    loss, dprediction = ops.squared_error(prediction, truth, weight)
    return loss, ravel(denoiser.backward(params, cache, dprediction, ops)[1])


@dataclass(frozen=True)
class MLPDenoiser:
    """A multi-layer perceptron on x_t beside the time's embedding.

        h = silu(x_t @ weight + embedding(t) @ time_weight + bias)
        h = h + silu(h @ hidden_weight[l] + hidden_bias[l]), hidden_layers times
        prediction = h @ out_weight + out_bias

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

    def init(self, rng: Generator) -> MLPParams:
        """Draw initial parameters, on the host in float64.

        Weights start as N(0, 1 / inputs). x_t and the embedding count as if each came alone: drawn
        for both together, the few weights of x_t would start so small that training takes
        several times as long.
        """
        d, size, n, layers = self.dimensions, self.embedding_size, self.hidden_size, self.hidden_layers

        def draw(*shape: int) -> Array:
            return rng.standard_normal(shape) / math.sqrt(shape[-2])

        weight, time_weight = draw(d, n), draw(size, n)
        hidden_weight, out_weight = draw(layers, n, n), draw(n, d)
        return MLPParams(
            *(weight, time_weight, np.zeros(n)),
            *(hidden_weight, np.zeros((layers, n))),
            *(out_weight, np.zeros(d)),
        )

    def forward(self, params: MLPParams, x_t: Array, t: Array | int, ops: Ops) -> tuple[Array, Any]:
        """Return the prediction and what backward needs.

        Raises
        ------
        TypeError, ValueError
            If x_t has not shape (B, dimensions) or t is not an integer in range.
        """
        return ops.residual_mlp(x_t, self._embed(t, x_t), params)

    def predict(self, params: MLPParams, x_t: Array, t: Array | int, ops: Ops) -> Array:
        """Return the prediction alone, as :func:`ddpm_np.runs.evaluation.predictor` needs it."""
        return ops.residual_mlp(x_t, self._embed(t, x_t), params, keep=False)[0]

    def backward(self, params: MLPParams, cache: Any, dy: Array, ops: Ops) -> tuple[Array, MLPParams]:
        """Return the gradients of x_t and of the parameters; t has none."""
        return ops.residual_mlp_backward(dy, cache, params)

    def loss_and_gradient(
        self,
        params: MLPParams,
        x_t: Array,
        t: Array | int,
        truth: Array,
        weight: Array | float,
        ops: Ops,
        *labels: Array,
    ) -> tuple[Array, Array]:
        """The function of this name, :func:`loss_and_gradient`, in one operation if ``ops`` has it.

        Small networks spend much of their time between operations. A subclass, which may predict
        something else, goes through its own forward and backward.

        Raises
        ------
        TypeError
            If there are labels: this network has no classes.
        """
        if labels:
            raise TypeError("labels must be None: MLPDenoiser has no classes")
        if ops.residual_mlp_loss is None or type(self) is not MLPDenoiser:
            return loss_and_gradient(self, params, x_t, t, truth, weight, ops)
        return ops.residual_mlp_loss(x_t, self._embed(t, x_t), params, truth, weight)

    def _embed(self, t: Array | int, x_t: Array) -> Array:
        if len(x_t.shape) != 2 or x_t.shape[1] != self.dimensions:
            raise ValueError(f"x_t must have shape (B, {self.dimensions}), got {x_t.shape}")
        return embed(check_times(t, self.T, x_t.shape[0]), self.T, self.embedding_size, x_t)
