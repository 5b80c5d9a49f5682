"""Elementwise operations of the CuPy backend, a kernel each, as ddpm_np.nn.ops defines them."""

import cupy

from backends.base import check_shapes, check_weight
from backends.cupy_kernels import BLOCK
from backends.cupy_launch import cupy_arrays, launch, launch_each
from ddpm_np._arrays import Array
from ddpm_np.nn import ops


def silu(x: Array) -> tuple[Array, Array]:
    """Fused :func:`ddpm_np.nn.ops.silu`."""
    (x,) = cupy_arrays(x=x)
    y, slope = cupy.empty_like(x), cupy.empty_like(x)
    launch_each("silu", x, x, y, slope)
    return y, slope


def squared_error(prediction: Array, truth: Array, weight: Array | float) -> tuple[Array, Array]:
    """Fused :func:`ddpm_np.nn.ops.squared_error`, for a single weight; others use the definition."""
    prediction, truth = cupy_arrays(prediction=prediction, truth=truth)
    check_shapes(truth=(truth, prediction.shape))
    if not isinstance(weight, int | float):
        _, weight = cupy_arrays(prediction=prediction, weight=weight)
        check_weight("weight", weight, prediction.shape)
        return ops.squared_error(prediction, truth, weight)
    size, dtype = prediction.size, prediction.dtype
    parts = min(-(-size // BLOCK), BLOCK)
    dprediction, part = cupy.empty_like(prediction), cupy.empty(parts, dtype)
    loss, scale = cupy.empty((), dtype), weight * (2.0 / size)
    launch("squared_error", parts, dtype, prediction, truth, dprediction, part, weight, scale, size)
    launch("mean", 1, dtype, part, loss, parts, size)
    return loss, dprediction


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
    param, grad, m, v = cupy_arrays(param=param, grad=grad, m=m, v=v)
    check_shapes(grad=(grad, param.shape), m=(m, param.shape), v=(v, param.shape))
    new_param, new_m, new_v = (cupy.empty_like(param) for _ in range(3))
    rest_1, rest_2 = 1.0 - beta_1, 1.0 - beta_2
    unbias = (1.0 - beta_2**step) ** -0.5
    keep, unbiased_rate = 1.0 - rate * decay, rate / (1.0 - beta_1**step)
    arrays = param, grad, m, v, new_param, new_m, new_v
    scalars = beta_1, rest_1, beta_2, rest_2, unbias, epsilon, keep, unbiased_rate
    launch_each("adam", param, *arrays, *scalars)
    return new_param, new_m, new_v


def ema(average: Array, value: Array, decay: float) -> Array:
    """Fused :func:`ddpm_np.nn.ops.ema`."""
    average, value = cupy_arrays(average=average, value=value)
    check_shapes(value=(value, average.shape))
    result = cupy.empty_like(average)
    launch_each("ema", average, average, value, result, decay, 1.0 - decay)
    return result
