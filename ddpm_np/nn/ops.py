"""The few operations that a backend may replace by a fused kernel.

The defaults, here and in image_ops, define what each operation means, for arrays of any library.
A backend is a value ``Ops(silu=..., adam=...)`` with the same signatures; layers and optimizers
only ever call the entries of the ``Ops`` they are given. ``d<name>`` is the gradient of ``<name>``.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ddpm_np._arrays import Array, array_namespace, check_layer_input
from ddpm_np._checks import describe as describe
from ddpm_np.nn.image_ops import conv2d as conv2d
from ddpm_np.nn.image_ops import conv2d_backward as conv2d_backward
from ddpm_np.nn.image_ops import group_norm as group_norm
from ddpm_np.nn.image_ops import group_norm_backward as group_norm_backward
from ddpm_np.nn.tree import ravel


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """Affine map of rows: ``x @ weight + bias``; (B, n), (n, m), (m,) to (B, m)."""
    check_layer_input("x", x)
    y = x @ weight
    y += bias
    return y


def linear_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Gradients (dx, dweight, dbias) of :func:`linear`."""
    xp = check_layer_input("dy", dy)
    return dy @ weight.T, x.T @ dy, xp.sum(dy, axis=0)


def silu(x: Array) -> tuple[Array, Array]:
    """SiLU, elementwise, and its derivative, all that backward needs.

    y     = x * gate,  gate = 1 / (1 + exp(-x))
    slope = gate + y * (1 - gate)
    """
    xp = check_layer_input("x", x)
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right limit, gate = 0
        gate = 1.0 / (1.0 + xp.exp(-x))
    y = x * gate
    return y, gate + y * (1.0 - gate)


def silu_backward(dy: Array, slope: Array) -> Array:
    """Gradient of :func:`silu` from the derivative that it returned: dx = dy * slope; no entry."""
    return dy * slope


class MLPParams(NamedTuple):
    """Parameters of :func:`residual_mlp`, or their gradients."""

    weight: Array
    """Shape (d, n)."""
    time_weight: Array
    """Shape (embedding_size, n)."""
    bias: Array
    """Shape (n,)."""
    hidden_weight: Array
    """Shape (L, n, n)."""
    hidden_bias: Array
    """Shape (L, n)."""
    out_weight: Array
    """Shape (n, m)."""
    out_bias: Array
    """Shape (m,)."""


def residual_mlp(x: Array, embedding: Array, params: MLPParams, keep: bool = True) -> tuple[Array, Any]:
    """A residual network on the rows of x, (B, d) to (B, m), that sees an embedding of the time.

        h = silu(x @ weight + (embedding @ time_weight + bias))
        h = h + silu(h @ hidden_weight[l] + hidden_bias[l]) for l = 0, 1, ...
        y = h @ out_weight + out_bias

    The embedding has one row for each of x, or one for all. The second result is for
    :func:`residual_mlp_backward`, and each backend's own; None if there is nothing to ``keep``.
    """
    shift = linear(embedding, params.time_weight, params.bias)
    h, slope = silu(x @ params.weight + shift)
    hidden, slopes = [h], [slope]
    for l in range(params.hidden_weight.shape[0]):  # noqa: E741
        change, slope = silu(linear(h, params.hidden_weight[l, ...], params.hidden_bias[l, ...]))
        h = h + change
        if keep:
            hidden.append(h)
            slopes.append(slope)
    y = linear(h, params.out_weight, params.out_bias)
    return y, (x, embedding, hidden, slopes) if keep else None


def residual_mlp_backward(dy: Array, cache: Any, params: MLPParams) -> tuple[Array, MLPParams]:
    """Gradients of :func:`residual_mlp`, of x and of the parameters; the embedding is fixed."""
    x, embedding, hidden, slopes = cache
    xp = array_namespace(dy)
    dh, dout_weight, dout_bias = linear_backward(dy, hidden[-1], params.out_weight)
    dhidden_weight = xp.zeros_like(params.hidden_weight)
    dhidden_bias = xp.zeros_like(params.hidden_bias)
    for l in range(params.hidden_weight.shape[0] - 1, -1, -1):  # noqa: E741
        dchange = silu_backward(dh, slopes[l + 1])
        before, weight = hidden[l], params.hidden_weight[l, ...]
        dbefore, dhidden_weight[l, ...], dhidden_bias[l, ...] = linear_backward(dchange, before, weight)
        dh = dh + dbefore
    dh = silu_backward(dh, slopes[0])
    dx, dweight, dbias = linear_backward(dh, x, params.weight)
    shared = embedding.shape[0] != dh.shape[0]
    dtime_weight = embedding.T @ (dbias[None, :] if shared else dh)
    return dx, MLPParams(
        dweight, dtime_weight, dbias, dhidden_weight, dhidden_bias, dout_weight, dout_bias
    )


def residual_mlp_loss(
    x: Array, embedding: Array, params: MLPParams, truth: Array, loss_weight: Array | float
) -> tuple[Array, Array]:
    """Squared error of :func:`residual_mlp`, and its gradient by the parameters as one flat array.

    The leaves of the gradient follow one another as in MLPParams.
    """
    y, cache = residual_mlp(x, embedding, params)
    loss, dy = squared_error(y, truth, loss_weight)
    return loss, ravel(residual_mlp_backward(dy, cache, params)[1])


def check_mlp(x: Array, embedding: Array, params: MLPParams) -> None:
    """Refuse arguments of :func:`residual_mlp` that do not go together; for kernels, which go by sizes.

    Raises
    ------
    ValueError
        If a shape is not what the others ask for.
    """
    n, depth, m = params.bias.shape[0], params.hidden_weight.shape[0], params.out_bias.shape[0]
    inputs = (*x.shape[1:], n), (*embedding.shape[1:], n), (n,)
    expected = (*inputs, (depth, n, n), (depth, n), (n, m), (m,))
    found = tuple(leaf.shape for leaf in params)
    if found != expected or embedding.shape[0] not in (x.shape[0], 1):
        raise ValueError(
            f"params of shapes {', '.join(map(str, found))} do not go with "
            f"x of shape {x.shape} and an embedding of shape {embedding.shape}"
        )


def squared_error(prediction: Array, truth: Array, weight: Array | float) -> tuple[Array, Array]:
    """Weighted mean squared error and its gradient with respect to the prediction.

    loss        = mean(weight * (prediction - truth)^2)
    dprediction = 2 * weight * (prediction - truth) / size
    """
    xp = check_layer_input("prediction", prediction)
    check_layer_input("truth", truth)
    if prediction.shape != truth.shape:
        raise ValueError(
            f"truth must have shape {prediction.shape}, the prediction's, got {truth.shape}"
        )
    error = prediction - truth
    weighted = weight * error
    return xp.mean(weighted * error), weighted * (2.0 / math.prod(error.shape))


def adam(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    decay: float,
    step: int,
) -> tuple[Array, Array, Array]:
    """Adam with decoupled weight decay, Kingma & Ba 2015, Loshchilov & Hutter 2019.

        m     = beta_1 m + (1 - beta_1) grad
        v     = beta_2 v + (1 - beta_2) grad^2
        m_hat = m / (1 - beta_1^step),  v_hat = v / (1 - beta_2^step)
        param = (1 - rate decay) param - rate m_hat / (sqrt(v_hat) + epsilon)

    Returns the new (param, m, v); ``step`` counts from 1.
    """
    m = beta_1 * m + (1.0 - beta_1) * grad
    v = beta_2 * v + (1.0 - beta_2) * (grad * grad)
    size = array_namespace(v).sqrt(v) * (1.0 - beta_2**step) ** -0.5 + epsilon
    return (1.0 - rate * decay) * param - (rate / (1.0 - beta_1**step)) * (m / size), m, v


def ema(average: Array, value: Array, decay: float) -> Array:
    """Exponential moving average: decay * average + (1 - decay) * value."""
    return decay * average + (1.0 - decay) * value


def in_parts(function: Callable[[slice], Any], size: int, pixels: int = 1) -> Iterable[Any]:
    """Call ``function`` with slices that cover 0..size, and yield results in order; here, one.

    A backend may cut more, of sizes that depend on ``size`` and the ``pixels`` of one example
    alone, and work on them at once.
    """
    yield function(slice(0, size))


@dataclass(frozen=True)
class Ops:
    """A table of operations; the defaults are the array-generic definitions.

    residual_mlp_loss has no default: it would bypass the kernels of a table that replaces residual_mlp
    alone. To replace one of its three parts in a table that has it, set it to None as well.
    """

    linear: Callable[[Array, Array, Array], Array] = linear
    linear_backward: Callable[[Array, Array, Array], tuple[Array, Array, Array]] = linear_backward
    silu: Callable[[Array], tuple[Array, Array]] = silu
    residual_mlp: Callable[..., tuple[Array, Any]] = residual_mlp
    residual_mlp_backward: Callable[..., tuple[Array, MLPParams]] = residual_mlp_backward
    residual_mlp_loss: Callable[..., tuple[Array, Array]] | None = None
    """None: forward, squared error and backward by the entries for these."""
    conv2d: Callable[[Array, Array, Array, int], Array] = conv2d
    conv2d_backward: Callable[..., tuple[Array, Array, Array]] = conv2d_backward
    group_norm: Callable[..., tuple[Array, Any]] = group_norm
    group_norm_backward: Callable[[Array, Any], tuple[Array, Array, Array]] = group_norm_backward
    squared_error: Callable[[Array, Array, Array | float], tuple[Array, Array]] = squared_error
    adam: Callable[..., tuple[Array, Array, Array]] = adam
    ema: Callable[[Array, Array, float], Array] = ema
    in_parts: Callable[..., Iterable[Any]] = in_parts


GENERIC = Ops()
"""Every operation by its array-generic definition."""


def forward_only(ops: Ops) -> Ops:
    """The same table, for forward without backward: the network of rows keeps nothing."""
    return replace(ops, residual_mlp=partial(ops.residual_mlp, keep=False))
