"""Convolution and group normalisation of the CuPy backend; images have their channels last."""

import math

import cupy

from backends.base import check_shapes
from backends.cupy_kernels import BLOCK
from backends.cupy_launch import cupy_arrays, launch
from ddpm_np._arrays import Array
from ddpm_np.nn.convolution import check_groups


def conv2d(x: Array, weight: Array, bias: Array, stride: int) -> Array:
    """Fused :func:`ddpm_np.nn.ops.conv2d`: one product, of every pixel's patch and the weights."""
    x, weight, bias = cupy_arrays(x=x, weight=weight, bias=bias)
    images, height, width, n = x.shape
    k, m = weight.shape[0], weight.shape[3]
    check_shapes(weight=(weight, (k, k, n, m)), bias=(bias, (m,)))
    y = _patches(x, k, stride) @ weight.reshape(k * k * n, m)
    y += bias
    return y.reshape(images, -(-height // stride), -(-width // stride), m)


def conv2d_backward(dy: Array, x: Array, weight: Array, stride: int) -> tuple[Array, Array, Array]:
    """Fused :func:`ddpm_np.nn.ops.conv2d_backward`; dx is a convolution of dy with rotated weights."""
    dy, x, weight = cupy_arrays(dy=dy, x=x, weight=weight)
    images, height, width, n = x.shape
    k, m = weight.shape[0], weight.shape[3]
    size = (images, -(-height // stride), -(-width // stride), m)
    check_shapes(weight=(weight, (k, k, n, m)), dy=(dy, size))
    flat, spread = dy.reshape(math.prod(size[:3]), m), dy
    if stride > 1:
        spread = cupy.zeros((images, height, width, m), dy.dtype)
        spread[:, ::stride, ::stride] = dy
    turned = weight[::-1, ::-1].transpose(0, 1, 3, 2).reshape(k * k * m, n)
    dx = _patches(spread, k, 1) @ turned
    dweight = _patches(x, k, stride).T @ flat
    return dx.reshape(x.shape), dweight.reshape(weight.shape), cupy.sum(flat, axis=0)


def _patches(x: Array, k: int, stride: int) -> Array:
    """The k x k pixels around every stride-th one as rows, shape (pixels, k * k * n): im2col."""
    images, height, width, n = x.shape
    if k == stride == 1:
        return x.reshape(images * height * width, n)
    rows, columns = -(-height // stride), -(-width // stride)
    result = cupy.empty((images * rows * columns, k * k * n), x.dtype)
    sizes = (height, width, n, rows, columns, k, stride)
    threads = min(BLOCK, 32 * -(-k * n // 32))
    launch("patches", len(result), x.dtype, x, result, *sizes, threads=threads)
    return result


def group_norm(
    x: Array, gain: Array, shift: Array, groups: int, epsilon: float
) -> tuple[Array, tuple[Array, Array, Array]]:
    """Fused :func:`ddpm_np.nn.ops.group_norm`."""
    x, gain, shift = cupy_arrays(x=x, gain=gain, shift=shift)
    images, pixels, n = len(x), math.prod(x.shape[1:-1]), x.shape[-1]
    check_shapes(gain=(gain, (images, n)), shift=(shift, (images, n)))
    check_groups("channels", n, groups)
    y, normal = cupy.empty_like(x), cupy.empty_like(x)
    scale = cupy.empty((images, groups), x.dtype)
    arrays = x, gain, shift, y, normal, scale
    launch("group_norm", scale.size, x.dtype, *arrays, epsilon, pixels, n, groups)
    return y, (normal, scale, gain)


def group_norm_backward(dy: Array, cache: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
    """Fused :func:`ddpm_np.nn.ops.group_norm_backward`."""
    normal, scale, gain = cache
    normal, scale, gain, dy = cupy_arrays(normal=normal, scale=scale, gain=gain, dy=dy)
    check_shapes(dy=(dy, normal.shape))
    pixels, n, groups = math.prod(dy.shape[1:-1]), dy.shape[-1], scale.shape[1]
    dx, dgain, dshift = cupy.empty_like(dy), cupy.empty_like(gain), cupy.empty_like(gain)
    arrays = dy, normal, scale, gain, dx, dgain, dshift
    launch("group_norm_backward", scale.size, dy.dtype, *arrays, pixels, n, groups)
    return dx, dgain, dshift
