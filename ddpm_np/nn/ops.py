"""The few operations that a backend may replace by a fused kernel.

The defaults below define what each operation means, for arrays of any library. A backend
is a value ``Ops(silu=..., adam=...)`` with the same signatures; layers and optimizers only
ever call the entries of the ``Ops`` they are given. ``d<name>`` is the gradient of ``<name>``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from array_api_compat import array_namespace

from ddpm_np._arrays import Array
from ddpm_np._arrays import describe as describe  # for the kernels' messages


def linear(x: Array, weight: Array, bias: Array) -> Array:
    """Affine map of rows: ``x @ weight + bias``; (B, n), (n, m), (m,) to (B, m)."""
    y = x @ weight
    y += bias
    return y


def linear_backward(dy: Array, x: Array, weight: Array) -> tuple[Array, Array, Array]:
    """Gradients (dx, dweight, dbias) of :func:`linear`."""
    return dy @ weight.T, x.T @ dy, array_namespace(dy).sum(dy, axis=0)


def silu(x: Array) -> tuple[Array, Array]:
    """SiLU, elementwise: returns (x * gate, gate) with gate = 1 / (1 + exp(-x))."""
    xp = array_namespace(x)
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right limit, gate = 0
        gate = 1.0 / (1.0 + xp.exp(-x))
    return x * gate, gate


def silu_backward(dy: Array, y: Array, gate: Array) -> Array:
    """Gradient of :func:`silu` from its two results: dx = dy * (gate + y * (1 - gate))."""
    return dy * (gate + y * (1.0 - gate))


def squared_error(prediction: Array, truth: Array, weight: Array | float) -> tuple[Array, Array]:
    """Weighted mean squared error and its gradient with respect to the prediction.

    loss        = mean(weight * (prediction - truth)^2)
    dprediction = 2 * weight * (prediction - truth) / size
    """
    error = prediction - truth
    weighted = weight * error
    return array_namespace(error).mean(weighted * error), weighted * (2.0 / math.prod(error.shape))


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


@dataclass(frozen=True)
class Ops:
    """A table of operations; the defaults are the array-generic definitions above."""

    linear: Callable[[Array, Array, Array], Array] = linear
    linear_backward: Callable[[Array, Array, Array], tuple[Array, Array, Array]] = linear_backward
    silu: Callable[[Array], tuple[Array, Array]] = silu
    silu_backward: Callable[[Array, Array, Array], Array] = silu_backward
    squared_error: Callable[[Array, Array, Array | float], tuple[Array, Array]] = squared_error
    adam: Callable[..., tuple[Array, Array, Array]] = adam
    ema: Callable[[Array, Array, float], Array] = ema


GENERIC = Ops()
"""Every operation by its array-generic definition."""
