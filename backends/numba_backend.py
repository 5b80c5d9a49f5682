"""Numba: NumPy arrays and matrix products, with the elementwise work in fused compiled loops.

Every kernel reads its inputs once and writes its results once. float32 uses a polynomial
exponential that LLVM vectorises (Numba's wheels bring no vector math library, and a scalar
``exp`` per element is slower than NumPy); in float64 NumPy's own is used. Kernels are
compiled once and cached on disk. None runs in parallel: Numba's threads and those of the
BLAS library would wait for each other.
"""

import math
from typing import Any

import array_api_compat.numpy as xp
import numpy as np

from backends.base import Backend, BackendError, host_asarray, host_normal
from ddpm_np.nn import ops
from ddpm_np.nn.ops import Ops, describe

try:
    from numba import njit
except ImportError as _error:
    raise BackendError(
        f"backend numba cannot run: {' '.join(str(_error).split())}; "
        'install it, in the project\'s folder, with: pip install -e ".[numba]"'
    ) from None

# error_model="numpy" leaves out the check for division by zero, which stops vectorisation;
# the fastmath flags allow fused multiply-add but still respect NaN and infinity.
_compile = njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
_inline = njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"}, inline="always")


def make() -> Backend:
    """Return the Numba backend; importing this module raises BackendError without Numba."""
    return Backend(
        name="numba",
        xp=xp,
        device="cpu",
        ops=Ops(silu=silu, silu_backward=silu_backward, squared_error=squared_error, adam=adam, ema=ema),
        asarray=host_asarray,
        to_numpy=np.asarray,
        normal=host_normal,
        synchronize=lambda: None,
    )


# --- the operations, as ddpm_np.nn.ops defines them ---------------------------------------


def silu(x: Any) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.silu`; float64 is left to it."""
    (x,) = _own(x=x)
    if x.dtype == np.float64:
        return ops.silu(x)
    y, gate = np.empty_like(x), np.empty_like(x)
    _silu_32(x.ravel(), y.ravel(), gate.ravel())
    return y, gate


def silu_backward(dy: Any, y: Any, gate: Any) -> Any:
    """Fused :func:`ddpm_np.nn.ops.silu_backward`."""
    dy, y, gate = _own(dy=dy, y=y, gate=gate)
    dx = np.empty_like(dy)
    _silu_backward(dy.ravel(), y.ravel(), gate.ravel(), dx.ravel())
    return dx


def squared_error(prediction: Any, truth: Any, weight: Any) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.squared_error`; weights other than a number are left to it."""
    prediction, truth = _own(prediction=prediction, truth=truth)
    if not isinstance(weight, int | float):
        return ops.squared_error(prediction, truth, *_own_any(weight=weight))
    dprediction = np.empty_like(prediction)
    weight = prediction.dtype.type(weight)
    loss = _squared_error(prediction.ravel(), truth.ravel(), weight, dprediction.ravel())
    return prediction.dtype.type(loss), dprediction


def adam(
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    rate: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    decay: float,
    step: int,
) -> tuple[Any, Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.adam`."""
    param, grad, m, v = _own(param=param, grad=grad, m=m, v=v)
    new_param, new_m, new_v = np.empty_like(param), np.empty_like(param), np.empty_like(param)
    real = param.dtype.type
    _adam(
        *(leaf.ravel() for leaf in (param, grad, m, v, new_param, new_m, new_v)),
        *(real(beta_1), real(1.0 - beta_1), real(beta_2), real(1.0 - beta_2)),
        *(real((1.0 - beta_2**step) ** -0.5), real(epsilon)),
        *(real(1.0 - rate * decay), real(rate / (1.0 - beta_1**step))),
    )
    return new_param, new_m, new_v


def ema(average: Any, value: Any, decay: float) -> Any:
    """Fused :func:`ddpm_np.nn.ops.ema`."""
    average, value = _own(average=average, value=value)
    result, real = np.empty_like(average), average.dtype.type
    _ema(average.ravel(), value.ravel(), real(decay), real(1.0 - decay), result.ravel())
    return result


# --- what the kernels accept --------------------------------------------------------------


def _own(**arrays: Any) -> tuple[Any, ...]:
    """Refuse what is not ours (Numba would convert it silently); make the rest contiguous."""
    own = _own_any(**arrays)
    first_name, first = next(iter(arrays)), own[0]
    for name, array in zip(arrays, own, strict=True):
        if array.shape != first.shape or array.dtype != first.dtype:
            raise ValueError(
                f"{name} must have the shape and dtype of {first_name}, "
                f"{first.shape} {first.dtype}, got {array.shape} {array.dtype}"
            )
    return own


def _own_any(**arrays: Any) -> tuple[Any, ...]:
    for name, array in arrays.items():
        if type(array) is not np.ndarray or array.dtype not in (np.float32, np.float64):
            raise TypeError(f"{name} must be a NumPy array of float32 or float64, got {describe(array)}")
    return tuple(np.asarray(array, order="C") for array in arrays.values())


# --- the kernels, on flat contiguous arrays -----------------------------------------------


@_inline
def _exp_32(x: Any) -> Any:
    """Exponential of a float32 within 2 ulp for |x| <= 87; below exp(-87), above 88.4 infinity.

    exp(x) = 2^n exp(r) with n = round(x / log 2), |r| <= log(2) / 2, and a polynomial in r
    (coefficients of Cephes). Adding 1.5 * 2^23 rounds to an integer, and 2^n is written
    straight into the exponent's bits: neither stops vectorisation, as a call would.
    """
    x = min(max(x, np.float32(-87.0)), np.float32(89.0))
    n = (x * np.float32(1.44269504) + np.float32(12582912.0)) - np.float32(12582912.0)
    r = x - n * np.float32(0.693359375) + n * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return (p * r * r + r + np.float32(1.0)) * power


@_compile
def _silu_32(x: Any, y: Any, gate: Any) -> None:
    one = np.float32(1.0)
    for i in range(x.size):
        g = one / (one + _exp_32(-x[i]))
        gate[i] = g
        y[i] = x[i] * g


@_compile
def _silu_backward(dy: Any, y: Any, gate: Any, dx: Any) -> None:
    one = dy.dtype.type(1.0)
    for i in range(dy.size):
        dx[i] = dy[i] * (gate[i] + y[i] * (one - gate[i]))


@_compile
def _squared_error(prediction: Any, truth: Any, weight: Any, dprediction: Any) -> Any:
    total = 0.0
    scale = weight * prediction.dtype.type(2.0 / prediction.size)
    for i in range(prediction.size):
        error = prediction[i] - truth[i]
        total += np.float64(weight * error * error)
        dprediction[i] = scale * error
    return total / prediction.size


@_compile
def _adam(
    param: Any, grad: Any, m: Any, v: Any, new_param: Any, new_m: Any, new_v: Any,
    beta_1: Any, rest_1: Any, beta_2: Any, rest_2: Any, unbias: Any, epsilon: Any, keep: Any, rate: Any,
) -> None:  # fmt: skip
    for i in range(param.size):
        g = grad[i]
        a = beta_1 * m[i] + rest_1 * g
        b = beta_2 * v[i] + rest_2 * (g * g)
        new_m[i] = a
        new_v[i] = b
        new_param[i] = keep * param[i] - rate * (a / (math.sqrt(b) * unbias + epsilon))


@_compile
def _ema(average: Any, value: Any, decay: Any, rest: Any, result: Any) -> None:
    for i in range(average.size):
        result[i] = decay * average[i] + rest * value[i]
