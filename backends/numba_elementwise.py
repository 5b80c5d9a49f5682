"""Elementwise operations of the Numba backend: SiLU, the loss, Adam and the running average.

Loops take flat arrays and check nothing; the operations below them, named as in ddpm_np.nn.ops,
check their arguments. SiLU is for float32 only, the rest for float64 too.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backends.base import check_shapes, check_weight, numpy_arrays
from backends.numba_tiles import REAL, Reals, compiled, inlined
from ddpm_np._arrays import Array
from ddpm_np.nn import ops

Floats = NDArray[np.floating[Any]]
"""An array of float32 or float64; the scalars beside it have its dtype."""


@inlined
def exponential(x: np.float32) -> np.float32:
    """Exponential of a float32 within 2 ulp for |x| <= 87; below exp(-87), above 88.4 infinity.

    exp(x) = 2^n exp(r) with n = round(x / log 2), |r| <= log(2) / 2, and a polynomial in r
    (coefficients of Cephes). Adding 1.5 * 2^23 rounds to an integer, and 2^n is written
    straight into the exponent's bits: neither stops vectorisation, as a call would.
    """
    x = min(max(x, REAL(-87.0)), REAL(89.0))
    n = (x * REAL(1.44269504) + REAL(12582912.0)) - REAL(12582912.0)
    r = x - n * REAL(0.693359375) + n * REAL(2.12194440e-4)
    p = REAL(1.9875691500e-4)
    p = p * r + REAL(1.3981999507e-3)
    p = p * r + REAL(8.3334519073e-3)
    p = p * r + REAL(4.1665795894e-2)
    p = p * r + REAL(1.6666665459e-1)
    p = p * r + REAL(5.0000001201e-1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * r * r + r + REAL(1.0)) * power


@inlined
def sigmoid(x: np.float32) -> np.float32:
    """The gate of SiLU, 1 / (1 + exp(-x))."""
    return REAL(1.0) / (REAL(1.0) + exponential(-x))


@inlined
def silu_and_slope(x: np.float32) -> tuple[np.float32, np.float32]:
    """SiLU, x * gate, and its derivative."""
    gate = sigmoid(x)
    y = x * gate
    return y, gate + y * (REAL(1.0) - gate)


# --- loops --------------------------------------------------------------------------------


@compiled
def _silu_loop(x: Reals, y: Reals, slope: Reals) -> None:
    """Write silu(x) and its derivative."""
    for i in range(x.size):
        y[i], slope[i] = silu_and_slope(x[i])


@compiled
def _squared_error_loop(
    prediction: Floats, truth: Floats, weight: np.floating[Any], dprediction: Floats
) -> float:
    """Return the loss, summed in float64; write its gradient."""
    total = 0.0
    scale = weight * prediction.dtype.type(2.0 / prediction.size)
    for i in range(prediction.size):
        error = prediction[i] - truth[i]
        total += np.float64(weight * error * error)
        dprediction[i] = scale * error
    return total / prediction.size


@compiled
def _adam_loop(
    param: Floats,
    grad: Floats,
    m: Floats,
    v: Floats,
    new_param: Floats,
    new_m: Floats,
    new_v: Floats,
    beta_1: np.floating[Any],
    rest_1: np.floating[Any],
    beta_2: np.floating[Any],
    rest_2: np.floating[Any],
    unbias: np.floating[Any],
    epsilon: np.floating[Any],
    keep: np.floating[Any],
    rate: np.floating[Any],
) -> None:
    """Write the new parameters and moments; rest = 1 - beta; keep includes decay, rate the bias."""
    for i in range(param.size):
        g = grad[i]
        a = beta_1 * m[i] + rest_1 * g
        b = beta_2 * v[i] + rest_2 * (g * g)
        new_m[i] = a
        new_v[i] = b
        new_param[i] = keep * param[i] - rate * (a / (math.sqrt(b) * unbias + epsilon))


@compiled
def _ema_loop(
    average: Floats, value: Floats, decay: np.floating[Any], rest: np.floating[Any], result: Floats
) -> None:
    """Write decay * average + rest * value."""
    for i in range(average.size):
        result[i] = decay * average[i] + rest * value[i]


# --- operations ---------------------------------------------------------------------------


def silu(x: Array) -> tuple[Array, Array]:
    """Fused :func:`ddpm_np.nn.ops.silu`."""
    (x,) = numpy_arrays(x=x)
    if x.dtype != np.float32:
        return ops.silu(x)
    y, slope = np.empty_like(x), np.empty_like(x)
    _silu_loop(x.ravel(), y.ravel(), slope.ravel())
    return y, slope


def squared_error(prediction: Array, truth: Array, weight: Array | float) -> tuple[Array, Array]:
    """Fused :func:`ddpm_np.nn.ops.squared_error`, for a single weight; others use the definition."""
    prediction, truth = numpy_arrays(prediction=prediction, truth=truth)
    check_shapes(truth=(truth, prediction.shape))
    if not isinstance(weight, int | float):
        _, weight = numpy_arrays(prediction=prediction, weight=weight)
        check_weight("weight", weight, prediction.shape)
        return ops.squared_error(prediction, truth, weight)
    dprediction, real = np.empty_like(prediction), prediction.dtype.type
    loss = _squared_error_loop(prediction.ravel(), truth.ravel(), real(weight), dprediction.ravel())
    return real(loss), dprediction


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
    """Fused :func:`ddpm_np.nn.ops.adam`."""
    param, grad, m, v = numpy_arrays(param=param, grad=grad, m=m, v=v)
    check_shapes(grad=(grad, param.shape), m=(m, param.shape), v=(v, param.shape))
    new_param, new_m, new_v = np.empty_like(param), np.empty_like(param), np.empty_like(param)
    real = param.dtype.type
    _adam_loop(
        param.ravel(),
        grad.ravel(),
        m.ravel(),
        v.ravel(),
        new_param.ravel(),
        new_m.ravel(),
        new_v.ravel(),
        beta_1=real(beta_1),
        rest_1=real(1.0 - beta_1),
        beta_2=real(beta_2),
        rest_2=real(1.0 - beta_2),
        unbias=real((1.0 - beta_2**step) ** -0.5),
        epsilon=real(epsilon),
        keep=real(1.0 - rate * decay),
        rate=real(rate / (1.0 - beta_1**step)),
    )
    return new_param, new_m, new_v


def ema(average: Array, value: Array, decay: float) -> Array:
    """Fused :func:`ddpm_np.nn.ops.ema`."""
    average, value = numpy_arrays(average=average, value=value)
    check_shapes(value=(value, average.shape))
    result, real = np.empty_like(average), average.dtype.type
    _ema_loop(average.ravel(), value.ravel(), real(decay), real(1.0 - decay), result.ravel())
    return result
