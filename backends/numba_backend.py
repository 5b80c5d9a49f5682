"""Numba: NumPy arrays, with the work in fused compiled loops, over the threads of the machine.

Every kernel reads its inputs once and writes its results once; they are in numba_kernels and
numba_convolution, compiled once and cached on disk. They are for float32, the dtype of training:
in float64 layers run by their definitions, and only losses and optimizers are compiled.

Threads share out the batch, see numba_threads. Their number is NUMBA_NUM_THREADS, or else that of
the cores; results do not depend on it, to the last bit.
"""

import math
from typing import Any

import numpy as np

from backends.base import Backend, BackendError, host_asarray, host_normal
from ddpm_np.nn import ops
from ddpm_np.nn.ops import MLPParams, Ops, check_mlp, describe
from ddpm_np.nn.tree import ravel

try:
    from backends import numba_convolution as convolution
    from backends import numba_kernels as kernels
    from backends import numba_tiles as tiles
    from backends.numba_threads import in_parts
except ImportError as _error:
    raise BackendError(
        f"backend numba cannot run: {' '.join(str(_error).split())}; "
        'install it, in the project\'s folder, with: pip install -e ".[numba]"'
    ) from None

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def make() -> Backend:
    """Return the Numba backend; importing this module raises BackendError without Numba."""
    return Backend(
        name="numba",
        xp=np,
        device="cpu",
        ops=Ops(
            linear=linear,
            linear_backward=linear_backward,
            silu=silu,
            residual_mlp=residual_mlp,
            residual_mlp_backward=residual_mlp_backward,
            residual_mlp_loss=residual_mlp_loss,
            conv2d=conv2d,
            conv2d_backward=conv2d_backward,
            group_norm=group_norm,
            group_norm_backward=group_norm_backward,
            squared_error=squared_error,
            adam=adam,
            ema=ema,
            in_parts=in_parts,
        ),
        asarray=host_asarray,
        to_numpy=np.asarray,
        normal=host_normal,
        synchronize=lambda: None,
    )


# --- the operations, as ddpm_np.nn.ops defines them ---------------------------------------


def linear(x: Any, weight: Any, bias: Any) -> Any:
    """Fused :func:`ddpm_np.nn.ops.linear`."""
    x, weight, bias = _own(x=x, weight=weight, bias=bias)
    if x.dtype != np.float32 or x.ndim != 2:
        return ops.linear(x, weight, bias)
    n, m = weight.shape
    _shapes(x=(x, (len(x), n)), bias=(bias, (m,)))
    y = np.empty((len(x), m), np.float32)
    kernels.linear(x, weight, bias, y)
    return y


def linear_backward(dy: Any, x: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.linear_backward`."""
    dy, x, weight = _own(dy=dy, x=x, weight=weight)
    if x.dtype != np.float32 or x.ndim != 2:
        return ops.linear_backward(dy, x, weight)
    n, m = weight.shape
    _shapes(x=(x, (len(x), n)), dy=(dy, (len(x), m)))
    dx, dweight, dbias = np.empty_like(x), np.empty_like(weight), np.empty(m, np.float32)
    kernels.linear_backward(dy, x, weight, dx, dweight, dbias)
    return dx, dweight, dbias


def silu(x: Any) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.silu`."""
    (x,) = _own(x=x)
    if x.dtype != np.float32:
        return ops.silu(x)
    y, slope = np.empty_like(x), np.empty_like(x)
    kernels.silu(x.ravel(), y.ravel(), slope.ravel())
    return y, slope


def residual_mlp(x: Any, embedding: Any, params: MLPParams, keep: bool = True) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.residual_mlp`."""
    x, embedding, *leaves = _own(x=x, embedding=embedding, **params._asdict())
    params = MLPParams(*leaves)
    if x.dtype != np.float32:
        return ops.residual_mlp(x, embedding, params, keep)
    check_mlp(x, embedding, params)
    rows, n, depth, m = len(x), len(params.bias), len(params.hidden_weight), len(params.out_bias)
    room = rows if keep else min(rows, kernels.BLOCK)
    hidden, slopes = np.empty((2, depth + 1, room, n), np.float32)
    y = np.empty((rows, m), np.float32)
    kernels.residual_mlp(x, embedding, *leaves, hidden, slopes, y)
    return y, (x, embedding, hidden, slopes) if keep else None


def residual_mlp_backward(dy: Any, cache: Any, params: MLPParams) -> tuple[Any, MLPParams]:
    """Fused :func:`ddpm_np.nn.ops.residual_mlp_backward`."""
    dy, *leaves = _own(dy=dy, **params._asdict())
    params = MLPParams(*leaves)
    if dy.dtype != np.float32:
        return ops.residual_mlp_backward(dy, cache, params)
    x, embedding, hidden, slopes = cache
    check_mlp(x, embedding, params)
    layers, n = len(params.hidden_weight) + 1, len(params.bias)
    _shapes(dy=(dy, (len(x), len(params.out_bias))), cache=(hidden, (layers, len(x), n)))
    dx, grads = np.empty_like(x), MLPParams(*(np.zeros_like(leaf) for leaf in leaves))
    kernels.residual_mlp_backward(
        dy, x, embedding, hidden, slopes,
        params.weight, params.hidden_weight, params.out_weight, dx, *grads,
    )  # fmt: skip
    return dx, grads


def residual_mlp_loss(
    x: Any, embedding: Any, params: MLPParams, truth: Any, loss_weight: Any
) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.residual_mlp_loss`, for one weight or one for each row."""
    x, embedding, truth, *leaves = _own(x=x, embedding=embedding, truth=truth, **params._asdict())
    params = MLPParams(*leaves)
    if isinstance(loss_weight, int | float):
        weights = np.full((1, 1), loss_weight, x.dtype)
    else:
        _, weights = _own(x=x, loss_weight=loss_weight)
    if x.dtype != np.float32 or weights.shape not in ((1, 1), (len(x), 1)):
        y, cache = residual_mlp(x, embedding, params)
        loss, dy = squared_error(y, truth, loss_weight)
        return loss, ravel(residual_mlp_backward(dy, cache, params)[1])
    check_mlp(x, embedding, params)
    _shapes(truth=(truth, (len(x), len(params.out_bias))))
    gradient = np.zeros(sum(leaf.size for leaf in leaves), np.float32)
    loss = kernels.residual_mlp_loss(x, embedding, *leaves, truth, weights, gradient)
    return np.float32(loss), gradient


def conv2d(x: Any, weight: Any, bias: Any, stride: int) -> Any:
    """Fused :func:`ddpm_np.nn.ops.conv2d`."""
    x, weight, bias = _own(x=x, weight=weight, bias=bias)
    if x.dtype != np.float32:
        return ops.conv2d(x, weight, bias, stride)
    images, height, width, n = x.shape
    k, m = weight.shape[0], weight.shape[3]
    _shapes(weight=(weight, (k, k, n, m)), bias=(bias, (m,)))
    y = np.empty((images, -(-height // stride), -(-width // stride), m), np.float32)
    _convolve(_padded(x, k), weight, bias, stride, y)
    return y


def conv2d_backward(dy: Any, x: Any, weight: Any, stride: int) -> tuple[Any, Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.conv2d_backward`."""
    dy, x, weight = _own(dy=dy, x=x, weight=weight)
    if x.dtype != np.float32:
        return ops.conv2d_backward(dy, x, weight, stride)
    images, height, width, n = x.shape
    k, m = weight.shape[0], weight.shape[3]
    size = (images, -(-height // stride), -(-width // stride), m)
    _shapes(weight=(weight, (k, k, n, m)), dy=(dy, size))
    r = k // 2
    spread = np.zeros((images, height + 2 * r, width + 2 * r, m), np.float32)
    spread[:, r : r + height : stride, r : r + width : stride] = dy
    dx, dweight = np.empty_like(x), np.zeros_like(weight)
    turned = np.empty((k, k, m, n), np.float32)
    convolution.turn(weight, turned)
    _convolve(spread, turned, np.zeros(n, np.float32), 1, dx)
    if _has_tiles(dy, weight, stride):
        convolution.winograd_dweight(dy, _padded(x, k), dweight)
    else:
        convolution.conv2d_dweight(dy, _padded(x, k), stride, dweight)
    return dx, dweight, dy.sum(axis=(0, 1, 2))


def _convolve(padded: Any, weight: Any, bias: Any, stride: int, y: Any) -> None:
    if _has_tiles(y, weight, stride):
        convolution.winograd(padded, weight, bias, y)
    else:
        convolution.conv2d(padded, weight, bias, stride, y)


def _has_tiles(y: Any, weight: Any, stride: int) -> bool:
    """Say whether Winograd's convolution applies: it is the faster one."""
    k, _, n, m = weight.shape
    even = not (y.shape[1] % 2 or y.shape[2] % 2)
    return (k, stride) == (3, 1) and even and not (n % tiles.LANES or m % tiles.LANES)


def group_norm(x: Any, gain: Any, shift: Any, groups: int, epsilon: float) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.group_norm`."""
    x, gain, shift = _own(x=x, gain=gain, shift=shift)
    if x.dtype != np.float32:
        return ops.group_norm(x, gain, shift, groups, epsilon)
    size = (len(x), x.shape[-1])
    _shapes(gain=(gain, size), shift=(shift, size))
    if x.shape[-1] % groups:
        raise ValueError(f"groups must divide the channels, {x.shape[-1]}, got {groups}")
    y, normal = np.empty_like(x), np.empty_like(x)
    scale = np.empty((len(x), groups), np.float32)
    flat = (len(x), math.prod(x.shape[1:-1]), x.shape[-1])
    convolution.group_norm(
        x.reshape(flat), gain, shift, groups, np.float32(epsilon),
        y.reshape(flat), normal.reshape(flat), scale,
    )  # fmt: skip
    return y, (normal, scale, gain)


def group_norm_backward(dy: Any, cache: Any) -> tuple[Any, Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.group_norm_backward`."""
    normal, scale, gain = cache
    dy, normal, scale, gain = _own(dy=dy, normal=normal, scale=scale, gain=gain)
    if dy.dtype != np.float32:
        return ops.group_norm_backward(dy, (normal, scale, gain))
    size = (len(dy), dy.shape[-1])
    _shapes(dy=(dy, normal.shape), gain=(gain, size), scale=(scale, (len(dy), scale.shape[-1])))
    dx, dgain, dshift = np.empty_like(dy), np.empty_like(gain), np.empty_like(gain)
    flat = (len(dy), math.prod(dy.shape[1:-1]), dy.shape[-1])
    convolution.group_norm_backward(
        dy.reshape(flat), normal.reshape(flat), scale, gain, dx.reshape(flat), dgain, dshift
    )
    return dx, dgain, dshift


def squared_error(prediction: Any, truth: Any, weight: Any) -> tuple[Any, Any]:
    """Fused :func:`ddpm_np.nn.ops.squared_error`; weights other than a number are left to it."""
    prediction, truth = _own(prediction=prediction, truth=truth)
    if not isinstance(weight, int | float):
        return ops.squared_error(prediction, truth, *_own(weight=weight))
    _shapes(truth=(truth, prediction.shape))
    dprediction = np.empty_like(prediction)
    weight = prediction.dtype.type(weight)
    loss = kernels.squared_error(prediction.ravel(), truth.ravel(), weight, dprediction.ravel())
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
    _shapes(grad=(grad, param.shape), m=(m, param.shape), v=(v, param.shape))
    new_param, new_m, new_v = np.empty_like(param), np.empty_like(param), np.empty_like(param)
    real = param.dtype.type
    kernels.adam(
        *(leaf.ravel() for leaf in (param, grad, m, v, new_param, new_m, new_v)),
        *(real(beta_1), real(1.0 - beta_1), real(beta_2), real(1.0 - beta_2)),
        *(real((1.0 - beta_2**step) ** -0.5), real(epsilon)),
        *(real(1.0 - rate * decay), real(rate / (1.0 - beta_1**step))),
    )
    return new_param, new_m, new_v


def ema(average: Any, value: Any, decay: float) -> Any:
    """Fused :func:`ddpm_np.nn.ops.ema`."""
    average, value = _own(average=average, value=value)
    _shapes(value=(value, average.shape))
    result, real = np.empty_like(average), average.dtype.type
    kernels.ema(average.ravel(), value.ravel(), real(decay), real(1.0 - decay), result.ravel())
    return result


# --- what the kernels accept --------------------------------------------------------------


def _own(**arrays: Any) -> tuple[Any, ...]:
    """Refuse what is not ours (Numba would convert it silently); make the rest contiguous."""
    values = arrays.values()
    dtype = getattr(next(iter(values)), "dtype", None)
    for array in values:
        if not (
            type(array) is np.ndarray
            and array.dtype == dtype
            and array.dtype in FLOATS
            and array.flags.c_contiguous
        ):
            return _own_slowly(arrays)
    return tuple(values)


def _own_slowly(arrays: dict[str, Any]) -> tuple[Any, ...]:
    first_name, first = next(iter(arrays.items()))
    for name, array in arrays.items():
        if type(array) is not np.ndarray or array.dtype not in FLOATS:
            raise TypeError(f"{name} must be a NumPy array of float32 or float64, got {describe(array)}")
        if array.dtype != first.dtype:
            raise ValueError(
                f"{name} must have the dtype of {first_name}, {first.dtype}, got {array.dtype}"
            )
    return tuple(np.asarray(array, order="C") for array in arrays.values())


def _shapes(**arrays: tuple[Any, tuple[int, ...]]) -> None:
    """Refuse other shapes: the kernels check no bounds."""
    for name, (array, shape) in arrays.items():
        if array.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def _padded(x: Any, k: int) -> Any:
    """Put k // 2 rows and columns of zeros around images."""
    r = k // 2
    images, height, width, n = x.shape
    padded = np.zeros((images, height + 2 * r, width + 2 * r, n), np.float32)
    padded[:, r : r + height, r : r + width] = x
    return padded
