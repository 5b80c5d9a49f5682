"""Denoisers: networks that see x_t and t, and predict the noise (or x0, the mean, v).

x_t has shape (B, ...). Times are integers, and so are labels, the classes of the examples: both of
shape (B,), on the host, or one time for all, and None for no labels.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ddpm_np._arrays import Array, Times, check_dtype, check_layer_input, check_times
from ddpm_np._checks import check_integer, check_real, describe, settle
from ddpm_np.nn.layers import check_embedding, embed
from ddpm_np.nn.ops import MLPParams, Ops
from ddpm_np.nn.tree import Tree, ravel

Labels: TypeAlias = NDArray[np.integer[Any]] | None
"""The class of each example, on the host, or None."""


class Denoiser(Protocol):
    """A layer that sees times and labels beside x_t."""

    def init(self, rng: Generator) -> Tree:
        """Draw initial parameters, on the host in float64."""
        ...

    def forward(
        self, params: Tree, x_t: Array, t: Times, ops: Ops, labels: Labels = None
    ) -> tuple[Array, Any]:
        """Return the prediction, of the shape of x_t, and what backward needs."""
        ...

    def backward(self, params: Tree, cache: Any, dy: Array, ops: Ops) -> tuple[Array, Tree]:
        """Return the gradients of x_t and of the parameters."""
        ...


def check_denoiser(denoiser: object) -> None:
    """Raise TypeError unless ``denoiser`` has the forward method of a :class:`Denoiser`."""
    forward = getattr(denoiser, "forward", None)
    if not callable(forward):
        raise TypeError(f"denoiser must have a method forward, got {describe(denoiser)}")
    try:
        inspect.signature(forward).bind("params", "x_t", "t", "ops", "labels")
    except TypeError:
        raise TypeError(
            "denoiser must have a method forward(params, x_t, t, ops, labels), "
            f"got one of {type(denoiser).__name__} with {inspect.signature(forward)}"
        ) from None


def check_x_t(x_t: Array) -> None:
    """Raise TypeError unless x_t is an array of float32 or float64, or complex by a complex step."""
    if check_layer_input("x_t", x_t) is np and x_t.dtype.char not in "fdFD":
        check_dtype("x_t", x_t)


def check_labels_array(labels: object, batch: int | None = None) -> None:
    """Raise unless labels are None or a NumPy integer array of shape (B,)."""
    if labels is None:
        return
    one_axis = type(labels) is np.ndarray and labels.dtype.kind in "iu" and labels.ndim == 1
    if not one_axis or (batch is not None and len(labels) != batch):  # type: ignore[arg-type]
        shape = "(B,)" if batch is None else f"({batch},)"
        raise TypeError(
            f"labels must be None or a NumPy integer array of shape {shape}, got {describe(labels)}"
        )


LossAndGradient: TypeAlias = Callable[
    [Denoiser, Tree, Array, Times, Labels, Array, Array | float, Ops], tuple[Array, Array]
]
"""How a step finds its loss and gradient: :func:`loss_and_gradient`, or one that agrees with it."""


def loss_and_gradient(
    denoiser: Denoiser,
    params: Tree,
    x_t: Array,
    t: Times,
    labels: Labels,
    truth: Array,
    weight: Array | float,
    ops: Ops,
) -> tuple[Array, Array]:
    """Weighted squared error of a prediction, and its gradient, of any denoiser.

        loss     = mean(weight * (prediction(x_t, t) - truth)^2)
        gradient = dloss / dparams, one flat array in the order of :func:`ddpm_np.nn.tree.ravel`

    The weight broadcasts to x_t.
    """
    if not hasattr(denoiser, "forward"):
        check_denoiser(denoiser)
    _check_weight(weight, x_t)
    _check_truth(truth, x_t)
    prediction, cache = denoiser.forward(params, x_t, t, ops, labels)
    loss, dprediction = ops.squared_error(prediction, truth, weight)
    _, grads = denoiser.backward(params, cache, dprediction, ops)
    return loss, ravel(grads)


def mlp_loss_and_gradient(
    denoiser: Denoiser,
    params: Tree,
    x_t: Array,
    t: Times,
    labels: Labels,
    truth: Array,
    weight: Array | float,
    ops: Ops,
) -> tuple[Array, Array]:
    """:func:`loss_and_gradient` of an :class:`MLPDenoiser`, in one operation if ``ops`` has it.

    A small network spends much of its time between operations.

    Raises
    ------
    TypeError
        If the denoiser is anything else: a subclass or a wrapper may predict something else.
    """
    if type(denoiser) is not MLPDenoiser:
        raise TypeError(
            "mlp_loss_and_gradient is for an MLPDenoiser, not for a subclass or a wrapper, "
            f"got {type(denoiser).__name__}; loss_and_gradient is for any denoiser"
        )
    _check_weight(weight, x_t)
    _check_truth(truth, x_t)
    if ops.residual_mlp_loss is None:
        return loss_and_gradient(denoiser, params, x_t, t, labels, truth, weight, ops)
    return ops.residual_mlp_loss(x_t, denoiser.embed(x_t, t, labels), params, truth, weight)


def _check_weight(weight: object, x_t: Array) -> None:
    """Raise unless ``weight`` is a number, or an array that broadcasts to x_t."""
    if isinstance(weight, int | float | np.generic):
        check_real("weight", weight, -math.inf, math.inf)
        return
    check_layer_input("weight", weight)
    shape, wanted = weight.shape, getattr(x_t, "shape", ())  # type: ignore[attr-defined]
    fits = all(a in (1, b) for a, b in zip(shape[::-1], wanted[::-1], strict=False))
    if len(shape) > len(wanted) or not fits:
        raise ValueError(f"weight must broadcast to x_t, of shape {wanted}, got shape {shape}")


def _check_truth(truth: Array, x_t: Array) -> None:
    """Raise unless ``truth`` is like x_t: the gradient of another dtype would be cast on its way."""
    for name, x in (("x_t", x_t), ("truth", truth)):
        check_layer_input(name, x)
    if truth.dtype != x_t.dtype or truth.shape != x_t.shape or 0 in x_t.shape:
        raise ValueError(
            f"truth must have the dtype and shape of x_t, {x_t.dtype} and {x_t.shape}, and not be "
            f"empty, got {describe(truth)}"
        )


@dataclass(frozen=True)
class MLPDenoiser:
    """A multi-layer perceptron on x_t beside the time's embedding.

        h = silu(x_t @ weight + embedding(t) @ time_weight + bias)
        h = h + silu(h @ hidden_weight[l] + hidden_bias[l]), hidden_layers times
        prediction = h @ out_weight + out_bias

    Train it with ``Recipe(..., loss_and_gradient=mlp_loss_and_gradient)``: where the backend has one
    operation for all three, that is faster, with the same result.

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
        If a size is not an integer in range.
    """

    dimensions: int
    T: int
    hidden_size: int = 128
    hidden_layers: int = 3
    embedding_size: int = 64

    def __post_init__(self) -> None:
        T, embedding_size = check_embedding(self.T, self.embedding_size, "embedding_size")
        settle(
            self,
            dimensions=check_integer("dimensions", self.dimensions, 1),
            T=T,
            hidden_size=check_integer("hidden_size", self.hidden_size, 1),
            hidden_layers=check_integer("hidden_layers", self.hidden_layers, 0),
            embedding_size=embedding_size,
        )

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
            weight=weight,
            time_weight=time_weight,
            bias=np.zeros(n),
            hidden_weight=hidden_weight,
            hidden_bias=np.zeros((layers, n)),
            out_weight=out_weight,
            out_bias=np.zeros(d),
        )

    def forward(
        self, params: MLPParams, x_t: Array, t: Times, ops: Ops, labels: Labels = None
    ) -> tuple[Array, Any]:
        """Return the prediction and what backward needs."""
        return ops.residual_mlp(x_t, self.embed(x_t, t, labels), params)

    def backward(self, params: MLPParams, cache: Any, dy: Array, ops: Ops) -> tuple[Array, MLPParams]:
        """Return the gradients of x_t and of the parameters; t has none."""
        return ops.residual_mlp_backward(dy, cache, params)

    def embed(self, x_t: Array, t: Times, labels: Labels = None) -> Array:
        """Check what the network is given, and return the embedding of t.

        Raises
        ------
        TypeError, ValueError
            If x_t is not of shape (B, dimensions), t not an integer in range, or there are labels.
        """
        if labels is not None:
            raise TypeError("labels must be None: MLPDenoiser has no classes")
        check_x_t(x_t)
        if len(x_t.shape) != 2 or x_t.shape[1] != self.dimensions:
            raise ValueError(f"x_t must have shape (B, {self.dimensions}), got {x_t.shape}")
        return embed(check_times(t, self.T, x_t.shape[0]), self.T, self.embedding_size, x_t)
